"""The contract that was agreed on: one OpenAPI document a version of the API, committed.

contract/openapi.v1.json      every path below /v1/, and the schemas that those use
contract/openapi.json         the paths that belong to no version
contract/acknowledged.toml    breaks that were agreed on, see agreement.py
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

from newel_tools.openapi.document import Document, read_document

__all__ = ["FOLDER", "Version", "by_version", "read_baseline", "write_baseline"]

FOLDER: Final = "contract"
_VERSION: Final = re.compile(r"/(v\d+)(?:/|$)")
_NAME: Final = re.compile(r"openapi(?:\.(v\d+))?\.json")
ROUTES: Final = "x-newel-routes"


@dataclass(frozen=True, slots=True, order=True)
class Version:
    """A version of the API, ``v1``; empty for what has none."""

    name: str

    @property
    def file(self) -> str:
        """The name of its document."""
        return f"openapi.{self.name}.json" if self.name else "openapi.json"


def by_version(content: Mapping[str, Any]) -> dict[Version, Document]:
    """Return one document for each version that the paths name, each complete in itself."""
    paths: dict[Version, dict[str, Any]] = {}
    for path, item in cast("Mapping[str, Any]", content.get("paths") or {}).items():
        paths.setdefault(_version_of(path), {})[path] = item
    routes: dict[Version, dict[str, Any]] = {}
    for name, said in cast("Mapping[str, Any]", content.get(ROUTES) or {}).items():
        routes.setdefault(_version_of(name), {})[name] = said
    return {
        version: Document(
            _pruned({**content, "paths": paths.get(version, {}), ROUTES: routes.get(version, {})}),
            version.file,
        )
        for version in sorted(paths.keys() | routes.keys())
    }


def read_baseline(folder: Path) -> dict[Version, Document]:
    """Return the committed documents; raises ``DocumentError`` for one that is broken."""
    found: dict[Version, Document] = {}
    for path in sorted(folder.glob("openapi*.json")):
        if matched := _NAME.fullmatch(path.name):
            found[Version(matched[1] or "")] = read_document(path)
    return found


def write_baseline(folder: Path, documents: Mapping[Version, Document]) -> list[Path]:
    """Write the documents and remove those of versions that are gone; return what changed.

    The text depends on the contents alone, so that a diff shows what changed and nothing else.
    """
    folder.mkdir(exist_ok=True)
    changed: list[Path] = []
    for version, document in documents.items():
        path = folder / version.file
        text = json.dumps(document.content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.write_text(text, encoding="utf-8")
            changed.append(path)
    for version in read_baseline(folder).keys() - documents.keys():
        path = folder / version.file
        path.unlink()
        changed.append(path)
    return changed


def _version_of(path: str) -> Version:
    found = _VERSION.search(path)
    return Version(found[1] if found else "")


def _pruned(content: Mapping[str, Any]) -> dict[str, Any]:
    """Return a document with only those components that it uses."""
    components = cast("Mapping[str, Mapping[str, Any]]", content.get("components") or {})
    rest = {key: value for key, value in content.items() if key != "components"}
    used: set[tuple[str, str]] = set()
    waiting: list[object] = [rest]
    while waiting:
        for kind, name in _references(waiting.pop()):
            if (kind, name) not in used and name in components.get(kind, {}):
                used.add((kind, name))
                waiting.append(components[kind][name])
    schemes = components.get("securitySchemes", {})
    used |= {("securitySchemes", name) for name in schemes if name in _schemes_used(rest)}
    kept = {
        kind: picked
        for kind, members in components.items()
        if (picked := {name: node for name, node in members.items() if (kind, name) in used})
    }
    return {**rest, **({"components": kept} if kept else {})}


def _references(node: object) -> Iterator[tuple[str, str]]:
    """Yield the components that a node names, discriminators' mappings too."""
    if isinstance(node, Mapping):
        for value in cast("Mapping[str, object]", node).values():
            yield from _references(value)
    elif isinstance(node, list):
        for value in cast("list[object]", node):
            yield from _references(value)
    elif isinstance(node, str) and node.startswith("#/components/"):
        _, _, kind, name = [*node.split("/", 3), ""][:4]
        yield kind, name.replace("~1", "/").replace("~0", "~")


def _schemes_used(node: object) -> set[str]:
    found: set[str] = set()
    if isinstance(node, Mapping):
        for key, value in cast("Mapping[str, object]", node).items():
            if key == "security" and isinstance(value, list):
                found |= {name for way in cast("list[dict[str, Any]]", value) for name in way}
            else:
                found |= _schemes_used(value)
    return found
