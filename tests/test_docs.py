"""The documentation cannot rot: examples run, links lead somewhere, nothing is left out.

conftest.py collects the examples of a page; each page runs in a process of its own (pages.py), as
two pages may define the same table, and nothing but the page's own words may make it work.
"""

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Generator
from pathlib import Path

import pytest

import newel
from newel.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
KERNEL = Path("packages/newel/src/newel")
DECISION_HEADINGS = ["Context", "Decision", "Consequences", "Alternatives"]
# A fence in another language is not run, so that a typing mistake would silence an example.
LANGUAGES = {"python", "sh", "console", "toml", "yaml", "json", "http", "text", "sql", "diff"}

Rule = Callable[[Path], list[str]]


def pages(root: Path) -> list[Path]:
    found = [*root.glob("*.md"), *(root / "docs").rglob("*.md"), *root.glob("packages/*/*.md")]
    return sorted(found)


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)


def links_lead_somewhere(root: Path) -> list[str]:
    broken = []
    for page in pages(root):
        for target in re.findall(r"\]\(([^)\s]+)\)", without_code(page.read_text())):
            path, _, _ = target.partition("#")
            if "://" in target or target.startswith("mailto:") or not path:
                continue
            if not (page.parent / path).exists():
                broken.append(f"{page.relative_to(root)} links to {target}, which is not there")
    return broken


def fences_name_a_language(root: Path) -> list[str]:
    broken = []
    for page in pages(root):
        opening = True
        for number, line in enumerate(page.read_text().splitlines(), start=1):
            if not line.lstrip().startswith("```"):
                continue
            if opening and line.lstrip("` ") not in LANGUAGES:
                broken.append(f"{page.relative_to(root)}:{number} {line}: not one of {LANGUAGES}")
            opening = not opening
    return broken


def module_pages_show_an_example(root: Path) -> list[str]:
    return [
        f"docs/{path.stem}.md shows no example"
        for path in sorted((root / KERNEL).glob("*.py"))
        if (page := root / f"docs/{path.stem}.md").is_file()
        if not re.search(r"^```(python|sh)$", page.read_text(), re.MULTILINE)
    ]


def index_lists_every_page(root: Path) -> list[str]:
    docs = root / "docs"
    index = (docs / "index.md").read_text() if (docs / "index.md").is_file() else ""
    return [
        f"docs/index.md does not link to {page.relative_to(docs)}"
        for page in sorted(docs.rglob("*.md"))
        if page.name != "index.md" and f"({page.relative_to(docs)})" not in index
    ]


def decisions_have_one_form(root: Path) -> list[str]:
    broken = []
    for number, path in enumerate(sorted((root / "docs/decisions").glob("*.md")), start=1):
        if not path.name.startswith(f"{number:04}-"):
            broken.append(f"{path.name} should be number {number:04}")
        headings = re.findall(r"^## (.+)$", path.read_text(), re.MULTILINE)
        if headings != DECISION_HEADINGS:
            broken.append(f"{path.name} has the headings {headings}, not {DECISION_HEADINGS}")
    return broken


def make_targets_exist(root: Path) -> list[str]:
    targets = re.findall(r"^([a-z-]+):", (root / "Makefile").read_text(), re.MULTILINE)
    return [
        f"{page.relative_to(root)} says `make {target}`, which is no target"
        for page in pages(root)
        for target in re.findall(
            r"(?:^|`|\s)make ([a-z]+)\b(?=`|$)", page.read_text(), re.MULTILINE
        )
        if target not in targets
    ]


RULES: list[Rule] = [
    links_lead_somewhere,
    fences_name_a_language,
    module_pages_show_an_example,
    index_lists_every_page,
    decisions_have_one_form,
    make_targets_exist,
]


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_these_pages_keep(rule: Rule) -> None:
    if broken := rule(ROOT):
        pytest.fail("\n".join(broken), pytrace=False)


DECISION = "# 1\n\n" + "".join(f"## {heading}\n\nWords.\n\n" for heading in DECISION_HEADINGS)
BOOK = {
    "Makefile": "demo:\n\techo\n",
    "README.md": "# newel\n\n[Why](docs/why.md), `make demo`\n\n```sh\nmake demo\n```\n",
    "docs/index.md": "[why](why.md) [ids](ids.md) [1](decisions/0001-ids.md)\n",
    "docs/why.md": "# Why\n\n[Up](../README.md#why) and [out](https://example.com)\n",
    "docs/ids.md": "# ids\n\n```python\nassert True\n```\n",
    "docs/decisions/0001-ids.md": DECISION,
    str(KERNEL / "ids.py"): "",
}


