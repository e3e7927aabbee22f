"""Resources: what a collection of operations on the same things is about."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from newel_tools.prove.credentials import is_entrance
from newel_tools.prove.operations import Operation

__all__ = ["Resource", "find_resources", "is_people", "key_of", "singular"]

_VERBS: Final = frozenset(
    {"create", "add", "new", "get", "list", "all", "update", "edit", "delete", "remove", "detail"}
    | {"details", "fetch", "view", "show", "search", "one", "single", "store", "save", "insert"}
)
_VERB: Final = re.compile(r"^(create|add|new|get|list|update|edit|delete|remove|fetch|save)[-_]+")
_PEOPLE: Final = frozenset({"user", "account", "member", "customer", "me", "profile"})

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Resource:
    """Things of one kind. ``create`` makes one; ``items`` are the operations on one by its key.

    ``key`` is the collection's path without verbs, parameters as `{}`.
    """

    name: str
    key: Key
    create: Operation | None
    list: Operation | None
    items: tuple[Operation, ...]

    def item(self, *methods: str) -> Operation | None:
        """Return the first operation on one item with one of these methods."""
        found = (op for method in methods for op in self.items if op.method == method)
        return next(found, None)

    @property
    def label(self) -> str:
        """What to call it in a report."""
        return self.create.label if self.create is not None else "/" + "/".join(self.key)


def key_of(path: str) -> Key:
    """Return a path without verbs, its parameters as `{}`: `/items/get/{id}` is `items, {}`."""
    parts = [part for part in path.split("/") if part]
    plain = [part if part.startswith("{") else _VERB.sub("", part.lower()) for part in parts]
    kept = [part for part in plain if part not in _VERBS]
    return tuple("{}" if part.startswith("{") else part for part in kept)


def singular(word: str) -> str:
    """Return a noun's singular, in small letters: `categories` is `category`."""
    word = word.lower().replace("-", "_")
    for ending, end in (("ies", "y"), ("sses", "ss"), ("xes", "x"), ("ches", "ch"), ("shes", "sh")):
        if word.endswith(ending):
            return word.removesuffix(ending) + end
    return word.removesuffix("s") if not word.endswith(("ss", "us", "is")) else word


def is_people(resource: Resource) -> bool:
    """Tell whether the things are accounts: a caller's own is one of them."""
    return resource.name in _PEOPLE


def find_resources(operations: Iterable[Operation]) -> list[Resource]:
    """Return the resources of an application, those without a parent first."""
    listed = list(operations)
    by_key: dict[Key, list[Operation]] = {}
    for operation in listed:
        by_key.setdefault(key_of(operation.path), []).append(operation)
    keys = {key for key in by_key if key and key[-1] != "{}"}
    keys |= {key[:-1] for key in by_key if len(key) > 1 and key[-1] == "{}" and key[-2] != "{}"}
    found = [_resource(key, by_key) for key in sorted(keys, key=lambda key: (len(key), key))]
    return [resource for resource in found if resource is not None]


def _resource(key: Key, by_key: dict[Key, list[Operation]]) -> Resource | None:
    here = by_key.get(key, [])
    items = tuple(by_key.get((*key, "{}"), []))
    reads = [op for op in here if op.method == "GET"]
    listing = next((op for op in reads if op.lists), None)
    posts = [op for op in here if op.method == "POST" and not is_entrance(op)]
    create = next((op for op in posts if items or listing or 201 in op.answers), None)
    if create is None and not items:
        return None
    return Resource(name=singular(key[-1]), key=key, create=create, list=listing, items=items)
