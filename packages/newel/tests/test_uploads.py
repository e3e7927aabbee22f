"""An upload is what its bytes say, within its limits, and its name is only shown."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace

import pytest
from fastapi import UploadFile

from newel.errors import AppError, ContentTooLarge, UnsupportedMediaType
from newel.uploads import COMMON_TYPES, Examined, FileRules, clean_name, examine

pytestmark = pytest.mark.anyio

PNG = b"\x89PNG\r\n\x1a\n" + b"\0" * 100
JPEG = b"\xff\xd8\xff\xe0" + b"\0" * 100
ZIP = b"PK\x03\x04" + b"\0" * 100
PDF = b"%PDF-1.7\n" + b"x" * 100


async def found(content: bytes, name: str, rules: FileRules | None = None) -> Examined:
    upload = UploadFile(io.BytesIO(content), filename=name)
    result = await examine(upload, rules or FileRules())
    assert upload.file.tell() == 0, "whoever stores it begins at the beginning"
    return result


@pytest.mark.parametrize(
    ("content", "name", "media_type"),
    [
        (PNG, "a.png", "image/png"),
        (PNG, "A.PNG", "image/png"),
        (JPEG, "a.jpeg", "image/jpeg"),
        (PDF, "a.pdf", "application/pdf"),
        (ZIP, "a.zip", "application/zip"),
        (b"hello", "a.txt", "text/plain"),
        ("grüß dich\n".encode(), "a.md", "text/plain"),
        (b"a,b\n1,2\n", "a.csv", "text/csv"),
        (b'{"a": 1}', "a.json", "application/json"),
        (b"x" * 8191 + "ü".encode(), "cut.txt", "text/plain"),
        (b"", "empty.txt", "text/plain"),
    ],
)
async def test_a_type_is_told_by_the_bytes(content: bytes, name: str, media_type: str) -> None:
    examined = await found(content, name)
    assert examined == Examined(
        name=name,
        media_type=media_type,
        size_bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )


@pytest.mark.parametrize(
    ("content", "name"),
    [
        (PNG, "a.jpg"),  # the name lies
        (PNG, "a.png.exe"),
        (PNG, "a"),
        (b"MZ" + b"\0" * 100, "a.png"),  # a program
        (b"MZ" + b"\0" * 100, "a.txt"),
        (b"\x7fELF" + b"\0" * 100, "a.zip"),
        (b"<html><script>alert(1)</script>", "a.txt"),
        (b"\xef\xbb\xbf \n<!DOCTYPE html>", "a.md"),
        (b"<svg xmlns='http://www.w3.org/2000/svg' onload='x()'/>", "a.svg"),
        (b"<svg onload='x()'/>", "a.txt"),
        (b"<?xml version='1.0'?><svg/>", "a.txt"),
        (b"hello\0world", "a.txt"),
        (b"ab\xff", "a.txt"),
        (b"\x1b[31mred", "a.txt"),  # a terminal would obey it
        (b"\xff\xfeh\0i\0", "a.txt"),
        (b"hello", "a.html"),
        (b"hello", "a.unknown"),
    ],
)
async def test_what_is_not_taken(content: bytes, name: str) -> None:
    with pytest.raises(UnsupportedMediaType):
        await found(content, name)


@pytest.mark.parametrize(("size", "is_taken"), [(99, True), (100, True), (101, False)])
async def test_the_limit_is_of_the_bytes(size: int, is_taken: bool) -> None:
    try:
        await found(b"x" * size, "a.txt", FileRules(max_bytes=100))
    except ContentTooLarge:
        assert not is_taken
    else:
        assert is_taken


async def test_a_service_names_its_own_types() -> None:
    only = FileRules(types={"image/png": (".png",)})
    assert (await found(PNG, "a.png", only)).media_type == "image/png"
    with pytest.raises(UnsupportedMediaType, match="image/png"):
        await found(PDF, "a.pdf", only)
    markup = replace(only, types={"image/svg+xml": (".svg",)})
    with pytest.raises(AppError):  # what a browser runs has no signature to be told by
        await found(b"<svg/>", "a.svg", markup)


def test_nothing_that_a_browser_runs_is_common() -> None:
    assert not {"text/html", "image/svg+xml", "application/xhtml+xml"} & set(COMMON_TYPES)


@pytest.mark.parametrize(
    ("offered", "shown"),
    [
        ("photo.png", "photo.png"),
        ("../../etc/passwd.txt", "passwd.txt"),
        ("C:\\Users\\ann\\photo.png", "photo.png"),
        ("..\\..\\x.png", "x.png"),
        ("a\0b\r\nc.png", "abc.png"),
        ("x\u202egnp.exe", "xgnp.exe"),
        ("  .. .png", "png"),
        ("", "file"),
        ("/", "file"),
        ("...", "file"),
        (".htaccess", "htaccess"),
        ("übergröße.png", "übergröße.png"),
        ("x" * 500 + ".png", "x" * 251 + ".png"),
    ],
)
def test_a_name_is_only_a_name(offered: str, shown: str) -> None:
    assert clean_name(offered) == shown
    assert len(clean_name(offered)) <= 255
