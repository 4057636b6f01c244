"""Fetching against a real HTTP server on the loopback device that breaks in the ways servers break."""

import hashlib
import shutil
import signal
import socket
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import requests

from pipeline.core import fetch as fetching
from pipeline.core.catalog import Entry, File, load_catalog
from pipeline.core.errors import DataError
from pipeline.core.fetch import Reachable, fetch, package_file, problem

CONTENT = b"date,y\n" + b"".join(b"2020-01-01 %06d,%d\n" % (i, i * i) for i in range(20_000))
SHA256 = hashlib.sha256(CONTENT).hexdigest()
GIT = hashlib.sha1(b"blob %d\0" % len(CONTENT) + CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Serves CONTENT under paths that name the fault; notes what was asked."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def _send(self, status, body, headers=(), declared=None):
        self.send_response(status)
        for key, value in headers:
            self.send_header(key, value)
        self.send_header("Content-Length", str(len(body) if declared is None else declared))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = lambda self: self.do_GET()  # noqa: E731

    def do_GET(self):
        kind = self.path.strip("/").split("/")[0]
        asked = self.headers.get("Range")
        self.server.asked.append((self.command, kind, asked, self.headers.get("If-Range")))
        tag = self.server.tag
        start = int(asked.removeprefix("bytes=").rstrip("-")) if asked else 0
        if kind == "missing":
            self._send(404, b"gone")
        elif kind == "login":
            self._send(200, b"<!DOCTYPE html><title>Sign in</title>", [("Content-Type", "text/html; charset=utf-8")])
        elif kind == "notice":  # a page under the type of a file
            self._send(200, b"\n<html>quota exceeded</html>", [("Content-Type", "application/octet-stream")])
        elif kind == "wrong":
            self._send(200, CONTENT.replace(b"1", b"2"))
        elif kind == "short":  # whole for HTTP, but not the whole file
            self._send(200, CONTENT[:1000])
        elif kind == "stall" and self.server.stalled:  # most of the file, then silence
            self._send(200, CONTENT[:200_000], [("ETag", tag)], declared=len(CONTENT))
            self.wfile.flush()
            self.server.released.wait(20)
        elif kind == "nohead" and self.command == "HEAD":
            self._send(405, b"")
        elif kind == "norange":
            self._send(200, CONTENT, [("ETag", tag)])
        elif start >= len(CONTENT):
            self._send(416, b"")
        else:
            # A range of another version than the client's is answered with the whole file (RFC 9110, 13.1.5).
            if asked and self.headers.get("If-Range") not in (None, tag):
                start, asked = 0, None
            rest = CONTENT[start:]
            headers = [("ETag", tag)]
            if asked:
                headers.append(("Content-Range", f"bytes {start}-{len(CONTENT) - 1}/{len(CONTENT)}"))
            cut = self.server.cuts.pop(0) if kind == "cut" and self.server.cuts else len(rest)
            self._send(206 if asked else 200, rest[:cut], headers, declared=len(rest))
            if cut < len(rest):
                self.wfile.flush()
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr(fetching.time, "sleep", lambda seconds: None)
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    httpd.asked, httpd.cuts, httpd.tag = [], [], '"v1"'
    httpd.stalled, httpd.released, httpd.daemon_threads = False, threading.Event(), True
    thread = threading.Thread(target=httpd.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    httpd.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    yield httpd
    httpd.released.set()
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def entry(*urls, **known):
    file = File(name="y.csv", url=list(urls), **({"sha256": SHA256} if not known else known))
    fields = {"title": "t", "kind": "forecasting", "reader": "table", "licence": "none", "citation": "none"}
    return Entry(name="demo", source="download", files=[file], **fields)


def visible(folder):
    """What a reader of the cache could take for data."""
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith(".")) if folder.exists() else []


def test_a_good_download_is_whole_checked_and_leaves_nothing_else(server, tmp_path):
    seen = []
    paths = fetch(entry(f"{server.url}/good"), tmp_path / "demo", lambda done, total: seen.append((done, total)))
    assert paths == [tmp_path / "demo" / "y.csv"] and paths[0].read_bytes() == CONTENT
    assert sorted(p.name for p in (tmp_path / "demo").iterdir()) == ["y.csv"]
    assert seen[-1] == (len(CONTENT), len(CONTENT))
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


def test_a_file_that_is_there_is_not_asked_for_again(server, tmp_path):
    (tmp_path / "y.csv").write_bytes(CONTENT)
    fetch(entry(f"{server.url}/good"), tmp_path)
    assert server.asked == []


def test_a_damaged_file_in_the_cache_is_replaced(server, tmp_path):
    (tmp_path / "y.csv").write_bytes(CONTENT[:-3] + b"000")
    assert fetch(entry(f"{server.url}/good"), tmp_path)[0].read_bytes() == CONTENT


def test_a_broken_connection_is_continued_where_it_broke(server, tmp_path):
    server.cuts = [100_000, 50_000]
    fetch(entry(f"{server.url}/cut"), tmp_path)
    assert (tmp_path / "y.csv").read_bytes() == CONTENT
    ranges = [asked for _, _, asked, _ in server.asked]
    assert ranges == [None, "bytes=100000-", "bytes=150000-"]
    assert {match for *_, match in server.asked[1:]} == {'"v1"'}


def test_an_interrupted_download_says_so_and_the_next_run_continues_it(server, tmp_path):
    server.cuts = [1000, 1000, 1000]
    with pytest.raises(DataError, match=r"interrupted after 3,000 bytes .* run again to continue"):
        fetch(entry(f"{server.url}/cut"), tmp_path)
    assert visible(tmp_path) == []
    server.asked.clear()
    fetch(entry(f"{server.url}/cut"), tmp_path)
    assert [asked for _, _, asked, _ in server.asked] == ["bytes=3000-"]
    assert (tmp_path / "y.csv").read_bytes() == CONTENT


def test_a_server_that_falls_silent_is_an_interruption(server, tmp_path, monkeypatch):
    server.stalled = True
    monkeypatch.setattr(fetching, "STALLED_S", 0.1)
    with pytest.raises(DataError, match="interrupted after 196,608 bytes"):  # three whole chunks
        fetch(entry(f"{server.url}/stall"), tmp_path)
    assert visible(tmp_path) == []


def test_a_killed_process_loses_nothing_that_arrived(server, tmp_path):
    """SIGKILL in the middle of a transfer: no file under its name, and the next run asks for the rest alone."""
    server.stalled = True
    script = (
        "import sys; from pipeline.core.catalog import Entry; from pipeline.core.fetch import fetch;"
        "fetch(Entry.model_validate_json(sys.argv[1]), sys.argv[2])"
    )
    wanted = entry(f"{server.url}/stall")
    part = tmp_path / ".incoming" / "y.csv.part"
    child = subprocess.Popen([sys.executable, "-c", script, wanted.model_dump_json(), str(tmp_path)])
    try:
        for _ in range(2000):
            if part.exists() and part.stat().st_size == 196_608:  # three chunks; the fourth is under way
                break
            threading.Event().wait(0.01)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert visible(tmp_path) == []
    kept = part.stat().st_size
    assert 0 < kept < len(CONTENT)
    server.stalled = False
    server.asked.clear()
    assert fetch(wanted, tmp_path)[0].read_bytes() == CONTENT
    assert [asked for _, _, asked, _ in server.asked] == [f"bytes={kept}-"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["y.csv"]


def test_bytes_of_two_versions_are_not_joined(server, tmp_path):
    """The server's file changed between two runs: what was kept is of no use, the whole is fetched."""
    server.cuts = [1000, 1000, 1000]
    with pytest.raises(DataError):
        fetch(entry(f"{server.url}/cut", git_sha1=GIT), tmp_path)
    server.tag = '"v2"'
    assert fetch(entry(f"{server.url}/cut", git_sha1=GIT), tmp_path)[0].read_bytes() == CONTENT


def test_a_kept_part_that_is_wrong_costs_one_fresh_start(server, tmp_path):
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "y.csv.part").write_bytes(b"x" * 5000)
    assert fetch(entry(f"{server.url}/good"), tmp_path)[0].read_bytes() == CONTENT
    assert [asked for _, _, asked, _ in server.asked] == ["bytes=5000-", None]


def test_a_kept_part_longer_than_the_file_is_thrown_away(server, tmp_path):
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "y.csv.part").write_bytes(b"x" * (len(CONTENT) + 7))
    assert fetch(entry(f"{server.url}/good"), tmp_path)[0].read_bytes() == CONTENT


