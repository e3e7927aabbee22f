"""The command line: what a user sees, and two lines instead of a traceback."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import typer
from sample_runs import Service

from newel import __version__, cli
from newel.errors import ConfigurationError, FieldError, Invalid, NotFound


def error_lines(text: str) -> tuple[str, str]:
    lines = text.splitlines()
    assert len(lines) == 2, text
    assert lines[0].startswith("error: ")
    assert lines[1].startswith("fix:   ")
    return lines[0].removeprefix("error: "), lines[1].removeprefix("fix:   ")


@dataclass
class Result:
    code: int | str | None
    out: str
    err: str


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]):
    """Run the command line in this process: for what does not need a service."""

    def run(*arguments: str) -> Result:
        with pytest.raises(SystemExit) as caught:
            cli.main(list(arguments))
        captured = capsys.readouterr()
        return Result(caught.value.code, captured.out, captured.err)

    return run


@dataclass
class Plugins:
    """Stands for other packages' entry points."""

    found: list[EntryPoint] = field(default_factory=list[EntryPoint])

    def add(self, name: str, value: str) -> None:
        self.found.append(EntryPoint(name=name, value=value, group="newel.commands"))


@pytest.fixture
def plugins(monkeypatch: pytest.MonkeyPatch) -> Plugins:
    held = Plugins()
    monkeypatch.setattr(cli, "entry_points", lambda group: EntryPoints(held.found))
    return held


def hello(name: str) -> None:
    typer.echo(f"hello {name}")


group = typer.Typer()


@group.command()
def one() -> None:
    typer.echo("one")


@group.command()
def fail() -> None:
    raise Invalid(
        errors=[
            FieldError(pointer="#/a", code="x", message="A is too short."),
            FieldError(pointer="#/b", code="x", message="B is missing."),
        ]
    )


@group.command()
def gone() -> None:
    raise NotFound("agent")


@group.command()
def stop() -> None:
    raise KeyboardInterrupt


@group.command()
def bug() -> None:
    raise ZeroDivisionError("our own fault")


# ---------------------------------------------------------------- the frame


def test_version(call: Any):
    result = call("--version")
    assert (result.code, result.out) == (0, f"newel {__version__}\n")


def test_help_lists_every_command_and_loads_none(call: Any, plugins: Plugins):
    plugins.add("paint", "a_module_that_is_not_there:paint")
    result = call("--help")
    assert result.code == 0
    for word in ("serve", "migrate", "routes", "doctor", "admin", "keys", "paint"):
        assert word in result.out


def test_every_command_of_ours_can_be_loaded():
    for name, command in cli._COMMANDS.items():
        assert callable(command.load()), name


@pytest.mark.parametrize("arguments", [["nonsense"], ["--nonsense"], ["keys", "nonsense"]])
def test_wrong_usage_is_exit_code_2(call: Any, arguments: Sequence[str]):
    result = call(*arguments)
    assert result.code == 2
    assert "nonsense" in result.err


def test_no_command_shows_the_help(call: Any):
    assert "serve" in (result := call()).out + result.err


def test_the_arguments_are_those_of_the_process(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "argv", ["newel", "--version"])
    with pytest.raises(SystemExit) as caught:
        cli.main()
    assert caught.value.code == 0


def test_commands_of_other_packages_are_found(call: Any, plugins: Plugins):
    plugins.add("hello", f"{__name__}:hello")
    plugins.add("group", f"{__name__}:group")
    sys.modules.setdefault(__name__, sys.modules[hello.__module__])
    assert call("hello", "ada").out == "hello ada\n"
    assert call("group", "one").out == "one\n"


def test_an_apps_error_is_two_lines(call: Any, plugins: Plugins):
    plugins.add("group", f"{__name__}:group")
    result = call("group", "fail")
    assert result.code == 1
    what, fix = error_lines(result.err)
    assert what == "A is too short. B is missing."
    assert fix == Invalid.advice
    assert error_lines(call("group", "gone").err)[0] == "There is no such agent."


def test_a_fault_of_ours_keeps_its_traceback(call: Any, plugins: Plugins):
    plugins.add("group", f"{__name__}:group")
    with pytest.raises(ZeroDivisionError):
        cli.main(["group", "bug"])


