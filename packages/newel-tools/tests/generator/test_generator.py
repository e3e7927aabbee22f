"""Making a service: the order of the steps, and what is left when one fails or somebody interrupts.

The steps are small programs here; tests/test_generated_services.py runs the real ones.
"""

import json
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from newel_tools.generator import generator
from newel_tools.generator.files import File
from newel_tools.generator.generator import Made, Result, create, missing_packages
from newel_tools.generator.shell import ROUTES
from newel_tools.generator.steps import Outcome, Step
from newel_tools.generator.tree import MANIFEST, TreeError
from newel_tools.plan.plan import Plan, Role

PLAN = Plan(service="shop", title="Shop", roles=(Role(name="admin", permissions=("*",)),))

MIGRATE = """
import json, pathlib, sys
pathlib.Path("migrations").mkdir()
pathlib.Path("migrations/0001_initial.py").write_text("one = 1\\n")
routes = [{"method": "GET", "path": "/api/v1/books", "access": "public", "name": "list_books"}]
pathlib.Path(sys.argv[1]).write_text(json.dumps(routes))
"""


class Diary:
    """A report that remembers."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.ended: list[tuple[str, str]] = []
        self.written: Sequence[Made] = ()

    def begin(self, what: str) -> None:
        self.begun.append(what)

    def wrote(self, files: Sequence[Made]) -> None:
        self.written = files

    def end(self, outcome: Outcome, note: str) -> None:
        self.ended.append((outcome.name, note if outcome.ok else outcome.reason))


@pytest.fixture(autouse=True)
def parts(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """What the renderers return and what the steps run; a test changes it."""
    parts = {
        "feature": "def one( ) -> int:\n  return 1\n",
        "migration": MIGRATE,
        "types": "print('All checks passed!')",
        "tests": "print('.\\n2 passed in 0.10s')",
    }

    def shell(*_: object, **__: object) -> list[File]:
        return [
            File("README.md", f"# Shop\n\n{ROUTES}\n"),
            File("pyproject.toml", '[tool.ruff.lint]\nselect = ["F", "I"]\n'),
            File(".env", "SECRET_KEY=1\n", 0o600),
        ]

    def features(*_: object, **__: object) -> list[File]:
        return [File("src/shop/main.py", parts["feature"])]

    def step(name: str) -> Callable[..., Step]:
        def build(*given: object) -> Step:
            arguments = [f"{given[0]}/routes.json"] if name == "migration" else []
            return Step(name=name, command=("-c", parts[name], *arguments), timeout_seconds=20)

        return build

    monkeypatch.setattr(generator, "render_shell", shell)
    monkeypatch.setattr(generator, "render_features", features)
    for name in ("migration", "types", "tests"):
        function = "_migrate" if name == "migration" else f"_{name}"
        monkeypatch.setattr(generator, function, step(name))
    return parts


def make(directory: Path, diary: Diary | None = None) -> Result:
    return create(PLAN, directory, layout="features", report=diary or Diary())


def names(root: Path) -> list[str]:
    return sorted(path.name for path in root.iterdir())


def test_a_service_is_written_formatted_migrated_and_tested(tmp_path: Path) -> None:
    diary = Diary()
    result = make(tmp_path / "shop", diary)

    assert result.ok
    assert [name for name, _ in diary.ended] == ["format", "lint", "migration", "types", "tests"]
    assert diary.ended[-1] == ("tests", "2 passed")
    assert "src/shop/main.py" in [made.path for made in diary.written]
    assert (tmp_path / "shop/src/shop/main.py").read_text() == "def one() -> int:\n    return 1\n"
    assert (tmp_path / "shop/migrations/0001_initial.py").is_file()
    assert (tmp_path / "shop" / MANIFEST).is_file()
    assert names(tmp_path) == ["shop"]


def test_the_result_counts_files_tokens_tests_and_seconds(tmp_path: Path) -> None:
    result = make(tmp_path / "shop")

    python = [file for file in result.files if file.path.endswith(".py")]
    assert {file.path for file in python} == {"src/shop/main.py", "migrations/0001_initial.py"}
    assert result.tokens == sum(file.characters for file in python) // 4 == (30 + 8) // 4
    assert {file.path: file.lines for file in python}["src/shop/main.py"] == 2
    assert result.tests == {"passed": 2}
    assert result.seconds > 0
    assert result.directory == tmp_path / "shop"


def test_the_result_is_json_for_machines(tmp_path: Path, parts: dict[str, str]) -> None:
    parts["types"] = "print('wrong'); raise SystemExit(1)"
    said = json.loads(json.dumps(make(tmp_path / "shop").as_json()))

    assert said["ok"] is False
    assert said["tests"] == {"passed": 2}
    assert said["directory"] == str(tmp_path / "shop")
    steps = {step["name"]: step for step in said["steps"]}
    assert steps["types"]["reason"] == "exit code 1"
    assert steps["types"]["output"] == "wrong\n"
    assert steps["tests"]["ok"] is True
    assert {"path": ".env", "lines": 1, "characters": 13} in said["files"]


def test_the_readme_has_the_routes_of_the_application(tmp_path: Path) -> None:
    make(tmp_path / "shop")

    assert "| `GET /books` | public | list_books |" in (tmp_path / "shop/README.md").read_text()


def test_a_relative_directory_is_below_the_working_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert make(Path("shop")).directory == tmp_path / "shop"


@pytest.mark.parametrize(
    ("name", "fault", "ended"),
    [
        ("feature", "def (\n", ["format"]),
        ("feature", "import os\n", ["format", "lint"]),
        ("migration", "raise SystemExit(4)", ["format", "lint", "migration"]),
        ("types", "raise SystemExit(1)", ["format", "lint", "migration", "types", "tests"]),
        ("tests", "raise SystemExit(1)", ["format", "lint", "migration", "types", "tests"]),
    ],
)
def test_a_step_that_fails_stops_the_rest_and_keeps_the_files(
    tmp_path: Path, parts: dict[str, str], name: str, fault: str, ended: list[str]
) -> None:
    parts[name] = fault
    diary = Diary()
    result = make(tmp_path / "shop", diary)

    assert not result.ok
    assert [step for step, _ in diary.ended] == ended
    assert result.directory == tmp_path / "shop"
    assert (tmp_path / "shop/src/shop/main.py").is_file()
    assert names(tmp_path) == ["shop"]


def test_a_second_run_that_fails_leaves_the_good_service_alone(
    tmp_path: Path, parts: dict[str, str]
) -> None:
    make(tmp_path / "shop")
    parts["migration"] = "raise SystemExit(4)"
    parts["feature"] = "two = 2\n"
    result = make(tmp_path / "shop")

    assert not result.ok
    assert result.directory.name.startswith("shop.failed-")
    assert (result.directory / "src/shop/main.py").read_text() == "two = 2\n"
    assert (tmp_path / "shop/src/shop/main.py").read_text().startswith("def one")
    assert names(tmp_path) == sorted(["shop", result.directory.name])


def test_a_second_run_of_the_same_plan_changes_nothing(tmp_path: Path) -> None:
    make(tmp_path / "shop")
    before = {p: p.read_bytes() for p in (tmp_path / "shop").rglob("*") if p.is_file()}

    assert make(tmp_path / "shop").ok
    after = {p: p.read_bytes() for p in (tmp_path / "shop").rglob("*") if p.is_file()}
    assert after == before


def test_a_directory_that_cannot_be_used_is_refused_before_any_work(tmp_path: Path) -> None:
    (tmp_path / "novel.txt").write_text("Chapter one")
    diary = Diary()

    with pytest.raises(TreeError):
        make(tmp_path, diary)

    assert diary.begun == []


INTERRUPT = f"import os; os.kill(os.getppid(), {int(signal.SIGINT)}); import time; time.sleep(600)"


@pytest.mark.parametrize("step", ["migration"])
def test_interrupted_while_the_files_are_made_nothing_is_left(
    tmp_path: Path, parts: dict[str, str], step: str
) -> None:
    parts[step] = INTERRUPT

    with pytest.raises(KeyboardInterrupt):
        make(tmp_path / "shop")

    assert names(tmp_path) == []


@pytest.mark.parametrize("step", ["types", "tests"])
def test_interrupted_while_it_is_tested_the_service_is_complete(
    tmp_path: Path, parts: dict[str, str], step: str
) -> None:
    parts[step] = INTERRUPT
    result = make(tmp_path / "shop")

    assert result.interrupted
    assert not result.ok
    assert (tmp_path / "shop" / MANIFEST).is_file()


@pytest.mark.parametrize(
    ("last", "counted"),
    [
        ("2 failed, 60 passed in 3.21s", {"failed": 2, "passed": 60}),
        ("1 skipped, 1 xfailed, 2 errors in 0.1s", {"skipped": 1, "xfailed": 1, "error": 2}),
        ("= 61 passed, 1 warning in 80.02s (0:01:20) =", {"passed": 61}),
        ("no tests ran in 0.01s", {}),
        ("", {}),
    ],
)
def test_the_tests_are_counted_by_their_last_line(
    tmp_path: Path, parts: dict[str, str], last: str, counted: dict[str, int]
) -> None:
    parts["tests"] = f"print({last!r})"

    assert make(tmp_path / "shop").tests == counted


def test_what_is_needed_is_installed_here() -> None:
    assert missing_packages() == []


def test_what_is_missing_is_named_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator, "find_spec", lambda name: None if name != "newel" else 1)

    assert missing_packages() == ["newel[testing]", "ruff", "ty"]


def test_the_real_steps_have_time_limits_and_leave_no_caches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real ones
    for step in (
        generator._format(),
        generator._lint(),
        generator._migrate(tmp_path),
        generator._types(),
        generator._tests(tmp_path),
    ):
        assert 0 < step.timeout_seconds <= 300
    assert "no:cacheprovider" in generator._tests(tmp_path).command
    assert os.fspath(tmp_path) in generator._migrate(tmp_path).environment["DATABASE_URL"]
