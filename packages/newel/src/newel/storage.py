"""Where the bytes of files lie: a folder, or a bucket of S3, GCS or Azure, by ``STORAGE_URL``.

    storage = open_storage("file:./files")     # or s3://bucket/prefix, gs://..., az://...
    await storage.put(key, file)               # on the disk when it returns
    async for chunk in storage.read(key): ...

Keys are made by the server (``files``) and never hold a client's words.
"""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO, Final, Protocol
from urllib.parse import urlsplit

from starlette.requests import HTTPConnection

from newel.errors import ConfigurationError, NotFound, Unavailable, disk_error
from newel.extras import import_driver
from newel.ids import uuid7

__all__ = ["CHUNK_BYTES", "LocalStorage", "Storage", "get_storage", "open_storage"]

CHUNK_BYTES: Final = 256 * 1024

_FIX: Final = "write file:./files, s3://bucket/prefix, gs://bucket/prefix or az://container/prefix"


class Storage(Protocol):
    """Keeps objects by their key. Raises ``Unavailable`` when it does not answer."""

    async def put(self, key: str, file: BinaryIO) -> None:
        """Store what ``file`` has left to read, durably; raises ``InsufficientStorage``."""
        ...

    def read(self, key: str, *, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``; raises ``NotFound`` before the first."""
        ...

    async def delete(self, key: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    def keys(self, prefix: str) -> AsyncGenerator[str]:
        """Yield the keys below the path ``prefix`` (``""``: all of them), in no order."""
        ...

    async def ping(self) -> None:
        """Return when objects can be stored; raises ``Unavailable``."""
        ...


def get_storage(connection: HTTPConnection) -> Storage:
    """Return the application's storage; a route that depends on it has ``/ready`` look at it."""
    storage: Storage = connection.app.state.storage
    return storage


def open_storage(url: str) -> Storage:
    """Return what ``STORAGE_URL`` asks for; touches no disk and no network yet."""
    scheme, _, rest = url.partition(":")
    if scheme == "file" and rest:
        return LocalStorage(Path(rest.removeprefix("//")))
    if scheme not in {"s3", "gs", "az"} or not urlsplit(url).netloc:
        raise ConfigurationError("STORAGE_URL is not the address of a storage", fix=_FIX)
    driver = import_driver("objects", extra="objects", asked=f"STORAGE_URL asks for {scheme}://")
    storage: Storage = driver.ObjectStorage(url)
    return storage


class LocalStorage:
    """A folder of this machine; every process that serves files has to see the same one.

    An object is written beside its place, synchronised to the disk and then renamed: it is there
    in whole, or not at all.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    async def put(self, key: str, file: BinaryIO) -> None:
        """Store what ``file`` has left to read; raises ``InsufficientStorage`` on a full disk."""
        await asyncio.to_thread(self._put, key, file)

    def _put(self, key: str, file: BinaryIO) -> None:
        place = self._directory / key
        arriving = place.with_name(f".{uuid7().hex}")
        with _disk_errors():
            made = [folder for folder in place.parents if not folder.exists()]
            place.parent.mkdir(parents=True, exist_ok=True)
            try:
                with arriving.open("xb") as target:
                    shutil.copyfileobj(file, target, CHUNK_BYTES)
                    target.flush()
                    os.fsync(target.fileno())
                arriving.replace(place)
            except BaseException:
                arriving.unlink(missing_ok=True)
                raise
            for folder in {place.parent, *(folder.parent for folder in made)}:
                _synchronise(folder)

    async def read(
        self, key: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``."""
        try:
            file = await asyncio.to_thread(_opened, self._directory / key)
        except FileNotFoundError:
            raise NotFound("file") from None
        try:
            file.seek(start)
            left = None if stop is None else stop - start
            while left is None or left > 0:
                size = CHUNK_BYTES if left is None else min(left, CHUNK_BYTES)
                chunk = await asyncio.to_thread(file.read, size)
                if not chunk:
                    return
                left = None if left is None else left - len(chunk)
                yield chunk
        finally:
            file.close()

    async def delete(self, key: str) -> None:
        """Remove an object."""
        await asyncio.to_thread((self._directory / key).unlink, missing_ok=True)

    async def keys(self, prefix: str) -> AsyncGenerator[str]:
        """Yield the keys below ``prefix``; what was left half written is one, too."""
        folders = os.walk(self._directory / prefix)

        def step() -> tuple[str, list[str]] | None:
            return next(((folder, names) for folder, _, names in folders), None)

        while found := await asyncio.to_thread(step):
            folder, names = found
            for name in names:
                yield (Path(folder) / name).relative_to(self._directory).as_posix()

    async def ping(self) -> None:
        """Return when the folder can be written to."""
        await asyncio.to_thread(self._try_to_write)

    def _try_to_write(self) -> None:
        trial = self._directory / f".{uuid7().hex}"
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            trial.write_bytes(b"newel")
        except OSError as error:
            raise Unavailable("Files cannot be stored.") from error
        finally:
            with suppress(OSError):
                trial.unlink(missing_ok=True)


def _opened(place: Path) -> BinaryIO:
    return place.open("rb")


@contextmanager
def _disk_errors() -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise disk_error(error) from error


def _synchronise(directory: Path) -> None:
    """Put a folder's new name on the disk, too: else a power cut may take it back."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
