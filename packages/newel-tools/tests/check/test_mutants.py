"""Services that keep every promise; broken in one place, the rule for it finds the break.

`mutants/mutants.toml` lists the breaks; `python -m benchmarks.recall` counts them by rule.
"""

import functools
import subprocess
import sys
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from newel_tools.check.rule import files_of, load_rules
from newel_tools.generator.features import render_features
from newel_tools.generator.layout import LAYOUTS
from newel_tools.generator.shell import Kernel, render_shell
from newel_tools.planner.planner import plan_sentence
from newel_tools.prove.probe import load_probes

FOLDER = Path(__file__).with_name("mutants")
TABLE = tomllib.loads((FOLDER / "mutants.toml").read_text())
SENTENCES: dict[str, str] = TABLE["sentences"]
SETTINGS: dict[str, Any] = TABLE["settings"]
RULES = load_rules()

pytestmark = pytest.mark.no_cover  # test_rules.py counts the lines, this would do so twice as long


@dataclass(frozen=True)
class Mutant:
    """One break, in one service. ``missed`` says why its rule does not see it.

    Breaks of one ``boot`` are made together; ``route`` is where its probe has to find it.
    """

    id: str
    rule: str
    service: str
    changes: tuple[Mapping[str, str], ...]
    missed: str = ""
    boot: str = ""
    route: str = ""

    def of(self, files: Mapping[str, str]) -> dict[str, str]:
        """Return the service's files with the break."""
        changed = dict(files)
        for change in self.changes:
            if "old" not in change:
                changed[change["file"]] = change["new"]
                continue
            old = change["old"]
            named = [change["file"]] if "file" in change else [n for n in files if is_source(n)]
            (name,) = [n for n in named if old in changed[n]] or [f"{self.id}: {old!r}"]
            assert changed[name].count(old) == 1, f"{self.id}: {old!r} stands more than once"
            changed[name] = changed[name].replace(old, change["new"])
        return changed


def is_source(name: str) -> bool:
    return name.endswith(".py") and not name.startswith("tests/")


def read_mutants() -> list[Mutant]:
    return [
        Mutant(
            id="-".join(filter(None, [entry["rule"], entry["id"], layout])),
            rule=entry["rule"],
            service="-".join(filter(None, [entry["service"], layout])),
            changes=(first_of(entry), *entry.get("and", ())),
            missed=entry.get("missed", ""),
        )
        for entry in TABLE["mutant"]
        for layout in layouts_of(entry)
    ]


def layouts_of(entry: Mapping[str, str]) -> tuple[str, ...]:
    if entry["service"] not in SENTENCES:
        return ("",)
    return (entry["layout"],) if "layout" in entry else LAYOUTS


def first_of(entry: Mapping[str, str]) -> dict[str, str]:
    return {key: entry[key] for key in ("file", "old", "new") if key in entry}


def read_proved() -> list[Mutant]:
    return [
        Mutant(
            id=f"{entry['probe']}-{entry['id']}",
            rule=entry["probe"],
            service="shop",
            changes=(first_of(entry), *entry.get("and", ())),
            boot=entry["boot"],
            route=entry["route"],
        )
        for entry in TABLE["proved"]
    ]


MUTANTS = read_mutants()
PROVED = read_proved()
SERVICES = sorted({mutant.service for mutant in MUTANTS})


@pytest.fixture(scope="module")
def files_of_service(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a function that returns the files of a service."""

    @functools.cache
    def files(service: str) -> dict[str, str]:
        name, _, layout = service.partition("-")
        if not layout:
            return files_of((FOLDER / f"{name}.txt").read_text())
        plan = plan_sentence(SENTENCES[name])
        kernel = Kernel(version="0.1.0", checkout=None)
        root = tmp_path_factory.mktemp(service)
        shell = render_shell(plan, layout, directory=root, kernel=kernel)
        printed = {file.path: file.text for file in (*shell, *render_features(plan, layout))}
        return formatted(root, printed)

    return files


def formatted(root: Path, files: Mapping[str, str]) -> dict[str, str]:
    """Return files as `newel new` leaves them."""
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    subprocess.run([sys.executable, "-m", "ruff", "format", "-q", root], check=True)
    return {name: (root / name).read_text() for name in files if name != ".env"}


@pytest.mark.parametrize("service", SERVICES)
def test_it_keeps_every_promise(service: str, files_of_service, reviewed) -> None:
    report = reviewed(files_of_service(service))

    assert report.facts.is_imported, report.notes
    found = [(item.rule, item.what, item.file, item.line) for item in report.findings]
    assert found == []
    assert report.verdict == "APPROVE"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.id)
def test_it_is_found(mutant: Mutant, files_of_service, reviewed) -> None:
    rule = RULES[mutant.rule]
    report = reviewed(mutant.of(files_of_service(mutant.service)), rules=[rule])

    assert report.facts.is_imported, report.notes
    if mutant.missed:
        assert report.findings == (), "it is found: take `missed` out of the table"
        pytest.xfail(mutant.missed)
    assert {finding.rule for finding in report.findings} == {rule.id}


@pytest.fixture(scope="module")
def broken_in(tmp_path_factory: pytest.TempPathFactory, laboratory_at: Any) -> Any:
    """Return a function that starts the shop, tries probes, and says which routes each broke."""

    def broken(name: str, breaks: Sequence[Mutant], probes: Iterable[str]) -> dict[str, set[str]]:
        files = files_of((FOLDER / "shop.txt").read_text())
        for mutant in breaks:
            files = mutant.of(files)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("DATABASE_URL", "sqlite+aiosqlite:///./shop.db")
            patch.setenv("SECRET_KEY", "only for this test, but long enough for it")
            with laboratory_at(tmp_path_factory.mktemp(name)) as laboratory:
                lab = laboratory(files, **SETTINGS.get(name, {"fuzz_seconds": 0}))
                found = {probe: list(load_probes()[probe].run(lab)) for probe in probes}
        return {
            probe: {result.route for result in results if result.state == "broke"}
            for probe, results in found.items()
        }

    return broken


@pytest.fixture(scope="module")
def boot(broken_in: Any) -> Any:
    """Return a function that returns what broke where the breaks of a boot were made."""

    @functools.cache
    def of(name: str) -> dict[str, set[str]]:
        breaks = [mutant for mutant in PROVED if mutant.boot == name]
        return broken_in(name, breaks, dict.fromkeys(mutant.rule for mutant in breaks))

    return of


def test_the_shop_withstands_every_probe(broken_in: Any) -> None:
    broken = broken_in("whole", [], dict.fromkeys(mutant.rule for mutant in PROVED))

    assert {probe: routes for probe, routes in broken.items() if routes} == {}


@pytest.mark.parametrize("mutant", PROVED, ids=lambda mutant: mutant.id)
def test_a_probe_breaks_it(mutant: Mutant, boot: Any) -> None:
    assert mutant.route in boot(mutant.boot)[mutant.rule]


def test_odd_requests_break_only_what_was_broken(boot: Any) -> None:
    (mutant,) = (mutant for mutant in PROVED if mutant.boot == "odd")

    assert boot("odd") == {"ERR007": {mutant.route}}
