"""Which statements of migrations are dangerous where the tables have rows and requests."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from newel_tools.check.squawk import dangers
from newel_tools.facts.migrations import Statement

__all__ = ["DROPS", "Danger", "Kind", "unsafe"]

_NAME: Final = r'(?:IF (?:NOT )?EXISTS )?(?:ONLY )?((?:"[^"]+"|\w+)(?:\.(?:"[^"]+"|\w+))?)'
_TABLE: Final = re.compile(
    rf"^\s*(?:ALTER TABLE|DROP TABLE|TRUNCATE(?: TABLE)?) {_NAME}"
    rf"|^\s*CREATE (?:UNIQUE )?INDEX (?:(?!\bON\b).)*\bON {_NAME}",
    re.IGNORECASE | re.DOTALL,
)
_MADE: Final = re.compile(rf"\bCREATE (?:UNLOGGED )?TABLE {_NAME}", re.IGNORECASE)
_RENAMED: Final = re.compile(rf"\bRENAME TO {_NAME}", re.IGNORECASE)
_COLUMN: Final = re.compile(
    r'\b(?:ADD COLUMN|DROP COLUMN|ALTER COLUMN)(?: IF (?:NOT )?EXISTS)? ("[^"]+"|\w+)',
    re.IGNORECASE,
)
_LENGTH: Final = re.compile(r"^(VARCHAR|NUMERIC)(?:\((\d+)(?:, (\d+))?\))?$")
_UNKNOWN: Final = re.compile(r"\bTYPE (TEXT|VARCHAR)\b(?!\()", re.IGNORECASE)
_REFERENCES: Final = re.compile(r"\bADD COLUMN\b.*\bREFERENCES\b", re.IGNORECASE | re.DOTALL)


@dataclass(frozen=True, slots=True)
class Kind:
    """One way to be dangerous: squawk's ``rules`` for it, what happens, how it is mended."""

    rules: frozenset[str]
    what: str
    fix: str


@dataclass(frozen=True, slots=True)
class Danger:
    """A dangerous statement; ``column`` is empty where it is about none."""

    statement: Statement
    kind: Kind
    table: str
    column: str


# The first that a statement breaks is its kind. What squawk says of style, and of time-outs that
# `env.py` may set, is left out.
_KINDS: Final = (
    Kind(
        frozenset({"adding-required-field"}),
        "the new column may not be null and has no default, so it fails as soon as `{table}` has a "
        "row",
        "add it with a `server_default`, or `nullable=True` and fill it; `SET NOT NULL` in a later "
        "deployment",
    ),
    Kind(
        frozenset({"adding-not-nullable-field"}),
        "all rows of `{table}` are read while nobody may read or write it",
        "in autocommit: `ADD CONSTRAINT ... CHECK (column IS NOT NULL) NOT VALID`, then `VALIDATE "
        "CONSTRAINT`, then `SET NOT NULL`, which trusts it",
    ),
    Kind(
        frozenset({"changing-column-type"}),
        "`{table}` is written anew while nobody may read or write it, and code that runs meanwhile "
        "finds another type",
        "add a second column of the new type, write both, fill it in batches, read it, and drop "
        "the old one in a later deployment",
    ),
    Kind(
        frozenset({"adding-field-with-default"}),
        "`{table}` is written anew while nobody may read or write it, for a default that each row "
        "computes",
        "add the column without a default, set the default, and fill the rows in batches",
    ),
    Kind(
        frozenset({"disallowed-unique-constraint", "adding-serial-primary-key-field"}),
        "an index over all rows of `{table}` is built while nobody may read or write it",
        "`with op.get_context().autocommit_block(): op.create_index(..., unique=True, "
        "postgresql_concurrently=True)`, then `ADD CONSTRAINT ... USING INDEX`",
    ),
    Kind(
        frozenset({"adding-foreign-key-constraint", "constraint-missing-not-valid"}),
        "all rows of `{table}` are checked while nobody may write it",
        "add it with `postgresql_not_valid=True`, and `VALIDATE CONSTRAINT` in a transaction of "
        "its own",
    ),
    Kind(
        frozenset({"require-concurrent-index-creation"}),
        "the index is built over all rows of `{table}` while nobody may write it",
        "`with op.get_context().autocommit_block(): op.create_index(..., "
        "postgresql_concurrently=True)`",
    ),
    Kind(
        frozenset({"renaming-column", "renaming-table"}),
        "the code that runs until the deployment is done asks for the old name in `{table}`",
        "add the new name beside the old one, write both, read the new one, and drop the old one "
        "in a later deployment",
    ),
    DROPS := Kind(
        frozenset({"ban-drop-column", "ban-drop-table"}),
        "the code that runs until the deployment is done still asks for what is dropped of "
        "`{table}`",
        "take it out of the models first; drop it in a later deployment, when no running code "
        "names it",
    ),
    Kind(
        frozenset({"ban-truncate-cascade"}),
        "the rows of `{table}` are lost, and with them those of every table that refers to it",
        "name the tables that are meant, or delete the rows that are",
    ),
)


def unsafe(
    statements: Sequence[Statement],
    *,
    ask: Callable[[Sequence[str]], list[frozenset[str]]] = dangers,
) -> Iterator[Danger]:
    """Yield the dangerous ones; on a table that they make themselves nothing is: it is empty.

    Where all are on such tables, squawk is not asked.
    """
    made: set[str] = set()
    there: dict[int, str] = {}  # the table that each statement finds with rows
    for number, statement in enumerate(statements):
        made |= {_plain(name) for name in _MADE.findall(statement.sql)}
        table = _table(statement.sql)
        if table in made:
            made |= {_plain(name) for name in _RENAMED.findall(statement.sql)}
        elif table:
            there[number] = table
    rules = ask([one.sql for one in statements]) if there else []
    for number, table in there.items():
        statement = statements[number]
        kind = next((kind for kind in _KINDS if kind.rules & rules[number]), None)
        if kind is not None and not _is_free(statement, kind):
            column = _COLUMN.search(statement.sql)
            yield Danger(statement, kind, table, _plain(column[1]) if column else "")


def _table(sql: str) -> str:
    found = _TABLE.search(sql)
    return _plain(found[1] or found[2]) if found else ""


def _plain(name: str) -> str:
    return name.replace('"', "").removeprefix("public.")


def _is_free(statement: Statement, kind: Kind) -> bool:
    """Tell whether PostgreSQL neither writes nor checks a row for it, which squawk does not see."""
    if "changing-column-type" in kind.rules:
        if statement.types is None:
            return _UNKNOWN.search(statement.sql) is not None  # most come from a VARCHAR
        return _is_wider(*statement.types)
    # A new column that is null in every row is not looked at.
    return "adding-foreign-key-constraint" in kind.rules and bool(
        _REFERENCES.search(statement.sql) and " DEFAULT " not in statement.sql.upper()
    )


def _is_wider(before: str, after: str) -> bool:
    texts = ("TEXT", "VARCHAR")
    if before == after or (before.startswith(texts) and after in texts):
        return True
    old, new = _LENGTH.match(before), _LENGTH.match(after)
    if old is None or new is None or old[1] != new[1]:
        return False
    if new[2] is None:
        return True
    same_scale = (old[3] or "0") == (new[3] or "0")
    return old[2] is not None and same_scale and int(new[2]) >= int(old[2])
