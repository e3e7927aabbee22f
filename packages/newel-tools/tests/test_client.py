"""``newel client``: what is written, when it is stale, and that a compiler accepts it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from newel_tools.client import (
    OPENAPI_PYTHON_CLIENT,
    OPENAPI_TYPESCRIPT,
    TYPESCRIPT,
    client,
    staleness_of,
    write_python,
    write_typescript,
)
from newel_tools.openapi.document import DocumentError

MAIN = """
from typing import Literal
from uuid import UUID

from fastapi import FastAPI
from pydantic import BaseModel

app = FastAPI()


class Agent(BaseModel):
    id: UUID
    name: str
    kind: Literal["chat", "search"] = "chat"
    parent: "Agent | None" = None


@app.get("/agents")
def list_agents(page: int = 1) -> list[Agent]: ...


@app.post("/agents", status_code=201)
def create_agent(agent: Agent) -> Agent: ...
"""
AGENT = {
    "type": "object",
    "required": ["name"],
    "properties": {"name": {"type": "string"}, "kind": {"type": "string", "enum": ["a", "b"]}},
}
DOCUMENT: dict[str, Any] = {
    "openapi": "3.1.0",
    "info": {"title": "Agents", "version": "1"},
    "paths": {
        "/agents": {
            "get": {
                "operationId": "list_agents",
                "responses": {
                    "200": {
                        "description": "All",
                        "content": {
                            "application/json": {
                                "schema": {
                                    "type": "array",
                                    "items": {"$ref": "#/components/schemas/Agent"},
                                }
                            }
                        },
                    }
                },
            }
        }
    },
    "components": {"schemas": {"Agent": AGENT}},
}
OTHER = {**DOCUMENT, "info": {"title": "Agents", "version": "2"}}

# Stands for the real generator: writes its arguments where the real one writes types.
GENERATOR = f"""#!{sys.executable}
import json, os, pathlib, sys
if os.environ.get("FAILS"):
    sys.exit("Error: the document is beyond me")
words = sys.argv[1:]
out = pathlib.Path(words[words.index("--output" if "--output" in words else "--output-path") + 1])
said = "// " + json.dumps(words) + "\\n"
if out.suffix:
    out.write_text(said)
else:
    (out / "models").mkdir(parents=True)
    (out / "__init__.py").write_text(said.replace("//", "#"))
    (out / "models/agent.py").write_text("name: str\\n")
