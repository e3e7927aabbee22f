"""Where the application is: found by reading, never by importing."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.facts.files import is_test, read_text
from newel_tools.facts.newer import parse

__all__ = ["Application", "find_applications", "import_root", "is_aside", "locate"]

_NAMES: Final = ("main", "app", "asgi", "server", "application", "api", "__init__")
_SIDE: Final = frozenset(
    {"benchmark", "benchmarks", "demo", "demos", "doc", "docs", "docs_src", "example", "examples"}
    | {"script", "scripts", "samples", "tutorial", "tutorials", "tools", "migrations", "alembic"}
)
_IMPORT: Final = re.compile(
    r"^[ \t]*(?:from[ \t]+([A-Za-z_][\w.]*)|import[ \t]+([A-Za-z_][\w.]*))", re.MULTILINE
)
_MADE: Final = re.compile(r"^(\w+)\s*=\s*(?:fastapi\.)?FastAPI\(", re.MULTILINE)
_COMPLETING: Final = r"(?:include_router|mount|add_api_route)"
_COMPLETES: Final = re.compile(rf"^\w+\.{_COMPLETING}\(", re.MULTILINE)
_FROM: Final = re.compile(r"^from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n(]*)", re.MULTILINE)
_DOTS: Final = re.compile(r"^from[ \t]+(\.+)", re.MULTILINE)
_RELATIVE: Final = re.compile(r"^[ \t]*from[ \t]+(\.+)([\w.]*)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Application:
    """One application: ``module``:``attribute`` below ``import_root``, written in ``file``.

    ``is_factory``: the attribute has to be called. ``weight`` orders the candidates of a project:
    how many of its files the application's file leads to.
    """

    module: str
    attribute: str
    file: Path
    import_root: Path
    is_factory: bool = False
    weight: int = 0

    @property
    def name(self) -> str:
        """The name by which servers start it."""
        return f"{self.module}:{self.attribute}"


def find_applications(root: Path, files: Iterable[Path]) -> list[Application]:
    """Return the applications of a project, the likeliest first.

    A declared one (`[tool.fastapi] entrypoint`) comes first; then those whose file leads to most
    other files; tests, examples and scripts are left out unless there is nothing else.
    """
    texts = {path: text for path in files if (text := read_text(path)) is not None}
    places = _Places(root, texts)
    trees, makers = _makers(texts)
    found = [app for p, tree in trees.items() for app in _in_file(p, tree, makers, places)]
    found += [app for p, text in texts.items() for app in _completed(p, text, found, places)]
    found += [
        app for p, text in texts.items() if p not in trees for app in _unparsed(p, text, places)
    ]
    main = [app for app in found if not is_aside(app.file.relative_to(root))]
    ordered = sorted(main or found, key=_order)
    declared = [app for folder in _declaring(root, files) for app in _declared(folder, places)]
    return [*declared, *(app for app in ordered if app.name not in {a.name for a in declared})]


def locate(name: str, root: Path, files: Iterable[Path]) -> Application | None:
    """Return the application called ``pkg.mod:attribute``, or ``pkg.mod:create()``; or ``None``."""
    texts = dict.fromkeys(files, "")
    return _named(name, _Places(root, texts), within=root)


def import_root(path: Path, root: Path) -> Path:
    """Return the folder from which a file is imported: above the package that it is in.

    A package has an `__init__.py`, or says by `from .core import x` that it is one.
    """
    folder = path.parent
    for _ in range(max(map(len, _DOTS.findall(read_text(path) or "")), default=0)):
        folder = folder if folder == root else folder.parent
    while folder != root and (folder / "__init__.py").exists():
        folder = folder.parent
    return folder


class _Places:
    """Which module is which file, below each folder that may be on the path."""

    def __init__(self, root: Path, texts: Mapping[Path, str]) -> None:
        self.root = root
        self.texts = texts
        self._files = frozenset(texts)
        self._imports: dict[Path, tuple[str, ...]] = {}

    def file(self, module: str, folder: Path) -> Path | None:
        """Return the file that ``import module`` would read with ``folder`` on the path."""
        path = folder.joinpath(*module.split("."))
        for candidate in (path / "__init__.py", path.with_name(path.name + ".py")):
            if candidate in self._files:
                return candidate
        return None

    def imported(self, module: str, path: Path, folder: Path) -> Path | None:
        """Return the file that ``from module import`` in ``path`` reads; it may be relative."""
        name = module.lstrip(".")
        dots = len(module) - len(name)
        origin = path.parents[min(dots, len(path.parents)) - 1] if dots else folder
        return self.file(name, origin) if name else None

    def imports(self, path: Path) -> tuple[str, ...]:
        """Return the absolute modules that a file imports, as written."""
        if path not in self._imports:
            matches = _IMPORT.findall(self.texts.get(path, ""))
            self._imports[path] = tuple(dict.fromkeys(one or other for one, other in matches))
        return self._imports[path]

    def best_root(self, path: Path) -> Path:
        """Return the folder below which most of the file's own imports exist.

        Its package's parent wins a tie: `import_root`. A `logging.py` of the project's is not what
        `import logging` means.
        """
        default = import_root(path, self.root)
        folders = [
            default,
            *(folder for folder in path.parents if folder.is_relative_to(self.root)),
        ]

        def resolved(folder: Path) -> int:
            return sum(
                self.file(module, folder) is not None
                for module in self.imports(path)
                if module.partition(".")[0] not in sys.stdlib_module_names
            )

        return max(folders, key=lambda folder: (resolved(folder), folder == default))

    def reached(self, path: Path, folder: Path) -> set[Path]:
        """Return the files that importing ``path`` leads to; relative imports count as one hop."""
        seen = {path}
        pending = [path]
        while pending:
            for file in self._next(pending.pop(), folder):
                if file not in seen:
                    seen.add(file)
                    pending.append(file)
        return seen

    def _next(self, path: Path, folder: Path) -> Iterator[Path]:
        for module in self.imports(path):
            file = self.file(module, folder)
            if file is not None:
                yield file
                for sibling in _imported_names(self.texts[path], module):
                    inner = self.file(f"{module}.{sibling}", folder)
                    if inner is not None:
                        yield inner
        for dots, tail in _RELATIVE.findall(self.texts[path]):
            origin = path.parents[len(dots) - 1] if len(dots) <= len(path.parents) else folder
            for name in [tail, *_relative_names(self.texts[path], dots + tail, tail)]:
                file = self.file(name, origin) if name else None
                if file is not None:
                    yield file


def _imported_names(text: str, module: str) -> list[str]:
    pattern = rf"from[ \t]+{re.escape(module)}[ \t]+import[ \t]+(\([^)]*\)|[^\n]*)"
    return [name for found in re.findall(pattern, text) for name in re.findall(r"\w+", found)]


def _relative_names(text: str, module: str, tail: str) -> list[str]:
    prefix = f"{tail}." if tail else ""
    return [prefix + name for name in _imported_names(text, module)]


def _in_file(
    path: Path, tree: ast.Module, makers: frozenset[str], places: _Places
) -> Iterator[Application]:
    made = list(_made(tree, makers))
    if not made:
        return
    folder = places.best_root(path)
    weight = len(places.reached(path, folder))
    for attribute, is_factory in made:
        yield Application(
            module=_module(path, folder),
            attribute=attribute,
            file=path,
            import_root=folder,
            is_factory=is_factory,
            weight=weight,
        )


def _completed(
    path: Path, text: str, made: list[Application], places: _Places
) -> Iterator[Application]:
    """Find an application that this file imports from where it is made, and gives its routes to.

    Not if the file that makes it imports this one: then nothing is missing there.
    """
    if not _COMPLETES.search(text):
        return
    folder = places.best_root(path)
    for module, names in _FROM.findall(text):
        file = places.imported(module, path, folder)
        for name, alias in re.findall(r"(\w+)(?:[ \t]+as[ \t]+(\w+))?", names):
            held = alias or name
            if not re.search(rf"^{re.escape(held)}\.{_COMPLETING}\(", text, re.MULTILINE):
                continue
            for app in made:
                same = app.file == file and app.attribute == name and not app.is_factory
                if same and path not in places.reached(app.file, app.import_root):
                    weight = len(places.reached(path, folder))
                    yield Application(_module(path, folder), held, path, folder, weight=weight)


def _unparsed(path: Path, text: str, places: _Places) -> Iterator[Application]:
    """Find an application in a file that is no Python for us: the import will say why."""
    for attribute in _MADE.findall(text):
        folder = places.best_root(path)
        yield Application(_module(path, folder), attribute, path, folder)


def _makers(texts: Mapping[Path, str]) -> tuple[dict[Path, ast.Module], frozenset[str]]:
    """Return the files that may make an application, and what the project itself makes it by.

    These are its functions that return one, and its classes that are one: a file that uses them
    need not know of FastAPI.
    """
    trees: dict[Path, ast.Module] = {}
    makers: frozenset[str] = frozenset()
    found = frozenset({"FastAPI"})
    while not found <= makers:
        rest = {path: text for path, text in texts.items() if path not in trees}
        trees |= _trees(rest, found - makers)
        makers |= found
        own = makers - {"FastAPI"}
        found = frozenset(
            name
            for tree in trees.values()
            for name in (*_factories(tree, own), *_classes(tree, _constructors(tree, own)))
        )
    return trees, makers - {"FastAPI"}


def _trees(texts: Mapping[Path, str], words: Iterable[str]) -> dict[Path, ast.Module]:
    """Parse the files that contain one of the words."""
    wanted = re.compile(rf"\b({'|'.join(map(re.escape, words))})\b")
    found: dict[Path, ast.Module] = {}
    for path, text in texts.items():
        if wanted.search(text):
            with suppress(SyntaxError, ValueError, RecursionError):
                found[path] = parse(text)
    return found


def _module(path: Path, folder: Path) -> str:
    parts = path.relative_to(folder).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def _factories(tree: ast.Module, known: frozenset[str] = frozenset()) -> dict[str, bool]:
    """Return the functions that return an application, and whether they ask for no argument.

    ``known`` are the makers of the whole project, which a file may import.
    """
    makers = _constructors(tree, known)
    found: dict[str, bool] = {}
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and _returns_application(node, makers):
            arguments = node.args
            required = len(arguments.args) - len(arguments.defaults)
            required += sum(default is None for default in arguments.kw_defaults)
            found[node.name] = required == 0
    return found


def _made(tree: ast.Module, known: frozenset[str]) -> Iterator[tuple[str, bool]]:
    """Yield the names at module level that hold an application, or make one when called.

    ``known`` are the names of the whole project's makers.
    """
    own = _factories(tree, known)
    makers = _constructors(tree, known) | own.keys()
    held: list[str] = []
    for node in _statements(tree.body):
        if not (isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(node.value, ast.Call)):
            continue
        if ast.unparse(node.value.func) in makers:
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            held += [target.id for target in targets if isinstance(target, ast.Name)]
    yield from ((name, False) for name in dict.fromkeys(held))
    if not held:
        yield from ((name, True) for name, is_callable in own.items() if is_callable)


def _statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements that run on import, also below `if` and `try`."""
    for node in body:
        yield node
        if isinstance(node, ast.If | ast.Try | ast.With):
            yield from _statements(node.body)
            if isinstance(node, ast.If):
                yield from _statements(node.orelse)


