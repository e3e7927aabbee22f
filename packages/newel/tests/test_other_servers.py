"""The application under other servers than `newel serve`: the same answers, with fewer guards."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx2
import pytest
from sample_runs import Service, make_service, wait_until

APP = "sample_service.main:app"
SERVERS = {
    "uvicorn": [sys.executable, "-m", "uvicorn", APP, "--no-access-log", "--no-proxy-headers"],
    "granian": [sys.executable, "-m", "granian", "--interface", "asgi", APP],
    "fastapi": [str(Path(sys.executable).parent / "fastapi"), "run", "--no-proxy-headers"],
}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Service:
    return make_service(tmp_path_factory.mktemp("servers") / "service")


@contextmanager
def running(service: Service, command: list[str]) -> Generator[httpx2.Client]:
    """Start a server in the folder of the service; yield a client once it answers."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    options = service.command(PYTHONPATH="src", MAX_BODY_BYTES="1000", MAX_IN_FLIGHT="7")
    options["args"] = [*command, "--host", "127.0.0.1", "--port", str(port)]
    with (
        subprocess.Popen(**options, stdout=subprocess.DEVNULL) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=20, trust_env=False) as client,
    ):

        def answers() -> bool:
            assert process.poll() is None, "it ended at once"
            with suppress(httpx2.TransportError):
                return client.get("/ready").status_code == 200
            return False

        try:
            wait_until(answers, seconds=50)
            yield client
        finally:
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()


@pytest.mark.parametrize("name", SERVERS)
@pytest.mark.timeout(120)
def test_the_answers_are_the_same(served: Service, name: str) -> None:
    with running(served, SERVERS[name]) as client:
        assert client.get("/health").json() == {"status": "ok"}
        notes = client.get("/api/v1/notes")
        assert notes.json() == []
        assert notes.headers["cache-control"] == "no-store"
        assert len(notes.headers["x-request-id"]) == 32
        large = b"x" * 1001
        refused = [
            (client.get("/api/v1/nothing"), 404, "not_found"),
            (client.put("/api/v1/notes"), 405, "method_not_allowed"),
            (client.post("/api/v1/notes", params={"text": "a"}), 401, "unauthorized"),
            (client.post("/api/v1/auth/register", content=large), 413, "content_too_large"),
            (client.post("/api/v1/auth/register", content=iter([large])), 413, "content_too_large"),
            (client.post("/api/v1/auth/register", content=b"a"), 415, "unsupported_media_type"),
        ]
        for answer, status, error in refused:
            assert answer.status_code == status, answer.text
            assert answer.headers["content-type"] == "application/problem+json"
            assert answer.json()["error"] == error
            assert answer.json()["request_id"] == answer.headers["x-request-id"]
