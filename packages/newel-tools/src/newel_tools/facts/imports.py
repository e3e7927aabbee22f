"""Which files an application leads to: what nothing imports is no part of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from newel_tools.facts.source import Module, Source

__all__ = ["files_led_to"]

_DYNAMIC: Final = re.compile(r"\b(import_module|iter_modules|walk_packages|__import__)\(")
_DOTTED: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?::\w+)?")  # `app.main:app`


def files_led_to(source: Source, starts: Iterable[str]) -> frozenset[str]:
    """Return the files that importing ``starts`` leads to, themselves included.

    Imports inside functions count, and so do modules named in texts (`"app.models"`). A module that
    imports by computed names leads to all that lies beside and below it.
    """
    found: set[str] = set()
    pending = [file for file in starts if file in source.files]
    while pending:
        file = pending.pop()
        if file not in found:
            found.add(file)
            pending += _next(source, source.files[file])
    return frozenset(found)


def _next(source: Source, module: Module) -> Iterator[str]:
    for name in _named(module):
        yield from _files(source, module, name)
    if _DYNAMIC.search(module.text):
        folder = PurePosixPath(module.file).parent
        yield from (file for file in source.files if folder in PurePosixPath(file).parents)


def _named(module: Module) -> Iterator[str]:
    for node in module.nodes:
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=name, names=names, level=level):
                origin = module.absolute(name, level)
                yield origin
                yield from (f"{origin}.{alias.name}".lstrip(".") for alias in names)
            case ast.Constant(value=str(text)) if (dotted := _DOTTED.fullmatch(text)) is not None:
                yield dotted[1]
            case _:
                pass


def _files(source: Source, module: Module, name: str) -> Iterator[str]:
    """Yield the file of a module and those of the packages around it, as seen from ``module``."""
    parts = name.split(".")
    for length in range(1, len(parts) + 1):
        known = source.modules.get(".".join(parts[:length]))
        if known is not None:
            yield known.file
            continue
        tail = "/".join(parts[:length])
        for folder in PurePosixPath(module.file).parents:  # a service with a root of its own
            near = [str(folder / path) for path in (f"{tail}.py", f"{tail}/__init__.py")]
            if any(path in source.files for path in near):
                yield from (path for path in near if path in source.files)
                break
