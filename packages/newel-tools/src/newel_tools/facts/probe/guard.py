"""The guard: while the application is imported, nothing leaves the process but the document.

Python's audit events cover what Python code does, whatever library does it; a network namespace
without interfaces covers what C code does, where the kernel allows one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import resource
import signal
import socket
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from typing import Any

__all__ = ["end_with_parent", "forbid_effects", "leave_network", "limit_file_size", "watch"]

_CLONE_NEWUSER = 0x10000000
_CLONE_NEWNET = 0x40000000
_PR_SET_PDEATHSIG = 1
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_FILE_BYTES = 100 * 1024 * 1024
_DEVICES = ("/dev/", "/proc/self/")

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
_NETWORK = frozenset(
    {
        "socket.connect",
        "socket.bind",
        "socket.sendto",
        "socket.sendmsg",
        "socket.getaddrinfo",
        "socket.gethostbyname",
        "socket.gethostbyaddr",
    }
)
_PROCESSES = frozenset(
    {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.startfile"}
)
_FORKS = frozenset({"os.fork", "os.forkpty", "pty.spawn"})
_SIGNALS = frozenset({"os.kill", "os.killpg", "signal.pthread_kill"})


def leave_network() -> bool:
    """Move this process into a network without interfaces; tell whether the kernel let us."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        flags = (_CLONE_NEWNET, _CLONE_NEWUSER | _CLONE_NEWNET)
        return any(libc.unshare(flag) == 0 for flag in flags)
    except (OSError, AttributeError):
        return False


def end_with_parent() -> None:
    """Let the kernel kill this process when the review is killed; elsewhere `watch` ends it."""
    with contextlib.suppress(OSError, AttributeError):  # not Linux
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def limit_file_size() -> None:
    """Let no file of this process grow beyond 100 MiB, and no crash leave a core."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (_FILE_BYTES, _FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def forbid_effects(*, writable: str) -> None:
    """Refuse, from now on, connections, processes, signals and writes outside ``writable``.

    A refusal is the `OSError` that a machine without network, programs or rights would raise, so
    that code which expects such machines goes on.
    """
    root = os.path.realpath(writable)

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            _check_open(arguments, root)
        elif event in _PATHS:
            for position in _PATHS[event]:
                _check_path(arguments[position], root, event)
        elif event in _NETWORK and not _asks_own_name(event, arguments):
            raise ConnectionRefusedError(errno.ECONNREFUSED, f"no network in a review ({event})")
        elif event in _PROCESSES:
            raise FileNotFoundError(errno.ENOENT, f"no programs in a review ({event})")
        elif event in _FORKS or event in _SIGNALS:
            raise PermissionError(errno.EPERM, f"no processes in a review ({event})")

    tempfile.tempdir = root
    sys.addaudithook(hook)


def _asks_own_name(event: str, arguments: tuple[Any, ...]) -> bool:
    """Tell whether the address of this very machine is looked up, which needs no network."""
    return event.startswith("socket.get") and arguments[0] in ("localhost", socket.gethostname())


def _check_open(arguments: tuple[Any, ...], root: str) -> None:
    path, _, flags = arguments
    if isinstance(flags, int) and flags & _WRITES:
        _check_path(path, root, "open")


def _check_path(path: Any, root: str, event: str) -> None:
    try:
        text = os.fsdecode(path)
    except TypeError:
        return  # a descriptor, or nothing
    if text.startswith("file:"):
        text = text[5:].partition("?")[0]
    if event == "sqlite3.connect" and (not text or text.startswith(":memory:")):
        return
    real = os.path.realpath(text)
    if real != root and not real.startswith((root + os.sep, *_DEVICES)):
        raise PermissionError(errno.EACCES, "no writing outside the copy in a review", text)


def watch(seconds: float, give_up: Callable[[Any], None]) -> None:
    """Call ``give_up`` with the main thread's frame after ``seconds``, from a thread of its own."""
    main = threading.main_thread().ident

    def run() -> None:
        time.sleep(seconds)
        frames = sys._current_frames()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - no other way to see where a thread hangs
        give_up(frames.get(main or 0))

    threading.Thread(target=run, name="newel-watch", daemon=True).start()
