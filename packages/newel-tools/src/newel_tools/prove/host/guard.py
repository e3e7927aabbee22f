"""The guard: the application reaches nothing but its throw-away copy and its throw-away database.

Python's audit events cover what Python code does, whatever library does it; a network namespace
without interfaces covers what C code does, where the kernel allows one.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import resource
import socket
import sqlite3
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from .record import current

__all__ = ["Guard", "leave_network", "limit_memory", "redirect_sqlite"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FILE_BYTES = 512 * 1024 * 1024
_DEVICES = ("/dev/null", "/dev/tty", "/dev/full", "/dev/shm/sem.", "/proc/self/")  # noqa: S108 - names of semaphores

# The positions of the paths in the arguments of each event.
_PATHS: dict[str, tuple[int, ...]] = {
    "os.mkdir": (0,),
    "os.rename": (0, 1),
    "os.remove": (0,),
    "os.rmdir": (0,),
    "os.symlink": (1,),
    "os.link": (1,),
    "os.truncate": (0,),
    "os.chmod": (0,),
    "os.chown": (0,),
    "os.utime": (0,),
    "sqlite3.connect": (0,),
    "shutil.rmtree": (0,),
}
_CONNECTS = frozenset({"socket.connect", "socket.sendto", "socket.sendmsg"})
_LOOK_UPS = frozenset({"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyaddr"})
_LOCAL = frozenset({"localhost", "", socket.gethostname()})
_PROCESSES = frozenset(
    {
        "subprocess.Popen",
        "os.system",
        "os.exec",
        "os.posix_spawn",
        "os.spawn",
        "os.startfile",
        "os.fork",
        "os.forkpty",
        "pty.spawn",
        "os.kill",
        "os.killpg",
    }
)


class Guard:
    """Refuses connections, processes and writes; what it refuses is noted in the record at hand.

    A refusal is the `OSError` that a machine without network, programs or rights would raise, so
    that code which expects such machines goes on. ``folder`` is where may be written,
    ``sockets`` are the UNIX sockets, or folders of such, that may be dialled. No port is open: a
    real service that listens on 127.0.0.1 is as much out of reach as one elsewhere.
    """

    def __init__(self, *, folder: str, sockets: Iterable[str] = ()) -> None:
        self._folder = os.path.realpath(folder)
        self._sockets = [os.path.realpath(path) for path in sockets]

    def install(self) -> None:
        """Refuse from now on; there is no way back in this process."""
        sys.addaudithook(self.check)

    def check(self, event: str, arguments: tuple[Any, ...]) -> None:
        """Raise the `OSError` of what is forbidden."""
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITES:
                self._check_path(path, event)
        elif event in _PATHS:
            for position in _PATHS[event]:
                self._check_path(arguments[position], event)
        elif event in _CONNECTS:
            self._check_address(arguments[1], event)
        elif event in _LOOK_UPS and not _is_address(arguments[0]):
            _note(f"look up {arguments[0]!r}")
            raise socket.gaierror(socket.EAI_FAIL, "newel prove looks up no names")
        elif event in _PROCESSES:
            _note(f"{event} {arguments[0] if arguments else ''}"[:200])
            raise PermissionError(errno.EPERM, f"newel prove starts no processes ({event})")

    def _check_path(self, path: object, event: str) -> None:
        text = _path_text(path)
        if text is None:
            return
        file = sqlite_file(text) if event == "sqlite3.connect" else text
        if file is None:
            return
        real = os.path.realpath(file)
        if not _is_below(real, self._folder) and not real.startswith(_DEVICES):
            _note(f"write {real}")
            raise PermissionError(errno.EACCES, "newel prove writes only to its copy", file)

    def _check_address(self, address: object, event: str) -> None:
        if isinstance(address, (str, bytes)):
            path = os.path.realpath(os.fsdecode(address))
            if any(_is_below(path, place) for place in self._sockets):
                return
        if event == "socket.sendmsg" and address is None:  # an answer on an open connection
            return
        _note(f"connect to {address!r}")
        raise ConnectionRefusedError(errno.ECONNREFUSED, f"newel prove has no network: {address}")


def _is_address(host: object) -> bool:
    """Tell whether a host needs no look-up: a number, or this machine."""
    text = host.decode("ascii", "replace") if isinstance(host, bytes) else str(host)
    if host is None or text in _LOCAL:
        return True
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _path_text(path: Any) -> str | None:
    """Return a path as text; ``None`` for a file descriptor and what is no path at all."""
    if isinstance(path, (str, bytes)) or hasattr(path, "__fspath__"):
        return os.fsdecode(path)
    return None


def _is_below(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder + os.sep)


def _note(said: str) -> None:
    record = current.get()
    if record is not None and said not in record.refused and len(record.refused) < 20:
        record.refused.append(said)


def sqlite_file(name: str) -> str | None:
    """Return the file that an SQLite name means; ``None`` for a database in memory."""
    if name.startswith("file:"):
        name, _, options = name[5:].partition("?")
        if "mode=memory" in options:
            return None
    return None if not name or name.startswith(":memory:") else name


def redirect_sqlite(*, folder: str, databases: str) -> None:
    """Let every SQLite file outside ``folder`` be one of the same name in ``databases``."""
    original = sqlite3.connect

    def connect(database: Any, *arguments: Any, **options: Any) -> Any:
        text = _path_text(database)
        file = None if text is None else sqlite_file(text)
        if text is not None and file is not None:
            real = os.path.realpath(file)
            if not _is_below(real, os.path.realpath(folder)):
                aside = str(Path(databases, Path(real).name))
                database = text.replace(file, aside, 1)
            else:
                Path(real).parent.mkdir(parents=True, exist_ok=True)
        return original(database, *arguments, **options)

    for name in ("sqlite3", "sqlite3.dbapi2"):
        module: Any = sys.modules[name]
        module.connect = connect


def leave_network() -> bool:
    """Move this process into a network without interfaces; tell whether the kernel let us."""
    user, group = os.getuid(), os.getgid()
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNET) == 0:
            return True
        if libc.unshare(_CLONE_NEWUSER | _CLONE_NEWNET) != 0:
            return False
        # Who we were stays who we are: some code asks for the user's name.
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        Path("/proc/self/uid_map").write_text(f"{user} {user} 1", encoding="ascii")
        Path("/proc/self/gid_map").write_text(f"{group} {group} 1", encoding="ascii")
    except (OSError, AttributeError):
        return False
    return True


def limit_memory(*, memory_bytes: int) -> None:
    """Bound this process's memory and files, leave no core, and end with the parent."""
    resource.setrlimit(resource.RLIMIT_DATA, (memory_bytes, memory_bytes))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    try:
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, 9)
    except (OSError, AttributeError):
        return  # not Linux: the pipe's end ends this process as well