def _constructors(tree: ast.Module, known: frozenset[str]) -> set[str]:
    """Return the names in this file that construct a FastAPI application."""
    found = {"FastAPI", "fastapi.FastAPI"}
    for node in ast.walk(tree):
        match node:
            case ast.ImportFrom(names=names):
                made = (a for a in names if a.name == "FastAPI" or a.name in known)
                found |= {a.asname or a.name for a in made}
                found |= known if names[0].name == "*" else set()
            case ast.Attribute(attr=name) if name in known:
                found.add(ast.unparse(node))
            case _:
                pass
    return found | _classes(tree, found)


def _classes(tree: ast.Module, makers: set[str]) -> set[str]:
    """Return the classes that are applications: `class App(FastAPI)`, and those below it."""
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef) and not (makers | found).isdisjoint(
            map(ast.unparse, node.bases)
        ):
            found.add(node.name)
    return found


def _returns_application(node: ast.FunctionDef, makers: set[str]) -> bool:
    if node.returns is not None and ast.unparse(node.returns).strip("\"'") in makers:
        return not node.name.startswith("_")
    made: set[str] = set()
    for inner in ast.walk(node):
        if isinstance(inner, ast.Assign) and isinstance(inner.value, ast.Call):
            if ast.unparse(inner.value.func) in makers:
                made |= {target.id for target in inner.targets if isinstance(target, ast.Name)}
        elif isinstance(inner, ast.Return) and inner.value is not None:
            value = inner.value
            if isinstance(value, ast.Name) and value.id in made:
                return True
            if isinstance(value, ast.Call) and ast.unparse(value.func) in makers:
                return True
    return False


