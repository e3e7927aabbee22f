"""A safe environment for a reviewed application: example values and plausible dummies.

Nothing of the caller's own environment reaches the application but the path and the language.
"""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from newel_tools.facts.files import is_test, read_text
from newel_tools.facts.newer import parse

__all__ = [
    "base_environment",
    "dummies_for",
    "dummy",
    "environment_of",
    "installed_packages",
    "uses_async_engine",
]

_EXAMPLES: Final = (
    ".env.example",
    ".env.sample",
    ".env.template",
    ".env.dist",
    ".env.test",
    ".env.dev",
    ".env.local.example",
    ".example.env",
    "env.example",
    "env.sample",
    "env.template",
    "example.env",
    "sample.env",
    ".env",
)
# A value in quotes may have several lines: JSON, keys.
# Where it may be left unset, it is: only a few values fit, or a file that is there.
_CHOSEN: Final = re.compile(r"_(FILE|TYPE|KIND|DRIVER|DIALECT|ENGINE|BACKEND)$")
_SETTING: Final = re.compile(
    r"^[ \t]*(?:export[ \t]+)?([A-Za-z_]\w*)[ \t]*=[ \t]*"
    r"(?:([\"'])((?:(?!\2).)*)\2[ \t]*(?:\#[^\n]*)?$|([^\n]*?)[ \t]*$)",
    re.MULTILINE | re.DOTALL,
)
_REFERENCE: Final = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}|\$(\w+)")
# `[a key of yours]`, but not a list: `["*"]`, `[]`, `[1, 2]`.
_PLACEHOLDER: Final = re.compile(r"^<.*>$|^\[\s*[A-Za-z].*\]$|^\.\.\.$")
# Long and random enough for every check of strength that an application makes on import; Fernet
# takes it for a key.
_OPAQUE: Final = "X6Fra_IcVxzrhAdbzXsiMIWCQwpUEpe6V8MdzedVNrE="
_PREFIX: Final = re.compile(r"env_prefix\s*[=:]\s*[\"'](\w+)[\"']")
_DEFAULTED: Final = re.compile(
    r"^[ \t]+(\w+)[ \t]*:[^=\n]+=[ \t]*(?!Field\((?:default=)?\.\.\.|\.\.\.|[\"']{2}\s*$)",
    re.MULTILINE,
)
_KEPT: Final = ("PATH", "LANG", "LC_ALL", "TZ", "SYSTEMROOT")
_ASKED: Final = re.compile(
    r"URL|URI|DSN|DATABASE|POSTGRES|SQL|SECRET|KEY|TOKEN|HOST|PORT|USER|PASS|DB"
)
_FOLDER: Final = re.compile(r"(DIR|DIRECTORY|FOLDER|DATA|HOME|STORAGE)(_PATH)?$")
_SWITCHES: Final = ("SENTRY", "OTEL", "PROXY", "LOGFIRE", "NEW_RELIC", "DATADOG")


def environment_of(
    root: Path, files: Iterable[Path], *, boundary: Path, packages: frozenset[str]
) -> dict[str, str]:
    """Return the variables for an application: what examples say, then what its code asks for.

    Examples are looked for in ``root`` and the folders above it up to ``boundary``. What tests ask
    for is theirs. What an example leaves empty stays unset if a settings class has a default.
    """
    values = _examples(root, boundary)
    asynchronous = False
    asked: set[str] = set()
    defaulted: set[str] = set()
    for path in files:
        is_ours = path.is_relative_to(boundary) and not is_test(path.relative_to(boundary))
        text = read_text(path) if is_ours else None
        if text is None:
            continue
        asynchronous = asynchronous or uses_async_engine(text)
        if "BaseSettings" in text:
            defaulted.update(name.upper() for name in _DEFAULTED.findall(text))
        if "environ" in text or "getenv" in text:
            asked.update(_asked(text))
    for name, value in [*values.items(), *((name, "") for name in asked - values.keys())]:
        if not value and name.upper() in defaulted - asked:
            del values[name]
        elif not value:
            values[name] = dummy(name, packages=packages, asynchronous=asynchronous)
    return values


