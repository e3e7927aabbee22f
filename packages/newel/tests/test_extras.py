"""A library that is missing is named with the extra that brings it."""

from __future__ import annotations

import re
import sys
from importlib.metadata import metadata
from pathlib import Path

import pytest

from newel.errors import ConfigurationError
from newel.extras import import_driver


def test_a_driver_is_imported() -> None:
    assert import_driver("smtp", extra="smtp", asked="MAIL_URL asks for SMTP").SmtpMailer


def test_a_library_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "newel.drivers.smtp", None)
    with pytest.raises(ConfigurationError) as refused:
        import_driver("smtp", extra="smtp", asked="MAIL_URL asks for SMTP")
    assert str(refused.value.detail) == "MAIL_URL asks for SMTP, whose library is not installed"
    assert refused.value.fix == "install newel[smtp]"


def test_the_page_names_every_extra_of_the_package() -> None:
    page = (Path(__file__).parents[3] / "docs/extras.md").read_text()
    rows = [line.split("|")[1] for line in page.splitlines() if line.startswith("| `")]
    named = set(re.findall(r"`(\w+)`", "".join(rows)))
    assert named == set(metadata("newel").get_all("Provides-Extra") or ())
