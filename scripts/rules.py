"""Write docs/rules.md from the rules of `newel check`; a test tells when it is out of date."""

from __future__ import annotations

from pathlib import Path

from newel_tools.check.page import rules_page
from newel_tools.check.rule import load_rules

PAGE = Path(__file__).resolve().parents[1] / "docs/rules.md"

if __name__ == "__main__":
    PAGE.write_text(rules_page(load_rules().values()), encoding="utf-8")
