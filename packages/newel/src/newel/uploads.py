"""What an uploaded file is: its size, its digest, and its type by what it holds, not by its name.

    rules = FileRules(types={"image/png": (".png",)}, max_bytes=5_000_000)
    found = await examine(upload, rules)   # raises ContentTooLarge, UnsupportedMediaType

A type that has no signature (text) is told by its name, if the bytes are text.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any, BinaryIO, Final, cast

import filetype  # pyright: ignore[reportMissingTypeStubs] - it has none
from fastapi import UploadFile

from newel.errors import ContentTooLarge, UnsupportedMediaType
from newel.images import IMAGE_TYPES, Images
from newel.storage import CHUNK_BYTES

__all__ = ["COMMON_TYPES", "Examined", "FileRules", "clean_name", "examine", "to_store"]

COMMON_TYPES: Final[Mapping[str, Sequence[str]]] = {
    "image/png": (".png",),
    "image/jpeg": (".jpg", ".jpeg"),
    "image/gif": (".gif",),
    "image/webp": (".webp",),
    "application/pdf": (".pdf",),
    "application/zip": (".zip",),
    "text/plain": (".txt", ".md"),
    "text/csv": (".csv",),
    "application/json": (".json",),
}
"""What is accepted unless a service says otherwise: nothing that a browser runs (HTML, SVG)."""

_HEAD_BYTES: Final = 8192
_TEXTS: Final = ("text/", "application/json")
_MARKUP: Final = (b"<!doctype", b"<html", b"<svg", b"<script", b"<?xml", b"<body", b"<head")


@dataclass(frozen=True, slots=True, kw_only=True)
class FileRules:
    """What may be uploaded: types with their extensions, bytes of one file, of one user's all.

    With ``images`` pictures are written anew before they are stored.
    """

    types: Mapping[str, Sequence[str]] = field(default_factory=lambda: COMMON_TYPES)
    max_bytes: int = 10 * 1024 * 1024
    quota_bytes: int | None = None
    most_at_once: int = 20
    images: Images | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Examined:
    """What was found: the name without its path, the type, bytes, the SHA-256 in hex."""

    name: str
    media_type: str
    size_bytes: int
    sha256: str


async def examine(upload: UploadFile, rules: FileRules) -> Examined:
    """Return what ``upload`` is; raises ``ContentTooLarge`` or ``UnsupportedMediaType``.

    The file is left at its beginning.
    """
    name = clean_name(upload.filename or "")
    return await asyncio.to_thread(_examine, upload.file, name, rules)


@asynccontextmanager
async def to_store(
    upload: UploadFile, rules: FileRules
) -> AsyncGenerator[tuple[BinaryIO, Examined]]:
    """Yield the bytes to store of ``upload``, and what they are: its own, or its picture's anew.

    Raises what ``examine`` does and ``Images.write_anew``.
    """
    found = await examine(upload, rules)
    if rules.images is None or found.media_type not in IMAGE_TYPES:
        yield upload.file, found
        return
    anew = await rules.images.write_anew(upload.file, found.media_type)
    try:
        yield anew, await asyncio.to_thread(_examine, anew, found.name, rules)
    finally:
        anew.close()


def _examine(file: BinaryIO, name: str, rules: FileRules) -> Examined:
    file.seek(0)
    head = file.read(_HEAD_BYTES)
    media_type = _type_of(head, name, rules.types)
    digest, size = hashlib.sha256(head), len(head)
    while chunk := file.read(CHUNK_BYTES):
        digest.update(chunk)
        size += len(chunk)
        if size > rules.max_bytes:
            break
    if size > rules.max_bytes:
        raise ContentTooLarge(f"A file may have at most {rules.max_bytes} bytes.")
    file.seek(0)
    return Examined(name=name, media_type=media_type, size_bytes=size, sha256=digest.hexdigest())


def _type_of(head: bytes, name: str, types: Mapping[str, Sequence[str]]) -> str:
    extension = PurePosixPath(name).suffix.lower()
    guessed: Any = cast("Any", filetype).guess(head)
    media_type = _text_type(head, extension, types) if guessed is None else str(guessed.mime)
    if media_type is None or media_type not in types:
        raise UnsupportedMediaType(f"Files may be: {', '.join(sorted(types))}.")
    if extension not in types[media_type]:
        raise UnsupportedMediaType(
            f"The file is {media_type}, so its name ends in {' or '.join(types[media_type])}."
        )
    return media_type


def _text_type(head: bytes, extension: str, types: Mapping[str, Sequence[str]]) -> str | None:
    """Return the allowed text type of this extension if the bytes are text and no markup."""
    if not _is_text(head) or head.lstrip(b"\xef\xbb\xbf \t\r\n").lower().startswith(_MARKUP):
        return None
    named = (kind for kind, extensions in types.items() if extension in extensions)
    return next((kind for kind in named if kind.startswith(_TEXTS)), None)


def _is_text(head: bytes) -> bool:
    try:
        text = head.decode()
    except UnicodeDecodeError as error:
        if len(head) < _HEAD_BYTES or error.start < len(head) - 3:  # else it was cut in two
            return False
        text = head[: error.start].decode()
    return not any(character < " " and character not in "\t\r\n\f" for character in text)


def clean_name(offered: str) -> str:
    """Return a client's file name as far as it can be shown: no path, no control characters."""
    base = PurePosixPath(PureWindowsPath(offered).name).name
    shown = "".join(character for character in base if character.isprintable())
    stem, dot, extension = shown.strip(" .").rpartition(".")
    if not dot:
        return extension[:255] or "file"
    return f"{stem[: 254 - len(extension[:32])]}.{extension[:32]}"
