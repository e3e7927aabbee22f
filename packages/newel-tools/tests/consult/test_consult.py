"""``newel routes``, ``newel schema`` and ``newel auth``: the questions of who writes a client."""

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import typer
from rich.console import Console
from typer.testing import CliRunner, Result

from newel_tools.application import document_of, read_application
from newel_tools.consult.commands import auth, auth_of, routes, schema, schema_of
from newel_tools.consult.login import Login
from newel_tools.consult.operation import find_operation
from newel_tools.consult.pages import show_login, show_operation
from newel_tools.consult.routes import Row, routes_of, show_routes
from newel_tools.facts.facts import Facts
from newel_tools.facts.project import ProjectError
from newel_tools.openapi.document import Document, Operation


def shown(show: Callable[..., None], *what: Any, colour: bool = False) -> str:
    console = Console(width=120, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as capture:
        show(console, *what)
    return capture.get()


def run(command: Callable[..., None], *words: str) -> Result:
    program = typer.Typer()
    program.command()(command)
    return CliRunner().invoke(program, list(words))


# -- routes -------------------------------------------------------------------------------------


def test_every_route_is_listed_with_what_it_asks_for(facts: Facts):
    rows = {(row.method, row.path): row for row in routes_of(facts)}

    assert rows["GET", "/agents"].access == "get_current_user"
    assert rows["POST", "/auth/login"].access == "open"
    assert rows["POST", "/agents/{agent_id}/photo"].access == "APIKeyHeader"
    assert rows["GET", "/other"].access == "HTTPBasic, HTTPBearer"
    assert rows["WS", "/ws"].access == "open"
    assert rows["GET", "/docs"].access == "-"
    assert rows["POST", "/auth/refresh"].deprecated
    assert not rows["GET", "/internal"].in_document
    assert (rows["GET", "/agents"].place or "").startswith("main.py:")
    assert [key[1] for key in rows] == sorted(key[1] for key in rows)


GUARDED = """
from fastapi import Depends, FastAPI
from newel.auth import public, require_role, requires


class RoleChecker:
    def __init__(self, allowed_roles, key):
        self.allowed_roles, self.key = allowed_roles, key

    def __call__(self) -> None: ...


app = FastAPI()


@app.post("/login", dependencies=[public()])
def login() -> None: ...


@app.post("/agents", dependencies=[requires("agents:write"), require_role("admin")])
def create() -> None: ...


@app.get("/me", dependencies=[requires()])
def me() -> None: ...


@app.get("/staff", dependencies=[Depends(RoleChecker({"staff", "admin"}, "hunter2"))])
def staff() -> None: ...
"""


def test_a_guard_is_known_by_the_permissions_it_was_made_with_and_by_no_other_value(
    tmp_path: Path,
):
    (tmp_path / "main.py").write_text(GUARDED)
    facts = read_application(tmp_path)

    assert {row.path: row.access for row in routes_of(facts) if row.access != "-"} == {
        "/login": "public",
        "/agents": "agents:write, role:admin",
        "/me": "logged in",
        "/staff": "RoleChecker(admin, staff)",
    }
    assert "hunter2" not in facts.model_dump_json()


def test_routes_are_a_table_with_notes(facts: Facts):
    lines = shown(show_routes, routes_of(facts)).splitlines()

    assert lines[0].split() == ["METHOD", "PATH", "ACCESS", "NAME"]
    assert (
        next(line for line in lines if "/internal" in line).rstrip().endswith("internal (hidden)")
    )
    assert next(line for line in lines if "/refresh" in line).rstrip().endswith("(deprecated)")
    assert "\x1b[33mopen" in shown(show_routes, routes_of(facts), colour=True)


def test_a_path_stays_in_one_piece_on_a_narrow_terminal():
    path = "/organisations/{organisation_id}/departments/{department_id}/members/{member_id}"
    row = Row(
        method="GET",
        path=path,
        access="current_user, requires_role(administrator)",
        name="read_member_of_a_department",
        summary=None,
        in_document=True,
        deprecated=False,
        place=None,
    )
    text = StringIO()

    show_routes(Console(file=text, width=40), [row])

    assert len(text.getvalue().splitlines()) == 2
    assert path in text.getvalue()


def test_machines_get_the_keys_of_the_kernel_and_more(project: Path):
    result = run(routes, str(project), "--json")

    first = json.loads(result.stdout)[0]
    assert list(first)[:4] == ["method", "path", "access", "name"]
    assert first["path"] == "/agents"


def test_people_get_the_table(project: Path):
    result = run(routes, str(project))

    assert result.exit_code == 0
    assert "list_agents" in result.stdout


def test_no_project_is_two_lines(tmp_path: Path):
    result = run(routes, str(tmp_path), "--json")

    assert result.exit_code == 2
    assert len(result.stderr.splitlines()) == 2
    assert json.loads(result.stdout)["fix"]


# -- schema -------------------------------------------------------------------------------------


def test_an_operation_is_what_a_client_has_to_know(facts: Facts):
    found = schema_of(facts, "post", "/agents")

    assert (found.method, found.path, found.summary) == ("POST", "/agents", "Create an agent")
    assert found.needs == "get_current_user"
    assert {(one.name, one.type, one.required) for one in found.parameters} == {
        ("query dry", "boolean", True),
        ("header team", "string", True),
    }
    assert found.request is not None
    assert found.request.model == "AgentCreate"
    fields = {one.name: one for one in found.request.fields}
    assert fields["name"].required
    assert fields["name"].notes == "min length 1, max length 64"
    assert fields["kind"].notes == '"chat" | "search", default "chat"'
    assert fields["weight"].type == "number or null"
    assert fields["weight"].notes == "> 0, < 9"
    assert fields["tags"].type == "list of string"
    assert fields["mode"].notes == "matches ^[a-z]+$"
    assert set(found.answers) == {"201", "409", "422"}
    assert found.answers["409"] == ("Twice", None)


def test_the_example_is_accepted_by_the_schema(facts: Facts):
    found = schema_of(facts, "POST", "/agents")

    assert found.request is not None
    assert found.request.example == {
        "name": "text",
        "kind": "chat",
        "weight": 0.5,
        "tags": ["text"],
        "mode": "fast",
    }


def test_a_recursive_answer_ends(facts: Facts):
    said, content = schema_of(facts, "GET", "/agents/{agent_id}").answers["200"]

    assert content is not None
    assert said == "Successful Response"
    assert [one.name for one in content.fields if one.name.startswith("parent")] == ["parent"]
    assert "parent" not in content.example
    assert content.schema["$ref"] == "#/$defs/AgentRead"
    assert "#/components" not in json.dumps(content.schema)


def test_a_list_shows_the_fields_of_its_items(facts: Facts):
    _, content = schema_of(facts, "GET", "/agents").answers["200"]

    assert content is not None
    assert "[].name" in [one.name for one in content.fields]
    assert content.example[0]["kind"] == "chat"


def test_the_curl_line_is_one_a_shell_understands(facts: Facts):
    created = shlex.split(schema_of(facts, "POST", "/agents").curl)
    photo = shlex.split(schema_of(facts, "POST", "/agents/{agent_id}/photo").curl)
    login = shlex.split(schema_of(facts, "POST", "/auth/login").curl)

    assert created[:4] == ["curl", "-X", "POST", "http://127.0.0.1:8000/agents?dry=true"]
    assert "Authorization: Bearer $TOKEN" in created
    assert "team: text" in created
    assert json.loads(created[-1])["mode"] == "fast"
    assert photo[-2:] == ["-F", "file=@file"]
    assert "{" not in photo[3]
    assert "--data-urlencode" in login


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("/agents/{agent_id}", "/agents/{agent_id}"),
        ("/agents/{id}", "/agents/{agent_id}"),
        ("/agents/42", "/agents/{agent_id}"),
        ("agents/42/", "/agents/{agent_id}"),
        ("/agents?limit=3", "/agents"),
        ("/me", "/auth/me"),
    ],
)
def test_an_operation_is_found_however_it_is_written(facts: Facts, path, found):
    operation = find_operation(Document(document_of(facts)), "get", path)

    assert isinstance(operation, Operation)
    assert operation.path == found


