"""A file that is to be written: where, what, and who may read it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["File"]


@dataclass(frozen=True, slots=True)
class File:
    """One file of a tree: ``path`` below its root, with ``/``; ``mode`` its permission bits."""

    path: str
    text: str
    mode: int = 0o644