@pytest.fixture
def book(tmp_path: Path) -> Path:
    """Return a small repository whose pages keep every rule."""
    for name, content in BOOK.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_pages_that_keep_the_rules_pass(book: Path, rule: Rule) -> None:
    assert rule(book) == []


FAULTS: list[tuple[Rule, str, str]] = [
    (links_lead_somewhere, "README.md", "[Gone](docs/gone.md)\n"),
    (fences_name_a_language, "docs/ids.md", "```\nassert False\n```\n"),
    (fences_name_a_language, "docs/ids.md", "```py\nassert False\n```\n"),
    (module_pages_show_an_example, "docs/ids.md", "# ids\n"),
    (index_lists_every_page, "docs/new.md", "# new\n"),
    (index_lists_every_page, "docs/decisions/0002-new.md", DECISION),
    (decisions_have_one_form, "docs/decisions/0003-gap.md", DECISION),
    (decisions_have_one_form, "docs/decisions/0002-bare.md", "# 2\n\n## Decision\n"),
    (make_targets_exist, "README.md", "Say `make coffee`.\n"),
]


@pytest.mark.parametrize(("rule", "path", "content"), FAULTS)
def test_a_fault_is_found(book: Path, rule: Rule, path: str, content: str) -> None:
    (book / path).write_text(content)

    assert rule(book)


def test_every_setting_is_documented() -> None:
    page = (ROOT / "docs/settings.md").read_text()

    assert [name for name in Settings.model_fields if f"`{name.upper()}`" not in page] == []


def test_the_changelog_knows_the_present_version() -> None:
    text = (ROOT / "CHANGELOG.md").read_text()
    headings = re.findall(r"^## \[(.+?)\]", text, re.MULTILINE)

    assert headings[0] == "Unreleased"
    released = headings[1:]
    assert not released or released[0] == newel.__version__


class Examples:
    """Runs the examples of pages, each page in a process of its own."""

    def __init__(self, logs: Path) -> None:
        self._log = logs / "log"
        self._process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("pages.py")],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
            text=True,
        )

    def run(self, root: Path, page: Path) -> tuple[int, str]:
        """Return pytest's exit code and what it printed."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._log.write_text("")
        request = {"root": str(root), "page": str(page), "log": str(self._log)}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return int(self._process.stdout.readline()), self._log.read_text()

    def end(self) -> None:
        self._process.communicate("")


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Generator[Examples]:
    started = Examples(tmp_path_factory.mktemp("pages"))
    yield started
    started.end()


def has_examples(page: Path) -> bool:
    return "\n```python\n" in page.read_text()


@pytest.mark.parametrize(
    "page", [str(page.relative_to(ROOT)) for page in pages(ROOT) if has_examples(page)]
)
def test_the_examples_run(examples: Examples, page: str) -> None:
    code, said = examples.run(ROOT, ROOT / page)
    if code:
        pytest.fail(said, pytrace=False)


def test_the_examples_of_a_page_are_one_program_in_a_directory_of_its_own(
    book: Path, examples: Examples
) -> None:
    shutil.copy(ROOT / "conftest.py", book)
    (book / "scripts").symlink_to(ROOT / "scripts")
    (book / "docs/ids.md").write_text(
        "# Ids\n\n```python\nfrom pathlib import Path\nPath('left').touch()\n```\n"
        "Then:\n\n```python\nassert Path('left').exists()\n```\n"
    )
    (book / "docs/why.md").write_text(
        "# Why\n\n```python\nimport os\nassert os.listdir() == []\n"
        "assert 'Path' not in globals()\n```\n"
    )
    _, said = examples.run(book, book / "docs")

    assert "3 passed" in said
    assert not (book / "left").exists()


@pytest.mark.parametrize("page", ["docs/ids.md", "README.md"])
def test_an_example_that_fails_is_seen(book: Path, examples: Examples, page: str) -> None:
    shutil.copy(ROOT / "conftest.py", book)
    (book / "scripts").symlink_to(ROOT / "scripts")
    (book / page).write_text("# Page\n\n```python\nassert 1 == 2\n```\n")

    code, said = examples.run(book, book / page)

    assert has_examples(book / page)
    assert code == 1
    assert "1 failed" in said