def test_an_operation_that_is_none_has_a_hint(facts: Facts):
    with pytest.raises(ProjectError) as near:
        schema_of(facts, "DELETE", "/agents")
    with pytest.raises(ProjectError) as far:
        schema_of(facts, "GET", "/qqqqqqqqqqqqqqqqqqqqqqq")

    assert "GET /agents" in near.value.fix
    assert far.value.fix == "`newel routes` lists them"


def test_an_operation_is_a_page(facts: Facts):
    page = shown(show_operation, schema_of(facts, "POST", "/agents"))

    for line in (
        "POST /agents",
        "callers: get_current_user",
        "body, application/json (AgentCreate)",
    ):
        assert line in page
    assert '"mode": "fast"' in page
    assert "201 Successful Response (AgentRead)" in page
    assert page.rstrip().splitlines()[-1].startswith("curl -X POST")
    assert "\x1b[" in shown(show_operation, schema_of(facts, "POST", "/agents"), colour=True)


def test_the_command_for_people_and_for_machines(project: Path):
    people = run(schema, "GET", "/agents/7", str(project))
    machines = run(schema, "GET", "/agents/7", str(project), "--json")

    assert people.stdout.startswith("GET /agents/{agent_id}")
    said = json.loads(machines.stdout)
    assert said["answers"]["200"]["content"]["example"]["kind"] == "chat"
    assert said["request"] is None


