"""Breaks that no document shows: hidden routes, who may call, what answers leave out."""

from typing import Any

import pytest

from newel_tools.contract.hidden import compare_hidden, hidden_facts
from newel_tools.facts.facts import Facts
from newel_tools.openapi.document import Document


def document(routes: dict[str, Any] | None) -> Document:
    more = {} if routes is None else {"x-newel-routes": routes}
    return Document({"openapi": "3.1.0", "paths": {}, **more})


OPEN: dict[str, Any] = {"access": []}
HIDDEN = {"access": [], "hidden": True}
CASES: list[tuple[str, dict[str, Any], dict[str, Any], list[tuple[str, bool]]]] = [
    ("nothing", {"GET /a": OPEN}, {"GET /a": OPEN}, []),
    ("a hidden route is gone", {"GET /a": HIDDEN}, {}, [("hidden-route-removed", True)]),
    ("a shown route is gone, which the document says", {"GET /a": OPEN}, {}, []),
    ("a hidden route is new", {}, {"GET /a": HIDDEN}, [("hidden-route-added", False)]),
    ("a route is hidden", {"GET /a": OPEN}, {"GET /a": HIDDEN}, [("route-hidden", True)]),
    ("a route is shown", {"GET /a": HIDDEN}, {"GET /a": OPEN}, []),
    (
        "more is asked for",
        {"GET /a": {"access": ["a:read"]}},
        {"GET /a": {"access": ["a:read", "role:admin"]}},
        [("access-narrowed", True)],
    ),
    (
        "less is asked for",
        {"GET /a": {"access": ["a"]}},
        {"GET /a": OPEN},
        [("access-widened", False)],
    ),
    (
        "something else is asked for",
        {"GET /a": {"access": ["a:read"]}},
        {"GET /a": {"access": ["a:list"]}},
        [("access-changed", True)],
    ),
    *(
        (
            f"{option} {was} to {is_now}",
            {"GET /a": {"omitted": {option: was} if was else {}}},
            {"GET /a": {"omitted": {option: is_now} if is_now else {}}},
            [("response-exclude-changed" if breaks else "response-exclude-loosened", breaks)],
        )
        for option, was, is_now, breaks in [
            ("response_model_exclude", None, ["a"], True),
            ("response_model_exclude", ["a"], ["a", "b"], True),
            ("response_model_exclude", ["a", "b"], ["a"], False),
            ("response_model_exclude", ["a"], None, False),
            ("response_model_exclude", ["a"], ["b"], True),
            ("response_model_include", None, ["a"], True),
            ("response_model_include", ["a"], ["a", "b"], False),
            ("response_model_include", ["a", "b"], ["a"], True),
            ("response_model_include", ["a"], None, False),
            ("response_model_exclude_none", None, True, True),
            ("response_model_exclude_none", True, None, False),
            ("response_model_exclude", ["a"], {"a": ["b"]}, True),
        ]
    ),
]


@pytest.mark.parametrize(
    ("old", "new", "expected"), [c[1:] for c in CASES], ids=[c[0] for c in CASES]
)
def test_what_the_document_does_not_show(old, new, expected):
    found = list(compare_hidden(document(old), document(new)))

    assert [(change.rule, change.breaks) for change in found] == expected


def test_a_baseline_without_facts_of_routes_says_nothing():
    assert list(compare_hidden(document(None), document({"GET /a": HIDDEN}))) == []


def test_the_facts_of_routes_leave_out_defaults_and_the_documentation():
    guard = {"name": "require_admin", "module": "app.auth"}
    facts = Facts.model_validate(
        {
            "application": {"openapi_url": "/openapi.json", "docs_url": "/docs", "redoc_url": None},
            "routes": [
                {"kind": "plain", "path": "/openapi.json", "methods": ["GET", "HEAD"]},
                {"kind": "plain", "path": "/docs/oauth2-redirect", "methods": ["GET"]},
                {"kind": "plain", "path": "/metrics", "methods": ["GET"], "in_schema": False},
                {"kind": "mount", "path": "/static"},
                {"kind": "websocket", "path": "/ws", "in_schema": False},
                {
                    "kind": "http",
                    "path": "/agents",
                    "methods": ["GET", "POST"],
                    "dependant": {"dependencies": [{"call": guard}]},
                    "response": {
                        "options": {
                            "response_model_exclude": ["b", "a"],
                            "response_model_exclude_none": False,
                            "response_model_exclude_unset": True,
                        }
                    },
                },
            ],
        }
    )
    agents = {
        "access": ["require_admin"],
        "omitted": {
            "response_model_exclude": ["a", "b"],
            "response_model_exclude_unset": True,
        },
    }

    assert hidden_facts(facts) == {
        "GET /metrics": HIDDEN,
        "WS /ws": HIDDEN,
        "GET /agents": agents,
        "POST /agents": agents,
    }
