"""What an extra of newel installs: its driver is imported when a setting asks for it."""

from __future__ import annotations

import importlib
from typing import Any

from newel.errors import ConfigurationError

__all__ = ["import_driver"]


def import_driver(name: str, *, extra: str, asked: str) -> Any:
    """Return the module ``newel.drivers.<name>``, whose library ``newel[extra]`` installs.

    ``asked`` says which setting asks for what. Raises ``ConfigurationError`` without the library.
    """
    try:
        return importlib.import_module(f"newel.drivers.{name}")
    except ModuleNotFoundError:
        raise ConfigurationError(
            f"{asked}, whose library is not installed", fix=f"install newel[{extra}]"
        ) from None
