"""Two documents side by side."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, date, datetime

from newel_tools.contract.changes import Change, change
from newel_tools.contract.operations import OperationComparison, removed_operation
from newel_tools.contract.renames import guess_renames
from newel_tools.openapi.document import Document, Operation

__all__ = ["compare"]


def compare(old: Document, new: Document, *, today: date | None = None) -> list[Change]:
    """Return what changed for clients from ``old`` to ``new``, in the order of the documents.

    ``today`` decides which last days (``x-sunset``) are over.
    """
    return list(_changes(old, new, today or datetime.now(UTC).date()))


def _changes(old: Document, new: Document, today: date) -> Iterator[Change]:
    comparison = OperationComparison(old, new)
    gone = [operation for key, operation in old.operations.items() if key not in new.operations]
    added = [operation for key, operation in new.operations.items() if key not in old.operations]
    renames = _renames(gone, added, comparison)
    paths = {path for _, path in new.operations}
    for key, operation in old.operations.items():
        if (now := new.operations.get(key)) is not None:
            yield from comparison.compare(operation, now)
            continue
        found = removed_operation(operation, with_path=key[1] not in paths, today=today)
        if found is None:
            continue
        guess = renames.get(operation.name)
        hint = f"; renamed to `{guess}`?" if guess else ""
        yield change(found.rule, operation=operation.name, text=f"{found.text}{hint}", guess=guess)
    for operation in added:
        yield change("endpoint-added", operation=operation.name, text="the operation is new")
    for name in sorted(old.webhooks - new.webhooks):
        yield change("webhook-removed", where=f"webhook {name}", text="it is not sent any more")
    for name in sorted(new.webhooks - old.webhooks):
        yield change("webhook-added", where=f"webhook {name}", text="it may be sent now")


def _renames(
    gone: list[Operation], added: list[Operation], comparison: OperationComparison
) -> dict[str, str]:
    olds = {operation.name: operation for operation in gone}
    news = {operation.name: operation for operation in added}
    return guess_renames(
        list(olds),
        list(news),
        lambda one, other: (
            olds[one].method == news[other].method and comparison.same(olds[one], news[other])
        ),
    )
