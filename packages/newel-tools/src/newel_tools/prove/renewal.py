"""Renewing an access token: how this application is asked, and what it answers."""

from __future__ import annotations

import re
from typing import Final

from newel_tools.prove.callers import ANONYMOUS, Caller
from newel_tools.prove.credentials import find_refresh, tokens_in
from newel_tools.prove.lab import Lab
from newel_tools.prove.operations import Operation
from newel_tools.prove.requests import Request, build
from newel_tools.prove.service import Exchange

__all__ = ["Renewal", "guarded"]

_FIELD: Final = re.compile(r"refresh|token", re.IGNORECASE)


class Renewal:
    """Renews tokens; ``operation`` is ``None`` if the application has no such operation."""

    def __init__(self, lab: Lab) -> None:
        self.operation = find_refresh(lab.operations)
        self._lab = lab

    def with_token(self, token: str) -> tuple[Exchange, dict[str, str]]:
        """Ask for new tokens with one; return the exchange and the tokens that were answered."""
        exchange = self._lab.send(self._request(token), ANONYMOUS)
        found = tokens_in(exchange.answer.json) if exchange.answer.is_success else {}
        return exchange, found

    def _request(self, token: str) -> Request:
        operation = self.operation
        if operation is None:
            raise ValueError("the application renews no tokens")
        field = next((name for name in operation.fields if _FIELD.search(name)), None)
        if field is not None:
            return build(operation, body={field: token})
        query = next((item.name for item in operation.queries() if _FIELD.search(item.name)), None)
        if query is not None:
            return build(operation, query={query: token})
        cookies = [item.name for item in operation.parameters if item.place == "cookie"]
        if cookies:
            return build(operation, headers={"Cookie": f"{cookies[0]}={token}"})
        return build(operation, headers={"Authorization": f"Bearer {token}"})


def guarded(lab: Lab, caller: Caller) -> Operation | None:
    """Return a read that answers the caller and refuses everybody else."""
    reads = [op for op in lab.operations if op.method == "GET" and not op.path_names]
    reads.sort(key=lambda op: (not op.secured, "/me" not in op.path))
    for operation in reads[:8]:
        request = lab.request(operation, caller)
        if request is None or not lab.send(request, caller).answer.is_success:
            continue
        if lab.send(request, ANONYMOUS).answer.status in (401, 403):
            return operation
    return None
