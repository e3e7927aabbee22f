"""Tell valgrind's callgrind what to count, from inside the Python process that it runs.

valgrind listens for a sequence of instructions that does nothing on a processor (valgrind.h,
"client requests", the same since 2006). Python cannot write it, so it is put into memory here.
Outside valgrind nothing happens.
"""

from __future__ import annotations

import ctypes
import mmap
import platform
from enum import IntEnum

# rax: the address of the request and its five arguments; rdx: the answer, and what it is without
# valgrind. Then the sequence: rol rdi 3, 13, 61 and 51 bits, xchg rbx, rbx.
_X86_64 = bytes.fromhex("4889f8 31d2 48c1c703 48c1c70d 48c1c73d 48c1c733 4887db 4889d0 c3")


class Request(IntEnum):
    """What callgrind can be asked for, as callgrind.h numbers it."""

    DUMP = 0x43540000
    ZERO = 0x43540001
    START = 0x43540004
    STOP = 0x43540005


class Callgrind:
    """Sends requests to the callgrind that runs this process."""

    def __init__(self) -> None:
        if platform.machine() != "x86_64":
            raise OSError(f"no request sequence is known here for {platform.machine()}")
        self._code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_WRITE | mmap.PROT_EXEC)
        self._code.write(_X86_64)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._code))
        kind = ctypes.CFUNCTYPE(ctypes.c_uint64, ctypes.POINTER(ctypes.c_uint64 * 6))
        self._call = kind(address)

    def send(self, request: Request) -> None:
        """Send one request."""
        self._call(ctypes.pointer((ctypes.c_uint64 * 6)(request, 0, 0, 0, 0, 0)))
