"""Uploaded pictures are written anew: only what they show is kept, and none costs much to read."""

from __future__ import annotations

import asyncio
import errno
import io
import subprocess
import sys
import textwrap
import threading
import zlib
from collections.abc import AsyncGenerator, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from PIL import Image, ImageCms, ImageSequence
from sample_files import RULES, World, form, running

from newel import images
from newel.drivers import pillow
from newel.errors import (
    AppError,
    ConfigurationError,
    ContentTooLarge,
    InsufficientStorage,
    Invalid,
    Unavailable,
)
from newel.images import IMAGE_TYPES, Images

pytestmark = pytest.mark.anyio

SMALL = Images(max_pixels=10_000, longest_side=60)
FORMATS = {"JPEG": "image/jpeg", "PNG": "image/png", "WEBP": "image/webp", "GIF": "image/gif"}
GPS = b"where it was taken"


def picture(
    form: str, *, size: tuple[int, int] = (40, 20), mode: str = "RGB", **info: Any
) -> bytes:
    """Return a picture whose left half is red, the right one blue."""
    image = Image.new("RGB", size, "blue")
    image.paste("red", (0, 0, size[0] // 2, size[1]))
    file = io.BytesIO()
    image.convert(mode).save(file, form, **info)
    return file.getvalue()


async def anew(content: bytes, media_type: str, how: Images = SMALL) -> Image.Image:
    with await how.write_anew(io.BytesIO(content), media_type) as file:
        found = Image.open(io.BytesIO(file.read()))
    found.load()
    return found


def is_red(image: Image.Image, x: int, y: int) -> bool:
    red, _, blue = cast("tuple[int, int, int]", image.convert("RGB").getpixel((x, y)))
    return red > 200 and blue < 60


def exif(orientation: int = 1) -> bytes:
    found = Image.Exif()
    found[0x0112] = orientation
    found[0x010F] = "the maker"
    found.get_ifd(0x8825)[29] = GPS.decode()
    return found.tobytes()


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
async def test_it_shows_the_same_in_the_same_format(form: str, media_type: str) -> None:
    found = await anew(picture(form), media_type)
    assert (found.format, found.size) == (form, (40, 20))
    assert is_red(found, 5, 10)
    assert not is_red(found, 35, 10)


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
async def test_what_else_is_in_it_is_gone(form: str, media_type: str) -> None:
    info: dict[str, Any] = {"comment": GPS} if form in {"GIF", "JPEG"} else {}
    if form != "GIF":
        info |= {"exif": exif()}
    if form in {"JPEG", "WEBP"}:
        info |= {"xmp": b"<x:xmpmeta>" + GPS}
    content = picture(form, **info) + b"<script>" + GPS
    assert GPS in content

    with await SMALL.write_anew(io.BytesIO(content), media_type) as file:
        written = file.read()
    assert not [word for word in (GPS, b"the maker", b"Exif", b"eXIf", b"xmp") if word in written]


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize(("orientation", "red_at"), [(3, (35, 10)), (6, (10, 5)), (8, (10, 35))])
async def test_it_is_upright(form: str, orientation: int, red_at: tuple[int, int]) -> None:
    turned = picture(form, exif=exif(orientation))
    found = await anew(turned, FORMATS[form])
    assert found.size == ((40, 20) if orientation == 3 else (20, 40))
    assert is_red(found, *red_at)
    assert not found.getexif()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP"])
async def test_its_colours_stay(form: str) -> None:
    profile = cast("Any", ImageCms).ImageCmsProfile(cast("Any", ImageCms).createProfile("sRGB"))
    profile = cast("bytes", profile.tobytes())
    found = await anew(picture(form, icc_profile=profile), FORMATS[form])
    assert found.info["icc_profile"] == profile
    long = profile + b"\0" * 40_000
    assert "icc_profile" not in (await anew(picture(form, icc_profile=long), FORMATS[form])).info


@pytest.mark.parametrize(
    ("form", "mode", "kept"),
    [
        *[("PNG", mode, mode) for mode in ("1", "L", "LA", "P", "RGBA", "I;16")],
        *[("JPEG", "L", "L"), ("JPEG", "CMYK", "RGB"), ("WEBP", "RGBA", "RGB")],
        *[("GIF", mode, "P") for mode in ("1", "L", "P")],
    ],
)
@pytest.mark.parametrize("size", [(40, 20), (80, 100)])
async def test_each_kind_of_pixel(form: str, mode: str, kept: str, size: tuple[int, int]) -> None:
    file = io.BytesIO()
    Image.new("L", size, 77).convert(mode).save(file, form)
    found = await anew(file.getvalue(), FORMATS[form])
    assert max(found.size) <= 60
    if size == (40, 20):
        assert found.mode == kept


async def test_what_is_see_through_stays_so() -> None:
    file = io.BytesIO()
    Image.new("RGBA", (80, 80), (255, 0, 0, 0)).quantize().save(file, "PNG")
    for content, media_type in ((file.getvalue(), "image/png"), (picture("WEBP"), "image/webp")):
        found = (await anew(content, media_type)).convert("RGBA")
        assert found.getchannel("A").getpixel((5, 5)) == (0 if media_type == "image/png" else 255)


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
async def test_a_large_one_becomes_smaller(form: str, media_type: str) -> None:
    found = await anew(picture(form, size=(100, 50)), media_type)
    assert found.size == (60, 30)
    assert is_red(found, 5, 10)


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
async def test_one_pixel_too_many_is_413(form: str, media_type: str) -> None:
    await anew(picture(form, size=(100, 100)), media_type)
    with pytest.raises(ContentTooLarge, match="10000 pixels"):
        await anew(picture(form, size=(100, 101)), media_type)


def with_scans(number: int, **info: Any) -> bytes:
    """Return a progressive JPEG that goes over its pixels so many times."""
    content = picture("JPEG", progressive=True, **info)
    last = content[content.rindex(b"\xff\xda") : -2]
    more = number - content.count(b"\xff\xda\x00")
    return content[:-2] + last * more + content[-2:]


@pytest.mark.parametrize("piece_bytes", [1, 5, 65536])
async def test_one_scan_too_many_is_413(piece_bytes: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pillow, "_PIECE_BYTES", piece_bytes)
    await anew(with_scans(100), "image/jpeg")
    with pytest.raises(ContentTooLarge, match="100 scans"):
        await anew(with_scans(101), "image/jpeg")


async def test_what_only_looks_like_scans_is_not_counted() -> None:
    looks = b"\xff\xda\x00\x08" * 200
    content = picture("JPEG", comment=looks)
    assert looks in content
    await anew(content + looks, "image/jpeg")


async def test_one_segment_too_many_is_413() -> None:
    content = picture("JPEG")
    comment = b"\xff\xfe\x00\x02"
    await anew(content[:2] + comment * 900 + content[2:], "image/jpeg")
    with pytest.raises(ContentTooLarge, match="1000 segments"):
        await anew(content[:2] + comment * 1001 + content[2:], "image/jpeg")


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG"])
async def test_what_moves_is_refused(form: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "blue")]
    file = io.BytesIO()
    frames[0].save(file, form, save_all=True, append_images=frames[1:], duration=100)
    assert len(list(ImageSequence.Iterator(Image.open(file)))) == 2
    with pytest.raises(Invalid, match="must not move"):
        await anew(file.getvalue(), FORMATS[form])


async def test_of_a_telephones_two_pictures_the_first_is_kept() -> None:
    file = io.BytesIO()
    second = Image.new("RGB", (10, 10))
    first = Image.open(io.BytesIO(picture("JPEG")))
    first.save(file, "MPO", save_all=True, append_images=[second])
    found = await anew(file.getvalue(), "image/jpeg")
    assert (found.format, found.size, getattr(found, "n_frames", 1)) == ("JPEG", (40, 20), 1)


@pytest.mark.parametrize(("form", "media_type"), FORMATS.items())
async def test_what_cannot_be_read_is_422(form: str, media_type: str) -> None:
    content = picture(form)
    other = picture("PNG" if form != "PNG" else "GIF")
    for broken in (content[: len(content) // 2], content[:12], b"", other):
        with pytest.raises(Invalid, match="cannot be read"):
            await anew(broken, media_type)


async def test_without_room_for_it_the_picture_is_not_blamed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    content = picture("PNG")
    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(InsufficientStorage):
        await SMALL.write_anew(io.BytesIO(content), "image/png")


def bomb(side: int = 30_000) -> bytes:
    """Return a PNG of so many black pixels, which are 100 KB as a file."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    packed = zlib.compressobj(1)
    row = bytes(1 + side // 8)
    pixels = b"".join(packed.compress(row) for _ in range(side)) + packed.flush()
    size = side.to_bytes(4) * 2
    header = chunk(b"IHDR", size + bytes([1, 0, 0, 0, 0]))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", pixels) + chunk(b"IEND", b"")


MEASURE = """
import asyncio, re, sys
from pathlib import Path
from newel.errors import AppError
from newel.images import Images

def peak_mb():
    return int(re.search("VmHWM:\\s*([0-9]+)", Path("/proc/self/status").read_text())[1]) / 1024

async def read(path, media_type):
    with path.open("rb") as file:
        try:
            (await Images(max_pixels=int(sys.argv[3])).write_anew(file, media_type)).close()
        except AppError as error:
            return error.status
    return 200

asyncio.run(read(Path(sys.argv[1]), "image/png"))
before = peak_mb()
print(asyncio.run(read(Path(sys.argv[2]), "image/png")), peak_mb() - before)
"""


def measured(folder: Path, *, max_pixels: int, side: int) -> tuple[int, float]:
    """Return the status of a bomb, and the MB it took beyond what a small picture takes."""
    folder.joinpath("small.png").write_bytes(picture("PNG"))
    folder.joinpath("bomb.png").write_bytes(bomb(side))
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEASURE), "small.png", "bomb.png", str(max_pixels)],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    status, more = done.stdout.split()
    return int(status), float(more)


def test_a_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    status, more = measured(tmp_path, max_pixels=25_000_000, side=30_000)
    assert status == 413
    assert more < 50


def test_without_the_limit_a_bomb_takes_its_memory(tmp_path: Path) -> None:
    status, more = measured(tmp_path, max_pixels=10**9, side=9_000)
    assert (status, more > 70) == (200, True)


class TestManyAtOnce:
    @pytest.fixture
    def gate(self, monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
        """What a picture waits for until it is opened."""
        gate = threading.Event()
        original = Images._write_anew  # pyright: ignore[reportPrivateUsage] - where a thread works

        def held(*arguments: Any) -> Any:
            assert gate.wait(30)
            return original(*arguments)

        monkeypatch.setattr(Images, "_write_anew", held)
        yield gate
        gate.set()

    async def test_who_comes_when_it_is_full_is_told_so(self, gate: threading.Event) -> None:
        how = Images(at_once=1, waiting=2)
        content = picture("PNG")
        at_work = [asyncio.create_task(anew(content, "image/png", how)) for _ in range(3)]
        room: threading.Semaphore = cast("Any", how)._threads._room
        while room.acquire(blocking=False):  # until each has its place
            room.release()
            await asyncio.sleep(0)
        with pytest.raises(Unavailable):
            await anew(content, "image/png", how)
        gate.set()
        assert [found.size for found in await asyncio.gather(*at_work)] == [(40, 20)] * 3
        assert (await anew(content, "image/png", how)).size == (40, 20), "there is room again"

    async def test_the_loop_goes_on_meanwhile(self, gate: threading.Event) -> None:
        reading = asyncio.create_task(anew(picture("PNG"), "image/png"))
        for _ in range(100):
            await asyncio.sleep(0)
        assert not reading.done()
        gate.set()
        await reading


def test_without_pillow_it_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    missing: dict[str, None] = {"PIL": None}
    monkeypatch.setattr(images, "find_spec", missing.get)
    with pytest.raises(ConfigurationError, match="not installed") as refused:
        Images()
    assert "newel[images]" in str(refused.value.fix)


def test_it_is_for_what_is_accepted_anyway() -> None:
    assert {"image/jpeg", "image/png", "image/webp", "image/gif"} == IMAGE_TYPES
    assert isinstance(ContentTooLarge("x"), AppError)


# ---------------------------------------------------------------------------------- as an upload


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[World]:
    async with running(database_url, tmp_path, replace(RULES, images=SMALL)) as found:
        yield found


async def test_what_is_stored_is_the_new_one(world: World) -> None:
    content = picture("JPEG", exif=exif(6))
    async with world.user() as client:
        stored = (await client.post("/files", **form(content, "me.jpg"))).json()
        kept = (await client.get(f"/files/{stored['id']}/content")).content
        assert (len(kept), kept != content) == (stored["size_bytes"], True)
        assert Image.open(io.BytesIO(kept)).size == (20, 40)
        assert world.stored()[0].read_bytes() == kept

        text = (await client.post("/files", **form(b"hello", "a.txt"))).json()
        assert (await client.get(f"/files/{text['id']}/content")).content == b"hello"


async def test_what_is_refused_is_not_stored(world: World) -> None:
    large = picture("PNG", size=(200, 200))
    async with world.user() as client:
        for content, name, status in (
            (large, "a.png", 413),
            (picture("PNG")[:60], "a.png", 422),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.svg", 415),
            (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "a.png", 415),
        ):
            answer = await client.post("/files", **form(content, name))
            assert (answer.status_code, world.stored()) == (status, [])
        several = [
            ("files", ("a.png", picture("PNG"), "image/png")),
            ("files", ("b.png", large, "image/png")),
        ]
        outcomes = (await client.post("/files/batch", files=several)).json()
        assert [outcome["error"] for outcome in outcomes] == [None, "content_too_large"]
