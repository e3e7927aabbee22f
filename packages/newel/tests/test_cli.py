"""The command line: what a user sees, and two lines instead of a traceback."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, EntryPoints
from pathlib import Path
from typing import Any

import pytest
import typer
from sample_runs import error_lines

from newel import __version__, cli
from newel.errors import ConfigurationError, FieldError, Invalid, NotFound


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


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


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


def test_help_says_what_the_commands_of_the_tools_do(call: Any):
    shown = call("--help").out

    assert "Review any FastAPI project." in shown
    assert "From newel-tools" not in shown


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


@pytest.mark.parametrize(
    ("pyproject", "ours"),
    [
        ('dependencies = ["newel>=0.1,<0.2"]', True),
        ('dependencies = ["httpx2", "newel[testing]"]', True),
        ('dependencies = ["newel-tools", "newelish"]', False),
        ('description = "not newel"', False),
        ("dependencies = [", False),
        (None, False),
    ],
)
def test_of_two_commands_of_one_name_a_service_gets_ours(
    call: Any, plugins: Plugins, folder: Path, pyproject: str | None, ours: bool
):
    plugins.add("routes", f"{__name__}:hello")
    if pyproject is not None:
        (folder / "pyproject.toml").write_text(f"[project]\n{pyproject}\n")
    result = call("routes", "ada")
    assert (result.out == "hello ada\n") is not ours


def test_an_apps_error_is_two_lines(call: Any, plugins: Plugins):
    plugins.add("group", f"{__name__}:group")
    result = call("group", "fail")
    assert result.code == 1
    what, fix = error_lines(result.err)
    assert what == "A is too short. B is missing."
    assert fix == "correct it and run it again"
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


def test_configuration_errors_print_their_own_fix(
    call: Any, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    result = call("routes")
    assert result.code == 1
    assert error_lines(result.err)[1] == "run the command in the folder of the service"
    with pytest.raises(ConfigurationError):  # the control: underneath it is an exception
        cli._program("routes")(["routes"], standalone_mode=False)