def test_an_interrupt_is_no_traceback(call: Any, plugins: Plugins):
    plugins.add("group", f"{__name__}:group")
    result = call("group", "stop")
    assert result.code == 130
    assert "Traceback" not in result.err


@pytest.mark.parametrize("name", ["new", "plan"])
def test_tools_that_are_not_installed_say_how_to_get_them(call: Any, plugins: Plugins, name: str):
    result = call(name, "a blog")
    assert result.code == 1
    what, fix = error_lines(result.err)
    assert f"`newel {name}` comes with newel-tools" in what
    assert "uv pip install newel-tools" in fix
    assert f"uvx --with newel-tools newel {name}" in fix


def test_a_wanted_command_loads_its_own_modules_only():
    script = (
        "import sys\n"
        "from newel.cli import main\n"
        "try:\n    main(['keys', 'new'])\n"
        "except SystemExit:\n    pass\n"
        "loaded = {'fastapi', 'sqlalchemy', 'alembic', 'uvicorn'} & set(sys.modules)\n"
        "print(sorted(loaded))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True
    )
    assert done.stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- migrate


def test_migrate_up_down_check_and_new(service: Service):
    assert service.run("migrate", "up").stdout == "nothing to apply\n"
    assert service.run("migrate", "check").stdout == "models and migrations agree\n"
    done = service.run("migrate", "new", "nothing")
    assert done.stdout == "models and migrations agree: nothing to write\n"
    assert service.run("migrate", "down").stdout == "took back 0001\n"
    assert service.run("migrate", "down", "base").stdout == "nothing to take back\n"
    assert service.run("migrate", "up", "0001").stdout == "applied 0001\n"


def test_migrate_check_fails_when_a_model_was_changed(service: Service):
    notes = service.root / "src/sample_service/notes.py"
    notes.write_text(
        notes.read_text().replace(
            "    text: Mapped", "    title: Mapped[str | None] = mapped_column()\n    text: Mapped"
        )
    )
    done = service.run("migrate", "check")
    assert done.returncode == 1
    assert done.stdout == "  add_column notes.title\n"
    what, fix = error_lines(done.stderr)
    assert what == "Models and migrations differ in 1 point(s)"
    assert "newel migrate new" in fix

    assert service.run("migrate", "new", "Add titles").stdout == "migrations/0002_add_titles.py\n"
    assert service.run("migrate", "up").stdout == "applied 0002\n"
    assert service.run("migrate", "check").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["migrate", "up", "0009"], "0009"),
        (["migrate", "down", "-9"], "-9"),
    ],
)
def test_an_unknown_revision_is_two_lines(service: Service, arguments: list[str], what: str):
    done = service.run(*arguments)
    assert done.returncode == 1
    assert what in error_lines(done.stderr)[0]


def test_a_database_that_is_away_is_two_lines(service: Service):
    done = service.run("migrate", "up", DATABASE_URL="postgresql+asyncpg://a:pw@127.0.0.1:1/x")
    assert done.returncode == 1
    what, fix = error_lines(done.stderr)
    assert "cannot be used" in what
    assert "pw" not in done.stderr
    assert "DATABASE_URL" in fix


def test_no_migrations_folder_is_two_lines(service: Service):
    done = service.run("migrate", "up", MIGRATIONS="nowhere")
    assert done.returncode == 1
    assert "no migrations folder" in error_lines(done.stderr)[0]


# ---------------------------------------------------------------- routes


def test_routes_as_a_table_and_as_json(service: Service):
    done = service.run("routes")
    assert done.returncode == 0, done.stderr
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert rows[0] == ["METHOD", "PATH", "ACCESS", "NAME"]
    assert ["POST", "/api/v1/notes", "notes:write", "create_note"] in rows
    assert ["GET", "/api/v1/notes", "public", "list_notes"] in rows
    assert ["WS", "/api/v1/notes/live", "public", "live"] in rows
    assert ["GET", "/api/docs", "-", "swagger_ui_html"] in rows
    assert "HEAD" not in done.stdout

    found = json.loads(service.run("routes", "--json").stdout)
    assert [list(row.values()) for row in found] == rows[1:]
    assert found[0].keys() == {"method", "path", "access", "name"}


# ---------------------------------------------------------------- admin

