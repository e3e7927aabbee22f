"""Which names a generated service can use: Python, SQL and the kernel have taken some."""

from __future__ import annotations

import keyword
import re
import sys
import unicodedata
from typing import Final

from pydantic import BaseModel

from newel_tools.errors import PlanError
from newel_tools.plan.nouns import plural

__all__ = [
    "PROVIDED_COLUMNS",
    "USER_COLUMNS",
    "check_field",
    "check_resource",
    "check_service",
    "check_user_field",
    "field_conflict",
    "job_conflict",
    "plain",
    "resource_conflict",
    "service_conflict",
    "snake",
]


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


# PostgreSQL cuts identifiers at 63 bytes and an index is called uq_<table>_<column>
_LONGEST: Final = 30
_NAME: Final = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")

PROVIDED_COLUMNS: Final = frozenset({"id", "created_at", "updated_at"})
"""Columns every resource has without being asked."""

_COLUMNS: Final = PROVIDED_COLUMNS | {"version", "owner_id", "deleted_at", "tenant_id"}

USER_COLUMNS: Final = _words(
    "email email_verified_at epoch hashed_password is_active is_verified password password_hash "
    "roles sessions token_epoch verified_at"
)
"""What accounts keep of a user themselves."""

# what SQLAlchemy's and pydantic's classes are called inside; a field would hide it
_ATTRIBUTES: Final = _words(
    "changeable_by is_changeable_by metadata owner registry resource_name type_annotation_map "
    "visible_to"
) | {name for name in dir(BaseModel) if not name.startswith("_")}

# builtins and imports that an annotation in the same class body needs
_ANNOTATIONS: Final = frozenset({"str", "int", "float", "bool", "bytes", "list", "dict"})

_SQL: Final = _words(
    "all analyse analyze and any array as asc between both case cast check collate column columns "
    "constraint create current_date current_time current_timestamp current_user default desc "
    "distinct do else end except exists false fetch for foreign from grant grants group having in "
    "index indexes initially intersect into is join keys left like limit limits localtime not null "
    "offset on only or order outer primary references right rows select session_user set some "
    "table tables then to transaction trigger triggers true union unique user using values view "
    "views when where window with"
)

# tables, modules, addresses and classes the kernel and the shell of a service use
_KERNEL: Final = _words(
    "account_tokens accounts alembic_version auth auth_sessions docs entities files health "
    "idempotency_keys inbox job_schedules job_steps jobs main metrics migrations modules outbox "
    "outbox_holds pages permissions principals ready refresh_tokens repositories roles routers "
    "schemas services sessions settings slices tests users webhook_deliveries webhook_endpoints "
    "webhooks works"
)

# what the kernel does in the background; a worker finds a job by its name
_JOBS: Final = _words(
    "account_reset account_verification account_welcome deliver_webhook files_remove_content "
    "files_sweep purge_webhooks send_mail"
)

_PACKAGES: Final = _words(
    "app fastapi httpx2 jinja2 newel newel_tools pydantic pytest rich sqlalchemy src starlette "
    "structlog tests typer uvicorn yaml"
)


def plain(text: str) -> str:
    """Return text without accents: ``caf\u00e9s`` is ``cafes``."""
    letters = unicodedata.normalize("NFKD", text)
    return "".join(letter for letter in letters if not unicodedata.combining(letter))


def snake(words: str) -> str:
    """Return words in snake_case: ``Unit price`` is ``unit_price``, ``isActive`` ``is_active``."""
    split = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", plain(words))
    return re.sub(r"[^a-z0-9]+", "_", split.lower()).strip("_")


def field_conflict(name: str) -> str | None:
    """Say why a column cannot be called ``name``; ``None`` when it can."""
    if (reason := _malformed(name)) is not None:
        return reason
    if name in _COLUMNS:
        return f"'{name}' is a column the kernel keeps"
    if name in _ATTRIBUTES or name.startswith(("model_dump", "model_validate")):
        return f"'{name}' is taken by the classes a field lives in"
    if name in _ANNOTATIONS:
        return f"'{name}' is the name of a type"
    return None


def job_conflict(name: str) -> str | None:
    """Say why a job cannot be called ``name``; ``None`` when it can."""
    if keyword.iskeyword(name):
        return f"'{name}' is a word of Python"
    if name in _JOBS or name.startswith("webhooks_"):
        return f"'{name}' is a job of the kernel"
    return None


def resource_conflict(name: str) -> str | None:
    """Say why a resource (its table, folder and address) cannot be called ``name``."""
    if (reason := _malformed(name)) is not None:
        return reason
    if name in _SQL:
        return f"'{name}' is a reserved word in SQL"
    if name in _KERNEL:
        return f"'{name}' is taken by the kernel"
    return None


def service_conflict(name: str) -> str | None:
    """Say why the package of a service cannot be called ``name``."""
    if (reason := _malformed(name, longest=60)) is not None:
        return reason
    if name in sys.stdlib_module_names or name in _PACKAGES:
        return f"'{name}' would hide a package of that name"
    return None


def check_field(name: str, *, singular: str) -> str:
    """Return ``name``, or raise ``PlanError`` when a column of ``singular`` cannot be called so."""
    if (reason := field_conflict(name)) is not None:
        if name in PROVIDED_COLUMNS:
            fix = "remove the line: every resource has id, created_at and updated_at"
        else:
            fix = f"call it '{singular}_{snake(name)[:20].strip('_') or 'field'}', or another word"
        raise PlanError(f"{reason}, so no field can have it", fix=fix, word=name)
    return name


def check_user_field(name: str) -> str:
    """Return ``name``, or raise ``PlanError`` when the users' table cannot have such a column."""
    if name in USER_COLUMNS:
        fix = "remove the line: accounts keep e-mail, password, roles and whether one is active"
        raise PlanError(f"'{name}' comes with accounts", fix=fix, word=name)
    return check_field(name, singular="user")


def check_resource(name: str) -> str:
    """Return ``name``, or raise ``PlanError`` when a resource cannot be called so."""
    if (reason := resource_conflict(name)) is not None:
        other = plural(snake(name) or "thing")
        if resource_conflict(other) is not None:
            other = f"{snake(name)[:20].strip('_0123456789') or 'thing'}_entries"
        fix = f"call it '{other}', or another plural in snake_case"
        if name == "users":
            fix = "users come with the kernel; put their fields under 'users:'"
        raise PlanError(f"{reason}, so no resource can have it", fix=fix, word=name)
    return name


def check_service(name: str) -> str:
    """Return ``name``, or raise ``PlanError`` when a service's package cannot be called so."""
    if (reason := service_conflict(name)) is not None:
        fix = f"call it '{snake(name)[:40].lstrip('_0123456789') or 'my'}_service'"
        raise PlanError(f"{reason}, so no service can have it", fix=fix, word=name)
    return name


def _malformed(name: str, *, longest: int = _LONGEST) -> str | None:
    if not _NAME.fullmatch(name):
        return f"'{name}' is not a name in snake_case (a-z, 0-9, single underscores)"
    if len(name) > longest:
        return f"'{name}' is longer than {longest} letters"
    if keyword.iskeyword(name):
        return f"'{name}' is a word of Python"
    return None
