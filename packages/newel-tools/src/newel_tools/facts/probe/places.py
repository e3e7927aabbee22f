"""Where a callable or a class is written, and values that JSON can hold."""

from __future__ import annotations

import functools
import inspect
import os
import sys
from typing import Any

__all__ = ["Places", "class_of", "is_class", "plain", "type_name", "unwrapped"]

_TEXT_CHARACTERS = 500
_ITEMS = 200


def unwrapped(call: Any) -> Any:
    """Return the function that was written, below `partial` and `functools.wraps`."""
    while isinstance(call, functools.partial):
        call = call.func
    try:
        return inspect.unwrap(call)
    except ValueError:
        return call


def is_class(value: Any) -> bool:
    """Tell whether a value is a class; unlike `isinstance`, this narrows no type."""
    return isinstance(value, type)


def class_of(value: Any) -> Any:
    """Return a value's class."""
    return getattr(value, "__class__")  # noqa: B009 - `type(value)` has a type that no checker knows


def type_name(value: Any) -> str:
    """Return `module.QualName`; a builtin's name alone."""
    name = getattr(value, "__qualname__", None) or str(value)
    module = getattr(value, "__module__", None) or "builtins"  # None: methods written in C
    return name if module == "builtins" else module + "." + name


def plain(value: Any, *, depth: int = 3) -> Any:
    """Return a value that JSON holds; what it cannot hold is ``{"type": module.QualName}``."""
    if value is None or isinstance(value, (bool, int, float)):
        return value
    if isinstance(value, str):
        return str(value)[:_TEXT_CHARACTERS]
    kind = class_of(value)
    if depth and issubclass(kind, (list, tuple, set, frozenset)):
        return [plain(item, depth=depth - 1) for item in list(value)[:_ITEMS]]
    if depth and issubclass(kind, dict):
        items: Any = list(value.items())[:_ITEMS]
        return {str(key): plain(item, depth=depth - 1) for key, item in items}
    if is_class(value) or callable(value):
        return {"type": type_name(value if is_class(value) else unwrapped(value))}
    return {"type": type_name(kind)}


class Places:
    """Turns code objects into files of the project and lines.

    ``copy`` is the copy of the project that is imported; a path below it, or below the project
    itself, is given relative to the project. Code elsewhere has ``file: None``.
    """

    def __init__(self, *, copy: str, root: str) -> None:
        self._roots = (os.path.realpath(copy) + os.sep, os.path.realpath(root) + os.sep)

    def relative(self, path: str | None) -> str | None:
        """Return the path below the project with forward slashes; ``None`` for code elsewhere."""
        if not path:
            return None
        real = os.path.realpath(path)
        for root in self._roots:
            inside = real[len(root) :]
            if real.startswith(root) and "site-packages" not in inside:
                return inside.replace(os.sep, "/")
        return None

    def is_own(self, module: str) -> bool:
        """Tell whether a module's file belongs to the project."""
        return self.relative(getattr(sys.modules.get(module), "__file__", None)) is not None

    def of(self, call: Any) -> dict[str, Any]:
        """Describe a callable or a class; its first line is that of its decorators."""
        target = unwrapped(call)
        if not (is_class(target) or inspect.isroutine(target)):
            target = class_of(target)
        module = getattr(target, "__module__", None) or ""
        return {
            "name": getattr(target, "__qualname__", None) or str(target),
            "module": module,
            "file": self.relative(_file(target)),
            "line": _line(target),
            "kind": _kind(unwrapped(call)),
        }

    def of_frame(self, frame: Any) -> tuple[str | None, int]:
        """Return the innermost place of the project that a frame was called from."""
        while frame is not None:
            file = self.relative(frame.f_code.co_filename)
            if file is not None:
                return file, frame.f_lineno
            frame = frame.f_back
        return None, 0

    def of_traceback(self, error: BaseException) -> tuple[str | None, int]:
        """Return the innermost place of the project that an error passed."""
        found: tuple[str | None, int] = (None, 0)
        step = error.__traceback__
        while step is not None:
            file = self.relative(step.tb_frame.f_code.co_filename)
            if file is not None:
                found = (file, step.tb_lineno)
            step = step.tb_next
        return found


def _file(target: Any) -> str | None:
    code = getattr(target, "__code__", None)
    if code is not None:
        return str(code.co_filename)
    module = sys.modules.get(getattr(target, "__module__", None) or "")
    return getattr(module, "__file__", None)


def _line(target: Any) -> int:
    code = getattr(target, "__code__", None)
    if code is not None:
        return int(code.co_firstlineno)
    # `inspect.getsourcelines` parses the whole file for each class; the source facts know lines.
    return int(getattr(target, "__firstlineno__", 0) or 0)


def _kind(target: Any) -> str:
    if is_class(target):
        return "class"
    if not inspect.isroutine(target):
        target = getattr(class_of(target), "__call__", target)  # noqa: B004 - the method is wanted
        return "instance" if not inspect.iscoroutinefunction(target) else "async_instance"
    if inspect.isasyncgenfunction(target):
        return "async_generator"
    if inspect.isgeneratorfunction(target):
        return "generator"
    return "coroutine" if inspect.iscoroutinefunction(target) else "function"
