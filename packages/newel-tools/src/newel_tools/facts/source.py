"""The project's source as it is read: modules, definitions, and what a name stands for."""

from __future__ import annotations

import ast
import gc
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Final, TypeAlias, cast

from newel_tools.facts.files import is_test, read_text
from newel_tools.facts.newer import parse

__all__ = ["Class", "Function", "Module", "Source", "Unread", "read_source"]

FunctionNode: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
_HOPS: Final = 12  # re-exports that are followed
# What follows a tree down, `ast.unparse` too, calls itself; the deepest of 4,500 files has 33.
_LEVELS: Final = 100
_DEFINITIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class Unread:
    """A Python file that could not be read, and why."""

    file: str
    line: int
    reason: str


@dataclass(eq=False)
class Module:
    """One file. ``file`` is relative to the project, ``name`` what it is imported as.

    ``names`` maps each name that its top level binds to the full name of what it stands for.
    ``nodes`` is every node of the file, in the order of `ast.walk`: many rules go over them all.
    Only `Load` and `Store` are left out: many, and nobody looks at them.
    ``levels`` is how deep its tree is.
    """

    file: str
    name: str
    text: str
    tree: ast.Module
    is_package: bool
    is_test: bool
    names: dict[str, str] = field(default_factory=dict[str, str])
    values: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])
    annotations: dict[str, ast.expr] = field(default_factory=dict[str, ast.expr])
    nodes: tuple[ast.AST, ...] = field(init=False, repr=False)
    levels: int = field(init=False)

    def __post_init__(self) -> None:
        """Walk the tree once, for both."""
        found: list[ast.AST] = []
        level: list[ast.AST] = [self.tree]
        self.levels = 0
        while level:
            found += level
            self.levels += 1
            level = [child for node in level for child in _children(node)]
        self.nodes = tuple(found)

    @cached_property
    def lines(self) -> list[str]:
        """The lines of the file."""
        return self.text.splitlines()

    def absolute(self, module: str | None, level: int) -> str:
        """Return the absolute name of what ``from ..module import`` names."""
        if not level:
            return module or ""
        parts = self.name.split(".")
        kept = parts[: len(parts) - level + (1 if self.is_package else 0)]
        return ".".join([*kept, *([module] if module else [])])


@dataclass(eq=False)
class Class:
    """A class of the project."""

    module: Module
    name: str
    node: ast.ClassDef
    methods: dict[str, Function] = field(default_factory=dict[str, "Function"])

    @property
    def full_name(self) -> str:
        """Return `module.QualName`."""
        return f"{self.module.name}.{self.name}"


@dataclass(eq=False)
class Function:
    """A function or method of the project; nested ones are functions of their own."""

    module: Module
    name: str
    node: FunctionNode
    owner: Class | None = None

    @property
    def full_name(self) -> str:
        """Return `module.QualName`."""
        return f"{self.module.name}.{self.name}"

    @property
    def file(self) -> str:
        """The file that it is written in."""
        return self.module.file

    @property
    def line(self) -> int:
        """The line of its `def`."""
        return self.node.lineno

    @property
    def is_async(self) -> bool:
        """Tell whether it runs on the event loop."""
        return isinstance(self.node, ast.AsyncFunctionDef)

    @cached_property
    def nodes(self) -> tuple[ast.AST, ...]:
        """Every node of its body in source order; those of functions inside it are theirs."""
        return tuple(_walk_body(self.node.body))

    @cached_property
    def arguments(self) -> tuple[ast.arg, ...]:
        """Its named parameters in order."""
        given = self.node.args
        return (*given.posonlyargs, *given.args, *given.kwonlyargs)

    @cached_property
    def defaults(self) -> dict[str, ast.expr]:
        """The default of each parameter that has one."""
        given = self.node.args
        positional = [*given.posonlyargs, *given.args]
        pairs = list(zip(reversed(positional), reversed(given.defaults), strict=False))
        pairs += [(a, d) for a, d in zip(given.kwonlyargs, given.kw_defaults, strict=True) if d]
        return {argument.arg: default for argument, default in pairs}


def _walk_body(body: Iterable[ast.AST]) -> Iterator[ast.AST]:
    pending = list(reversed(list(body)))
    while pending:
        node = pending.pop()
        yield node
        if not isinstance(node, _DEFINITIONS):
            pending += reversed(_children(node))
        elif isinstance(node, ast.Lambda):
            pending.append(node.body)


def _children(node: ast.AST) -> list[ast.AST]:
    """Return what `ast.iter_child_nodes` yields but the contexts, faster."""
    found: list[ast.AST] = []
    for name in node._fields:
        value = getattr(node, name, None)
        if isinstance(value, list):
            found += [item for item in cast("list[object]", value) if isinstance(item, ast.AST)]
        elif isinstance(value, ast.AST) and not isinstance(value, ast.expr_context):
            found.append(value)
    return found


