"""Generate a service from one sentence into ./demo, run its tests, serve it until Ctrl-C.

A demo directory that is there is served as it is and never written over. The log-in is made once
and kept beside the directory in .demo.json, readable by its owner only.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import sysconfig
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import FrameType

SENTENCE = "Create user management API with auth"
HOST = "127.0.0.1"
# What a developer's shell may have set for another service; the demo's own .env holds here.
FOREIGN = ("DATABASE_URL", "REDIS_URL", "SECRET_KEY", "ENVIRONMENT")
START_SECONDS = 30.0
STOP_SECONDS = 15.0


class Failure(Exception):
    """What went wrong, in one line, and how to mend it, in another."""

    def __init__(self, what: str, fix: str) -> None:
        super().__init__(f"{what}\n{fix}")


@dataclass(frozen=True)
class Login:
    email: str
    password: str


@dataclass(frozen=True)
class Demo:
    """Where the demo lies, which ``newel`` makes and serves it, and on which port."""

    root: Path
    newel: Path
    port: int

    @property
    def directory(self) -> Path:
        return self.root / "demo"

    @property
    def login_file(self) -> Path:
        return self.root / ".demo.json"

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"


def port_from(environ: Mapping[str, str]) -> int:
    """Return the port asked for in ``PORT``, 8000 by default."""
    asked = environ.get("PORT", "8000")
    if not asked.isascii() or not asked.isdigit() or not 0 < int(asked) < 65536:
        raise Failure(
            f"PORT={asked} is not a port.", "Take one of 1024 to 65535: PORT=8001 make demo"
        )
    return int(asked)


def ensure_port_is_free(port: int) -> None:
    """Fail before any work is done if the port cannot be listened on."""
    with socket.socket() as probe:
        # As the server does: without it, connections of a demo that just stopped would count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            other = 8001 if port == 8000 else 8000
            raise Failure(
                f"Port {port} of {HOST} cannot be used ({error.strerror}).",
                f"Take another one: PORT={other} make demo",
            ) from error


def environment() -> dict[str, str]:
    """Return this process's environment without what belongs to other services."""
    return {name: value for name, value in os.environ.items() if name not in FOREIGN}


def run_newel(
    demo: Demo, *arguments: str, directory: Path, fix: str, given: str | None = None
) -> None:
    """Run one ``newel`` command in ``directory``; its output is the user's to read."""
    sys.stdout.flush()
    done = subprocess.run(
        [demo.newel, *arguments],
        cwd=directory,
        env=environment(),
        input=given,
        text=True,
        check=False,
    )
    if done.returncode:
        raise Failure(f"newel {arguments[0]} failed (exit code {done.returncode}).", fix)


def generate(demo: Demo) -> None:
    """Print the service into the demo directory and run its tests."""
    demo.login_file.unlink(missing_ok=True)
    try:
        run_newel(
            demo,
            "new",
            SENTENCE,
            demo.directory.name,
            directory=demo.root,
            fix="Read the lines above; to begin again: rm -r demo && make demo",
        )
    except KeyboardInterrupt:
        # Nobody can have edited what was being written: half a service would only stand in the way.
        shutil.rmtree(demo.directory, ignore_errors=True)
        raise


def prepare(demo: Demo) -> None:
    """Make the demo directory, or keep the one that is there, and bring its database up to date."""
    if demo.directory.exists():
        if not (demo.directory / "pyproject.toml").is_file():
            raise Failure(
                "./demo is there, but it is not a service.", "Move it away, then: make demo"
            )
        print("Re-using ./demo with your changes and data; for a new one: rm -r demo && make demo")
    else:
        generate(demo)
    run_newel(
        demo,
        "migrate",
        "up",
        directory=demo.directory,
        fix="Read the lines above; for a new demo: rm -r demo && make demo",
    )


def ready_login(demo: Demo) -> Login:
    """Return the administrator's log-in, made with a random password the first time."""
    if demo.login_file.is_file():
        return Login(**json.loads(demo.login_file.read_text()))
    login = Login(email="admin@example.com", password=secrets.token_urlsafe(12))
    run_newel(
        demo,
        *("admin", "create", "--email", login.email, "--password-stdin"),
        directory=demo.directory,
        given=login.password + "\n",
        fix="If that account exists, its password is not known: rm -r demo && make demo",
    )
    descriptor = os.open(demo.login_file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(asdict(login), file)
    return login


def guide(demo: Demo, login: Login) -> str:
    """Return what a newcomer needs: the addresses, the log-in, three things to try."""
    return f"""
  API docs   {demo.url}/api/docs
  Log-in     {login.email}   password: {login.password}

  Try, in another terminal:
    curl -i {demo.url}/api/v1/users        # nobody is asking: 401, as problem details
    TOKEN=$(curl -s {demo.url}/api/v1/auth/login \\
      -d username={login.email} -d password={login.password} \\
      | python3 -c 'import json, sys; print(json.load(sys.stdin)["access_token"])')
    curl -s "{demo.url}/api/v1/users?page_size=5" -H "Authorization: Bearer $TOKEN"

  The code is in ./demo and yours. Ctrl-C stops the service.
"""


def wait_until_healthy(demo: Demo, server: subprocess.Popen[bytes]) -> None:
    """Return when the service answers /health; fail when it ended or took too long."""
    end = time.monotonic() + START_SECONDS
    # A proxy in the environment is not meant for an address of this machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    while time.monotonic() < end:
        if server.poll() is not None:
            raise Failure(
                f"The service ended at its start (exit code {server.returncode}).",
                "Read the lines above; for a new demo: rm -r demo && make demo",
            )
        try:
            with opener.open(f"{demo.url}/health", timeout=1.0):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.05)
    raise Failure(
        f"The service did not answer {demo.url}/health within {START_SECONDS:.0f} s.",
        "Read the lines above, then try again: make demo",
    )


def stop(server: subprocess.Popen[bytes]) -> None:
    """End the service as an operator would: ask, wait for its requests, insist."""
    # Whoever presses Ctrl-C twice must not leave a server behind.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if server.poll() is None:
        server.terminate()
    try:
        server.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        server.kill()
        server.wait()


def serve(demo: Demo, login: Login) -> None:
    """Serve the demo until this process is interrupted."""
    command = [demo.newel, "serve", "--host", HOST, "--port", str(demo.port)]
    # In a session of its own: the terminal's Ctrl-C reaches this process only, which passes it on
    # once. A server that is interrupted twice drops its requests.
    variables = {**environment(), "SITE_URL": demo.url}  # where links of mails lead
    server = subprocess.Popen(command, cwd=demo.directory, env=variables, start_new_session=True)
    try:
        wait_until_healthy(demo, server)
        print(guide(demo, login), flush=True)
        code = server.wait()
    finally:
        stop(server)
    raise Failure(f"The service ended by itself (exit code {code}).", "Read the lines above.")


def interrupt(_signal: int, _frame: FrameType | None) -> None:
    """Treat the end of the terminal or of a supervisor like Ctrl-C."""
    raise KeyboardInterrupt


def main(root: Path, newel: Path) -> int:
    for name in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(name, interrupt)
    try:
        demo = Demo(root=root, newel=newel, port=port_from(os.environ))
        ensure_port_is_free(demo.port)
        prepare(demo)
        serve(demo, ready_login(demo))
    except Failure as failure:
        print(failure, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nStopped. `make demo` starts it again.")
    return 0


if __name__ == "__main__":
    sys.exit(
        main(Path(__file__).resolve().parents[1], Path(sysconfig.get_path("scripts"), "newel"))
    )
