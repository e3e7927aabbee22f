"""The cost of uploads: every side stores, ratios are taken round by round, a refusal ends it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
from benchmarks import uploads
from benchmarks.report import PAGE
from benchmarks.servers import BenchmarkError
from benchmarks.uploads import NAME, SIDES, Seen, Upload


def seen(*cpu_ms_per_mb: float) -> Seen:
    each = [Upload(mb_per_second=100.0, cpu_ms_per_mb=cpu) for cpu in cpu_ms_per_mb]
    return Seen(uploads=each, peak_bytes=50 * 2**20)


@contextmanager
def answering(status: int) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"beyond the quota")

        def log_message(self, format: str, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.timeout(300)
def test_every_side_stores_what_is_sent_to_it(tmp_path, monkeypatch):
    body = uploads.form(2_000_000)
    monkeypatch.setattr(
        uploads, "SIDES", {name: SIDES[name] for name in ("floor", "folder", "bucket")}
    )

    with uploads.pinned() as (core, _), uploads.running(tmp_path, core) as servers:
        found = {name: uploads.measure(server, body) for name, server in servers.items()}
        peaks = [server.peak_bytes() >= server.resident_bytes() > 0 for server in servers.values()]

    assert all(one.mb_per_second > 0 and one.cpu_ms_per_mb > 0 for one in found.values())
    assert all(peaks)
    assert (tmp_path / "floor/upload").read_bytes() == body
    [stored] = [path for path in (tmp_path / "folder/files").rglob("*") if path.is_file()]
    assert stored.stat().st_size == 2_000_000
    assert stored.read_bytes() in body
    assert not (tmp_path / "bucket/files").exists()  # it went into the bucket


def test_anything_but_a_201_ends_the_run():
    body = uploads.form(100)

    with answering(201) as port:
        assert uploads.send(port, body) > 0
    with answering(507) as port, pytest.raises(BenchmarkError, match="507: beyond the quota"):
        uploads.send(port, body)


def test_a_ratio_is_taken_round_by_round():
    # The machine was three times slower in the last two rounds: the medians' ratio would be 4.
    assert uploads.ratio(seen(2, 2, 4, 6, 6), seen(1, 1, 1, 3, 3)) == 2.0


def test_every_side_has_a_line_and_the_table_a_place():
    lines = uploads.rows({name: seen(1.0, 3.0, 2.0) for name in SIDES})

    assert [line[0] for line in lines] == [side.label for side in SIDES.values()]
    assert lines[0][1:] == ["100", "2.00 ms (1.00)", "50 MiB"]
    assert f"<!-- begin {NAME}: printed by benchmarks/ -->" in PAGE.read_text()


def test_a_short_run_prints_and_writes_nothing(capsys, monkeypatch):
    monkeypatch.setattr("sys.argv", ["uploads", "--quick"])
    monkeypatch.setattr(uploads, "run", lambda **_: {name: seen(1.0) for name in SIDES})
    monkeypatch.setattr(uploads, "save", None)
    monkeypatch.setattr(uploads, "write_section", None)

    assert uploads.main() == 0
    assert "newel, a bucket of an S3" in capsys.readouterr().out