STRONG = "a long enough passphrase 7"


def administrators(service: Service) -> list[str]:
    script = (
        "import sqlite3, sys, json\n"
        "rows = sqlite3.connect('data.db').execute('SELECT email, roles FROM users').fetchall()\n"
        "print(json.dumps([email for email, roles in rows if 'admin' in roles]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=service.root, check=True, capture_output=True
    )
    return json.loads(done.stdout)


def test_an_administrator_by_environment_and_by_standard_input(service: Service):
    done = service.run("admin", "create", "--email", "ada@example.com", NEWEL_ADMIN_PASSWORD=STRONG)
    assert (done.returncode, done.stdout) == (0, "ada@example.com is an administrator\n"), done
    done = service.run(
        "admin", "create", "--email", "eve@example.com", "--password-stdin", stdin=f"{STRONG}\n"
    )
    assert done.returncode == 0, done.stderr
    assert administrators(service) == ["ada@example.com", "eve@example.com"]
    assert STRONG not in done.stdout + done.stderr


def test_what_makes_no_administrator_is_two_lines(service: Service):
    environment = {"NEWEL_ADMIN_PASSWORD": STRONG}
    create = ["admin", "create", "--email"]
    assert service.run(*create, "ada@example.com", **environment).returncode == 0
    for arguments, given, expected in (
        ([*create, "Ada@Example.com"], environment, "already"),
        ([*create, "no address"], environment, "not an e-mail address"),
        ([*create, "eve@example.com"], {"NEWEL_ADMIN_PASSWORD": "short"}, "8"),
        ([*create, "eve@example.com"], {}, "no terminal to ask"),
    ):
        done = service.run(*arguments, **given)
        assert done.returncode == 1
        assert expected in error_lines(done.stderr)[0]
    assert administrators(service) == ["ada@example.com"]


def test_the_password_is_no_argument(service: Service):
    done = service.run("admin", "create", "--email", "a@example.com", "--password", STRONG)
    assert done.returncode == 2


def test_an_administrator_needs_the_tables(service: Service):
    (service.root / "data.db").unlink()
    done = service.run("admin", "create", "--email", "a@example.com", NEWEL_ADMIN_PASSWORD=STRONG)
    assert done.returncode == 1
    assert "newel migrate up" in error_lines(done.stderr)[1]


class Terminal:
    """A command at a terminal of its own, and somebody who answers its questions."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.seen = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # pragma: no cover - the child becomes the command
            os.chdir(command["cwd"])
            os.execve(command["args"][0], command["args"], command["env"])

    def expect(self, words: str) -> None:
        """Read until ``words`` are on the screen."""
        begin = len(self.seen)
        while words not in self.seen[begin:]:
            ready, _, _ = select.select([self._fd], [], [], 30)
            assert ready, f"no {words!r} after {self.seen!r}"
            self.seen += os.read(self._fd, 1000).decode()

    def answer(self, words: str) -> None:
        os.write(self._fd, f"{words}\n".encode())

    def end(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(service: Service):
    terminal = Terminal(service.command("admin", "create", "--email", "ada@example.com"))
    for first, second in (("one thing 12345", "another 12345"), (STRONG, STRONG)):
        terminal.expect("Password: ")  # the space comes when the echo is off
        terminal.answer(first)
        terminal.expect("confirmation: ")
        terminal.answer(second)
    terminal.expect("ada@example.com is an administrator")
    assert terminal.end() == 0
    assert STRONG not in terminal.seen
    assert administrators(service) == ["ada@example.com"]


def test_an_app_without_accounts_has_no_administrators(service: Service):
    source = service.root / "src/sample_service/application.py"
    source.write_text(
        source.read_text().replace("create_app(settings, users, ", "create_app(settings, ")
    )
    done = service.run("admin", "create", "--email", "a@example.com", NEWEL_ADMIN_PASSWORD=STRONG)
    assert done.returncode == 1
    assert "no accounts" in error_lines(done.stderr)[0]


def test_configuration_errors_print_their_own_fix(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = call("routes")
    assert result.code == 1
    assert error_lines(result.err)[1] == "run the command in the folder of the service"
    with pytest.raises(ConfigurationError):  # the control: underneath it is an exception
        cli._program("routes")(["routes"], standalone_mode=False)
