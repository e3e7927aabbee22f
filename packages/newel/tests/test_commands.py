"""`newel migrate` and `newel routes`, run on a service."""

from __future__ import annotations

import json
import re

import pytest
from sample_runs import Service, error_lines

# ---------------------------------------------------------------- migrate


def test_migrate_up_down_check_and_new(service: Service):
    assert service.run("migrate", "up").stdout == "nothing to apply\n"
    assert service.run("migrate", "check").stdout == "models and migrations agree\n"
    done = service.run("migrate", "new", "nothing")
    assert done.stdout == "models and migrations agree: nothing to write\n"
    assert service.run("migrate", "down").stdout == "took back 0001\n"
    assert service.run("migrate", "down", "base").stdout == "nothing to take back\n"
    assert service.run("migrate", "up", "0001").stdout == "applied 0001\n"


def test_migrate_stamp_notes_where_the_database_is(service: Service):
    said = "the database counts as being at {}; `newel migrate check` compares it\n"
    assert service.run("migrate", "stamp", "base").stdout == said.format("base")
    assert "already exists" in service.run("migrate", "up").stderr
    assert service.run("migrate", "stamp", "head").stdout == said.format("0001")
    assert service.run("migrate", "check").stdout == "models and migrations agree\n"


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

    notes.write_text(
        notes.read_text().replace("    text: Mapped", "    colour: Mapped[str]\n    text: Mapped")
    )
    done = service.run("migrate", "new", "Add colours")
    assert done.stdout == "migrations/0003_add_colours.py\n"
    assert done.stderr == (
        "note:  notes.colour needs a server_default if rows exist: in the model and in this file\n"
    )


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