# -- auth ---------------------------------------------------------------------------------------


def test_the_way_in_is_explained(facts: Facts):
    login = auth_of(facts)

    assert {scheme.name: scheme.send for scheme in login.schemes} == {
        "OAuth2PasswordBearer": "Authorization: Bearer <access token>",
        "APIKeyHeader": "the header X-Key: <key>",
        "HTTPBearer": "Authorization: Bearer <credentials>",
        "HTTPBasic": "Authorization: Basic <base64 of user:password>",
    }
    assert login.steps == {
        "register": "POST /auth/register",
        "log in": "POST /auth/login",
        "refresh": "POST /auth/refresh",
        "who am I": "GET /auth/me",
    }
    assert login.needs["get_current_user"] == 4
    assert "GET /internal" in login.open_routes
    assert "WS /ws" in login.open_routes


def test_a_login_that_no_scheme_names_is_guessed():
    content = {
        "openapi": "3.1.0",
        "paths": {
            "/token/old": {"post": {}},
            "/api/token": {"post": {}, "get": {}},
            "/api/v1/token": {"post": {}},
        },
        "components": {"securitySchemes": {"x": {"type": "openIdConnect", "description": "Ours"}}},
    }
    facts = Facts.model_validate({"application": {}, "openapi": content})

    login = auth_of(facts)

    assert login.steps == {"log in": "POST /api/token"}
    assert login.schemes[0].send == "Authorization: Bearer <token>"
    assert "Ours" in shown(show_login, login)


def test_an_application_without_any_login_says_so():
    page = shown(show_login, Login(schemes=(), steps={}, needs={}, open_routes=()))

    assert page.startswith("The API's document names no way to log in.")


def test_the_explanation_for_people_and_for_machines(project: Path):
    people = run(auth, str(project))
    machines = run(auth, str(project), "--json")

    assert "send  the header X-Key: <key>" in people.stdout
    assert "log in    POST /auth/login" in people.stdout
    assert "anyone may call" in people.stdout
    assert json.loads(machines.stdout)["steps"]["refresh"] == "POST /auth/refresh"


def test_an_application_without_a_document_is_refused():
    failed = {"stage": "openapi", "class": "ValueError", "message": "two\nlines"}
    facts = Facts.model_validate({"application": {}, "failures": [failed]})

    with pytest.raises(ProjectError, match="no OpenAPI document: openapi: ValueError: two lines"):
        document_of(facts)


def test_the_commands_are_part_of_newel(project: Path):
    newel = Path(sys.executable).with_name("newel")
    done = subprocess.run(
        [newel, "routes", project], check=False, capture_output=True, text=True, timeout=50
    )

    assert done.returncode == 0, done.stderr
    assert "get_current_user" in done.stdout
