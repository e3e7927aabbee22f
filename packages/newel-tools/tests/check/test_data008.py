"""DATA008: what is dangerous, in which migrations, and what is said where nobody looked."""

import io
import subprocess
from pathlib import Path

import pytest
from rich.console import Console

from newel_tools.check import squawk
from newel_tools.check.rule import files_of, load_rules
from newel_tools.check.text import show_report
from newel_tools.check.unsafe_migrations import unsafe
from newel_tools.facts import migrations
from newel_tools.facts.migrations import Statement, load_migrations, migration_settings
from newel_tools.facts.project import find_project

RULE = load_rules()["DATA008"]
PROJECT = files_of(
    RULE.good.replace(
        "\ndef upgrade() -> None:\n    op.add_column", "\ndef none() -> None:\n    op.add_column"
    )
)
FIRST, SECOND = (name for name in PROJECT if name.startswith("migrations/versions/"))
LOCKS = 'op.create_index("ix_users_email", "users", ["email"])'


def with_second(body: str, **more: str) -> dict[str, str]:
    """Return a project whose second migration is this one."""
    head = PROJECT[SECOND].partition("\n\n\ndef ")[0]
    return {**PROJECT, SECOND: f"{head}\n\n\ndef upgrade() -> None:\n    {body}\n", **more}


def revision(name: str, below: str, body: str) -> str:
    head = "import sqlalchemy as sa\nfrom alembic import op\n\n"
    ids = f'revision = "{name}"\ndown_revision = {below}\n\n\n'
    return f"{head}{ids}def upgrade() -> None:\n    {body}\n"


def git(folder: Path, *words: str) -> None:
    named = ["-c", "user.name=Ann", "-c", "user.email=ann@example.com"]
    subprocess.run(["git", *named, *words], cwd=folder, check=True, capture_output=True)


