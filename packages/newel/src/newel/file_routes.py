"""Files over HTTP: upload one or many, list, download in parts, share for a while, delete.

    app = create_app(Settings(), users, file_routes.module(FileRules(quota_bytes=10**9)))

They need ``files:read`` and ``files:write``; another user's files are not found.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, File, Path, Query, Request, Response, UploadFile
from pydantic import BaseModel, Field

from newel.auth import public, requires
from newel.clock import Clock
from newel.concurrency import IfMatch, Tagged, check_version
from newel.depends import ClockDep, CurrentWork
from newel.downloads import Downloadable, download
from newel.errors import AppError, Forbidden, Invalid, NotFound
from newel.files import Files, StoredFile, remove_content, sweep_files
from newel.modules import Module
from newel.pages import Page, PageQuery, Slice
from newel.principal import Principal
from newel.schedules import schedule
from newel.schemas import EntityRead
from newel.tokens import KeyRing, Signer
from newel.uploads import FileRules, clean_name

__all__ = ["FileLink", "FileQuery", "FileRead", "Outcome", "module"]

_FORM_BYTES = 64 * 1024
"""What a form has besides its files: boundaries, headers of parts."""

Reader = Annotated[Principal, requires("files:read")]
Writer = Annotated[Principal, requires("files:write")]
Uploads = Annotated[list[UploadFile], File(alias="files", min_length=1, max_length=100)]
FilesDep = Annotated[Files, Depends()]


class FileRead(EntityRead):
    """A file, without where it lies."""

    owner_id: UUID
    name: str
    media_type: str
    size_bytes: int
    sha256: Annotated[str, Field(description="Of the content, in hex; its ETag, too")]


class _Known(BaseModel):
    """What a download needs of a row: read without a session, whose connection would wait too."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str
    key: str


class FileQuery(PageQuery):
    """What a list of files can be sorted and filtered by."""

    sort: Literal["created_at", "-created_at", "name", "-name", "size_bytes", "-size_bytes"] = (
        "-created_at"
    )
    media_type: Annotated[str, Field(max_length=127)] | None = None


class Outcome(BaseModel):
    """What became of one file of several: stored, or refused and why."""

    name: str
    file: FileRead | None = None
    error: str | None = None
    detail: str | None = None


class FileLink(BaseModel):
    """An address at which anybody may download the file until it expires."""

    url: str
    expires_at: datetime


def module(rules: FileRules | None = None, *, link_minutes: float = 15) -> Module:
    """Return the module of users' files; ``link_minutes`` is how long a shared address works."""
    return Module(
        "files",
        description="Files that users upload",
        routers=[
            _router(),
            _upload_router(rules or FileRules()),
            _link_router(timedelta(minutes=link_minutes)),
        ],
        jobs=[remove_content, sweep_files],
        schedules=[schedule("23 4 * * *", sweep_files)],
    )


def _router() -> APIRouter:
    router = APIRouter(prefix="/files", tags=["files"])

    @router.get("", response_model=Page[FileRead], summary="List files")
    async def list_files(
        query: Annotated[FileQuery, Query()], files: FilesDep, _caller: Reader
    ) -> Slice[FileRead]:
        """List the caller's files, the newest first."""
        return await files.rows.reading(FileRead).page(query)

    @router.get("/{file_id}", summary="Read about a file")
    async def read_file(
        file_id: UUID, files: FilesDep, _caller: Reader, tagged: Tagged
    ) -> FileRead:
        """Tell a file's name, type, size and digest."""
        return tagged(await files.rows.reading(FileRead).get(file_id))

    @router.get("/{file_id}/content", summary="Download a file", responses=_DOWNLOADS)
    async def download_file(
        file_id: UUID, request: Request, files: FilesDep, _caller: Reader
    ) -> Response:
        """Send the bytes; with ``Range`` a part of them, with ``If-None-Match`` only new ones."""
        return await _answer(await files.rows.reading(_Known).get(file_id), files, request)

    @router.delete("/{file_id}", status_code=204, summary="Delete a file")
    async def delete_file(
        file_id: UUID, files: FilesDep, _caller: Writer, if_match: IfMatch
    ) -> None:
        """Delete a file, and then its bytes."""
        file = await files.rows.get(file_id)
        check_version(file.version, if_match)
        await files.remove(file)

    return router