"""


@pytest.fixture
def generators(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put stand-ins for npx and uvx on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("npx", "uvx"):
        (folder / name).write_text(GENERATOR)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    return folder


@pytest.mark.usefixtures("generators")
def test_the_generator_of_types_is_pinned_and_not_installed(tmp_path: Path):
    out = tmp_path / "web/src/api.d.ts"

    write_typescript(DOCUMENT, out)

    head, words = out.read_text().splitlines()
    assert head.startswith("// newel client: openapi ")
    for wanted in (OPENAPI_TYPESCRIPT, TYPESCRIPT, "--yes"):
        assert wanted in json.loads(words.removeprefix("// "))
    assert sorted(path.name for path in (tmp_path / "web").rglob("*")) == ["api.d.ts", "src"]


@pytest.mark.usefixtures("generators")
def test_types_are_stale_when_the_api_changed_or_somebody_edited_them(tmp_path: Path):
    out = tmp_path / "api.d.ts"
    missing = staleness_of(out, DOCUMENT)
    assert str(missing) == f"TS001 {out}: it was never written"

    write_typescript(DOCUMENT, out)
    assert staleness_of(out, DOCUMENT) is None
    assert staleness_of(out, json.loads(json.dumps(DOCUMENT, sort_keys=True))) is None
    changed = staleness_of(out, OTHER)
    assert changed is not None
    assert "the API has changed" in changed.reason

    out.write_text(out.read_text() + "export type Mine = 1;\n")
    edited = staleness_of(out, DOCUMENT)
    assert edited is not None
    assert "edited by hand" in edited.reason

    out.write_text("export type Mine = 1;\n")
    foreign = staleness_of(out, DOCUMENT)
    assert foreign is not None
    assert "did not write it" in foreign.reason


@pytest.mark.usefixtures("generators")
def test_a_package_is_replaced_only_where_it_was_written_before(tmp_path: Path):
    out = tmp_path / "clients/agents_client"
    write_python(DOCUMENT, out)
    assert OPENAPI_PYTHON_CLIENT in (out / "__init__.py").read_text()
    assert staleness_of(out, DOCUMENT) is None

    (out / "models/agent.py").write_text("name: int\n")
    edited = staleness_of(out, DOCUMENT)
    assert edited is not None
    assert "edited by hand" in edited.reason

    write_python(OTHER, out)
    assert staleness_of(out, OTHER) is None
    assert staleness_of(out, DOCUMENT) is not None

    (out / ".newel-client.json").unlink()
    foreign = staleness_of(out, OTHER)
    assert foreign is not None
    assert "did not write it" in foreign.reason
    with pytest.raises(DocumentError, match="did not write it"):
        write_python(OTHER, out)
    assert (out / "models/agent.py").exists()


@pytest.mark.usefixtures("generators")
def test_a_generator_that_fails_leaves_the_client_as_it_was(tmp_path: Path, monkeypatch):
    out = tmp_path / "api.d.ts"
    write_typescript(DOCUMENT, out)
    before = out.read_text()
    monkeypatch.setenv("FAILS", "1")

    with pytest.raises(DocumentError, match="said: Error: the document is beyond me"):
        write_typescript(OTHER, out)

    assert out.read_text() == before


def test_without_the_generators_programs_the_fix_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))

    with pytest.raises(DocumentError, match="npx is not installed"):
        write_typescript(DOCUMENT, tmp_path / "api.d.ts")
    with pytest.raises(DocumentError, match="uv is not installed"):
        write_python(DOCUMENT, tmp_path / "client")


def test_uv_beside_the_interpreter_is_used(tmp_path: Path, generators: Path, monkeypatch):
    (generators / "uvx").rename(generators / "uv")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(generators / "python"))

    write_python(DOCUMENT, tmp_path / "client")

    assert '["tool", "run", "--from"' in (tmp_path / "client/__init__.py").read_text()


def test_a_generator_that_hangs_is_ended(tmp_path: Path, generators: Path, monkeypatch):
    (generators / "npx").write_text(
        f"#!{sys.executable}\nimport threading\nthreading.Event().wait()\n"
    )
    monkeypatch.setattr("newel_tools.client._SECONDS", 0.5)

    with pytest.raises(DocumentError, match="npx was not done within"):
        write_typescript(DOCUMENT, tmp_path / "api.d.ts")


def run(*words: object) -> Result:
    return CliRunner().invoke(client, [str(word) for word in words])


@pytest.mark.usefixtures("generators")
@pytest.mark.parametrize(("kind", "name"), [("ts", "api.d.ts"), ("py", "agents_client")])
def test_the_command_writes_checks_and_says_how_to_mend(tmp_path: Path, kind, name):
    project, out = tmp_path / "service", tmp_path / name
    project.mkdir()
    (project / "main.py").write_text(MAIN)

    never = run(kind, out, project, "--check")
    assert never.exit_code == 1
    assert never.stderr == f"TS001 {out}: it was never written\n  fix: newel client {kind} {out}\n"

    assert run(kind, out, project).exit_code == 0
    fresh = run(kind, out, project, "--check")
    assert (fresh.exit_code, fresh.stdout) == (0, "the client is that of the present API\n")


def reachable(*command: str) -> None:
    """Skip, and say so, where a program or its registry is out of reach."""
    program = shutil.which(command[0])
    if program is None:
        pytest.skip(f"{command[0]} is not installed")
    try:
        done = subprocess.run([program, *command[1:]], capture_output=True, check=False, timeout=60)
    except subprocess.TimeoutExpired:
        pytest.skip(f"the registry of {command[0]} does not answer")
    if done.returncode:
        pytest.skip(f"the registry of {command[0]} cannot be reached")


USE = """
import type { components, paths } from "./api";

type Agent = components["schemas"]["Agent"];
type Answer = paths["/agents"]["get"]["responses"]["200"]["content"]["application/json"];

export const names = (agents: Answer): string[] => agents.map((agent: Agent) => agent.name);
"""
WRONG = USE + "export const wrong: Agent = { title: 1 };\n"


@pytest.mark.registry
@pytest.mark.timeout(240)
def test_the_types_compile_strictly_and_refuse_what_the_api_refuses(tmp_path: Path):
    reachable("npm", "view", TYPESCRIPT, "version")
    write_typescript(DOCUMENT, tmp_path / "api.d.ts")
    (tmp_path / "use.ts").write_text(USE)
    (tmp_path / "wrong.ts").write_text(WRONG)

    def compile(name: str) -> subprocess.CompletedProcess[str]:
        options = ["--strict", "--noEmit", "--module", "esnext", "--moduleResolution", "bundler"]
        command = ["npx", "--yes", "--package", TYPESCRIPT, "tsc", *options, name]
        return subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120
        )

    right, wrong = compile("use.ts"), compile("wrong.ts")

    assert (right.returncode, right.stdout) == (0, "")
    assert wrong.returncode != 0
    assert "title" in wrong.stdout


@pytest.mark.registry
@pytest.mark.timeout(240)
def test_the_python_client_is_a_package(tmp_path: Path):
    uv = str(Path(sys.executable).with_name("uv"))
    reachable(uv, "tool", "run", "--from", OPENAPI_PYTHON_CLIENT, "openapi-python-client", "--help")
    out = tmp_path / "agents_client"

    write_python(DOCUMENT, out)

    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    assert {"client.py", "models/agent.py", "api/default/list_agents.py"} <= names
    assert not any("cache" in name for name in names)
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path / "compiled")}
    command = [sys.executable, "-m", "compileall", "-q", str(out)]
    assert subprocess.run(command, check=False, env=environment).returncode == 0
