"""Write docs/probes.md from the probes of `newel prove`; a test tells when it is out of date."""

from __future__ import annotations

from pathlib import Path

from newel_tools.prove.catalogue import probes_page
from newel_tools.prove.probe import load_probes

PAGE = Path(__file__).resolve().parents[1] / "docs/probes.md"

if __name__ == "__main__":
    PAGE.write_text(probes_page(load_probes().values()), encoding="utf-8")
