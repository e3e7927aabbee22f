"""The throw-away surroundings: a copy of the project, an environment, databases, and their end."""

from __future__ import annotations

import importlib.util
import re
import shlex
import shutil
import tomllib
import uuid
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from newel_tools.facts.environment import base_environment, dummies_for, installed_packages
from newel_tools.facts.files import is_test, project_files, read_text
from newel_tools.facts.interpreter import interpreter_advice
from newel_tools.facts.process import copied
from newel_tools.facts.project import Project
from newel_tools.prove.errors import ProveError, Setting
from newel_tools.prove.key_pairs import Keys, in_file
from newel_tools.prove.postgres import throw_away_postgres
from newel_tools.prove.process import HostProcess, run_host
from newel_tools.prove.service import Difference
from newel_tools.prove.settings import Settings
from newel_tools.prove.valkey import has_valkey, throw_away_valkey

__all__ = ["Sandbox", "sandbox"]

_SECRET: Final = re.compile(r"SECRET|TOKEN|PASSWORD|PASSWD|PRIVATE|API_?KEY|_KEY$", re.IGNORECASE)
_LIFETIME: Final = re.compile(r"EXPIRE|MINUTES|SECONDS|DAYS|HOURS|TTL|LENGTH|URL|PATH|ALGORITHM")
# A line, or a name with a PEM over several of them, in quotes or not.
_ENTRY: Final = re.compile(
    r"^(?:[^\n=]+=\s*([\"']?)-----BEGIN [A-Z ]+-----\n(?s:.*?)-----END [A-Z ]+-----\1|.*)$",
    re.MULTILINE,
)
_LIBRARY: Final = re.compile(r"library not found|cannot open shared object|lib\w+\.so")
_SQLITE: Final = b"SQLite format 3\0"
_DRIVERS: Final = frozenset({"asyncpg", "psycopg", "psycopg2", "pg8000"})
_TRIES: Final = 4
_MARKERS: Final = ("pyproject.toml", "alembic.ini", "setup.py", "requirements.txt", "Dockerfile")