def uses_async_engine(text: str) -> bool:
    """Tell whether a file's text makes an asynchronous engine, so that its URL needs a driver."""
    return "create_async_engine" in text or "AsyncEngine(" in text


def base_environment(scratch: Path) -> dict[str, str]:
    """Return what a process needs to start, with its home and temporary files in ``scratch``."""
    kept = {name: os.environ[name] for name in _KEPT if name in os.environ}
    own = {name: str(scratch) for name in ("HOME", "TMPDIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME")}
    switched_off = {"OTEL_SDK_DISABLED": "true", "HF_HUB_OFFLINE": "1", "NO_COLOR": "1"}
    return kept | own | switched_off | {"PYTHONDONTWRITEBYTECODE": "1", "PYTHONHASHSEED": "0"}


def dummies_for(
    names: Iterable[str],
    texts: Iterable[str],
    *,
    packages: frozenset[str],
    asynchronous: bool,
    allowed: Mapping[str, str] | None = None,
) -> dict[str, str]:
    """Return values for settings that a failed import said are missing, under each known prefix.

    ``allowed`` are values that it said it takes.
    """
    read = list(texts)
    prefixes = {prefix for text in read for prefix in _PREFIX.findall(text)}
    found: dict[str, str] = {}
    for name in names:
        value = (allowed or {}).get(name) or _of_kind(name, read)
        if value is None:
            value = dummy(name, packages=packages, asynchronous=asynchronous)
        found[name.upper()] = value
        found |= {f"{prefix}{name}".upper(): value for prefix in prefixes}
    return found


def _of_kind(name: str, texts: Iterable[str]) -> str | None:
    """Return a value of the type that a field of this name is annotated with; `None`: of any."""
    field = re.compile(rf"^[ \t]+{re.escape(name)}[ \t]*:[ \t]*([^=#\n]+)", re.MULTILINE)
    kind = next((found[1] for text in texts if (found := field.search(text))), "")
    table: tuple[tuple[str, str | None], ...] = (
        (r"Literal\[[\"']([^\"']+)", None),
        (r"\bbool\b", "false"),
        (r"\b(int|float)\b", "5432" if name.upper().endswith("PORT") else "30"),
        (r"\b(list|List|set|Set|tuple|Sequence)\b", "[]"),
        (r"\b(dict|Dict)\b", "{}"),
        (r"\bEmailStr\b", "somebody@example.com"),
        (r"\b(AnyUrl|HttpUrl|AnyHttpUrl)\b", "http://127.0.0.1:9"),
        (r"\bRedisDsn\b", "redis://127.0.0.1:6379/0"),
        (r"\bPath\b", "data"),
    )
    for pattern, value in table:
        if found := re.search(pattern, kind):
            return value if value is not None else found[1]
    return None


def dummy(name: str, *, packages: frozenset[str], asynchronous: bool) -> str:
    """Return a value that a setting of this name could have; it leads nowhere."""
    word = name.upper()
    if re.search(
        r"DATABASE_?UR[LI]|DB_?UR[LI]|SQL\w*_UR[LI]|POSTGRES\w*_(URL|URI|DSN)|DB_DSN", word
    ):
        return _database(packages, asynchronous=asynchronous)
    table: tuple[tuple[str, str], ...] = (
        (r"NATS.*UR[LI]|^JOBS_URL$", "nats://127.0.0.1:4222"),
        (r"REDIS.*UR[LI]|BROKER|CELERY", "redis://127.0.0.1:6379/0"),
        (r"MONGO.*UR[LI]", "mongodb://127.0.0.1:27017/app"),
        (r"ORIGIN", '["http://localhost:3000"]'),
        (r"API_(V\d+|VERSION)\w*$|(API|UR[LI]|ROUTER?|PATH)_PREFIX$|ROOT_PATH$", "/api"),
        (r"SENTRY|DSN", ""),
        (r"UR[LI]$|_ENDPOINT$|WEBHOOK", "http://127.0.0.1:9"),
        (r"E?MAIL|SUPERUSER$|_FROM$", "somebody@example.com"),
        (r"PORT$", "5432"),
        (r"HOST(NAME)?$|SERVER$", "127.0.0.1"),
        (r"ALGORITHM$", "HS256"),
        (r"CREDENTIALS$", "user:password"),
        (r"MINUTES|SECONDS|HOURS|DAYS|TTL|EXPIRE|TIMEOUT|SIZE|LIMIT|RETRIES", "30"),
        (r"(^|_)(COUNT|MAX|MIN)(_|$)", "30"),  # but no ACCOUNT, no ADMIN
        (r"DEBUG|ENABLE|DISABLE|(^|_)(USE|IS)_", "false"),
        (r"LOG_?LEVEL", "INFO"),
        (r"ENV(IRONMENT)?$|PROFILE$", "local"),
        (r"PATH$|DIR(ECTORY)?$|FOLDER$", "data"),
    )
    return next((value for pattern, value in table if re.search(pattern, word)), _OPAQUE)