def test_a_server_without_ranges_is_read_from_the_start(server, tmp_path):
    incoming = tmp_path / ".incoming"
    incoming.mkdir()
    (incoming / "y.csv.part").write_bytes(CONTENT[:5000])
    assert fetch(entry(f"{server.url}/norange"), tmp_path)[0].read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("path", "known", "message"),
    [
        ("missing", {}, "404: there is no such file"),
        ("wrong", {}, "wrong checksum"),
        ("wrong", {"git_sha1": GIT}, "wrong checksum: git blob [0-9a-f]{40}, the catalogue says " + GIT),
        ("wrong", {"sha256": SHA256, "bytes": len(CONTENT)}, "SHA-256 [0-9a-f]{64}, the catalogue says " + SHA256),
        ("short", {"bytes": len(CONTENT)}, f"truncated: 1,000 of {len(CONTENT):,} bytes"),
        ("login", {}, "a web page, not the data file"),
        ("short", {"sha256": SHA256, "bytes": len(CONTENT)}, "truncated: 1,000"),
        ("notice", {"sha256": SHA256, "bytes": 5}, "a web page, not the data file"),
    ],
)
def test_each_fault_has_its_own_message_and_leaves_no_file(server, tmp_path, path, known, message):
    with pytest.raises(DataError, match=message) as caught:
        fetch(entry(f"{server.url}/{path}", **known), tmp_path / "demo")
    assert "demo" in str(caught.value) and "y.csv" in str(caught.value) and server.url in str(caught.value)
    assert visible(tmp_path / "demo") == []