@dataclass(slots=True)
class Sandbox:
    """Where one project is run. ``notes`` are what the reader should know of the set-up.

    ``differences`` are those between its models and its migrations; ``None``: not compared.
    """

    project: Project
    settings: Settings
    scratch: Path
    copy: Path
    environment: dict[str, str]
    postgres: dict[str, Any] | None
    redis: str | None
    notes: list[str] = field(default_factory=list[str])
    differences: tuple[Difference, ...] | None = None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Values of the environment that no answer may hold."""
        named = self.environment.items()
        return tuple({value for name, value in named if _SECRET.search(name) and len(value) >= 16})

    @contextmanager
    def started_host(self) -> Generator[HostProcess]:
        """Run the application until the block ends."""
        with self._started({"target": self.target}, folder=self._moved(self._folder)) as process:
            yield process

    @contextmanager
    def _started(self, wanted: Mapping[str, Any], *, folder: Path) -> Generator[HostProcess]:
        """Run the host; settings that the project says are missing get values, a few times."""
        for left in range(_TRIES, -1, -1):
            with self._process(wanted, folder=folder) as process:
                try:
                    process.started()
                except ProveError as error:
                    mended = (
                        self.supply(error.settings)
                        or self._go_async(error)
                        or self._write_env_file(error)
                        or self._lend_aiosqlite(error)
                    )
                    if not left or not mended:
                        raise self._advised(error) from error.__cause__
                    continue
                yield process
                return

    def _advised(self, error: ProveError) -> ProveError:
        """Say what is wrong with the interpreter, if that is why nothing starts."""
        advice = interpreter_advice(self.project, error=error.error)
        if _LIBRARY.search(error.message):
            advice = (
                "a library of the system is missing: install it, or a wheel that brings it along "
                "(`psycopg[binary]`, `psycopg2-binary`)"
            )
        if advice is None:
            return error
        return ProveError(error.message, fix=advice, details=error.details)

    @property
    def target(self) -> str:
        """The application as servers name it."""
        return self.project.application.name

    @property
    def _folder(self) -> Path:
        """Where people start the application: the project's own folder around the import root."""
        start, root = self.project.application.import_root, self.project.root
        around = [folder for folder in (start, *start.parents) if folder.is_relative_to(root)]
        marked = (f for f in around if any((f / name).exists() for name in _MARKERS))
        return next(marked, start)

    def _moved(self, path: Path) -> Path:
        return self.copy / path.relative_to(self.project.root)

    def _process(
        self, wanted: Mapping[str, Any], *, folder: Path
    ) -> AbstractContextManager[HostProcess]:
        databases = self.scratch / "databases"
        databases.mkdir(exist_ok=True)
        paths = [str(self._moved(path)) for path in self.project.import_paths]
        paths.append(str(self.scratch / "lent"))
        request = {
            **wanted,
            "root": str(self.project.root),
            "copy": str(self.copy),
            "scratch": str(self.scratch),
            "databases": str(databases),
            "folder": str(folder),
            "path": paths,
            "postgres": self.postgres,
            "redis": self.redis,
        }
        log = self.scratch / "log"
        return run_host(self.project.python, request, environment=self.environment, log=log)

    def set_up(self, report: Callable[[str], None]) -> None:
        """Run the project's migrations and its own set-up commands."""
        for folder, command in self._migrations():
            report(f"migrate: {shlex.join(command)}")
            try:
                self.run(command, folder=folder)
            except ProveError as error:
                said = error.message.splitlines()[0][:300]
                self.notes.append(f"the migrations failed, the tables were created instead: {said}")
            else:
                if command[0] == "alembic":
                    self._compare(folder)
        for line in self.settings.setup or ():
            report(f"set up: {line}")
            self.run(shlex.split(line), folder=self._moved(self.project.root))

    def run(self, command: list[str], *, folder: Path) -> None:
        """Run a command of the project behind the guard; raises ``ProveError`` if it fails."""
        with self._started({"command": command}, folder=folder):
            pass

    def _compare(self, folder: Path) -> None:
        """Compare the models with what the migrations made, before a start-up makes the rest."""
        try:
            with self._started({"compare": True}, folder=folder) as process:
                found = process.started()["differences"]
        except ProveError as error:
            said = error.message.splitlines()[0][:300]
            self.notes.append(f"the models were not compared with the migrations: {said}")
        else:
            self.differences = tuple(Difference(**one) for one in found)

    def _migrations(self) -> Iterator[tuple[Path, list[str]]]:
        root = self.project.root
        for folder in (self._folder, *self._folder.parents):
            if folder.is_relative_to(root):
                if (folder / "alembic.ini").is_file():
                    yield self._moved(folder), ["alembic", "upgrade", "heads"]
                    return
                if (folder / "migrations").is_dir() and _depends_on_newel(folder):
                    yield self._moved(folder), ["newel", "migrate", "up"]
                    return

    def _write_env_file(self, error: ProveError) -> bool:
        """Write an empty `.env` where the project insists on one; the values are variables."""
        found = re.search(r"'([^']*\.env[^']*)'", error.message)
        if found is None or "not found" not in error.message.lower().replace(
            "no such file", "not found"
        ):
            return False
        path = (self._moved(self._folder) / found[1]).resolve()
        if not path.is_relative_to(self.scratch) or path.exists():
            return False
        path.touch()
        return True

    def _lend_aiosqlite(self, error: ProveError) -> bool:
        """Lend the project our `aiosqlite`: where SQLite stands in for MySQL, it may have none."""
        spec = importlib.util.find_spec("aiosqlite")
        lent = self.scratch / "lent"
        if (
            "'aiosqlite'" not in error.message
            or spec is None
            or spec.origin is None
            or lent.exists()
        ):
            return False
        shutil.copytree(Path(spec.origin).parent, lent / "aiosqlite")
        return True

    def _go_async(self, error: ProveError) -> bool:
        """Name an asynchronous driver in the addresses of databases, if the project wants one."""
        if "requires an async driver" not in error.message:
            return False
        packages = installed_packages(self.project.python)
        drivers = {"postgresql": "asyncpg", "postgres": "asyncpg", "sqlite": "aiosqlite"}
        for name, value in self.environment.items():
            scheme, mark, rest = value.partition("://")
            driver = drivers.get(scheme.partition("+")[0])
            if mark and driver in packages:
                kind = scheme.partition("+")[0].replace("postgres", "postgresql", 1)
                kind = kind.replace("postgresqlql", "postgresql")
                self.environment[name] = f"{kind}+{driver}://{rest}"
        return True

    def supply(self, settings: tuple[Setting, ...]) -> bool:
        """Give values to settings that the application asked for; tell whether any is new."""
        texts = [text for path in self.project.files if (text := read_text(path)) is not None]
        missing = [setting.name for setting in settings if setting.fault.endswith("missing")]
        found = dummies_for(
            missing,
            texts,
            packages=installed_packages(self.project.python),
            asynchronous=any("create_async_engine" in text for text in texts),
        )
        for setting in settings:
            value = _suitable(setting)
            if value is not None:
                found[setting.name.upper()] = value
        new = {name: value for name, value in found.items() if self.environment.get(name) != value}
        self.environment |= new
        return bool(new)


