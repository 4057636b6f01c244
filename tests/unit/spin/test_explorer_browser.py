"""The attention page in a real browser, headless, from disk: it opens without an error and its slider moves the step.

Skipped where no Chromium is installed.
"""

import html
import json
import re
import shutil
import subprocess

import numpy as np
import pytest

from pipeline.spin import attention_store, explorer
from pipeline.spin.published import for_cube
from pipeline.spin.settings import Network
from pipeline.spin.windows import Windows

from .made_up import cube

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
CHROMIUM = next(filter(None, map(shutil.which, BROWSERS)), None)
SAMPLE, STEP = 1, 6
# Ahead of the page's own scripts; what it finds stands in an attribute of the body at the end.
PROBE = """<script>
const errors = [];
addEventListener("error", event => errors.push(String(event.message)));
addEventListener("unhandledrejection", event => errors.push(String(event.reason)));
const waiting = setInterval(() => {
  if (!document.body || !document.body.dataset.ready) return;
  clearInterval(waiting);
  const of = id => document.getElementById(id), told = () => of("clock").textContent;
  const before = told();
  of("step").value = STEP;
  of("step").dispatchEvent(new Event("input"));
  const row = of("shares").querySelector("button");
  document.body.dataset.found = JSON.stringify({before, after: told(), most: row.innerText || row.textContent, errors,
    drawn: of("map").width});
}, 20);
</script>"""


@pytest.mark.skipif(CHROMIUM is None, reason=f"none of {', '.join(BROWSERS)} is installed")
def test_the_page_opens_from_disk_without_an_error_and_the_slider_moves_the_step(tmp_path):
    whole = cube(times=150, nodes=5, channels=1, masks=1)
    network = Network(window=8, hidden=8, layers=2, eta=1)
    model, windows = for_cube(network, whole, "cpu", 3).eval(), Windows(whole, 0, network, "cpu")
    store = attention_store.record(model, windows, attention_store.window_rows(whole, 8, 3))
    path = tmp_path / "attention.html"
    path.write_text(explorer.page(store, SAMPLE, 2).replace("<title>", PROBE.replace("STEP", str(STEP)) + "<title>"))
    options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--disable-extensions"]
    options += [f"--user-data-dir={tmp_path / 'profile'}", "--virtual-time-budget=10000", "--dump-dom"]
    done = subprocess.run([CHROMIUM, *options, path.as_uri()], capture_output=True, text=True, timeout=300)
    assert "CONSOLE" not in done.stderr, done.stderr
    found = json.loads(html.unescape(re.search(r'data-found="([^"]*)"', done.stdout).group(1)))
    times = [str(time)[:16].replace("T", " ") for time in store.time[SAMPLE].astype("datetime64[m]")]
    assert found["errors"] == [] and found["drawn"] > 0
    assert found["before"] == times[4] and found["after"] == times[STEP]  # it opens in the middle of eight steps
    shares = store.share[SAMPLE, -1, np.flatnonzero(store.target == 2), STEP]  # of what node 2 is told, last layer
    assert float(re.search(r"([\d.]+) %", found["most"]).group(1)) == pytest.approx(100 * shares.max(), abs=0.06)
