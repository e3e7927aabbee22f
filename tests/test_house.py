"""The rules of the house that no tool knows: sizes, names, pages, tests, what a commit may say.

Every rule is a function of a directory and returns the lines that break it, so that each can be
shown a directory that does.
"""

import ast
import importlib
import io
import re
import subprocess
import tokenize
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.check

ROOT = Path(__file__).resolve().parents[1]
KERNEL = Path("packages/newel/src/newel")
KERNEL_TESTS = Path("packages/newel/tests")
SOURCES = ("packages/newel/src", "packages/newel-tools/src", "scripts", "stress")

KERNEL_FILES = 122
KERNEL_CODE_LINES = 18_150  # docs/decisions/0013: without blank lines, comments, docstrings
FILE_LINES = 500
FUNCTION_LINES = 60
README_LINES = 150
DECISION_LINES = 60
TEST_LINES_A_LINE = 1.2

Rule = Callable[[Path], list[str]]


def lines_of(path: Path) -> int:
    return len(path.read_text().splitlines())


def code_lines_of(path: Path) -> int:
    """Count the lines that are neither blank nor comment nor docstring."""
    text = path.read_text()
    said: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        match node:
            case ast.Expr(value=ast.Constant(value=str())):
                said.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return sum(
        bool(line.strip()) and not line.lstrip().startswith("#")
        for number, line in enumerate(text.splitlines(), start=1)
        if number not in said
    )


def python_files(root: Path, *directories: str | Path) -> list[Path]:
    return sorted(path for name in directories for path in (root / name).rglob("*.py"))


def modules(root: Path) -> Iterator[Path]:
    """Yield the kernel's public modules; a folder's files belong to the page of the folder."""
    for path in sorted((root / KERNEL).glob("*.py")):
        if not path.name.startswith("_"):
            yield path


def kernel_is_small(root: Path) -> list[str]:
    files = python_files(root, KERNEL)
    lines = sum(map(code_lines_of, files))
    broken = []
    if len(files) > KERNEL_FILES:
        broken.append(f"the kernel has {len(files)} files, at most {KERNEL_FILES}")
    if lines > KERNEL_CODE_LINES:
        broken.append(f"the kernel has {lines} lines of code, at most {KERNEL_CODE_LINES}")
    deep = [path for path in files if len(path.relative_to(root / KERNEL).parts) > 2]
    return [*broken, *(f"{path.relative_to(root)} lies deeper than one folder" for path in deep)]


def files_are_short(root: Path) -> list[str]:
    return [
        f"{path.relative_to(root)} has {lines_of(path)} lines, at most {FILE_LINES}"
        for path in python_files(root, *SOURCES)
        if lines_of(path) > FILE_LINES
    ]


def functions_are_short(root: Path) -> list[str]:
    broken = []
    for path in python_files(root, *SOURCES):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES:
                broken.append(
                    f"{path.relative_to(root)}:{node.lineno} {node.name} has {lines} lines, "
                    f"at most {FUNCTION_LINES}"
                )
    return broken


def names_are_nouns(root: Path) -> list[str]:
    vague = {"util", "utils", "helper", "helpers", "common", "core", "base", "manager", "misc"}
    return [
        f"{path.relative_to(root)}: name it by what its users would say"
        for path in python_files(root, *SOURCES)
        if vague & {path.stem, path.parent.name}
    ]


SILENCER = re.compile(
    r"(?:type|pyright|ty):\s*ignore(?:\[[^\]]*\])?|noqa(?::\s*[A-Z]+\d+(?:[,\s]+[A-Z]+\d+)*)?"
    r"|pragma:\s*no (?:cover|branch)"
)
BLANKET = re.compile(r"#\s*(?:(?:type|pyright|ty):\s*ignore(?!\[)|noqa(?!:))")