class Source:
    """All files of a project that could be read, and the names between them."""

    def __init__(self, modules: Iterable[Module], unread: Iterable[Unread]) -> None:
        self.modules: dict[str, Module] = {}
        self.files: dict[str, Module] = {}
        self.functions: dict[str, Function] = {}
        self.classes: dict[str, Class] = {}
        self.unread = tuple(unread)
        self._by_place: dict[tuple[str, int], Function] = {}
        self._resolved: dict[str, str] = {}
        for module in modules:
            self.modules.setdefault(module.name, module)
            self.files[module.file] = module
            self._define(module, module.tree.body, prefix="", owner=None)

    @property
    def lines(self) -> int:
        """How many lines were read."""
        return sum(len(module.lines) for module in self.files.values())

    def own_modules(self) -> Iterator[Module]:
        """Yield the modules that are not tests."""
        return (module for module in self.files.values() if not module.is_test)

    def function_at(self, file: str | None, line: int) -> Function | None:
        """Return the function whose `def`, or first decorator, is on a line."""
        return self._by_place.get((file or "", line))

    def resolve(self, name: str) -> str:
        """Return the full name of where something is defined, through re-exports of the project."""
        if name not in self._resolved:
            self._resolved[name] = self._follow(name)
        return self._resolved[name]

    def name_of(self, module: Module, expression: ast.AST) -> str | None:
        """Return the full name that a dotted expression at module level stands for.

        `None` for what is no dotted name; a name that is bound nowhere is returned as written.
        """
        parts: list[str] = []
        while isinstance(expression, ast.Attribute):
            parts.append(expression.attr)
            expression = expression.value
        if not isinstance(expression, ast.Name):
            return None
        first = module.names.get(expression.id, expression.id)
        return self.resolve(".".join([first, *reversed(parts)]))

    def bases(self, cls: Class) -> Iterator[Class]:
        """Yield a class and those of its bases that the project defines, nearest first."""
        seen = {cls.full_name}
        pending = [cls]
        while pending:
            current = pending.pop(0)
            yield current
            for node in current.node.bases:
                inner = node.value if isinstance(node, ast.Subscript) else node
                base = self.classes.get(self.name_of(current.module, inner) or "")
                if base is not None and base.full_name not in seen:
                    seen.add(base.full_name)
                    pending.append(base)

    def base_names(self, cls: Class) -> set[str]:
        """Return the full names of all bases that are written down, libraries' included."""
        return {
            name
            for owner in self.bases(cls)
            for node in owner.node.bases
            if (name := self.name_of(owner.module, _below(node))) is not None
        }

    def method(self, cls: Class, name: str) -> Function | None:
        """Return a method, inherited ones too."""
        return next((c.methods[name] for c in self.bases(cls) if name in c.methods), None)

    def implementation(self, function: Function) -> Function:
        """Return what runs where an abstract method is called: the only one that there is."""
        if function.owner is None or not _is_abstract(function):
            return function
        found = [
            cls.methods[function.node.name]
            for cls in self._inheriting.get(function.owner.full_name, ())
            if function.node.name in cls.methods and not cls.module.is_test
        ]
        real = [method for method in found if not _is_abstract(method)]
        return real[0] if len(real) == 1 else function

    @cached_property
    def _inheriting(self) -> dict[str, list[Class]]:
        """The classes of the project by each base that is the project's, too."""
        found: dict[str, list[Class]] = {}
        for cls in self.classes.values():
            for base in self.bases(cls) if cls.node.bases else ():
                found.setdefault(base.full_name, []).append(cls)
        return found

    def _follow(self, name: str) -> str:
        for _ in range(_HOPS):
            found = self._one_hop(name)
            if found is None or found == name:
                return name
            name = found
        return name

    def _one_hop(self, name: str) -> str | None:
        """Replace the longest prefix that is a module, and its next part, by what that binds."""
        parts = name.split(".")
        for length in range(len(parts) - 1, 0, -1):
            module = self.modules.get(".".join(parts[:length]))
            if module is not None:
                bound = module.names.get(parts[length])
                return None if bound is None else ".".join([bound, *parts[length + 1 :]])
        return None

    def _define(
        self, module: Module, body: Iterable[ast.stmt], *, prefix: str, owner: Class | None
    ) -> None:
        for node in body:
            if isinstance(node, ast.ClassDef):
                cls = Class(module, prefix + node.name, node)
                self.classes.setdefault(cls.full_name, cls)
                self._define(module, node.body, prefix=f"{cls.name}.", owner=cls)
            elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                self._define_function(module, node, prefix=prefix, owner=owner)
            elif not isinstance(node, ast.expr):
                self._define(module, _inner_statements(node), prefix=prefix, owner=owner)

    def _define_function(
        self, module: Module, node: FunctionNode, *, prefix: str, owner: Class | None
    ) -> None:
        function = Function(module, prefix + node.name, node, owner)
        self.functions.setdefault(function.full_name, function)
        if owner is not None:
            owner.methods[node.name] = function
        for line in {node.lineno, *(item.lineno for item in node.decorator_list)}:
            self._by_place.setdefault((module.file, line), function)
        self._define(module, node.body, prefix=f"{function.name}.<locals>.", owner=None)


