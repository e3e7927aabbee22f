"""The page of all rules."""

from pathlib import Path

from newel_tools.check.page import rules_page
from newel_tools.check.rule import load_rules

PAGE = Path(__file__).parents[4] / "docs/rules.md"


def test_the_page_is_up_to_date():
    assert PAGE.read_text() == rules_page(load_rules().values()), "run python scripts/rules.py"


def test_every_rule_has_its_section():
    page = rules_page(load_rules().values())

    for name, rule in load_rules().items():
        assert f"\n## {name}\n\n{rule.title} (**{rule.severity}**" in page
        assert f"[{name}](#{name.lower()})" in page
