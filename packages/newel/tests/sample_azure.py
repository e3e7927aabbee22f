"""A real Azurite, Microsoft's own Azure Blob Storage for tests, where it is installed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Generator
from contextlib import contextmanager, suppress
from email.utils import formatdate
from pathlib import Path

import pytest
from sample_runs import wait_until

ACCOUNT = "devstoreaccount1"
KEY = base64.b64encode(b"not-a-secret-0123456789" * 3).decode()


@contextmanager
def serving_containers(directory: Path) -> Generator[str]:
    """Yield the address of an account that has a container named ``files``."""
    command = shutil.which("azurite-blob")
    if command is None:
        pytest.skip("azurite-blob is not installed: npm install -g azurite")
    port = _free_port()
    address = f"http://127.0.0.1:{port}/{ACCOUNT}"
    options = ["--blobHost", "127.0.0.1", "--blobPort", str(port), "--location", str(directory)]
    path = f"{Path(command).parent}:/usr/bin:/bin"
    with (
        (directory / "log").open("wb") as output,
        subprocess.Popen(
            [command, *options, "--skipApiVersionCheck", "--disableTelemetry"],
            env={"PATH": path, "AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
            stdout=output,
            stderr=output,
        ) as process,
    ):
        try:
            wait_until(lambda: _is_open(port), seconds=40)
            _make_container(address, "files")
            yield address
        finally:
            process.terminate()


def _make_container(address: str, name: str) -> None:
    """Ask for a container. Source: Authorize with Shared Key, Azure Storage's REST reference."""
    headers = {"x-ms-date": formatdate(usegmt=True), "x-ms-version": "2024-11-04"}
    own = "".join(f"{key}:{value}\n" for key, value in sorted(headers.items()))
    said = f"PUT{12 * chr(10)}{own}/{ACCOUNT}/{ACCOUNT}/{name}\nrestype:container"
    digest = hmac.digest(base64.b64decode(KEY), said.encode(), hashlib.sha256)
    headers["Authorization"] = f"SharedKey {ACCOUNT}:{base64.b64encode(digest).decode()}"
    request = urllib.request.Request(
        f"{address}/{name}?restype=container", headers=headers, method="PUT"
    )
    urllib.request.urlopen(request, timeout=20).close()


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        return int(free.getsockname()[1])


def _is_open(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False