def _database(packages: frozenset[str], *, asynchronous: bool) -> str:
    postgres = "://user:password@127.0.0.1:5432/app"
    drivers = ("asyncpg", "psycopg") if asynchronous else ("psycopg2", "psycopg")
    for driver in drivers:
        if driver in packages:
            return f"postgresql+{driver}{postgres}"
    if "tortoise" in packages and "asyncpg" in packages:
        return f"postgres{postgres}"
    return "sqlite+aiosqlite:///./app.db" if asynchronous else "sqlite:///./app.db"


def installed_packages(python: Path) -> frozenset[str]:
    """Return what an interpreter's environment has to import: names in its site-packages."""
    prefix = python.parent.parent
    folders = [*prefix.glob("lib/python3*/site-packages"), prefix / "Lib/site-packages"]
    names = {
        entry.name.partition(".")[0]
        for folder in folders
        if folder.is_dir()
        for entry in folder.iterdir()
    }
    return frozenset(names)


def _examples(root: Path, boundary: Path) -> dict[str, str]:
    values: dict[str, str] = {}
    for folder in (root, *root.parents):
        for name in _EXAMPLES:
            text = read_text(folder / name)
            for key, value in _values(text or "").items():
                values.setdefault(key, value)
        if folder == boundary or not folder.is_relative_to(boundary):
            break
    return _resolved(values)


def _values(text: str) -> dict[str, str]:
    values: dict[str, str] = {}
    for name, _, quoted, plain in _SETTING.findall(text):
        bare = plain.partition("#")[0] if plain.startswith("#") else plain.partition(" #")[0]
        value = quoted or bare.strip().strip("\"'")
        values[name] = "" if _PLACEHOLDER.match(value) else value
    return values


def _resolved(values: Mapping[str, str]) -> dict[str, str]:
    def reference(found: re.Match[str]) -> str:
        return values.get(found[1] or found[3]) or found[2] or ""

    return {name: _REFERENCE.sub(reference, value) for name, value in values.items()}


def _asked(text: str) -> Iterator[str]:
    """Yield the variables that code reads without a default and cannot go on without."""
    try:
        tree = parse(text)
    except (SyntaxError, ValueError, RecursionError):
        return
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(
                value=value, slice=ast.Constant(value=str(name)), ctx=ast.Load()
            ) if _is_environment(value):
                yield name
            case ast.Call(func=function, args=[ast.Constant(value=str(name))], keywords=[]) if (
                _reads_environment(function) and (_ASKED.search(name) or _FOLDER.search(name))
            ):
                if not any(word in name for word in _SWITCHES) and not _CHOSEN.search(name):
                    yield name
            case ast.Call(
                func=function,
                args=[ast.Constant(value=str(name)), ast.Constant(value=str(default))],
            ) if _reads_environment(function) and _leads_outside(name, default):
                yield name
            case _:
                pass


def _leads_outside(name: str, default: str) -> bool:
    """Tell whether a folder would by default lie where a review may not write."""
    return default.startswith("/") and _FOLDER.search(name) is not None


def _is_environment(node: ast.expr) -> bool:
    return ast.unparse(node) in {"os.environ", "environ"}


def _reads_environment(node: ast.expr) -> bool:
    return ast.unparse(node) in {"os.getenv", "getenv", "os.environ.get", "environ.get"}
