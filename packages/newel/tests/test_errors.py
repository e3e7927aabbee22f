"""Errors carry their status, a code, words for a client and nothing else."""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from newel import errors
from newel.errors import (
    AppError,
    ConfigurationError,
    Duplicate,
    GatewayTimeout,
    NotFound,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UpstreamError,
)

KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, AppError)
]


@pytest.mark.parametrize("kind", KINDS)
def test_the_drawing_shows_every_error_with_its_status_and_code(kind: type[AppError]) -> None:
    drawing = {
        line.split()[-3]: line.split()[-2:]
        for line in str(errors.__doc__).splitlines()
        if line.strip()
        and line.split()[-1].islower()
        and len(line.split()) >= 3
        and line.split()[-2].isdigit()
    }
    assert drawing[kind.__name__] == [str(kind.status), kind.code]


@pytest.mark.parametrize("kind", KINDS)
def test_every_error_says_what_to_do(kind: type[AppError]) -> None:
    assert kind.title
    assert kind.advice.endswith(".")
    assert 400 <= kind.status < 600


def test_codes_are_unique() -> None:
    assert len({kind.code for kind in KINDS}) == len(KINDS)


def test_detail_headers_and_members_are_the_callers() -> None:
    error = AppError("It broke.", headers={"X-A": "1"}, part="engine")
    assert (error.detail, error.headers, error.extra) == (
        "It broke.",
        {"X-A": "1"},
        {"part": "engine"},
    )
    assert AppError().detail == AppError.advice


def test_not_found_names_the_resource_and_never_the_id() -> None:
    error = NotFound("agent", "0000-secret")
    assert error.detail == "There is no such agent."
    assert error.extra == {"resource": "agent"}
    assert "secret" not in str(error)
    assert NotFound().extra == {}


def test_a_duplicate_points_at_its_field() -> None:
    error = Duplicate("user", "email")
    assert error.extra == {"resource": "user", "field": "email"}
    assert [(found.pointer, found.code) for found in error.errors] == [("#/email", "duplicate")]


@pytest.mark.parametrize(
    ("seconds", "header"), [(0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (59.99, "60")]
)
def test_waiting_is_told_in_whole_seconds(seconds: float, header: str) -> None:
    error = TooManyRequests(retry_after_seconds=seconds, headers={"RateLimit": "x"})
    assert error.headers == {"Retry-After": header, "RateLimit": "x"}


def test_the_other_headers() -> None:
    assert Unauthorized().headers == {"WWW-Authenticate": "Bearer"}
    assert Unavailable(retry_after_seconds=7).headers == {"Retry-After": "7"}


def test_an_upstream_error_names_the_service() -> None:
    error = UpstreamError("github")
    assert error.extra == {"service": "github"}
    assert "github" in error.detail


def test_a_configuration_error_names_the_fix() -> None:
    error = ConfigurationError("SECRET_KEY is not set", fix="set it")
    assert str(error) == "SECRET_KEY is not set\n  fix: set it"


def test_an_upstream_that_is_too_slow_is_an_upstream_error() -> None:
    error = GatewayTimeout("github")
    assert isinstance(error, UpstreamError)
    assert (error.detail, error.extra) == (
        "github did not answer in time.",
        {"service": "github"},
    )


class SeatTaken(Duplicate):
    """One of a service's own, with a constructor of its own."""

    code = "seat_taken"

    def __init__(self, *, row: int) -> None:
        super().__init__("booking", "seat")
        self.row = row


MADE = [
    AppError("It broke.", headers={"X-A": "1"}, part="engine"),
    NotFound("agent", 7),
    Duplicate("user", "email"),
    TooManyRequests(retry_after_seconds=1.5, headers={"RateLimit": "x"}),
    Unauthorized("No.", reason="expired"),
    Unavailable(retry_after_seconds=7),
    GatewayTimeout("github"),
    ConfigurationError("SECRET_KEY is not set", fix="set it"),
    SeatTaken(row=4),
]
WAYS: list[Callable[[AppError], AppError]] = [
    *(lambda error, p=p: pickle.loads(pickle.dumps(error, p)) for p in range(6)),
    copy.copy,
    copy.deepcopy,
]


def said(error: AppError) -> dict[str, Any]:
    return {"kind": type(error), "text": str(error), "args": error.args} | vars(error)


@pytest.mark.parametrize("error", MADE, ids=lambda error: type(error).__name__)
def test_an_error_survives_being_kept(error: AppError) -> None:
    for way in WAYS:
        assert said(way(error)) == said(error)


def test_a_copy_can_be_given_its_own_headers() -> None:
    error = Unavailable()
    copy.deepcopy(error).headers["Retry-After"] = "60"
    assert error.headers == {"Retry-After": "2"}
