"""Which files an application leads to: what nothing imports is no part of it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Final

from newel_tools.facts.source import Module, Source

__all__ = ["files_led_to"]

_BY_NAME: Final = frozenset(
    {"__import__", "import_module", "import_string", "run_module", "run_path"}
    | {"spec_from_file_location"}
)
_BESIDE: Final = frozenset({"iter_modules", "walk_packages"})
_DOTTED: Final = re.compile(r"([A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+)(?::\w+)?")  # `app.main:app`


def files_led_to(source: Source, starts: Iterable[str]) -> frozenset[str]:
    """Return the files that importing ``starts`` leads to, themselves included.

    Imports inside functions count, and so do modules named in texts (`"app.models"`). A module that
    imports by computed names leads to all below the package that they begin with, and to every file
    where they begin with nothing known.
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
    for node in module.nodes:
        match node:
            case ast.Call(func=ast.Name(id=called) | ast.Attribute(attr=called), args=[name, *_]):
                if called in _BY_NAME:
                    yield from _computed(source, module, name)
                elif called in _BESIDE:
                    yield from _below(source, PurePosixPath(module.file).parent)
            case _:
                pass


def _computed(source: Source, module: Module, name: ast.expr) -> Iterator[str]:
    """Yield the files that may be imported by a name that is computed."""
    match name:
        case ast.Constant(value=str(text)) if not text.startswith("."):
            yield from _files(source, module, text)
            return
        case _:
            begun = _beginning(source, module, name)
    package = begun.rpartition(".")[0]
    if begun.startswith("."):  # beside it, or in a package around it
        level = len(begun) - len(begun.lstrip("."))
        yield from _below(source, PurePosixPath(module.file).parents[:level][-1])
    elif package:
        inner = f"/{package.replace('.', '/')}/"
        yield from (file for file in source.files if inner in f"/{file}")
    else:
        yield from (own.file for own in source.own_modules())


def _below(source: Source, folder: PurePosixPath) -> Iterator[str]:
    return (file for file in source.files if folder in PurePosixPath(file).parents)


def _beginning(source: Source, module: Module, name: ast.expr) -> str:
    """Return how a computed name begins, as far as that stands there: `app.tasks.`."""
    found = ""
    for part in _parts(module, name):
        match part:
            case ast.Constant(value=str(text)):
                found += text.partition("{")[0].partition("%")[0]
            case ast.Name(id="__package__") if not module.is_package:
                found += module.name.rpartition(".")[0]
            case ast.Name(id="__name__" | "__package__"):
                found += module.name
            case ast.Attribute(value=owner, attr="__name__" | "__package__"):
                found += source.name_of(module, owner) or ""
            case _:
                break
    return found


def _parts(module: Module, name: ast.expr) -> list[ast.expr]:
    """Return what a text is put together of."""
    match name:
        case ast.JoinedStr(values=values):
            return [item.value if isinstance(item, ast.FormattedValue) else item for item in values]
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return [*_parts(module, left), right]
        case ast.BinOp(left=left) | ast.Call(func=ast.Attribute(value=left, attr="format")):
            return [left]
        case ast.Name(id=known):
            return [module.values.get(known, name)]
        case _:
            return [name]


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