def comments(path: Path) -> Iterator[tuple[int, str]]:
    for token in tokenize.generate_tokens(io.StringIO(path.read_text()).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string


def silencers_say_why(root: Path) -> list[str]:
    broken = []
    for path in python_files(root, "packages", "scripts", "stress", "tests"):
        for line, comment in comments(path):
            if not SILENCER.search(comment):
                continue
            reason = SILENCER.sub("", comment).strip("# -:,")
            if BLANKET.search(comment):
                broken.append(f"{path.relative_to(root)}:{line} silences everything: name the rule")
            elif len(reason) < 8:
                broken.append(f"{path.relative_to(root)}:{line} does not say why: {comment}")
    return broken


def texts_are_short(root: Path) -> list[str]:
    texts = [(root / "README.md", README_LINES)]
    texts += [(path, DECISION_LINES) for path in sorted((root / "docs/decisions").glob("*.md"))]
    return [
        f"{path.relative_to(root)} has {lines_of(path)} lines, at most {limit}"
        for path, limit in texts
        if path.exists() and lines_of(path) > limit
    ]


def modules_have_pages_and_tests(root: Path) -> list[str]:
    return [
        f"{path.stem} has no {wanted}"
        for path in modules(root)
        for wanted in (Path(f"docs/{path.stem}.md"), KERNEL_TESTS / f"test_{path.stem}.py")
        if not (root / wanted).is_file()
    ]


def lines_of_test_a_line(root: Path) -> float:
    tests = sum(map(lines_of, python_files(root, KERNEL_TESTS)))
    return tests / max(1, sum(map(lines_of, python_files(root, KERNEL))))


def kernel_is_tested(root: Path) -> list[str]:
    ratio = lines_of_test_a_line(root)
    if ratio >= TEST_LINES_A_LINE:
        return []
    return [f"{ratio:.2f} lines of test a line of kernel, at least {TEST_LINES_A_LINE}"]


def public_names(path: Path) -> list[str] | None:
    """Return what a module's ``__all__`` lists, without importing the module."""
    for node in ast.parse(path.read_text()).body:
        match node:
            case ast.Assign(targets=[ast.Name(id="__all__")], value=value):
                return list(ast.literal_eval(value))
    return None


PUBLIC_NAMES = re.compile(r"^Public names: (.+)$", re.MULTILINE)


def pages_list_public_names(root: Path) -> list[str]:
    """A page says ``Public names: `a`, `b`.`` in one line; they are the module's ``__all__``."""
    broken = []
    for path in modules(root):
        names = public_names(path)
        if names is None:
            broken.append(f"{path.stem} has no __all__")
            continue
        page = root / f"docs/{path.stem}.md"
        listed = PUBLIC_NAMES.search(page.read_text()) if page.is_file() else None
        if listed is None:
            broken.append(f"docs/{path.stem}.md has no line `Public names: ...`")
            continue
        said = set(re.findall(r"`(\w+)`", listed[1]))
        broken += [f"docs/{path.stem}.md does not name {name}" for name in set(names) - said]
        broken += [f"docs/{path.stem}.md names {name}, unknown" for name in said - set(names)]
    return broken


def public_names_have_docstrings(root: Path) -> list[str]:
    definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    return [
        f"{path.relative_to(root)}:{node.lineno} {node.name} says nothing"
        for path in modules(root)
        for node in ast.parse(path.read_text()).body
        if isinstance(node, definition) and node.name in (public_names(path) or [])
        if not ast.get_docstring(node)
    ]


def tracked_files(root: Path) -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True
    )
    return [root / name for name in listed.stdout.split("\0") if name and (root / name).is_file()]


# Put together here, so that this file does not break its own rule.
REGISTRIES = ("pypi" + ".org", "pythonhosted" + ".org", "registry.npmjs" + ".org")
HOMES = re.compile(r"(?<![\w.-])/(?:" + "root|home/[a-z]+|Users/[A-Za-z]+)" + "/")


def commits_name_no_machine(root: Path) -> list[str]:
    """A lock or a text that names a registry's host or somebody's home works on one machine."""
    broken = []
    for path in tracked_files(root):
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), start=1):
            if any(host in line for host in REGISTRIES) or HOMES.search(line):
                broken.append(f"{path.relative_to(root)}:{number} {line.strip()[:100]}")
    return broken


def locks_are_hashed(root: Path) -> list[str]:
    broken = [
        f"{path.relative_to(root)} is committed"
        for path in tracked_files(root)
        if path.name == "uv.lock"
    ]
    for lock in sorted((root / "requirements").glob("*.lock")):
        text = lock.read_text().replace("\\\n", " ")
        pins = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
        broken += [
            f"{lock.relative_to(root)}: {pin.split()[0]} is not pinned by hash"
            for pin in pins
            if "==" not in pin or "--hash=sha256:" not in pin
        ]
    return broken


