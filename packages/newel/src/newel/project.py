"""Where a service's application is: ``[tool.fastapi] entrypoint`` in its pyproject.toml.

    [tool.fastapi]
    entrypoint = "agents_service.main:app"

The command line and the tests find it this way, and so does FastAPI's own ``fastapi run``.
"""

from __future__ import annotations

import importlib
import sys
import tomllib
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI

from newel.errors import ConfigurationError

__all__ = ["Project"]

_EXAMPLE = '[tool.fastapi] with entrypoint = "my_service.main:app"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Project:
    """A service's folder, and the module and the name in it that are its application."""

    root: Path
    module: str
    name: str

    @classmethod
    def find(cls, root: Path | None = None) -> Project:
        """Read pyproject.toml in ``root`` (the working directory); or ``ConfigurationError``."""
        root = Path.cwd() if root is None else root
        try:
            text = (root / "pyproject.toml").read_text(encoding="utf-8")
        except FileNotFoundError:
            raise ConfigurationError(
                f"There is no pyproject.toml in {root}",
                fix="run the command in the folder of the service",
            ) from None
        try:
            table: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigurationError(
                f"pyproject.toml is not valid TOML: {error}", fix="correct that line"
            ) from None
        entrypoint = table.get("tool", {}).get("fastapi", {}).get("entrypoint")
        if entrypoint is None:
            raise ConfigurationError(
                "pyproject.toml does not say where the application is", fix=f"add {_EXAMPLE}"
            )
        module, colon, name = str(entrypoint).partition(":")
        if not (module and colon and name.isidentifier()):
            raise ConfigurationError(
                f"The entrypoint {entrypoint!r} is not of the form module:name",
                fix=f"write {_EXAMPLE}",
            )
        return cls(root=root, module=module, name=name)

    def load_module(self) -> ModuleType:
        """Import the module of the application, from ``src`` if there is one.

        An error inside the service's own code passes through with its traceback.
        """
        source = self.root / "src"
        path = str(source if source.is_dir() else self.root)
        if path not in sys.path:
            sys.path.insert(0, path)
        try:
            return importlib.import_module(self.module)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{self.module}.".startswith(f"{error.name}."):
                raise
            raise ConfigurationError(
                f"The entrypoint's module {self.module} is not below {path}",
                fix="correct entrypoint in pyproject.toml, or move the package there",
            ) from None

    def load_app(self) -> FastAPI:
        """Return the application, imported from the entrypoint."""
        found = getattr(self.load_module(), self.name, None)
        if not isinstance(found, FastAPI):
            raise ConfigurationError(
                f"{self.module}:{self.name} is not a FastAPI application",
                fix="correct entrypoint in pyproject.toml to the result of create_app",
            )
        return found
