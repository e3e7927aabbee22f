"""Files that users upload: kept by whoever uploaded them, found again by id, never by a path.

    async def set_photo(self, caller: Principal, upload: UploadFile) -> Agent:
        stored = await self.files.add(caller, upload, PHOTOS)    # Files, in a service of yours

The bytes are on the disk before the row is, and the row before the answer. What a crash leaves
behind, bytes without a row, is removed within a day, by the one database that owns the storage.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta
from io import BytesIO
from pathlib import Path
from typing import Annotated, Any, ClassVar, Final
from uuid import UUID

import structlog
from fastapi import Depends, UploadFile
from sqlalchemy import BigInteger, Select, String, func, make_url, select
from sqlalchemy.orm import Mapped, mapped_column

from newel.clock import utc_now
from newel.db import CurrentWork, Database, Work
from newel.entity import Owned
from newel.errors import InsufficientStorage, NotFound
from newel.ids import uuid7
from newel.jobs import JobRun, job
from newel.principal import Principal
from newel.repository import Repository
from newel.storage import Storage, get_storage
from newel.uploads import FileRules, to_store

__all__ = ["FileRepository", "Files", "StoredFile", "get_storage", "remove_content", "sweep_files"]

_SWEPT_HOURS: Final = 2
"""How old what has no row is when it is removed, in hours: younger may still get its row."""

_HOUR: Final = re.compile(r"[0-9]{4}/[0-9]{2}/[0-9]{2}/[0-9]{2}(?=/)", re.ASCII)
_OWNER_KEY: Final = "newel-owner"
"""Where it lies in a storage which database's rows name its objects."""

_BATCH: Final = 500

_log = structlog.get_logger("newel.files")


class StoredFile(Owned):
    """A file that was uploaded; ``key`` is where its bytes lie, which nobody is told."""

    __tablename__ = "files"

    name: Mapped[str] = mapped_column(String(255))
    media_type: Mapped[str] = mapped_column(String(127))
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    sha256: Mapped[str] = mapped_column(String(64))
    key: Mapped[str] = mapped_column(String(64), unique=True)

    __table_args__: ClassVar[Any] = (  # ty: ignore[incompatible-attribute-override] - no field
        {"info": {"kernel": True}},
    )

    @classmethod
    def resource_name(cls) -> str:
        return "file"


class FileRepository(Repository[StoredFile]):
    """The rows of files that the caller may see."""

    entity: type[StoredFile] = StoredFile