def _suitable(setting: Setting) -> str | None:
    """Return a value of the kind that a refused setting should have had."""
    values = {"int": "30", "float": "30", "bool": "false", "url": "http://127.0.0.1:9"}
    values |= {"json": "[]", "list": "[]", "dict": "{}", "uuid": str(uuid.UUID(int=1))}
    if setting.fault in ("enum", "literal_error"):
        choices = re.findall(r"'([^']*)'", setting.expected)
        return choices[0] if choices else None
    return values.get(setting.fault.partition("_")[0])


@contextmanager
def sandbox(project: Project, settings: Settings) -> Generator[Sandbox]:
    """Make the surroundings of a project, and remove them with all that ran in them.

    Secrets of the project's own `.env` stay where they are: the copy has others of the same names.
    """
    with ExitStack() as stack:
        scratch, copy = stack.enter_context(copied(project))
        named = _without_secrets(copy, project.python)
        _remove_databases(copy)
        environment = {
            **base_environment(scratch),
            **project.environment,
            **named,
            **settings.env,
        }
        redis = None
        if "redis" in installed_packages(project.python) and has_valkey():
            redis = stack.enter_context(throw_away_valkey())
        postgres = None
        if _wants_postgres(project, settings, environment):
            postgres = stack.enter_context(throw_away_postgres())
        yield Sandbox(
            project=project,
            settings=settings,
            scratch=scratch,
            copy=copy,
            environment=environment,
            postgres=postgres,
            redis=redis,
        )


def _wants_postgres(project: Project, settings: Settings, environment: Mapping[str, str]) -> bool:
    """Tell whether the project may ask for PostgreSQL: its settings do, or its code can."""
    if settings.database is not None:
        return settings.database == "postgresql"
    if any("postgres" in name.lower() + value.lower() for name, value in environment.items()):
        return True
    if _DRIVERS.isdisjoint(installed_packages(project.python)):
        return False
    own = (path for path in project.files if not is_test(path.relative_to(project.root)))
    beside = (folder / name for folder, names in project_files(project.root) for name in names)
    texts = (read_text(path) for path in (*own, *filter(_is_settings, beside)))
    return any("postgres" in text.lower() for text in texts if text is not None)


def _is_settings(path: Path) -> bool:
    """Tell whether a file may say which database the project is for."""
    return path.suffix in (".env", ".ini", ".toml") or path.name.startswith(".env")


def _without_secrets(copy: Path, python: Path) -> dict[str, str]:
    """Replace the secrets in the copy's `.env` files; return the new values by name."""
    found: dict[str, str] = {}
    for path in copy.rglob(".env*"):
        text = read_text(path) if path.is_file() and not path.is_symlink() else None
        if text is None or "example" in path.name or "sample" in path.name:
            continue
        lines: list[str] = []
        keys = Keys(python, text)
        for line in (entry[0] for entry in _ENTRY.finditer("\n".join(text.splitlines()))):
            name, equals, value = line.partition("=")
            name = name.strip().removeprefix("export ").strip()
            if equals and _SECRET.search(name) and not _LIFETIME.search(name.upper()):
                found.setdefault(name, keys.like(value))
                lines.append(f"{name}={in_file(found[name])}")
            else:
                lines.append(line)
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return found


def _remove_databases(copy: Path) -> None:
    """Remove what developers left in their SQLite files: every run begins with empty tables."""
    for path in copy.rglob("*"):
        if path.is_file() and path.suffix.lower() in (".db", ".sqlite", ".sqlite3"):
            with path.open("rb") as file:
                is_database = file.read(len(_SQLITE)) == _SQLITE
            if is_database:
                path.unlink()


def _depends_on_newel(folder: Path) -> bool:
    try:
        data: Any = tomllib.loads((folder / "pyproject.toml").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    wanted = data.get("project", {}).get("dependencies", [])
    return any(re.match(r"newel\b(?!-)", str(name)) for name in wanted)
