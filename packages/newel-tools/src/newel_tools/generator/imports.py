"""Gives a rendered module its import statements: from the names it uses, so that none is unused.

Templates hold no imports. Sorted as ruff sorts them, so that the output needs no second pass.
"""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

__all__ = ["KNOWN", "UnknownName", "with_imports"]


class UnknownName(LookupError):
    """A template uses a name that it neither defines nor may import: a mistake in the template."""


_MODULES: Final = {
    "collections.abc": "AsyncGenerator Callable Iterable Mapping Sequence",
    "contextlib": "asynccontextmanager suppress",
    "dataclasses": "dataclass replace",
    "datetime": "UTC date datetime",
    "decimal": "Decimal",
    "functools": "wraps",
    "fastapi": "APIRouter Depends FastAPI Query",
    "httpx2": "AsyncClient",
    "newel": "webhooks",
    "newel.accounts": "AccountRead Register",
    "newel.auth": "public requires",
    "newel.clock": "utc_now",
    "newel.concurrency": "IfMatch Tagged Versions check_version",
    "newel.db": "CurrentWork Database Work",
    "newel.directory": "UserRegistered refuse_lockout",
    "newel.entity": "Entity Owned SoftDeleted unique",
    "newel.errors": "Conflict FieldError Forbidden Invalid NotFound Unavailable",
    "newel.events": "Event OutboxEvent",
    "newel.handlers": "on",
    "newel.identity": "Account Email",
    "newel.job_rows": "JobRow",
    "newel.jobs": "Backoff JobRun job",
    "newel.modules": "Module",
    "newel.pages": "Page PageQuery Slice",
    "newel.principal": "Principal",
    "newel.repository": "Repository",
    "newel.schedules": "schedule tick",
    "newel.schemas": "EntityRead InputModel Int32 Int64 JsonArray JsonObject Text omittable",
    "newel.testing": "commits_fail run_jobs",
    "newel.uploads": "FileRules",
    "newel.webhooks": "WebhookDelivery WebhookEndpoint set_secret",
    "pydantic": "AfterValidator AwareDatetime Field HttpUrl PlainSerializer UrlConstraints",
    "sqlalchemy": (
        "JSON BigInteger Column ColumnElement ForeignKey Numeric String Table Uuid func or_ select "
        "update"
    ),
    "sqlalchemy.orm": "Mapped mapped_column relationship",
    "typing": "TYPE_CHECKING Annotated Any Literal",
    "uuid": "UUID uuid4",
}

KNOWN: Final[Mapping[str, str]] = {
    name: module for module, names in _MODULES.items() for name in names.split()
} | {"asyncio": "", "pytest": "", "re": ""}
"""Every name that templates use and the module it comes from; ``""`` imports the module itself."""


def with_imports(code: str, *, own: Mapping[str, str], package: str) -> str:
    """Return ``code`` with the imports it needs, behind its docstring.

    ``own`` maps names of the service at hand to their modules and goes before ``KNOWN``;
    ``package`` is the service, whose modules are sorted last. Raises ``UnknownName``.
    """
    known = {**KNOWN, **own}
    wanted: dict[str, set[str]] = {}
    for name in sorted(_free_names(code)):
        if name not in known:
            raise UnknownName(f"the generated code uses {name}, which nothing imports")
        module = known[name]
        wanted.setdefault(module or name, set()).update({name} if module else ())
    docstring, rest = _split(code)
    # as ruff wants it: a class or a function has two lines above it, anything else one
    space = "\n\n" if rest.startswith(("class ", "def ", "async def ", "@")) else "\n"
    imports = "\n".join("".join(section) for section in _sections(wanted, package))
    return f"{docstring}\n{imports}{space if imports else ''}{rest}"


def _split(code: str) -> tuple[str, str]:
    """Return the docstring of a module and what stands below it."""
    first = ast.parse(code).body[0]
    lines = code.splitlines(keepends=True)
    behind = (first.end_lineno or 0) if _is_docstring(first) else 0
    return "".join(lines[:behind]), "".join(lines[behind:]).lstrip("\n")


def _free_names(code: str) -> set[str]:
    """Return the names that are used in any scope of a module and bound in none around it."""
    module = symtable.symtable(code, "<generated>", "exec")
    bound = {symbol.get_name() for symbol in module.get_symbols() if symbol.is_assigned()}
    bound |= {symbol.get_name() for symbol in module.get_symbols() if symbol.is_imported()}
    return set(_global_references(module)) - bound - set(dir(builtins))


def _global_references(table: symtable.SymbolTable) -> Iterator[str]:
    for symbol in table.get_symbols():
        at_top = table.get_type() == "module"
        if symbol.is_referenced() and (at_top or symbol.is_global()):
            yield symbol.get_name()
    for inner in table.get_children():
        yield from _global_references(inner)


def _is_docstring(node: ast.stmt) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)


def _sections(wanted: Mapping[str, Iterable[str]], package: str) -> Iterator[list[str]]:
    """Yield the statements: the standard library, then other packages, then the service."""
    for section in range(3):
        modules = [module for module in wanted if _section(module, package) == section]
        # `import x` stands above every `from x import y`
        modules.sort(key=lambda module: (bool(wanted[module]), module))
        if modules:
            yield [_statement(module, wanted[module]) for module in modules]


def _statement(module: str, names: Iterable[str]) -> str:
    listed = ", ".join(sorted(names, key=_order))
    return f"from {module} import {listed}\n" if listed else f"import {module}\n"


def _section(module: str, package: str) -> int:
    root = module.partition(".")[0]
    if root == package:
        return 2
    return 0 if root in sys.stdlib_module_names else 1


def _order(name: str) -> tuple[int, str, str]:
    """Constants, then classes, then the rest; capitals inside of a name do not count."""
    if name.isupper() and len(name) > 1:
        return 0, name, name
    return (1 if name[0].isupper() else 2), name.lower(), name
