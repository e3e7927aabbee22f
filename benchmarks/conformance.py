"""One test that every variant passes before it is timed: the same answers to the same requests."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable
from datetime import datetime
from typing import Any

from benchmarks.databases import AGENTS_OF_A_USER, BODY
from benchmarks.load import PATH
from benchmarks.servers import BenchmarkError, Server

FIELDS = {
    *BODY,
    "id",
    "created_at",
    "updated_at",
    "version",
    "owner_id",
}


class Caller:
    """Somebody with a token, or without."""

    def __init__(self, server: Server, token: str | None) -> None:
        self._server = server
        self._token = token

    def ask(self, method: str, rest: str = "", body: Any = None) -> tuple[int, Any]:
        """Return the status and the JSON of an answer."""
        headers = {} if self._token is None else {"Authorization": f"Bearer {self._token}"}
        connection = http.client.HTTPConnection("127.0.0.1", self._server.port, timeout=10)
        content = None if body is None else json.dumps(body)
        if content is not None:
            headers["Content-Type"] = "application/json"
        connection.request(method, PATH + rest, content, headers)
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        is_json = "json" in answer.headers.get("Content-Type", "")
        return answer.status, json.loads(text) if text and is_json else text.decode() or None

    def total(self) -> int:
        """Return how many agents the caller sees."""
        total: int = self.ask("GET")[1]["total"]
        return total


def conforms(server: Server, workload: dict[str, Any]) -> None:
    """Raise ``BenchmarkError`` with the first difference between ``server`` and the contract."""
    name = server.variant.name

    def expect(what: str, found: Any, wanted: Any) -> None:
        if found != wanted:
            raise BenchmarkError(
                f"The variant {name} differs: {what} is {found!r}, not {wanted!r}",
                "make it answer as the others do, or the figures compare nothing",
            )

    mine, other = (Caller(server, user["token"]) for user in workload["users"][:2])
    _refuses_bad_tokens(server, workload, expect)
    _lists(mine, workload, expect)
    _keeps_to_the_owner(other, workload, expect)
    _refuses_bad_input(mine, expect)
    _writes(mine, expect)


Expect = Callable[[str, Any, Any], None]


def _refuses_bad_tokens(server: Server, workload: dict[str, Any], expect: Expect) -> None:
    token: str = workload["users"][0]["token"]
    head, payload, signature = token.split(".")
    forged = f"{head}.{payload}.{signature[:-4]}{'AAAA' if signature[-4:] != 'AAAA' else 'BBBB'}"
    unsigned = f"eyJhbGciOiJub25lIiwidHlwIjoiYXQrand0In0.{payload}."
    bad = {
        "no token": None,
        "a forged token": forged,
        "an unsigned token": unsigned,
        "no JWT": "abc",
        "a token of an ended session": workload["ended_token"],
    }
    for what, each in bad.items():
        for method in ("GET", "POST"):
            body = BODY if method == "POST" else None
            status = Caller(server, each).ask(method, body=body)[0]
            expect(f"the status of {method} with {what}", status, 401)


def _lists(mine: Caller, workload: dict[str, Any], expect: Expect) -> None:
    status, page = mine.ask("GET", "?page=2&page_size=20")
    expect("the status of a list", status, 200)
    expect("a page", set(page), {"items", "total", "page", "page_size", "pages"})
    numbers = [page["total"], page["page"], page["page_size"], page["pages"]]
    expect("a page's numbers", numbers, [AGENTS_OF_A_USER, 2, 20, AGENTS_OF_A_USER // 20])
    names = [item["name"] for item in page["items"]]
    expect("its rows", names, [f"agent {number:04d}" for number in range(20, 40)])
    agent = page["items"][0]
    expect("an agent", set(agent), FIELDS)
    expect("its owner", agent["owner_id"], workload["users"][0]["id"])
    expect("its content", {name: agent[name] for name in BODY}, BODY | {"name": "agent 0020"})
    expect("its time's zone", _zone(agent["created_at"]), "UTC")
    expect("the same agent alone", mine.ask("GET", f"/{agent['id']}"), (200, agent))
    expect("a page of 101", mine.ask("GET", "?page_size=101")[0], 422)


def _keeps_to_the_owner(other: Caller, workload: dict[str, Any], expect: Expect) -> None:
    foreign = f"/{workload['users'][0]['agents'][0]}"
    for method, body in (("GET", None), ("PATCH", {"name": "mine now"}), ("DELETE", None)):
        expect(f"{method} of another's agent", other.ask(method, foreign, body)[0], 404)


def _refuses_bad_input(mine: Caller, expect: Expect) -> None:
    status = mine.ask("GET", "/no-id")[0]  # no route, or a route and no id: both are fair
    expect("the status of a bad id", status, 404 if status == 404 else 422)
    for what, body in {
        "a short name": BODY | {"name": "ab"},
        "a long name": BODY | {"name": "a" * 65},
        "an unknown field": BODY | {"owner": "me"},
        "no prompt": {name: value for name, value in BODY.items() if name != "system_prompt"},
    }.items():
        expect(f"POST with {what}", mine.ask("POST", body=body)[0], 422)
    expect("the total after that", mine.total(), AGENTS_OF_A_USER)


def _writes(mine: Caller, expect: Expect) -> None:
    status, made = mine.ask("POST", body=BODY)
    expect("the status of POST", status, 201)
    expect("what POST made", {name: made.get(name) for name in BODY}, BODY)
    expect("its fields", set(made), FIELDS)
    address = f"/{made['id']}"
    expect("GET of what POST made", mine.ask("GET", address), (200, made))
    expect("PATCH with a short name", mine.ask("PATCH", address, {"name": "ab"})[0], 422)
    status, changed = mine.ask("PATCH", address, {"name": "renamed"})
    expect("the status of PATCH", status, 200)
    wanted = made | {"name": "renamed", "version": 2, "updated_at": changed["updated_at"]}
    expect("what PATCH changed", changed, wanted)
    times = [made["updated_at"], changed["updated_at"]]
    expect("the times before and after PATCH", times, sorted(set(times)))
    expect("the total after POST", mine.total(), AGENTS_OF_A_USER + 1)
    expect("the answer of DELETE", mine.ask("DELETE", address), (204, None))
    expect("GET of what is deleted", mine.ask("GET", address)[0], 404)
    expect("DELETE of what is deleted", mine.ask("DELETE", address)[0], 404)
    expect("the total after DELETE", mine.total(), AGENTS_OF_A_USER)


def _zone(time: str) -> str | None:
    return datetime.fromisoformat(time).tzname()