def test_a_refused_connection_is_no_network(tmp_path, monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with pytest.raises(DataError, match=f"no network connection to 127.0.0.1:{port}"):
        fetch(entry(f"http://127.0.0.1:{port}/y.csv"), tmp_path / "demo")
    assert visible(tmp_path / "demo") == []


def test_the_second_address_is_tried_when_the_first_fails(server, tmp_path):
    fetch(entry(f"{server.url}/wrong", f"{server.url}/good"), tmp_path)
    assert (tmp_path / "y.csv").read_bytes() == CONTENT


def test_all_addresses_failing_names_each_reason(server, tmp_path):
    with pytest.raises(DataError) as caught:
        fetch(entry(f"{server.url}/missing", f"{server.url}/wrong"), tmp_path)
    assert "404" in str(caught.value) and "wrong checksum" in str(caught.value)


def test_a_folder_that_cannot_be_written_is_a_clear_error(server, tmp_path):
    (tmp_path / "demo").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="can't be written"):
        fetch(entry(f"{server.url}/good"), tmp_path / "demo")


def test_reachable_asks_a_dead_host_once(server, monkeypatch):
    look = Reachable(timeout=1)
    assert look(f"{server.url}/good") == ""
    assert look(f"{server.url}/missing").endswith("answers 404")
    assert look(f"{server.url}/nohead") == ""
    assert {method for method, *_ in server.asked} == {"HEAD"}
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        dead = f"http://127.0.0.1:{probe.getsockname()[1]}"
    assert "no network connection" in look(f"{dead}/a")
    monkeypatch.setattr("requests.head", lambda *a, **k: pytest.fail("asked again"))
    assert "no network connection" in look(f"{dead}/b")


def test_a_host_name_that_is_looked_up_for_ever_costs_a_short_time(monkeypatch):
    released = threading.Event()

    def silent(*args, **kwargs):
        released.wait(20)
        raise requests.ConnectionError

    monkeypatch.setattr("requests.head", silent)
    assert Reachable(timeout=0.05)("https://slow.example.org/x") == "no network connection to slow.example.org"
    released.set()


def test_the_packaged_table_is_copied_and_checked(tmp_path, monkeypatch):
    weather = load_catalog()["nyc_weather"]
    (path,) = fetch(weather, tmp_path / "nyc_weather")
    assert problem(weather.files[0], path) == "" and path.stat().st_size == 2294215
    broken = tmp_path / "broken.csv"
    shutil.copyfile(package_file(weather, weather.files[0]), broken)
    with broken.open("ab") as stream:
        stream.write(b"x")
    monkeypatch.setattr(fetching, "package_file", lambda entry, file: broken)
    with pytest.raises(DataError, match="wrong checksum.*requirements.lock"):
        fetch(weather, tmp_path / "again")
    assert visible(tmp_path / "again") == []


def test_a_package_that_is_not_installed_is_a_clear_error(tmp_path):
    entry = load_catalog()["nyc_weather"].model_copy(update={"package": "no_such_package_here"})
    with pytest.raises(DataError, match="'no_such_package_here', which is not installed"):
        fetch(entry, tmp_path)


def test_a_simulation_has_nothing_to_fetch(tmp_path):
    with pytest.raises(DataError, match="nothing to fetch"):
        fetch(load_catalog()["regimes"], tmp_path)
