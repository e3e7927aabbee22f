"""How many planted breaks `newel check` and `newel prove` find: `python -m benchmarks.recall`.

The breaks are listed in packages/newel-tools/tests/check/mutants/mutants.toml; each is a test, and
one that is not found is expected to fail there, with the reason.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

import pytest

__all__ = ["main"]

TESTS = Path(__file__).resolve().parents[1] / "packages/newel-tools/tests/check/test_mutants.py"
KINDS = {"test_it_is_found": "newel check", "test_a_probe_breaks_it": "newel prove"}
NAME = re.compile(r"::(?P<test>\w+)\[(?P<rule>[A-Z]+\d+)-")


class Count:
    """Counts what pytest reports: for each command and rule the breaks, and those found."""

    def __init__(self) -> None:
        self.planted: Counter[tuple[str, str]] = Counter()
        self.found: Counter[tuple[str, str]] = Counter()

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take a test's outcome; pytest calls it."""
        named = NAME.search(report.nodeid)
        if report.when == "call" and named is not None:
            key = KINDS[named["test"]], named["rule"]
            self.planted[key] += 1
            self.found[key] += report.outcome == "passed"

    def show(self) -> None:
        """Print a line for each rule that missed one, and the recall of each command."""
        for key in sorted(self.planted):
            if self.found[key] < self.planted[key]:
                print(f"{key[0]} {key[1]}: {self.found[key]} of {self.planted[key]}")
        for kind in KINDS.values():
            planted = sum(n for key, n in self.planted.items() if key[0] == kind)
            found = sum(n for key, n in self.found.items() if key[0] == kind)
            rules = len({rule for one, rule in self.planted if one == kind})
            share = f"{found / planted:.3f}" if planted else "nothing was planted"
            print(f"{kind}: {found} of {planted} breaks of {rules} rules found, recall {share}")


def main() -> int:
    """Run the tests and print the counts; return pytest's exit code."""
    count = Count()
    code = pytest.main([str(TESTS), "-q", "--no-cov", "-p", "no:cacheprovider"], plugins=[count])
    count.show()
    return int(code)


if __name__ == "__main__":
    sys.exit(main())
