"""``newel check`` as it is typed."""

import json
import subprocess
import sysconfig
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from newel_tools.check.command import check
from newel_tools.check.mend import mend
from newel_tools.check.rule import load_rules

CLEAN = "from fastapi import FastAPI\n\napp = FastAPI()\n"
OPEN = load_rules()["CORS001"].bad
FROZEN = load_rules()["DATA010"].bad
NO_TABLES = "no mapped tables were found: the rules about the database have nothing to go by"


def run(*words: object, colour: bool = False) -> Result:
    program = typer.Typer()
    program.command()(check)
    variables = {"FORCE_COLOR": "1"} if colour else {"FORCE_COLOR": None, "COLUMNS": "200"}
    return CliRunner(env=variables).invoke(program, [str(word) for word in words])


@pytest.fixture(autouse=True)
def quick(monkeypatch, zygote):
    """Describe applications without paying for the imports; one test below does pay."""
    monkeypatch.setattr(
        "newel_tools.check.check.load_facts", lambda project, **_: zygote.facts(project)
    )
    # The command is what is tested here: a new rule must not change what these tests see.
    few = {name: rule for name, rule in load_rules().items() if name in {"CORS001", "DATA010"}}
    monkeypatch.setattr("newel_tools.check.check.load_rules", lambda: few)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "shop"
    folder.mkdir()
    (folder / "main.py").write_text(OPEN)
    return folder


def test_a_verdict_is_an_exit_code(project):
    blocked = run(project)
    (project / "main.py").write_text(CLEAN)

    assert blocked.exit_code == 2
    assert run(project).exit_code == 0


def test_it_works_as_installed(project):
    program = Path(sysconfig.get_path("scripts")) / "newel"

    done = subprocess.run([program, "check", project], capture_output=True, text=True, check=False)

    assert done.returncode == 2, done.stderr
    assert "CORS001" in done.stdout


def test_people_see_the_place_the_reason_and_the_fix(project):
    said = run(project).stdout

    assert "CORS001  block  proved" in said
    assert "main.py:6" in said
    assert ">    6 | app.add_middleware(" in said
    assert "why: With `*`" in said
    assert "BLOCK: 1 to block" in said
    assert "\x1b" not in said


def test_a_terminal_gets_colours(project):
    assert "\x1b[" in run(project, colour=True).stdout


@pytest.mark.parametrize("words", [("--json",), ("--format", "json")])
def test_machines_get_json(project, words):
    result = run(project, *words)

    assert json.loads(result.stdout)["verdict"] == "BLOCK"
    assert result.exit_code == 2


def test_code_hosts_get_sarif(project):
    said = json.loads(run(project, "--format", "sarif").stdout)

    (result,) = said["runs"][0]["results"]
    assert (said["version"], result["ruleId"], result["level"]) == ("2.1.0", "CORS001", "error")
    place = result["locations"][0]["physicalLocation"]
    assert place == {"artifactLocation": {"uri": "main.py"}, "region": {"startLine": 6}}
    assert [rule["id"] for rule in said["runs"][0]["tool"]["driver"]["rules"]] == ["CORS001"]


def test_a_pull_request_gets_annotations(project):
    line, *notes = run(project, "--format", "github").stdout.splitlines()

    assert line.startswith("::error file=main.py,line=6,title=CORS001 (proved)::every origin")
    assert notes == ["::notice title=newel check::" + NO_TABLES]


def test_a_review_that_could_not_look_says_so_to_machines_of_others(project):
    (project / "main.py").write_text("import nowhere_to_be_found\n" + CLEAN)
    said = json.loads(run(project, "--format", "sarif").stdout)
    lines = run(project, "--format", "github").stdout.splitlines()

    (invocation,) = said["runs"][0]["invocations"]
    assert invocation["executionSuccessful"] is False
    told = invocation["toolExecutionNotifications"]
    assert {note["level"] for note in told} == {"warning"}
    assert any("nowhere_to_be_found" in note["message"]["text"] for note in told)
    assert any(line.startswith("::warning title=newel check::not approved") for line in lines)


def test_notes_of_a_whole_review_are_no_warnings(project):
    (invocation,) = json.loads(run(project, "--format", "sarif").stdout)["runs"][0]["invocations"]

    told = [{"level": "note", "message": {"text": NO_TABLES}}]
    assert invocation == {"executionSuccessful": True, "toolExecutionNotifications": told}


def test_a_baseline_is_written_and_read(project, tmp_path):
    file = tmp_path / "baseline.json"

    assert run(project, "--write-baseline", file).exit_code == 0
    again = run(project, "--baseline", file)

    assert again.exit_code == 0
    assert "APPROVE: 1 in the baseline" in again.stdout
    suppressed = json.loads(run(project, "--baseline", file, "--format", "sarif").stdout)
    assert suppressed["runs"][0]["results"][0]["suppressions"]


