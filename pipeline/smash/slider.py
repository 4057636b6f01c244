"""Predicted density through one window as a page with a slider: one file, which opens from disk and asks no network."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..core.figures import SEQUENTIAL, VERMILION

DECADES = 5.0  # of density that the colours span, below the highest of a frame
LEVELS = (0.5, 0.8, 0.95)


def frame(log_density: np.ndarray) -> tuple[bytes, list[int], float]:
    """One byte a cell of a density [Y, X] (natural logs), highest-density cuts as bytes, and the highest log10.

    A byte counts 255ths of the five decades below the highest density; the regions of ``LEVELS`` are the cells whose
    byte is at least the cut's.
    """
    value = np.log10(np.e) * log_density
    top = float(value.max())
    cells = np.clip(np.rint(255 * (1 + (value - top) / DECADES)), 0, 255).astype(np.uint8)
    mass = np.exp(log_density - log_density.max()).ravel()
    order = np.argsort(-mass)
    total = np.cumsum(mass[order]) / mass.sum()
    cuts = [int(cells.ravel()[order[np.searchsorted(total, level)]]) for level in LEVELS]
    return cells.tobytes(), cuts, top


def write(
    path: Path,
    title: str,
    subtitle: str,
    axes: tuple[np.ndarray, np.ndarray],
    densities: Sequence[np.ndarray],
    t: np.ndarray,
    xy: np.ndarray,
    marks: Sequence[str],
    units: dict[str, str],
    words: Callable[[str], str],
) -> Path:
    """Write the page.

    Parameters
    ----------
    axes: [X], [Y] centres of the grid's cells.
    densities: natural log of the predicted density [Y, X] of events 1, 2, … of a window given those before, and their
        times.
    t, xy, marks: [n], [n, 2], [n] times, places and names of marks of the window's events; n = frames + 1.
    """
    from matplotlib import colormaps

    frames = []
    for number, one in enumerate(densities, start=1):
        cells, cuts, top = frame(one)
        x, y = (int(np.abs(axis - value).argmin()) for axis, value in zip(axes, xy[number], strict=True))
        frames.append(
            {
                "cells": base64.b64encode(cells).decode(),
                "cuts": cuts,
                "top": round(top, 3),
                "own": round(float(one[y, x]), 3),
            }
        )
    palette = (255 * colormaps[SEQUENTIAL](np.arange(256))[:, :3]).astype(int)
    half = [float(axis[1] - axis[0]) / 2 for axis in axes]
    content: dict[str, Any] = {
        "width": len(axes[0]),
        "height": len(axes[1]),
        "box": [
            *(round(float(axis[0]) - h, 6) for axis, h in zip(axes, half, strict=True)),
            *(round(float(axis[-1]) + h, 6) for axis, h in zip(axes, half, strict=True)),
        ],
        "frames": frames,
        "t": np.round(t, 5).tolist(),
        "xy": np.round(xy, 5).tolist(),
        "marks": list(marks),
        "palette": palette.tolist(),
        "star": VERMILION,
        "units": units,
        "words": {
            name: words(name) for name in ("next event", "past events", "time", "density", "mark", "Play", "Stop")
        },
    }
    # "</" can't close the script from inside a string
    data = json.dumps(content, separators=(",", ":"), ensure_ascii=False, allow_nan=False).replace("</", "<\\/")
    page = PAGE
    for key, value in (("TITLE", _plain(title)), ("SUBTITLE", _plain(subtitle)), ("NOTE", words(NOTE)), ("DATA", data)):
        page = page.replace(f"@{key}@", value)
    path = Path(path)
    path.write_text(page, encoding="utf-8")
    return path


def _plain(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;")


NOTE = "Colours: log10 of the density, five decades. Lines hold 50, 80 and 95 % of the probability on the map."

PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>@TITLE@</title>
<style>
body { font: 14px/1.4 system-ui, sans-serif; color: #222; max-width: 860px; margin: 1.2em auto; padding: 0 1em; }
h1 { font-size: 1.25em; margin: 0; } p { margin: .3em 0; color: #555; }
canvas { width: 100%; display: block; border: 1px solid #999; }
.bar { display: flex; gap: .8em; align-items: center; margin: .7em 0; } input { flex: 1; }
button { font: inherit; padding: .2em .9em; } output { font-variant-numeric: tabular-nums; display: block; }
</style></head><body>
<h1>@TITLE@</h1><p>@SUBTITLE@</p>
<div class="bar"><button id="play" type="button"></button>
<input id="slider" type="range" min="0" value="0" aria-label="event"></div>
<output id="text" for="slider"></output>
<canvas id="map" width="840"></canvas>
<p>@NOTE@</p>
<script>
"use strict";
const data = @DATA@;
const canvas = document.getElementById("map"), slider = document.getElementById("slider");
const text = document.getElementById("text"), play = document.getElementById("play");
const [x0, y0, x1, y1] = data.box, W = data.width, H = data.height, left = 52, below = 34;
const ratio = data.units.place === "deg" ? Math.cos((y0 + y1) / 2 * Math.PI / 180) : 1;
const wide = canvas.width - left;
const tall = Math.max(260, Math.min(720, wide * (y1 - y0) / ((x1 - x0) * ratio)));
canvas.height = tall + below;
const draw = canvas.getContext("2d"), small = document.createElement("canvas");
small.width = W; small.height = H;
const brush = small.getContext("2d");
slider.max = data.frames.length - 1;
const px = x => left + (x - x0) / (x1 - x0) * wide, py = y => tall - (y - y0) / (y1 - y0) * tall;
function ticks(a, b) {
  const raw = (b - a) / 6, ten = 10 ** Math.floor(Math.log10(raw));
  const step = [1, 2, 5, 10].map(k => k * ten).find(s => s >= raw), found = [];
  for (let v = Math.ceil(a / step) * step; v <= b; v += step) found.push(+v.toPrecision(10));
  return found;
}
function show(k) {
  const one = data.frames[k], cells = Uint8Array.from(atob(one.cells), c => c.charCodeAt(0));
  const image = brush.createImageData(W, H);
  for (let row = 0; row < H; row++) for (let col = 0; col < W; col++) {
    const c = data.palette[cells[row * W + col]], at = 4 * ((H - 1 - row) * W + col);
    image.data.set([c[0], c[1], c[2], 255], at);
  }
  brush.putImageData(image, 0, 0);
  draw.fillStyle = "white"; draw.fillRect(0, 0, canvas.width, canvas.height);
  draw.imageSmoothingEnabled = false;
  draw.drawImage(small, left, 0, wide, tall);
  draw.strokeStyle = "white"; draw.lineWidth = 1;
  const w = wide / W, h = tall / H;
  draw.beginPath();
  for (const cut of one.cuts) for (let row = 0; row < H; row++) for (let col = 0; col < W; col++) {
    const inside = cells[row * W + col] >= cut, x = left + col * w, y = tall - (row + 1) * h;
    const right = col + 1 < W && inside !== (cells[row * W + col + 1] >= cut);
    const up = row + 1 < H && inside !== (cells[(row + 1) * W + col] >= cut);
    if (right) { draw.moveTo(x + w, y); draw.lineTo(x + w, y + h); }
    if (up) { draw.moveTo(x, y); draw.lineTo(x + w, y); }
  }
  draw.stroke();
  for (let i = 0; i <= k; i++) {
    draw.beginPath(); draw.arc(px(data.xy[i][0]), py(data.xy[i][1]), i === k ? 6 : 3.5, 0, 2 * Math.PI);
    draw.lineWidth = 3; draw.strokeStyle = "black"; draw.stroke();
    draw.lineWidth = 1.4; draw.strokeStyle = "white"; draw.stroke();
  }
  const [sx, sy] = [px(data.xy[k + 1][0]), py(data.xy[k + 1][1])];
  draw.beginPath();
  for (let i = 0; i < 10; i++) {
    const r = i % 2 ? 5 : 12, a = Math.PI * i / 5 - Math.PI / 2;
    draw.lineTo(sx + r * Math.cos(a), sy + r * Math.sin(a));
  }
  draw.closePath(); draw.fillStyle = data.star; draw.fill(); draw.strokeStyle = "white"; draw.stroke();
  draw.fillStyle = "white"; draw.fillRect(0, 0, left, canvas.height); draw.fillRect(0, tall, canvas.width, below);
  draw.fillStyle = "#222"; draw.font = "13px system-ui, sans-serif"; draw.textAlign = "center";
  for (const v of ticks(x0, x1)) draw.fillText(v, px(v), tall + 16);
  draw.fillText(data.units.x, left + wide / 2, tall + 31);
  draw.textAlign = "right";
  for (const v of ticks(y0, y1)) draw.fillText(v, left - 6, py(v) + 4);
  draw.save(); draw.translate(13, tall / 2); draw.rotate(-Math.PI / 2); draw.textAlign = "center";
  draw.fillText(data.units.y, 0, 0); draw.restore();
  const name = data.marks[k + 1] ? ` · ${data.words.mark} ${data.marks[k + 1]}` : "";
  text.textContent = `★ ${data.words["next event"]} ${k + 2} / ${data.t.length} · ${data.words.time} ` +
    `${data.t[k + 1].toFixed(3)} ${data.units.time}${name} · ln ${data.words.density} ${one.own.toFixed(2)} ` +
    `[1/${data.units.place}²] · ○ ${data.words["past events"]}: ${k + 1}`;
}
slider.addEventListener("input", () => show(+slider.value));
let timer = null;
function next() { slider.value = (+slider.value + 1) % data.frames.length; show(+slider.value); }
play.textContent = data.words.Play;
play.addEventListener("click", () => {
  if (timer) { clearInterval(timer); timer = null; }
  else timer = setInterval(next, 500);
  play.textContent = timer ? data.words.Stop : data.words.Play;
});
show(0);
</script></body></html>
"""
