"""`newel check` on this repository: no baseline, and what is allowed says why in the source."""

from pathlib import Path

import pytest

from newel_tools.check.check import check_project
from newel_tools.facts.project import find_project

pytestmark = [pytest.mark.check, pytest.mark.timeout(600)]

ROOT = Path(__file__).resolve().parents[1]


def test_newel_check_approves_this_repository() -> None:
    report = check_project(find_project(ROOT), timeout_seconds=120)

    assert report.facts.is_imported, report.notes
    said = [f"{item.rule} {item.file}:{item.line} {item.what}" for item in report.findings]
    assert report.verdict == "APPROVE", said
    assert [line for line in said if line.startswith("ALLOW001")] == []
