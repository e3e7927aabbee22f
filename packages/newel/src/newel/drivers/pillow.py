"""Pictures by Pillow: read by one decoder, written anew with nothing but their pixels."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any, BinaryIO, Final

from PIL import Image, ImageOps

from newel.errors import ContentTooLarge, Invalid, disk_error

__all__ = ["write_anew"]

_FORMATS: Final = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
}
_MODES: Final[Mapping[str, tuple[str, ...]]] = {
    "JPEG": ("L", "RGB"),
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "WEBP": ("RGB", "RGBA"),
    "GIF": ("1", "L", "P"),
}
_PROFILE_BYTES: Final = 32 * 1024
"""A longer colour profile is left out; those of cameras and screens have 0.5 to 10 KiB."""

_PIECE_BYTES: Final = 64 * 1024
_SEGMENT: Final = re.compile(rb"\xff([\xc0-\xcf\xd9-\xfe])(..)", re.DOTALL)
"""A marker of JPEG that is no restart, and the length that follows it."""

_END: Final = b"\xd9"
_SCAN: Final = b"\xda"
_MOST_SCANS: Final = 100
"""Each goes over all pixels and may be 40 bytes; progressive pictures have some 10."""

_MOST_SEGMENTS: Final = 1000


def write_anew(
    source: BinaryIO,
    target: BinaryIO,
    *,
    media_type: str,
    max_pixels: int,
    longest_side: int,
    quality: int,
) -> None:
    """Write the picture in ``source``, which is of ``media_type``, to ``target``.

    Raises ``ContentTooLarge`` before a pixel of too many, or of too many scans, is decoded, and
    ``Invalid`` for what moves or cannot be read.
    """
    form = _FORMATS[media_type]
    try:
        if form == "JPEG":
            _refuse_many_scans(source)
        # Its own decoder alone: what a name or a header lies about finds no other one.
        with Image.open(source, formats=[form]) as image:
            _refuse_unbounded(image, form, max_pixels)
            _save(_fitting(image, longest_side), target, form, quality)
    except (ContentTooLarge, Invalid):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise _too_many(max_pixels) from None
    except OSError as error:
        if error.errno is None:  # Pillow's own, about the picture
            raise Invalid("The picture cannot be read.") from error
        raise disk_error(error) from error
    except Exception as error:  # made-up bytes make a decoder fail in any way there is
        raise Invalid("The picture cannot be read.") from error


def _refuse_unbounded(image: Image.Image, form: str, max_pixels: int) -> None:
    if image.width * image.height > max_pixels:
        raise _too_many(max_pixels)
    # A telephone's JPEG may hold a second picture, for brightness or depth: that is left out.
    if form != "JPEG" and getattr(image, "is_animated", False):
        raise Invalid("A picture must not move.")


def _refuse_many_scans(source: BinaryIO) -> None:
    source.seek(0)
    kinds = Counter(islice(_segments(source), _MOST_SEGMENTS + 1))
    source.seek(0)
    if kinds[_SCAN] > _MOST_SCANS or kinds.total() > _MOST_SEGMENTS:
        raise ContentTooLarge(
            f"A picture may have at most {_MOST_SCANS} scans, {_MOST_SEGMENTS} segments."
        )


def _segments(source: BinaryIO) -> Iterator[bytes]:
    """Yield what each segment of a JPEG is, as far as its decoder goes; what is in it is passed."""
    data, at = b"", 0
    while piece := source.read(_PIECE_BYTES):
        data, at = data[at:] + piece, max(at - len(data), 0)
        while found := _SEGMENT.search(data, at):
            if found[1] == _END:
                return
            yield found[1]
            at = found.start(2) + int.from_bytes(found[2])
        at = max(at, len(data) - 3)  # a marker may begin there


def _too_many(max_pixels: int) -> ContentTooLarge:
    return ContentTooLarge(f"A picture may have at most {max_pixels} pixels.")


def _fitting(image: Image.Image, longest_side: int) -> Image.Image:
    """Return it no larger than that, and upright: what EXIF says of that is left out afterwards."""
    if max(image.size) > longest_side:
        if image.mode == "P":  # shades between its colours are not among them
            image = _converted(image, "RGBA" if "transparency" in image.info else "RGB")
        image.thumbnail((longest_side, longest_side))  # of a JPEG only what is needed is decoded
    ImageOps.exif_transpose(image, in_place=True)
    return image


def _save(image: Image.Image, target: BinaryIO, form: str, quality: int) -> None:
    modes = _MODES[form]
    # GIF has palettes alone; elsewhere what is see-through stays so, and CMYK becomes RGB.
    see_through = "RGBA" in modes and image.has_transparency_data
    fallback = "P" if form == "GIF" else "RGBA" if see_through else "RGB"
    shown = image if image.mode in modes else _converted(image, fallback)
    profile = shown.info.get("icc_profile", b"")
    options: dict[str, Any] = {} if form in {"GIF", "PNG"} else {"quality": quality}
    # A phone's colours fade without its profile; of one mode it says nothing about another.
    if form != "GIF" and shown.mode == image.mode and len(profile) <= _PROFILE_BYTES:
        options["icc_profile"] = profile
    # Whatever else a file holds, where it was taken, comments, a preview, is here.
    shown.info = {name: shown.info[name] for name in ("transparency",) if name in shown.info}
    shown.save(target, form, **options)


def _converted(image: Image.Image, mode: str) -> Image.Image:
    converted = image.convert(mode)
    converted.info = dict(image.info)
    return converted