def commit(folder: Path, files: dict[str, str]) -> None:
    """Commit files to `main`, and leave it for another branch."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    git(folder, "init", "-q", "-b", "main")
    git(folder, "add", ".")
    git(folder, "commit", "-q", "-m", "Begin")
    git(folder, "checkout", "-q", "-b", "feature")


def test_says_what_happens_how_it_is_mended_and_what_else_there_is(reviewed):
    more = "op.create_index('ix_users_age2', 'users', ['age'])"
    report = reviewed(with_second(f"{LOCKS}\n    {more}"), rules=[RULE])

    (found,) = report.findings
    assert (found.severity, found.certainty) == ("change", "proved")
    assert "while nobody may write" in found.what
    assert "`CREATE INDEX ix_users_email ON users (email)`" in found.what
    assert "postgresql_concurrently=True" in found.fix
    assert found.also == (f"{SECOND}:{found.line + 1} CREATE INDEX ix_users_age2 ON users (age)",)


def test_each_kind_is_shown_with_its_own_fix(reviewed):
    added = 'op.add_column("users", sa.Column("name", sa.Text(), nullable=False))'
    console = Console(file=io.StringIO(), width=300)

    show_report(console, reviewed(with_second(f"{added}\n    {LOCKS}"), rules=[RULE]))

    shown = console.file.getvalue()
    assert shown.count("server_default") == 1
    assert shown.count("postgresql_concurrently=True") == 1


def test_it_needs_no_import_of_the_application(reviewed):
    main = PROJECT["main.py"].replace("engine = ", "import not_installed\n\nengine = ")
    settings = "[alembic]\nscript_location = migrations\nsqlalchemy.url = postgresql://\n"
    files = with_second(LOCKS, **{"main.py": main, "alembic.ini": settings})

    report = reviewed(files, rules=[RULE])

    assert not report.facts.is_imported
    assert [finding.certainty for finding in report.findings] == ["proved"]


def test_a_migration_that_hangs_is_ended(reviewed, monkeypatch):
    monkeypatch.setattr(migrations, "_SECONDS", 2.0)

    report = reviewed(with_second("while True:\n        pass"), rules=[RULE])

    assert report.findings == ()
    assert "it was not done within 2 s" in report.notes[0]


def test_only_the_newest_counts_where_no_branch_is_known(reviewed):
    third = revision("0003", '"0002"', "op.execute('SELECT 1')")
    report = reviewed(with_second(LOCKS, **{"migrations/versions/0003.py": third}), rules=[RULE])

    assert report.findings == ()
    assert report.notes[0] == (
        "DATA008 did not look: 2 older migrations are left out: they have run, or soon will have"
    )


def test_what_the_default_branch_lacks_is_new_and_its_newest_a_note(reviewed, tmp_path):
    commit(tmp_path, with_second(LOCKS))
    ours = {
        "migrations/versions/0003.py": revision("0003", '"0002"', LOCKS),
        "migrations/versions/0004.py": revision("0004", '"0003"', "pass"),
    }

    report = reviewed(with_second(LOCKS), rules=[RULE])
    assert [(found.severity, found.file) for found in report.findings] == [("note", SECOND)]
    report = reviewed(with_second(LOCKS, **ours), rules=[RULE])
    assert [(found.severity, found.file) for found in report.findings] == [
        ("change", "migrations/versions/0003.py")
    ]


def test_a_large_repository_does_not_become_an_argument(reviewed, tmp_path):
    names = {f"data/{'x' * 150}{number}.txt": "" for number in range(1_000)}  # 128 KiB is too long
    commit(tmp_path, {**PROJECT, **names})

    third = {"migrations/versions/0003.py": revision("0003", '"0002"', LOCKS)}
    assert len(reviewed({**PROJECT, **third}, rules=[RULE]).findings) == 1


def test_a_table_made_by_another_new_migration_is_empty(reviewed, tmp_path):
    commit(tmp_path, PROJECT)
    made = 'op.create_table("pets", sa.Column("id", sa.Integer()))'
    ours = {
        "migrations/versions/0003.py": revision("0003", '"0002"', made),
        "migrations/versions/0004.py": revision(
            "0004", '"0003"', 'op.create_index("ix_pets", "pets", ["id"])'
        ),
    }

    assert reviewed({**PROJECT, **ours}, rules=[RULE]).findings == ()


@pytest.mark.parametrize(
    ("before", "severities"),
    [("class User:\n    __tablename__ = 'users'\n    age: int\n", ["change"]), ("", [])],
    ids=["named", "no longer named"],
)
def test_a_column_is_dropped_when_no_running_code_names_it(reviewed, tmp_path, before, severities):
    commit(tmp_path, {**PROJECT, "models.py": before})
    third = revision("0003", '"0002"', 'op.drop_column("users", "age")')
    ours = {"models.py": "", "migrations/versions/0003.py": third}

    report = reviewed({**PROJECT, **ours}, rules=[RULE])

    assert [found.severity for found in report.findings] == severities


def test_a_drop_that_is_published_is_past(reviewed, tmp_path):
    files = with_second('op.drop_column("users", "age")', **{"other.py": "class Users: age = 1"})
    commit(tmp_path, files)

    assert reviewed(files, rules=[RULE]).findings == ()


def test_a_drop_is_a_note_where_nobody_can_tell_what_runs(reviewed):
    report = reviewed(with_second('op.drop_column("users", "age")'), rules=[RULE])

    assert [found.severity for found in report.findings] == ["note"]


def test_rows_that_a_migration_asks_for_are_none(reviewed):
    body = 'ids = op.get_bind().execute(sa.text("SELECT id FROM users")).fetchall()\n    '
    report = reviewed(with_second(f"{body}assert ids == []\n    {LOCKS}"), rules=[RULE])

    assert len(report.findings) == 1


def test_a_migration_that_cannot_be_printed_is_named_with_what_came_before(reviewed):
    report = reviewed(with_second(f"{LOCKS}\n    raise RuntimeError('no')"), rules=[RULE])

    assert len(report.findings) == 1
    assert report.notes[0].startswith(
        f"DATA008 did not look: {SECOND}: RuntimeError: no; nothing behind it was looked at"
    )


def test_several_heads_are_all_looked_at(reviewed):
    other = revision("0003", '"0001"', LOCKS)
    report = reviewed(with_second(LOCKS, **{"migrations/versions/0003.py": other}), rules=[RULE])

    files = {found.file for found in report.findings}
    assert files == {SECOND, "migrations/versions/0003.py"}


def test_env_py_is_not_run(reviewed):
    report = reviewed(with_second(LOCKS, **{"migrations/env.py": "raise SystemExit"}), rules=[RULE])

    assert len(report.findings) == 1


@pytest.mark.parametrize(
    ("settings", "said"),
    [("[alembic]\n", "No 'script_location' key"), ("[alembic]\nscript_location = no\n", "no")],
)
def test_settings_that_lead_nowhere_are_one_line(reviewed, settings, said):
    report = reviewed({**PROJECT, "alembic.ini": settings}, rules=[RULE])

    note = report.notes[0]
    assert note.startswith("DATA008 did not look: alembic.ini: ")
    assert said in note
    assert "\n" not in note


def test_another_database_is_said(reviewed):
    main = PROJECT["main.py"].replace(
        "postgresql+asyncpg://user@localhost/app", "sqlite+aiosqlite://"
    )
    report = reviewed(with_second(LOCKS, **{"main.py": main}), rules=[RULE])

    assert report.findings == ()
    assert report.notes[0] == (
        "DATA008 did not look: the migrations are for sqlite, and squawk knows PostgreSQL alone"
    )


def test_without_squawk_it_says_how_to_get_it(reviewed, monkeypatch):
    monkeypatch.setattr(squawk.shutil, "which", lambda *_, **__: None)
    report = reviewed(with_second(LOCKS), rules=[RULE])

    assert report.findings == ()
    assert report.notes[0] == (
        "DATA008 did not look: squawk is not installed: uv pip install 'newel-tools[migrations]'"
    )


def test_a_service_on_the_kernel_prints_all_its_tables():
    project = find_project(Path(__file__).parents[4] / "apps/agents")
    settings = migration_settings(project)
    assert settings is not None

    printed = load_migrations(project, settings, published=None)

    assert printed.failure is None
    assert {"CREATE TABLE agents", "CREATE TABLE outbox"} <= {
        one.sql.partition(" (")[0] for one in printed.statements
    }
    assert list(unsafe(printed.statements)) == []


def test_squawk_is_not_missed_where_all_tables_are_new(reviewed, monkeypatch):
    monkeypatch.setattr(squawk.shutil, "which", lambda *_, **__: None)
    first = {name: text for name, text in PROJECT.items() if name != SECOND}

    assert not [note for note in reviewed(first, rules=[RULE]).notes if "squawk" in note]


def test_a_comment_allows_it(reviewed):
    allowed = f"{LOCKS}  # newel: allow DATA008 - a table of ten rows"
    report = reviewed(with_second(allowed), rules=[RULE])

    assert report.findings == ()
    assert len(report.allowed) == 1


def kinds(*statements: str, types: tuple[str, str] | None = None) -> list[str]:
    """Return the rules that statements break, one of each."""
    said = [Statement(sql=sql, file="a.py", line=1, types=types, is_new=True) for sql in statements]
    return [min(danger.kind.rules) for danger in unsafe(said)]


@pytest.mark.parametrize(
    ("before", "after", "is_free"),
    [
        ("VARCHAR(20)", "VARCHAR(40)", True),
        ("VARCHAR(20)", "VARCHAR", True),
        ("VARCHAR(20)", "TEXT", True),
        ("TEXT", "VARCHAR", True),
        ("NUMERIC(10, 2)", "NUMERIC(12, 2)", True),
        ("VARCHAR(40)", "VARCHAR(20)", False),
        ("TEXT", "VARCHAR(20)", False),
        ("NUMERIC(10, 2)", "NUMERIC(12, 4)", False),
        ("INTEGER", "BIGINT", False),
        ("JSON", "JSONB", False),
    ],
)
def test_a_wider_type_touches_no_row(before, after, is_free):
    found = kinds(f"ALTER TABLE users ALTER COLUMN a TYPE {after};", types=(before, after))

    assert found == ([] if is_free else ["changing-column-type"])


def test_a_check_that_was_validated_makes_not_null_safe():
    check = "ALTER TABLE users ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID;"
    validate = "ALTER TABLE users VALIDATE CONSTRAINT c;"
    not_null = "ALTER TABLE users ALTER COLUMN a SET NOT NULL;"

    assert kinds(check, validate, not_null) == []
    assert kinds(not_null) == ["adding-not-nullable-field"]


def test_a_statement_that_squawk_cannot_read_hides_no_other():
    index = "CREATE INDEX i ON users (a);"

    assert kinds("SELECT what is this FROM;", index) == ["require-concurrent-index-creation"]
    assert kinds(index, "ALTER TABLE") == ["require-concurrent-index-creation"]


def test_a_reference_of_a_new_column_checks_no_row():
    added = "ALTER TABLE users ADD COLUMN a INTEGER{} REFERENCES teams (id);"

    assert kinds(added.format("")) == []
    assert kinds(added.format(" DEFAULT 1")) == ["adding-foreign-key-constraint"]


def test_a_table_is_as_full_under_another_name():
    renamed = "ALTER TABLE users RENAME TO people;"
    index = "CREATE INDEX i ON people (a);"

    assert kinds("CREATE TABLE users (a INTEGER);", renamed, index) == []
    assert kinds(renamed, index) == ["renaming-column", "require-concurrent-index-creation"]


def test_style_is_left_to_others():
    assert kinds("ALTER TABLE users ADD COLUMN a CHAR(3);", "DROP INDEX i;") == []
