"""`newel new` at the command line: what is asked, what is shown, and how it ends."""

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner

from newel_tools import new as command
from newel_tools.generator.generator import Made, Result
from newel_tools.generator.reports import ConsoleReport
from newel_tools.generator.steps import Outcome
from newel_tools.generator.tree import TreeError
from newel_tools.plan.plan import Plan
from newel_tools.plan.text import write_plan
from newel_tools.planner.planner import plan_sentence

SENTENCE = "inventory API: products (name, sku unique, price decimal, stock int) and warehouses"

PASSED = (
    Outcome(name="format", seconds=0.1, output=""),
    Outcome(name="tests", seconds=3.2, output="62 passed in 3.1s"),
)
FAILED = (
    Outcome(name="types", seconds=1.0, output="one\nerror [x] in main.py\n", reason="exit code 1"),
    Outcome(name="tests", seconds=3.2, output="62 passed in 3.1s"),
)
FILES = (
    Made(path=".env", lines=3, characters=90),
    Made(path="README.md", lines=12, characters=400),
    Made(path="src/inventory/main.py", lines=20, characters=4_000),
    Made(path="src/inventory/products/models.py", lines=31, characters=2_000),
)

Asked = dict[str, Any]


def result(directory: Path, *outcomes: Outcome, interrupted: bool = False) -> Result:
    return Result(
        directory=directory, files=FILES, outcomes=outcomes, seconds=9.8, interrupted=interrupted
    )


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Asked:
    """What the generator was asked for; ``answer`` is what it does."""
    asked: Asked = {"answer": lambda place: result(place, *PASSED)}

    def create(plan: Plan, directory: Path, *, layout: str, report: Any) -> Result:
        asked.update(plan=plan, directory=directory, layout=layout)
        made: Result = asked["answer"](directory.absolute())
        report.begin("files")
        report.wrote(made.files)
        for outcome in made.outcomes:
            report.begin(outcome.name)
            report.end(outcome, "62 passed" if outcome.name == "tests" else "")
        return made

    monkeypatch.setattr(command, "create", create)
    monkeypatch.chdir(tmp_path)
    return asked


def run(*arguments: str) -> Any:
    program = typer.Typer()
    program.command()(command.new)
    return CliRunner().invoke(program, arguments)


def test_a_sentence_becomes_a_service_in_a_folder_of_its_name(asked: Asked) -> None:
    done = run(SENTENCE)

    assert done.exit_code == 0, done.output
    assert asked["plan"] == plan_sentence(SENTENCE)
    assert asked["directory"] == Path(asked["plan"].service)
    assert asked["layout"] == "features"


def test_folder_and_layout_can_be_said(asked: Asked) -> None:
    done = run(SENTENCE, "shop", "--layout", "layered")

    assert done.exit_code == 0, done.output
    assert asked["directory"] == Path("shop")
    assert asked["layout"] == "layered"


def test_a_plan_can_be_a_file(asked: Asked, tmp_path: Path) -> None:
    plan = plan_sentence(SENTENCE)
    (tmp_path / "plan.yaml").write_text(write_plan(plan))

    assert run("plan.yaml").exit_code == 0
    assert asked["plan"] == plan


def test_it_shows_the_plan_the_tree_and_what_passed(asked: Asked) -> None:
    shown = run(SENTENCE, "shop").stdout

    assert "keeps    products (name, sku, price, stock)" in shown
    assert "assumed  " in shown
    assert "models.py" in shown
    assert "31" in shown
    assert "tests     ok" in shown
    assert "62 tests passed on SQLite" in shown
    assert "1,500 tokens of Python" in shown
    assert "cd shop && newel migrate up" in shown
    assert "\x1b" not in shown, "no colours where there is no terminal"


def test_it_shows_what_is_done_in_the_background(asked: Asked) -> None:
    shown = run(f"{SENTENCE}, stock movements event to kafka, nightly report job", "shop").stdout

    assert "does     nightly_report: cron(0 3 * * *)" in shown
    assert "tells    kafka what happens" in shown
    assert "tells" not in run(SENTENCE, "shop").stdout


def test_it_shows_chats_and_files(asked: Asked) -> None:
    shown = run("team chat with file uploads", "shop").stdout

    assert "keeps    files of users" in shown
    assert "hears    what is said in chats: messages" in shown
    assert not {"hears", "files"} & set(run(SENTENCE, "shop").stdout.split())


def test_it_shows_what_was_not_understood(asked: Asked) -> None:
    plan = plan_sentence(SENTENCE).model_copy(update={"not_understood": ("with dragons",)})
    Path("plan.yaml").write_text(write_plan(plan))

    assert "not understood: with dragons" in run("plan.yaml").stdout