RULES: list[Rule] = [
    kernel_is_small,
    files_are_short,
    functions_are_short,
    names_are_nouns,
    silencers_say_why,
    texts_are_short,
    modules_have_pages_and_tests,
    kernel_is_tested,
    pages_list_public_names,
    public_names_have_docstrings,
    commits_name_no_machine,
    locks_are_hashed,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_this_repository_keeps(rule: Rule) -> None:
    if broken := rule(ROOT):
        pytest.fail("\n".join(broken), pytrace=False)


@pytest.fixture
def house(tmp_path: Path) -> Path:
    """Return a small repository that keeps every rule."""
    files = {
        KERNEL
        / "ids.py": '"""Ids."""\n\n__all__ = ["new"]\n\n\ndef new() -> int:\n    "A new id."\n',
        KERNEL_TESTS / "test_ids.py": "pass\n" * 20,
        "docs/ids.md": "# ids\n\nPublic names: `new`.\n",
        "docs/decisions/0001-ids.md": "# Ids\n",
        "README.md": "# newel\n",
        "requirements/dev.lock": "# made\none==1 \\\n    --hash=sha256:00\n    # via two\n",
    }
    for name, content in files.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    subprocess.run(["git", "add", "--all"], cwd=tmp_path, check=True)
    return tmp_path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_a_house_that_keeps_the_rules_passes(house: Path, rule: Rule) -> None:
    assert rule(house) == []


LONG_FUNCTION = "def new() -> int:\n" + "    print()\n" * 60
FAULTS: list[tuple[Rule, Path | str, str]] = [
    (kernel_is_small, KERNEL / "a/b/c.py", ""),
    (kernel_is_small, KERNEL / "ids.py", "pass\n" * (KERNEL_CODE_LINES + 1)),
    (files_are_short, KERNEL / "ids.py", "pass\n" * 501),
    (files_are_short, "packages/newel-tools/src/newel_tools/plan/plan.py", "pass\n" * 501),
    (functions_are_short, KERNEL / "ids.py", LONG_FUNCTION),
    (functions_are_short, KERNEL / "ids.py", f"async {LONG_FUNCTION}"),
    (names_are_nouns, KERNEL / "utils.py", ""),
    (names_are_nouns, KERNEL / "common/ids.py", ""),
    (silencers_say_why, KERNEL / "ids.py", "a = 1  # noqa: S105\n"),
    (silencers_say_why, KERNEL / "ids.py", "a = 1  # type: ignore[assignment]\n"),
    (silencers_say_why, KERNEL / "ids.py", "a = 1  # pyright: ignore[reportAny]  # ok\n"),
    (silencers_say_why, KERNEL_TESTS / "test_ids.py", "a = 1  # ty: ignore[x]\n"),
    (silencers_say_why, KERNEL / "ids.py", "a = 1  # noqa - because I say so\n"),
    (silencers_say_why, KERNEL / "ids.py", "a = 1  # type: ignore - because I say so\n"),
    (silencers_say_why, KERNEL / "ids.py", "a = 1  # pragma: no cover\n"),
    (texts_are_short, "README.md", "\n" * 151),
    (texts_are_short, "docs/decisions/0002-long.md", "\n" * 61),
    (modules_have_pages_and_tests, KERNEL / "rooms.py", ""),
    (kernel_is_tested, KERNEL_TESTS / "test_ids.py", ""),
    (pages_list_public_names, KERNEL / "ids.py", "new = 1\n"),
    (pages_list_public_names, "docs/ids.md", "# ids\n"),
    (pages_list_public_names, "docs/ids.md", "Public names: `old`.\n"),
    (pages_list_public_names, "docs/ids.md", "Public names: `new`, `old`.\n"),
    (public_names_have_docstrings, KERNEL / "ids.py", '__all__ = ["A"]\nclass A:\n    pass\n'),
    (commits_name_no_machine, "README.md", f"See https://{REGISTRIES[0]}/newel.\n"),
    (commits_name_no_machine, "README.md", "cd /home" + "/somebody/newel\n"),
    (locks_are_hashed, "requirements/dev.lock", "one==1\n"),
    (locks_are_hashed, "requirements/dev.lock", "one>=1 --hash=sha256:00\n"),
]


@pytest.mark.parametrize(("rule", "path", "content"), FAULTS)
def test_a_fault_is_found(house: Path, rule: Rule, path: Path | str, content: str) -> None:
    (house / path).parent.mkdir(parents=True, exist_ok=True)
    (house / path).write_text(content)

    assert rule(house)


def test_too_many_files_are_found(house: Path) -> None:
    for number in range(KERNEL_FILES):
        (house / KERNEL / f"one{number}.py").touch()

    assert kernel_is_small(house) == [
        f"the kernel has {KERNEL_FILES + 1} files, at most {KERNEL_FILES}"
    ]


def test_a_committed_uv_lock_is_found(house: Path) -> None:
    (house / "uv.lock").write_text("version = 1\n")
    assert locks_are_hashed(house) == []
    subprocess.run(["git", "add", "--force", "uv.lock"], cwd=house, check=True)

    assert locks_are_hashed(house) == ["uv.lock is committed"]


@pytest.mark.parametrize(
    "comment",
    [
        "# noqa: S105 - a placeholder, not a password",
        "# type: ignore[arg-type]  # Starlette's annotation is too narrow",
        "# ordinary words about a type",
    ],
)
def test_a_reason_is_enough(house: Path, comment: str) -> None:
    (house / KERNEL / "ids.py").write_text(f"a = 1  {comment}\n")

    assert silencers_say_why(house) == []


@pytest.mark.parametrize("name", [path.stem for path in modules(ROOT)])
def test_every_public_name_can_be_imported(name: str) -> None:
    module = importlib.import_module(f"newel.{name}")

    for public in module.__all__:
        assert hasattr(module, public)