def _is_abstract(function: Function) -> bool:
    return any(
        ast.unparse(node).endswith("abstractmethod") for node in function.node.decorator_list
    )


def _below(node: ast.expr) -> ast.expr:
    """Return what stands before the brackets: `Repository[User]` is a `Repository`."""
    return node.value if isinstance(node, ast.Subscript) else node


def read_source(root: Path, files: Iterable[Path], import_paths: Iterable[Path]) -> Source:
    """Read and parse files; what cannot be is listed in `Source.unread`, with its line."""
    was_collecting = gc.isenabled()
    gc.disable()  # trees are kept: looking for garbage among their nodes finds none
    try:
        return _read(root, files, tuple(import_paths))
    finally:
        if was_collecting:
            gc.enable()


def _read(root: Path, files: Iterable[Path], paths: tuple[Path, ...]) -> Source:
    modules: list[Module] = []
    unread: list[Unread] = []
    for path in files:
        relative = path.relative_to(root)
        text = read_text(path)
        if text is None:
            unread.append(Unread(relative.as_posix(), 0, "it is no text in its declared encoding"))
            continue
        try:
            tree = parse(text)
        except SyntaxError as error:
            unread.append(Unread(relative.as_posix(), error.lineno or 0, str(error.msg)))
        except (ValueError, RecursionError, MemoryError) as error:
            unread.append(Unread(relative.as_posix(), 0, type(error).__name__))
        else:
            module = _module(path, relative, text, tree, paths)
            if module.levels > _LEVELS:
                unread.append(Unread(relative.as_posix(), 0, f"nested more than {_LEVELS} deep"))
            else:
                _bind(module)
                modules.append(module)
    return Source(modules, unread)


def _module(
    path: Path, relative: Path, text: str, tree: ast.Module, import_paths: tuple[Path, ...]
) -> Module:
    base = next((folder for folder in import_paths if path.is_relative_to(folder)), None)
    parts = (path.relative_to(base) if base else relative).with_suffix("").parts
    is_package = parts[-1] == "__init__"
    return Module(
        file=relative.as_posix(),
        name=".".join(parts[:-1] if is_package else parts),
        text=text,
        tree=tree,
        is_package=is_package,
        is_test=is_test(relative) or (path.name == "tests.py" and "def test_" in text),
    )


def _bind(module: Module) -> None:
    """Fill ``module.names``: imports anywhere in the file, and what the top level defines."""
    for node in module.tree.body:
        _bind_top(module, node)
    if re.search(r"^[ \t]+(?:import|from)[ \t]", module.text, re.MULTILINE):
        for node in module.nodes:  # imports inside functions
            if isinstance(node, ast.Import | ast.ImportFrom):
                _bind_import(module, node)


def _bind_top(module: Module, node: ast.stmt) -> None:
    match node:
        case ast.Import() | ast.ImportFrom():
            _bind_import(module, node)
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            module.names[node.name] = f"{module.name}.{node.name}"
        case ast.Assign(targets=targets, value=value):
            for target in targets:
                _bind_value(module, target, value)
        case ast.AnnAssign(target=target, annotation=annotation, value=value):
            _bind_value(module, target, value)
            if isinstance(target, ast.Name):
                module.annotations[target.id] = annotation
        case ast.If() | ast.Try() | ast.With():
            for child in _inner_statements(node):
                _bind_top(module, child)
        case _:
            pass


def _bind_value(module: Module, target: ast.expr, value: ast.expr | None) -> None:
    if isinstance(target, ast.Name):
        module.names[target.id] = f"{module.name}.{target.id}"
        if value is not None:
            module.values[target.id] = value


def _inner_statements(node: ast.AST) -> Iterator[ast.stmt]:
    """Yield the statements of a block, its `else` and its handlers."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.stmt):
            yield child
        elif isinstance(child, ast.ExceptHandler | ast.match_case):
            yield from child.body


def _bind_import(module: Module, node: ast.Import | ast.ImportFrom) -> None:
    if isinstance(node, ast.Import):
        for alias in node.names:
            if alias.asname:
                module.names.setdefault(alias.asname, alias.name)
            else:
                first = alias.name.partition(".")[0]
                module.names.setdefault(first, first)
        return
    origin = module.absolute(node.module, node.level)
    for alias in node.names:
        name = f"{origin}.{alias.name}" if origin else alias.name
        module.names.setdefault(alias.asname or alias.name, name)