def _upload_router(rules: FileRules) -> APIRouter:
    router = APIRouter(prefix="/files", tags=["files"])
    several = rules.max_bytes * rules.most_at_once

    @router.post(
        "",
        status_code=201,
        response_model=FileRead,
        summary="Upload a file",
        max_body_size=rules.max_bytes + _FORM_BYTES,
        responses=_REFUSED,
    )
    async def upload_file(
        file: UploadFile, files: FilesDep, caller: Writer, tagged: Tagged, request: Request
    ) -> StoredFile:
        """Store one file: what it is, is told by its bytes."""
        if len((await request.form()).getlist("file")) > 1:
            raise Invalid("It is one file at once: several go to /files/batch.")
        return tagged.new(await files.add(caller, file, rules))

    @router.post(
        "/batch",
        response_model=list[Outcome],
        summary="Upload several files",
        max_body_size=several + _FORM_BYTES,
        responses=_REFUSED,
    )
    async def upload_files(uploads: Uploads, files: FilesDep, caller: Writer) -> list[Outcome]:
        """Store those that can be stored, and tell of each other one why not."""
        if len(uploads) > rules.most_at_once:
            raise Invalid(f"At most {rules.most_at_once} files at once.")
        stored = [await _stored(upload, files, caller, rules) for upload in uploads]
        return [
            found if isinstance(found, Outcome) else await _entered(found, files, rules)
            for found in stored
        ]

    return router


async def _stored(
    upload: UploadFile, files: Files, caller: Principal, rules: FileRules
) -> StoredFile | Outcome:
    try:
        return await files.store(caller, upload, rules)
    except AppError as error:
        return _refused(clean_name(upload.filename or ""), error)


async def _entered(stored: StoredFile, files: Files, rules: FileRules) -> Outcome:
    try:
        entered = await files.enter(stored, rules)
    except AppError as error:
        return _refused(stored.name, error)
    return Outcome(name=entered.name, file=FileRead.model_validate(entered))


def _refused(name: str, error: AppError) -> Outcome:
    if error.status >= 500 and error.status != 507:
        raise error
    return Outcome(name=name, error=error.code, detail=error.detail)


def _link_router(lifetime: timedelta) -> APIRouter:
    router = APIRouter(prefix="/files", tags=["files"])

    @router.post("/{file_id}/link", summary="Share a file for a while")
    async def share_file(
        file_id: UUID, request: Request, files: FilesDep, clock: ClockDep, _caller: Writer
    ) -> FileLink:
        """Return an address at which anybody may download the file until it expires."""
        file = await files.rows.get(file_id)
        expires = clock.now() + lifetime
        signed = _signer(request).sign(file.id.bytes + int(expires.timestamp()).to_bytes(8))
        path = request.url.path.rsplit("/", 2)[0]  # the id may be written in other ways
        return FileLink(url=f"{path}/shared/{signed}", expires_at=expires)

    @router.get("/shared/{signed}", summary="Download a shared file", responses=_DOWNLOADS)
    async def download_shared(
        signed: Annotated[str, Path(max_length=256)],
        request: Request,
        files: FilesDep,
        work: CurrentWork,
        clock: ClockDep,
        _caller: Annotated[Principal, public()],
    ) -> Response:
        """Send the bytes of a file whose owner shared it, as long as the address is good."""
        file_id = _read_link(signed, _signer(request), clock)
        async with work.as_system("a file was shared by its owner"):
            return await _answer(await files.rows.reading(_Known).get(file_id), files, request)

    return router


def _signer(request: Request) -> Signer:
    keys: KeyRing = request.app.state.keys
    return Signer(keys, "download")


def _read_link(signed: str, signer: Signer, clock: Clock) -> UUID:
    try:
        payload = signer.read(signed)
    except ValueError:
        raise NotFound("file") from None
    if int.from_bytes(payload[16:]) <= clock.now().timestamp():
        raise Forbidden("This address has expired; ask for a new one.")
    return UUID(bytes=payload[:16])


async def _answer(file: _Known, files: Files, request: Request) -> Response:
    known = Downloadable(file.name, file.media_type, file.size_bytes, file.sha256)
    return await download(
        known, request.headers, lambda start, stop: files.content(file.key, start=start, stop=stop)
    )


_REFUSED: dict[int | str, dict[str, Any]] = {
    413: {"description": "The file is too large"},
    415: {"description": "The file is of a type that is not taken"},
    507: {"description": "Beyond the quota, or the disk is full"},
}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_DOWNLOADS: dict[int | str, dict[str, Any]] = {
    200: {"description": "The file", "content": _BINARY},
    206: {"description": "The part that was asked for", "content": _BINARY},
    304: {"description": "It is the one that the client has"},
    416: {"description": "It has no such part"},
}
