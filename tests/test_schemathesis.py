"""A generated service under schemathesis, an independent judge: it keeps what its API docs say."""

import json
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.timeout(300)

HOOKS = Path(__file__).with_name("schemathesis_login.py")
BIN = Path(sys.executable).parent
EMAIL = "admin@example.com"

EXCLUDED = {
    "negative_data_rejection": "numbers and booleans are read laxly: '1' is 1, and 0 is false",
}
"""The only check that is not made."""

# What no JSON schema says, and so is refused only when it is looked at.
CONFIGURATION = """
[checks]
positive_data_acceptance.expected-statuses = ["2xx", "304", "401", "403", "404", "409", "429"]

[[operations]]  # 412: not the present version. 400: it tries headers of letters and digits only,
include-method = ["PUT", "PATCH", "DELETE"]  # and no ETag is one, as the API docs say
checks.positive_data_acceptance.expected-statuses = [
  "2xx", "400", "401", "403", "404", "409", "412", "429",
]

[[operations]]  # an address whose domain gets no mail (.test), a password that is known to leak
include-name = ["POST /api/v1/auth/register", "GET /api/v1/users"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "409", "422", "429"]

[[operations]]  # not the present password
include-name = "POST /api/v1/auth/password"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "422", "429"]

[[operations]]  # no token out of a mail
include-name = ["POST /api/v1/auth/email/verify", "POST /api/v1/auth/password/reset"]
checks.positive_data_acceptance.expected-statuses = ["2xx", "422", "429"]

[[operations]]  # neither a body nor a cookie with a token
include-name = "POST /api/v1/auth/refresh"
checks.positive_data_acceptance.expected-statuses = ["2xx", "401", "422", "429"]
"""

NEVER_2XX = {
    "DELETE /api/v1/auth/sessions/{session_id}",  # nobody told it a session's id
    "GET /.well-known/jwks.json",  # HS256 has no public keys
    "POST /api/v1/auth/email/verify",  # it reads no mail
    "POST /api/v1/auth/login",  # it does not know a password
    "POST /api/v1/auth/password",
    "POST /api/v1/auth/password/reset",
    "POST /api/v1/auth/password/forgot",  # few a minute from one address, and few are addresses
    "POST /api/v1/auth/refresh",  # nor a refresh token
}
Counts = Sequence[tuple[str, int, int]]


def refused_everywhere(counts: Counts) -> list[str]:
    """Return the operations that never let the caller in: testing them has shown nothing."""
    seen = {label for label, _, _ in counts}
    let_in = {label for label, status, _ in counts if 200 <= status < 300}
    return sorted(seen - let_in - NEVER_2XX)


@dataclass(frozen=True)
class Served:
    url: str
    password: str


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url, timeout=5).close()
        except OSError:
            assert process.poll() is None, "the service ended"
            assert time.monotonic() < end, "not there after 30 s"
            time.sleep(0.05)
        else:
            return


@pytest.fixture(scope="module")
def served(
    service: Callable[[str, str], Any], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Served]:
    """A generated service on a port, with an administrator, and limits out of the way."""
    found = service("agents", "features")
    folder = tmp_path_factory.mktemp("served")
    password, port = secrets.token_urlsafe(16), free_port()
    settings = {
        "DATABASE_URL": f"sqlite+aiosqlite:///{folder}/served.db",
        "API_LIMIT": "1000000/minute",
        "LOGIN_LIMIT": "1000000/minute",
        "LOG_LEVEL": "ERROR",
    }
    admin = ["admin", "create", "--email", EMAIL]
    for arguments in (["migrate", "up"], admin):
        done = found.newel(*arguments, NEWEL_ADMIN_PASSWORD=password, **settings)
        assert done.returncode == 0, done.stderr
    with (folder / "log").open("wb") as log:
        command = [str(BIN / "newel"), "serve", "--host", "127.0.0.1", "--port", str(port)]
        server = subprocess.Popen(
            command, cwd=found.root, env=found.environment(**settings), stdout=log, stderr=log
        )
    try:
        wait_for(f"http://127.0.0.1:{port}/ready", server)
        yield Served(f"http://127.0.0.1:{port}", password)
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(30)


def schemathesis(
    served: Served, folder: Path, *arguments: str, **more: str
) -> tuple[subprocess.CompletedProcess[str], Counts]:
    shutil.copy(HOOKS, folder / "hooks.py")
    (folder / "schemathesis.toml").write_text(CONFIGURATION)
    environment = {
        "PATH": str(BIN),
        "SCHEMATHESIS_HOOKS": "hooks",
        "SERVICE_URL": served.url,
        "ADMIN_EMAIL": EMAIL,
        "ADMIN_PASSWORD": served.password,
        "COUNTS_FILE": str(folder / "counts.json"),
        **more,
    }
    done = subprocess.run(
        [BIN / "st", "run", f"{served.url}/api/openapi.json", "--no-color", "--seed=1", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    counts = folder / "counts.json"
    return done, json.loads(counts.read_text()) if counts.exists() else []


def test_it_keeps_what_its_api_docs_say(served: Served, tmp_path: Path) -> None:
    # No schema says that the texts in a JSON of any form hold no NUL: test_schemas.py does.
    checks = ["--checks=all", "--generation-allow-x00=false", "--max-examples=10"]
    checks.append(f"--exclude-checks={','.join(EXCLUDED)}")
    done, counts = schemathesis(served, tmp_path, *checks)

    assert [label for label, status, _ in counts if status >= 500] == []
    assert refused_everywhere(counts) == []
    assert len({label for label, _, _ in counts}) >= 20
    assert done.returncode == 0, done.stdout[-6_000:]


def test_an_operation_that_lets_nobody_in_is_found() -> None:
    counts = [("GET /api/v1/agents", 401, 9), ("GET /health", 200, 1)]

    assert refused_everywhere(counts) == ["GET /api/v1/agents"]


def test_without_a_log_in_the_run_shows_nothing(served: Served, tmp_path: Path) -> None:
    only = ["--include-operation-id=list_agents", "--phases=fuzzing", "--max-examples=2"]
    checks = "--checks=not_a_server_error,status_code_conformance"
    done, counts = schemathesis(served, tmp_path, *only, checks, TOKEN="no token")

    assert done.returncode == 0, "401 is documented, so schemathesis is content"
    assert refused_everywhere(counts) == ["GET /api/v1/agents"]
