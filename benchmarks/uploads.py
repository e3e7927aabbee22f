"""What it costs to store a large upload: in a folder and in a bucket, beside the bare writing.

    python -m benchmarks.uploads            # prints into docs/performance.md, about two minutes
    python -m benchmarks.uploads --quick    # smaller files, three rounds; prints only

Every side is sent the same request, a form with one file, and has answered when the bytes are on
the disk or in the bucket. All servers run all the time, on the first core; what sends, and the
bucket, on the second. A round goes through them one after the other, starting with another one
each time; the first warms up. A ratio is the median of the rounds' ratios.
"""

from __future__ import annotations

import argparse
import http.client
import os
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import NamedTuple

from rich.console import Console
from rich.table import Table
from stress.servers import S3_KEY, S3_SECRET, buckets

from benchmarks.report import markdown, save, write_section
from benchmarks.servers import STATE, BenchmarkError, Server, Variant, pinned, serving
from newel.errors import ConfigurationError

NAME = "uploads"
FILE_BYTES, QUICK_FILE_BYTES = 64_000_000, 8_000_000
ROUNDS, QUICK_ROUNDS = 7, 3
VOLUMES = 32
"""Of 64 MB each, which the bucket may fill: more than all rounds send."""

_BOUNDARY = "between-the-parts-of-this-form"
_SECONDS = 120.0
_MB = 1e6


class Side(NamedTuple):
    """A server, and what it is called in the docs."""

    variant: Variant
    label: str


_NEWEL = "variants.uploads_newel"
SIDES: Mapping[str, Side] = {
    "floor": Side(
        Variant(name="uploads-floor", home="workspace", module="variants.uploads_floor"),
        "floor: raw ASGI, the body as it comes into a file",
    ),
    "hand": Side(
        Variant(name="uploads-hand", home="workspace", module="variants.uploads_hand"),
        "hand: FastAPI's `UploadFile`, copied into a file",
    ),
    "folder": Side(
        Variant(name="uploads-folder", home="program", module=_NEWEL),
        "newel, a folder",
    ),
    "bucket": Side(
        Variant(name="uploads-bucket", home="program", module=_NEWEL),
        "newel, a bucket of an S3",
    ),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What one upload cost: megabytes a second as the client saw it, server CPU a megabyte."""

    mb_per_second: float
    cpu_ms_per_mb: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The uploads of a side, round by round, and the most memory that its process had."""

    uploads: Sequence[Upload]
    peak_bytes: int


def form(size_bytes: int) -> bytes:
    """Return a form with one file of so many bytes, which newel takes for a ZIP."""
    head = (
        f"--{_BOUNDARY}\r\n"
        'Content-Disposition: form-data; name="file"; filename="archive.zip"\r\n'
        "Content-Type: application/zip\r\n\r\n"
    )
    signature = b"PK\x03\x04"
    content = signature + os.urandom(size_bytes - len(signature))
    return b"".join((head.encode(), content, f"\r\n--{_BOUNDARY}--\r\n".encode()))


def send(port: int, body: bytes) -> float:
    """Upload it; return the seconds until the answer, which has to be a 201."""
    headers = {
        "Authorization": "Bearer anybody",
        "Content-Type": f"multipart/form-data; boundary={_BOUNDARY}",
    }
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_SECONDS)
    start = time.perf_counter()
    try:
        connection.request("POST", "/api/v1/files", body, headers)
        answer = connection.getresponse()
        said = answer.read()
    except OSError as error:
        raise BenchmarkError(f"An upload ended early: {error}", "read .benchmarks/logs") from error
    finally:
        connection.close()
    if answer.status != 201:
        what = f"An upload was answered {answer.status}: {said[:200].decode(errors='replace')}"
        raise BenchmarkError(what, "read .benchmarks/logs")
    return time.perf_counter() - start


def measure(server: Server, body: bytes) -> Upload:
    """Upload it to a server."""
    before = server.cpu_seconds()
    seconds = send(server.port, body)
    used = server.cpu_seconds() - before
    size = len(body) / _MB
    return Upload(mb_per_second=size / seconds, cpu_ms_per_mb=used / size * 1e3)


@contextmanager
def running(folder: Path, core: int) -> Generator[Mapping[str, Server]]:
    """Have all sides run inside the block, each in a folder of its own."""
    with ExitStack() as stack:
        host, port = stack.enter_context(buckets(folder / "s3", volumes=VOLUMES))
        bucket = {
            "STORAGE_URL": f"s3://uploads/bench?endpoint=http://{host}:{port}&region=us-east-1",
            "AWS_ACCESS_KEY_ID": S3_KEY,
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
        }
        started: dict[str, Server] = {}
        for name, side in SIDES.items():
            own = folder / name
            own.mkdir()
            # What the servers put aside lies on the same disk as what they store.
            variables = {"TMPDIR": str(own), "STORAGE_URL": "file:./files"}
            variables |= bucket if name == "bucket" else {}
            started[name] = stack.enter_context(
                serving(side.variant, variables=variables, directory=own, core=core)
            )
        yield started


def run(*, rounds: int, size_bytes: int) -> dict[str, Seen]:
    """Return what was seen of every side."""
    body, names = form(size_bytes), list(SIDES)
    seen: dict[str, list[Upload]] = {name: [] for name in names}
    STATE.mkdir(exist_ok=True)
    with (
        pinned() as (core, _),
        tempfile.TemporaryDirectory(dir=STATE) as folder,
        running(Path(folder), core) as servers,
    ):
        for number in range(rounds + 1):
            turn = number % len(names)
            for name in (*names[turn:], *names[:turn]):
                upload = measure(servers[name], body)
                if number:
                    seen[name].append(upload)
        return {
            name: Seen(uploads=uploads, peak_bytes=servers[name].peak_bytes())
            for name, uploads in seen.items()
        }


HEAD = ("one upload at a time", "MB/s", "server CPU a MB (by the floor's)", "peak memory")


def rows(seen: Mapping[str, Seen]) -> list[list[str]]:
    """Return the lines of the table."""
    found: list[list[str]] = []
    for name, mine in seen.items():
        cpu = median(one.cpu_ms_per_mb for one in mine.uploads)
        found.append(
            [
                SIDES[name].label,
                f"{median(one.mb_per_second for one in mine.uploads):.0f}",
                f"{cpu:.2f} ms ({ratio(mine, seen['floor']):.2f})",
                f"{mine.peak_bytes / 2**20:.0f} MiB",
            ]
        )
    return found


def ratio(one: Seen, other: Seen) -> float:
    """Return a side's CPU by another's: the median of the rounds' ratios."""
    pairs = zip(one.uploads, other.uploads, strict=True)
    return median(mine.cpu_ms_per_mb / its.cpu_ms_per_mb for mine, its in pairs)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="smaller, fewer; print only")
    is_quick: bool = parser.parse_args().quick
    rounds, size = (QUICK_ROUNDS, QUICK_FILE_BYTES) if is_quick else (ROUNDS, FILE_BYTES)
    try:
        seen = run(rounds=rounds, size_bytes=size)
    except (BenchmarkError, ConfigurationError) as error:
        print(error, file=sys.stderr)
        return 1
    table = Table(*HEAD, title=f"uploads of {size / _MB:.0f} MB")
    for row in rows(seen):
        table.add_row(*row)
    Console(width=120).print(table)
    if not is_quick:
        save(NAME, {name: asdict(one) for name, one in seen.items()})
        write_section(NAME, markdown(HEAD, rows(seen)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