def test_every_file_is_in_the_tree_with_its_lines(asked: Asked) -> None:
    shown = run(SENTENCE, "shop").stdout.splitlines()

    for made in FILES:
        name = made.path.rpartition("/")[2]
        assert [line for line in shown if name in line and line.rstrip().endswith(str(made.lines))]
    assert [line.split()[-1] for line in shown if "inventory/" in line] == ["inventory/"]


def test_a_step_that_fails_is_named_with_its_last_lines(asked: Asked) -> None:
    asked["answer"] = lambda place: result(place, *FAILED)
    done = run(SENTENCE, "shop")

    assert done.exit_code == 1
    assert "types     FAILED" in done.stdout
    assert "exit code 1" in done.stdout
    assert "    error [x] in main.py" in done.stdout
    assert "Not done: types failed. The files are kept to look at: shop" in done.stdout


def test_interrupted_tests_are_no_success(asked: Asked) -> None:
    asked["answer"] = lambda place: result(place, *PASSED[:1], interrupted=True)
    done = run(SENTENCE, "shop")

    assert done.exit_code == 130
    assert "their tests did not run to the end" in done.stdout


def raising(error: BaseException) -> Callable[[Path], Result]:
    def fail(_place: Path) -> Result:
        raise error

    return fail


def test_interrupted_before_it_says_that_nothing_is_there(asked: Asked) -> None:
    asked["answer"] = raising(KeyboardInterrupt())
    done = run(SENTENCE, "shop")

    assert done.exit_code == 130
    assert "Interrupted: nothing was written." in done.stderr
    assert "Traceback" not in done.output


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_the_end_of_a_supervisor_is_an_interruption(asked: Asked, number: int) -> None:
    before = signal.getsignal(number)

    def end(place: Path) -> Result:
        os.kill(os.getpid(), number)
        return result(place, *PASSED)

    asked["answer"] = end

    assert run(SENTENCE, "shop").exit_code == 130
    assert signal.getsignal(number) is before


def test_a_folder_that_cannot_be_used_is_said_in_two_lines(asked: Asked) -> None:
    asked["answer"] = raising(TreeError("shop is not empty", fix="name another directory"))
    done = run(SENTENCE, "shop")

    assert done.exit_code == 2
    assert done.stderr.splitlines() == ["shop is not empty", "  fix: name another directory"]


def test_a_sentence_that_is_not_understood_is_said_in_two_lines(asked: Asked) -> None:
    done = run("colourless green ideas sleep furiously")

    assert done.exit_code == 2
    assert len(done.stderr.splitlines()) == 2
    assert "fix:" in done.stderr
    assert done.stdout.startswith("service:"), "a plan to fill in"
    assert "plan" not in asked


def test_a_plan_that_is_wrong_is_said_with_its_line(asked: Asked) -> None:
    Path("plan.yaml").write_text("service: shop\ntitle: Shop\nsurprise: 1\n")
    done = run("plan.yaml")

    assert done.exit_code == 2
    assert done.stderr.startswith("line 3: ")
    assert len(done.stderr.splitlines()) == 2


def test_missing_programs_are_said_before_any_work(
    asked: Asked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "missing_packages", lambda: ["newel[testing]", "ty"])
    done = run(SENTENCE)

    assert done.exit_code == 2
    assert done.stderr.splitlines() == [
        "a service cannot be made and tested here without newel[testing], ty",
        "  fix: uv pip install 'newel[testing]' 'ty'",
    ]
    assert "plan" not in asked


def test_for_machines_there_is_one_json_document(asked: Asked) -> None:
    done = run(SENTENCE, "shop", "--json")
    said = json.loads(done.stdout)

    assert done.exit_code == 0
    assert said["ok"] is True
    assert said["service"] == "inventory"
    assert said["layout"] == "features"
    assert said["assumed"]
    assert said["tests"] == {"passed": 62}
    assert said["tokens"] == 1_500


def test_for_machines_a_refusal_is_json_too(asked: Asked) -> None:
    asked["answer"] = raising(TreeError("shop is not empty", fix="name another directory"))
    done = run(SENTENCE, "shop", "--json")

    assert done.exit_code == 2
    assert json.loads(done.stdout) == {
        "ok": False,
        "error": "shop is not empty",
        "fix": "name another directory",
    }


def test_for_machines_a_refusal_has_the_plan_to_fill_in() -> None:
    said = json.loads(run("colorless green ideas sleep furiously", "shop", "--json").stdout)

    assert said["ok"] is False
    assert said["skeleton"].startswith("service: ")


def test_on_a_terminal_a_spinner_says_what_is_being_done() -> None:
    console = Console(force_terminal=True, width=80, record=True)
    report = ConsoleReport(console, title="shop")

    report.begin("tests")
    with console.capture() as captured:
        report.end(PASSED[1], "62 passed")
    report.stop()

    assert "62 passed" in captured.get()
    assert "\x1b" in captured.get()
