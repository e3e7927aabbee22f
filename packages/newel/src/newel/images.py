"""Uploaded pictures written anew: bounded, upright, with nothing in them but what they show.

    PHOTOS = FileRules(types={"image/jpeg": (".jpg", ".jpeg")}, images=Images())

What a camera adds (where, when, with which device) is gone, and so is what somebody hid behind the
pixels. Reading a picture takes CPU and memory, so few are read at once, in threads of their own.
"""

from __future__ import annotations

import importlib
from dataclasses import KW_ONLY, dataclass, field
from functools import partial
from importlib.util import find_spec
from tempfile import SpooledTemporaryFile
from typing import BinaryIO, Final, cast

from newel.errors import ConfigurationError
from newel.tasks import Threads

__all__ = ["IMAGE_TYPES", "Images"]

IMAGE_TYPES: Final = frozenset({"image/jpeg", "image/png", "image/webp", "image/gif"})
"""What is written anew; a file of another type stays as it came."""

_IN_MEMORY_BYTES: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Images:
    """How pictures are written anew, in the format they came in.

    One of more than ``max_pixels`` is refused before a pixel of it is read, one whose longer side
    is above ``longest_side`` becomes smaller. ``quality`` is that of JPEG and WebP, 1 to 95.
    ``at_once`` are read, each with at most some 12 bytes a pixel, ``waiting`` wait; who comes then
    gets ``Unavailable``. Raises ``ConfigurationError`` without ``newel[images]``.
    """

    _: KW_ONLY
    max_pixels: int = 25_000_000
    longest_side: int = 4096
    quality: int = 85
    at_once: int = 2
    waiting: int = 16
    _threads: Threads = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if find_spec("PIL") is None:
            raise ConfigurationError(
                "Images() writes pictures anew, and what reads them is not installed",
                fix="install newel[images]",
            )
        threads = Threads(
            "newel-images",
            self.at_once,
            waiting=self.waiting,
            refusal="Too many pictures at once. Try again in a moment.",
        )
        object.__setattr__(self, "_threads", threads)

    async def write_anew(self, source: BinaryIO, media_type: str) -> BinaryIO:
        """Return the picture in ``source``, of one of ``IMAGE_TYPES``, anew, at its beginning.

        Raises ``ContentTooLarge``, ``Invalid`` for what moves or cannot be read, ``Unavailable``.
        """
        return await self._threads.run(partial(self._write_anew, source, media_type))

    def _write_anew(self, source: BinaryIO, media_type: str) -> BinaryIO:
        driver = importlib.import_module("newel.drivers.pillow")
        spool = SpooledTemporaryFile(_IN_MEMORY_BYTES)  # noqa: SIM115 - who asked for it closes it
        target = cast("BinaryIO", spool)
        try:
            driver.write_anew(
                source,
                target,
                media_type=media_type,
                max_pixels=self.max_pixels,
                longest_side=self.longest_side,
                quality=self.quality,
            )
        except BaseException:
            target.close()
            raise
        target.seek(0)
        return target
