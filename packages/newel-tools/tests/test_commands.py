"""``newel plan`` as it is typed."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import typer
import yaml
from typer.testing import CliRunner, Result

from newel_tools.commands import plan, plan_of
from newel_tools.errors import PlanError
from newel_tools.plan.plan import Plan
from newel_tools.plan.text import read_plan, write_plan
from newel_tools.planner.planner import SKELETON, plan_sentence

SENTENCE = "blog with posts and tags"


def run(*words: str, colour: bool = False) -> Result:
    program = typer.Typer()
    program.command()(plan)
    variables = {"FORCE_COLOR": "1"} if colour else {"FORCE_COLOR": None}
    return CliRunner(env=variables).invoke(program, list(words))


def test_a_sentence_is_printed_as_yaml():
    result = run(SENTENCE)

    assert result.exit_code == 0
    assert read_plan(result.stdout) == plan_sentence(SENTENCE)
    assert result.stderr == ""
    assert "\x1b" not in result.stdout


def test_a_terminal_gets_colours(monkeypatch):
    result = run(SENTENCE, colour=True)

    assert result.exit_code == 0
    assert "\x1b[" in result.stdout
    assert "posts" in result.stdout


def test_machines_get_json():
    result = run(SENTENCE, "--json")

    assert Plan.model_validate_json(result.stdout) == plan_sentence(SENTENCE)


def test_the_schema_is_that_of_the_plan():
    result = run("--schema")

    assert result.exit_code == 0
    assert json.loads(result.stdout) == Plan.model_json_schema()


def test_a_refusal_is_two_lines_and_a_skeleton_to_fill_in():
    result = run("colorless green ideas sleep furiously")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert result.stderr.splitlines()[1].startswith("  fix: ")
    assert result.stdout == SKELETON
    assert "Traceback" not in result.output


def test_a_contradiction_has_no_skeleton():
    result = run("posts (title str(9..3))")

    assert result.exit_code == 2
    assert "(9..3)" in result.stderr
    assert result.stdout == ""


def test_machines_get_their_refusal_as_json():
    result = run("--json", "hello")

    assert result.exit_code == 2
    assert json.loads(result.stdout)["fix"]
    assert "nothing of the sentence" in json.loads(result.stdout)["error"]
    assert json.loads(result.stdout)["skeleton"] == SKELETON


def test_no_sentence_is_refused():
    result = run()

    assert result.exit_code == 2
    assert result.stderr.startswith("there is no sentence to plan\n  fix: ")


@pytest.mark.parametrize("ending", [".yaml", ".yml"])
def test_a_file_is_checked(tmp_path: Path, ending):
    path = tmp_path / f"plan{ending}"
    path.write_text("service: blog\nresources:\n  posts:\n    fields:\n      title: str(9)\n")
    result = run(str(path))

    assert result.exit_code == 0
    assert yaml.safe_load(result.stdout)["resources"]["posts"]["fields"]["title"] == "str(9)"

    path.write_text("service: blog\nresources:\n  posts:\n    fields:\n      title: strr(9)\n")
    result = run(str(path))
    assert result.exit_code == 2
    assert result.stderr.startswith("line 5: 'title' has the type 'strr'")


def test_a_file_of_json_is_read(tmp_path: Path):
    path = tmp_path / "plan.json"
    path.write_text(plan_sentence(SENTENCE).model_dump_json())

    assert plan_of(str(path)) == plan_sentence(SENTENCE)

    path.write_text('{"service": "blog"}')
    with pytest.raises(PlanError, match="title"):
        plan_of(str(path))


def test_a_file_there_is_not(tmp_path: Path):
    result = run(str(tmp_path / "plan.yaml"))

    assert result.exit_code == 2
    assert "cannot be read: No such file" in result.stderr

    (tmp_path / "plan.yaml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(PlanError, match="it is no text"):
        plan_of(str(tmp_path / "plan.yaml"))


def test_a_sentence_may_speak_of_yaml():
    assert plan_of("notes API with tags,\nno plan.yaml\nposts").resources


def test_the_command_is_part_of_newel_and_needs_no_terminal(tmp_path: Path):
    newel = Path(sys.executable).with_name("newel")
    done = subprocess.run(
        [newel, "plan", SENTENCE],
        check=False,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
        cwd=tmp_path,
        timeout=50,
    )

    assert done.returncode == 0, done.stderr
    assert done.stdout == write_plan(plan_sentence(SENTENCE))


def test_planning_imports_no_kernel():
    code = "import sys, newel_tools.commands; print('newel' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "False"
