"""``newel contract`` on an application, from the first acceptance to a break and back."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from newel_tools.contract.commands import contract

MAIN = """
from fastapi import APIRouter, FastAPI
from pydantic import BaseModel


class Agent(BaseModel):
    name: str
    note: str = ""


router = APIRouter(prefix="/api/v1/agents")


@router.get("")
def list_agents(page: int = 1) -> list[Agent]:
    return []


@router.get("/{agent_id}")
def get_agent(agent_id: int) -> Agent:
    return Agent(name="a")


app = FastAPI()
app.include_router(router)


@app.get("/health")
def health() -> dict[str, str]:
    return {}


@app.get("/internal", include_in_schema=False)
def internal() -> None: ...
"""


def run(*words: str, github: bool = False) -> Result:
    variables = {"GITHUB_ACTIONS": "true" if github else None}
    return CliRunner(env=variables).invoke(contract, list(words))


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "main.py").write_text(MAIN)
    return tmp_path


@pytest.fixture(scope="module")
def once_accepted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("accepted")
    (folder / "main.py").write_text(MAIN)
    result = run("accept", str(folder))
    assert result.exit_code == 0, result.output
    assert "nothing breaks" in result.stdout
    return folder


@pytest.fixture
def accepted(once_accepted: Path, tmp_path: Path) -> Path:
    """Return a project whose present API is its contract."""
    shutil.copytree(once_accepted, tmp_path, dirs_exist_ok=True)
    return tmp_path


def change(project: Path, old: str, new: str) -> None:
    text = (project / "main.py").read_text()
    assert old in text
    (project / "main.py").write_text(text.replace(old, new))


def test_without_a_contract_the_fix_is_said(project):
    result = run("check", str(project))

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert "fix: run `newel contract accept`" in result.stderr


def test_the_first_acceptance_writes_a_document_a_version(accepted):
    folder = accepted / "contract"

    assert sorted(path.name for path in folder.iterdir()) == ["openapi.json", "openapi.v1.json"]
    first = json.loads((folder / "openapi.v1.json").read_text())
    assert list(first["paths"]) == ["/api/v1/agents", "/api/v1/agents/{agent_id}"]
    assert run("check", str(accepted)).exit_code == 0


def test_a_safe_change_passes_and_is_shown(accepted):
    change(accepted, 'note: str = ""', 'note: str = ""\n    more: int = 0')
    result = run("check", str(accepted))

    assert result.exit_code == 0
    assert "safe      Agent.more: `more` is new" in result.stdout
    assert "0 breaks, 1 safe change" in result.stdout


def test_a_document_that_did_not_change_takes_one_line_and_counts_nothing(accepted):
    change(accepted, "name: str", "title: str")
    change(accepted, 'Agent(name="a")', 'Agent(title="a")')
    said = run("check", str(accepted)).stdout.splitlines()

    assert said[:2] == ["contract/openapi.json: unchanged", "contract/openapi.v1.json"]
    assert not any(line.startswith("0 breaks") for line in said)


def test_a_break_fails_until_it_is_agreed_on_and_then_accepted(accepted):
    change(accepted, "name: str", "title: str")
    change(accepted, 'Agent(name="a")', 'Agent(title="a")')
    agreement = accepted / "contract/acknowledged.toml"

    failed = run("check", str(accepted))
    assert failed.exit_code == 1
    assert "BREAKS    Agent.name: `name` is gone; renamed to `title`?" in failed.stdout

    refused = run("accept", str(accepted))
    assert refused.exit_code == 2
    assert "1 break that nobody agreed on" in refused.stderr
    assert not agreement.exists()

    # What `check` prints is what the file needs.
    said = failed.stdout.splitlines()
    start = next(n for n, line in enumerate(said) if line.strip() == "[[change]]")
    agreement.write_text("\n".join(said[start : start + 4]).replace('"..."', '"with the web, #51"'))
    passed = run("check", str(accepted))
    assert passed.exit_code == 0, passed.stdout
    assert "agreed    Agent.name" in passed.stdout
    assert "with the web, #51" in passed.stdout

    taken = run("accept", str(accepted))
    assert taken.exit_code == 0
    assert "1 break accepted" in taken.stdout
    assert "[[accepted]]" in agreement.read_text()
    assert "with the web, #51" in agreement.read_text()
    again = run("check", str(accepted)).stdout.splitlines()
    assert [line.rpartition(": ")[2] for line in again] == ["unchanged", "unchanged"]


def test_a_reason_accepts_at_once(accepted):
    change(accepted, "page: int = 1", "page: int")
    result = run("accept", str(accepted), "--reason", "nobody calls it yet")

    assert result.exit_code == 0
    assert "nobody calls it yet" in (accepted / "contract/acknowledged.toml").read_text()
    assert run("check", str(accepted)).exit_code == 0


def test_an_agreement_on_what_did_not_happen_is_stale(accepted):
    (accepted / "contract/acknowledged.toml").write_text(
        '[[change]]\nrule = "webhook-removed"\nplace = "webhook x"\nreason = "y"\n'
    )
    result = run("check", str(accepted))

    assert result.exit_code == 0
    assert "webhook x does not change; remove the entry" in result.stdout


def test_a_break_in_a_new_version_only_is_none(accepted):
    route = '@v2.get("")\ndef new() -> list[str]: ...\n\n\napp.include_router(v2)\n\n\n'
    change(accepted, "app = FastAPI()", 'app = FastAPI()\nv2 = APIRouter(prefix="/api/v2/agents")')
    change(accepted, '@app.get("/health")', f'{route}@app.get("/health")')
    result = run("check", str(accepted))

    assert result.exit_code == 0
    assert "v2 is new: `newel contract accept`" in result.stdout


def test_a_version_that_is_gone_breaks_all_its_clients(accepted):
    change(accepted, "/api/v1/agents", "/api/v2/agents")
    result = run("check", str(accepted), "--json")

    assert result.exit_code == 1
    first = next(v for v in json.loads(result.stdout)["versions"] if v["version"] == "v1")
    assert {c["rule"] for c in first["changes"]} == {"api-path-removed-without-deprecation"}


def test_a_hidden_route_that_is_gone_breaks(accepted):
    change(accepted, '"/internal", include', '"/private", include')
    result = run("check", str(accepted))

    assert result.exit_code == 1
    assert "GET /internal: the route is gone; no document ever showed it" in result.stdout


def test_what_an_answer_leaves_out_breaks(accepted):
    change(accepted, '@router.get("")', '@router.get("", response_model_exclude_unset=True)')
    result = run("check", str(accepted))

    assert result.exit_code == 1
    assert "response_model_exclude_unset went from nothing to True" in result.stdout


def test_machines_and_github_get_their_own_words(accepted):
    change(accepted, "name: str", "name: int")
    change(accepted, 'Agent(name="a")', "Agent(name=1)")
    result = run("check", str(accepted), "--json", github=True)

    assert result.exit_code == 1
    said = json.loads(result.stdout)
    assert said["ok"] is False
    broken = [c for v in said["versions"] for c in v["changes"] if c["breaking"]]
    assert {c["subject"] for c in broken} == {"Agent.name"}
    assert result.stderr.startswith("::error title=response-property-type-changed::Agent.name:")

    silent = run("check", str(accepted))
    assert "::error" not in silent.output


def test_an_application_that_cannot_be_imported_is_two_lines(accepted):
    change(accepted, "app = FastAPI()", 'raise RuntimeError("no database")')
    result = run("check", str(accepted), "--app", "main:app", "--json")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert "no database" in result.stderr
    assert json.loads(result.stdout)["ok"] is False


def write(path: Path, **fields: str) -> Path:
    properties = {name: {"type": kind} for name, kind in fields.items()}
    schema = {"type": "object", "required": [*fields], "properties": properties}
    answer = {"description": "", "content": {"application/json": {"schema": schema}}}
    paths = {"/a": {"get": {"responses": {"200": answer}}}}
    path.write_text(json.dumps({"openapi": "3.1.0", "paths": paths}))
    return path


def test_two_files_are_compared(tmp_path: Path):
    old = write(tmp_path / "old.json", id="integer", name="string")
    new = write(tmp_path / "new.json", id="integer", title="string")

    broken = run("diff", str(old), str(new))
    same = run("diff", str(old), str(old))
    machine = run("diff", str(old), str(new), "--json")

    assert broken.exit_code == 1
    assert "`name` is gone; renamed to `title`?" in broken.stdout
    assert broken.stdout.splitlines()[-1] == "1 break, 1 safe change"
    assert (same.exit_code, same.stdout) == (0, "0 breaks, 0 safe changes\n")
    assert machine.exit_code == 1
    assert json.loads(machine.stdout)["changes"][0]["renamed_to"] == "title"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("{", "neither JSON nor YAML"),
        ("a: [", "neither JSON nor YAML"),
        ('{"swagger": "2.0"}', "no OpenAPI 3 document (no `openapi: 3.x`)"),
        ("openapi: 2.0.0", "no OpenAPI 3 document (version 2.0.0)"),
        ("just words", "no OpenAPI 3 document"),
    ],
)
def test_a_file_that_is_no_document_is_two_lines(tmp_path: Path, text, message):
    path = tmp_path / "openapi.txt"
    if text is not None:
        path.write_text(text)
    result = run("diff", str(path), str(path))

    assert result.exit_code == 2
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 2


def test_the_command_is_part_of_newel(tmp_path: Path):
    old = write(tmp_path / "old.json", id="integer")
    newel = Path(sys.executable).with_name("newel")
    done = subprocess.run(
        [newel, "contract", "diff", old, old],
        check=False,
        capture_output=True,
        text=True,
        timeout=50,
    )

    assert (done.returncode, done.stdout) == (0, "0 breaks, 0 safe changes\n"), done.stderr