class Files:
    """Stores, reads and removes files in the present unit of work."""

    def __init__(
        self,
        work: CurrentWork,
        rows: Annotated[FileRepository, Depends()],
        storage: Annotated[Storage, Depends(get_storage)],
    ) -> None:
        self.rows = rows
        self._work = work
        self._storage = storage

    async def add(self, caller: Principal, upload: UploadFile, rules: FileRules) -> StoredFile:
        """Store a file of ``caller``'s.

        Raises ``ContentTooLarge``, ``UnsupportedMediaType``, ``Invalid`` for a picture that cannot
        be read and, beyond the quota or on a full disk, ``InsufficientStorage``.
        """
        return await self.enter(await self.store(caller, upload, rules), rules)

    async def store(self, caller: Principal, upload: UploadFile, rules: FileRules) -> StoredFile:
        """Store the bytes alone: of several files, before the first row holds up other writers."""
        if caller.id is None:
            raise ValueError("a file belongs to somebody: the caller is nobody")
        async with to_store(upload, rules) as (content, found):
            if rules.quota_bytes is not None:  # before a byte is written, outside of a transaction
                [row] = await self._work.database.rows(_used_by(caller.id), {})
                _refuse_beyond(rules.quota_bytes, row[0] + found.size_bytes)
            key = _new_key(utc_now())
            await self._storage.put(key, content)
        return StoredFile(
            owner_id=caller.id,
            name=found.name,
            media_type=found.media_type,
            size_bytes=found.size_bytes,
            sha256=found.sha256,
            key=key,
        )

    async def enter(self, stored: StoredFile, rules: FileRules) -> StoredFile:
        """Write the row of what ``store`` has returned; what does not fit is removed again."""
        try:
            if rules.quota_bytes is not None:  # two uploads of one user are counted in turn
                await _take_turn(self._work, stored.owner_id)
                used = await self._work.session.scalar(_used_by(stored.owner_id))
                _refuse_beyond(rules.quota_bytes, (used or 0) + stored.size_bytes)
            return await self.rows.add(stored)
        except BaseException:  # its key is new: no row can name it
            await asyncio.shield(self._storage.delete(stored.key))
            raise

    def content(
        self, key: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the bytes of the file with this ``key``, from ``start`` up to ``stop``."""
        return self._storage.read(key, start=start, stop=stop)

    async def remove(self, file: StoredFile) -> None:
        """Delete a file; its bytes go after the commit."""
        self._work.enqueue(remove_content, file.key)
        await self.rows.delete(file)


def _used_by(owner: UUID) -> Select[int]:
    return select(func.coalesce(func.sum(StoredFile.size_bytes), 0)).where(
        StoredFile.owner_id == owner
    )


def _refuse_beyond(quota_bytes: int, needed_bytes: int) -> None:
    if needed_bytes > quota_bytes:
        raise InsufficientStorage(f"You may store {quota_bytes} bytes; delete a file first.")


async def _take_turn(work: Work, owner: UUID) -> None:
    if work.database.is_sqlite:
        return  # it has one writer at a time
    number = int.from_bytes(owner.bytes[:8], signed=True)
    turn = select(func.pg_advisory_xact_lock(number))
    await (await work.session.connection()).execute(turn)


def _new_key(now: datetime) -> str:
    return f"{_hour(now)}/{uuid7().hex}"


def _hour(moment: datetime) -> str:
    return moment.strftime("%Y/%m/%d/%H")


# --------------------------------------------------------------------------------------------- jobs


@job(name="files_remove_content", retries=20)
async def remove_content(run: JobRun, key: str) -> None:
    """Remove the bytes of a file that was deleted."""
    await run.app.state.storage.delete(key)


@job(name="files_sweep")
async def sweep_files(run: JobRun) -> int:
    """Remove what was uploaded hours ago and has no row; return how many there were.

    Nothing is removed from a storage that belongs to another database. The first sweep that finds a
    file of this one makes it the owner.
    """
    storage: Storage = run.app.state.storage
    database: Database = run.app.state.database
    owner, mine = await _owner(storage), await _identity(database)
    if owner not in {None, mine}:
        _log.error("storage_belongs_to_another_database", owner=owner, this=mine, key=_OWNER_KEY)
        return 0
    youngest, removed = _hour(utc_now() - timedelta(hours=_SWEPT_HOURS)), 0
    async for keys in _batches(storage.keys("")):
        known = await _known(database, keys)
        if owner is None and known:
            await storage.put(_OWNER_KEY, BytesIO(mine.encode()))
            break  # others may think the same: who was last is seen by the next sweep
        for key in set(keys) - known if owner is not None else ():
            uploaded = _HOUR.match(key)
            if uploaded is not None and uploaded[0] <= youngest:
                await storage.delete(key)
                removed += 1
    return removed


async def _batches(keys: AsyncGenerator[str]) -> AsyncGenerator[list[str]]:
    batch: list[str] = []
    async for key in keys:
        batch.append(key)
        if len(batch) == _BATCH:
            yield batch
            batch = []
    yield batch


async def _owner(storage: Storage) -> str | None:
    try:
        return b"".join([chunk async for chunk in storage.read(_OWNER_KEY)]).decode()
    except NotFound:
        return None


async def _identity(database: Database) -> str:
    """Return what tells this database from its copies: where it runs, not what it holds."""
    if database.is_sqlite:
        return f"sqlite {_path_of(database.url)}"
    control = func.pg_control_system().table_valued("system_identifier")
    [row] = await database.rows(select(func.current_database(), control.c.system_identifier), {})
    return f"postgresql {row[1]} {row[0]}"


def _path_of(url: str) -> Path:
    return Path(make_url(url).database or "").absolute()


async def _known(database: Database, keys: list[str]) -> set[str]:
    """Return which of ``keys`` have a row, whoever's; read without a transaction."""
    some = select(StoredFile.key).where(StoredFile.key.in_(keys))
    return {row[0] for row in await database.rows(some, {})}