@pytest.mark.parametrize(
    ("text", "said"), [(None, "cannot be read"), ("{}", "is no baseline"), ("[", "is no baseline")]
)
def test_a_broken_baseline_is_refused_in_two_lines(project, tmp_path, text, said):
    file = tmp_path / "baseline.json"
    if text is not None:
        file.write_text(text)

    result = run(project, "--baseline", file)

    assert result.exit_code == 3
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 2


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({}, "holds no Python file"),
        ({"a.py": "x = 1\n"}, "no FastAPI application was found"),
    ],
)
def test_no_project_is_refused_in_two_lines(tmp_path, files, said):
    for name, text in files.items():
        (tmp_path / name).write_text(text)

    result = run(tmp_path, "--json")

    assert result.exit_code == 3
    assert said in result.stderr
    assert len(result.stderr.splitlines()) == 2
    assert said in json.loads(result.stdout)["error"]


def test_a_folder_that_is_not_there_is_refused(tmp_path):
    assert "does not exist" in run(tmp_path / "none").stderr
    assert run(tmp_path / "none").exit_code == 3


def test_an_application_that_is_not_there_is_refused(project):
    assert "there is no module for other:app" in run(project, "--app", "other:app").stderr


def test_an_interpreter_that_is_not_there_is_refused(project):
    assert "is no program" in run(project, "--python", project / "python").stderr


@pytest.mark.parametrize("colour", [False, True])
def test_a_rule_explains_itself(colour):
    result = run("--explain", "cors001", colour=colour)

    assert result.exit_code == 0
    assert "breaks it:" in result.stdout
    assert "allow_origins" in result.stdout
    assert ("\x1b[" in result.stdout) is colour


def test_an_unknown_rule_is_refused():
    result = run("--explain", "NONE1")

    assert result.exit_code == 3
    assert "AUTH001" in result.stderr


def test_what_can_be_mended_is_mended(tmp_path):
    (tmp_path / "main.py").write_text(FROZEN)

    result = run(tmp_path, "--fix")

    assert result.exit_code == 0, result.stdout
    assert "mended 1 in main.py" in result.stderr
    assert "default=lambda: datetime.now(UTC))  # finding" in (tmp_path / "main.py").read_text()


BLOCKS = """import subprocess
import time
import urllib.request

from fastapi import FastAPI

app = FastAPI(
    title="shop",
    debug=True,
)


@app.get("/slow")
async def slow(address: str) -> str:
    \"\"\"Wait.\"\"\"
    time.sleep(1)  # a moment
    done = subprocess.run(["true"], check=True)
    later = lambda: time.sleep(2)
    try:
        return urllib.request.urlopen("http://127.0.0.1:9").read().decode()
    except:
        return str(done)
    finally:
        time.sleep(  # longer
            2
        )
"""
WAITS = """import subprocess
import time
import urllib.request

from fastapi import FastAPI
import asyncio

app = FastAPI(
    title="shop",
    debug=False,
)


@app.get("/slow")
async def slow(address: str) -> str:
    \"\"\"Wait.\"\"\"
    await asyncio.sleep(1)  # a moment
    done = await asyncio.to_thread(subprocess.run, ["true"], check=True)
    later = lambda: time.sleep(2)
    try:
        return (await asyncio.to_thread(urllib.request.urlopen, "http://127.0.0.1:9")).read().decode()
    except Exception:
        return str(done)
    finally:
        await asyncio.sleep(  # longer
            2
        )
"""


def test_what_blocks_waits_and_what_debugs_is_off(tmp_path, monkeypatch):
    mended = {name: rule for name, rule in load_rules().items() if rule.mend is not None}
    monkeypatch.setattr("newel_tools.check.check.load_rules", lambda: mended)
    (tmp_path / "main.py").write_text(BLOCKS)

    result = run(tmp_path, "--fix")

    assert (tmp_path / "main.py").read_text() == WAITS
    assert "mended 6 in main.py" in result.stderr


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["async def a(q=time.sleep(0)): time.sleep(1)"], "0)): await asyncio.sleep(1)"),
        (["@held(time.sleep(0))", "async def a(): time.sleep(1)"], "0))\nasync def a(): await"),
        (["async def a():", "    class B: c = time.sleep(0)"], "B: c = time.sleep(0)"),
        (["async def a():", "    def b(q=time.sleep(1)): ..."], "q=(await asyncio.sleep(1))"),
    ],
)
def test_nothing_waits_where_python_lets_nothing_wait(tmp_path, lines, said):
    (tmp_path / "main.py").write_text("\n".join(["import time", *lines, ""]))
    rule = load_rules()["ASYNC001"]
    found = [rule.found("", file="main.py", line=number) for number in (2, 3)]

    _ = mend(tmp_path, found, {rule.id: rule})

    text = (tmp_path / "main.py").read_text()
    compile(text, "main.py", "exec")
    assert said in text


def test_what_cannot_be_mended_is_left_alone(project):
    result = run(project, "--fix")

    assert "nothing here can be mended for certain" in result.stderr

    assert result.exit_code == 2
    assert (project / "main.py").read_text() == OPEN


def test_a_baseline_that_cannot_be_written_is_refused_before_the_review(project, tmp_path):
    result = run(project, "--write-baseline", tmp_path / "nowhere" / "baseline.json")

    assert (result.exit_code, result.stdout) == (3, "")
    assert "cannot be written\n  fix: " in result.stderr