def is_aside(path: Path) -> bool:
    """Tell whether a path relative to the project is of its tests, examples or scripts."""
    return is_test(path) or not _SIDE.isdisjoint(part.lower() for part in path.parts[:-1])


def _order(app: Application) -> tuple[int, int, int, str]:
    stem = app.file.stem
    rank = _NAMES.index(stem) if stem in _NAMES else len(_NAMES)
    return (-app.weight, len(app.file.parts), rank * 2 + app.is_factory, app.name)


def _declaring(root: Path, files: Iterable[Path]) -> list[Path]:
    """Return the folders whose pyproject.toml may declare the application, the root first."""
    folders = {path.parent for path in files} | {root}
    folders |= {parent for folder in folders for parent in folder.parents}
    found = [
        folder
        for folder in folders
        if folder.is_relative_to(root) and (folder / "pyproject.toml").is_file()
    ]
    return sorted(found, key=lambda folder: (len(folder.parts), folder))


def _declared(folder: Path, places: _Places) -> Iterator[Application]:
    try:
        data = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return
    tool = cast("dict[str, Any]", data.get("tool") or {})
    name = cast("dict[str, Any]", tool.get("fastapi") or {}).get("entrypoint")
    if isinstance(name, str):
        found = _named(name, places, within=folder)
        if found is not None:
            yield found


def _named(name: str, places: _Places, *, within: Path) -> Application | None:
    module, _, attribute = name.partition(":")
    module = module.removesuffix(".py").replace("/", ".")
    is_factory = attribute.endswith("()")
    attribute = attribute.removesuffix("()") or "app"
    folders = [within, within / "src"]
    folders += sorted({parent for file in places.texts for parent in file.parents})
    for folder in folders:
        if folder.is_relative_to(places.root):
            file = places.file(module, folder)
            if file is not None:
                is_factory = is_factory or _made_in(file).get(attribute, False)
                return Application(module, attribute, file, folder, is_factory)
    return None


def _made_in(path: Path) -> dict[str, bool]:
    text = read_text(path) or ""
    tree = _trees({path: text}, [""]).get(path, ast.Module([], []))
    return {**_factories(tree), **dict(_made(tree, frozenset()))}
