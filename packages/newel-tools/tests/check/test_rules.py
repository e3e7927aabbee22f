"""Every rule finds what its bad example marks, and nothing else, and nothing in the good one."""

import pytest

from newel_tools.check.rule import Rule, files_of, load_rules

MARK = "# finding"


def marked(example: str) -> set[tuple[str, int]]:
    return {
        (name, number)
        for name, text in files_of(example).items()
        for number, line in enumerate(text.splitlines(), start=1)
        if line.endswith(MARK)
    }


@pytest.mark.parametrize("rule", load_rules().values(), ids=lambda rule: rule.id)
def test_finds_what_breaks_it(rule: Rule, reviewed):
    report = reviewed(rule.bad, rules=[rule])

    assert report.facts.is_imported, report.notes
    assert {(finding.file, finding.line) for finding in report.findings} == marked(rule.bad)
    assert all(finding.rule == rule.id for finding in report.findings)


@pytest.mark.parametrize("rule", load_rules().values(), ids=lambda rule: rule.id)
def test_is_silent_where_it_is_kept(rule: Rule, reviewed):
    report = reviewed(rule.good, rules=[rule])

    assert report.facts.is_imported, report.notes
    assert [finding.what for finding in report.findings] == []


@pytest.mark.parametrize("rule", load_rules().values(), ids=lambda rule: rule.id)
def test_says_what_a_reader_needs(rule: Rule):
    assert marked(rule.bad), f"{rule.id} marks no line of its bad example with `{MARK}`"
    for text in (rule.title, rule.why, rule.fix, rule.seed, rule.expected):
        assert text
        assert "\n" not in text
        assert "  " not in text


def test_a_rule_lies_in_the_file_of_its_name():
    for name, rule in load_rules().items():
        assert rule.find.__module__ == f"newel_tools.check.rules.{name.lower()}"
