"""The scenarios that ask too much of a service: what their figures find."""

import asyncio
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from stress.abuse import Abuse, Suffered
from stress.abuse import figures as abuse_figures
from stress.assaults import ASSAULTS
from stress.crowd import Reply, percentile, request
from stress.desk.sabotage import SABOTAGES, named
from stress.figures import Figure
from stress.overload import figures as overload_figures
from stress.overload import middle


def replies(count: int, *, over: float, status: int = 200, **values: Any) -> list[Reply]:
    step = over / count
    seconds = values.pop("seconds", step)
    return [
        Reply(sent_at=number * step, seconds=seconds, status=status, **values)
        for number in range(count)
    ]


CALM = replies(1000, over=10.0)
STORM = [
    *replies(900, over=10.0, seconds=0.3),
    *replies(1000, over=10.0, status=503, seconds=0.02, has_retry_after=True),
]
REST = replies(10, over=5.0, seconds=0.01)


def figures_of(**changed: Any) -> list[Figure]:
    values: dict[str, Any] = {"calm": CALM, "storm": STORM, "rest": REST, "again": CALM}
    numbers = {"over": 0.0, "growth_percent": 3.0}
    values |= {name: value for name, value in changed.items() if name in values}
    numbers |= {name: value for name, value in changed.items() if name in numbers}
    return overload_figures(*values.values(), **numbers)


def missed(**changed: Any) -> set[str]:
    return {figure.name for figure in figures_of(**changed) if figure.missed}


def test_a_service_that_goes_on_misses_nothing() -> None:
    assert missed() == set()


def test_what_is_lost_is_of_what_it_can_do_before_and_after() -> None:
    """A disk is not as quick a minute later; a service that stays slow has lost it."""
    assert missed(again=replies(1100, over=10.0)) == set()
    assert missed(again=replies(1400, over=10.0)) == {"capacity lost in it, %"}


def test_of_three_rounds_the_middle_counts_for_what_was_lost_and_the_worst_for_all_else() -> None:
    good, slow = figures_of(), figures_of(again=replies(1400, over=10.0))
    rude = figures_of(storm=[*STORM, Reply(sent_at=1, seconds=0, status=0)])

    assert [one.name for one in middle([slow, good, good]) if one.missed] == []
    assert [one.name for one in middle([slow, good, slow]) if one.missed] == [
        "capacity lost in it, %"
    ]
    assert [one.name for one in middle([good, good, rude]) if one.missed] == [
        "neither answered nor refused"
    ]


REFUSED = replies(1000, over=10.0, status=503, seconds=0.02, has_retry_after=True)
FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("capacity lost in it, %", {"storm": [*replies(700, over=10.0), *REFUSED]}),
    ("refusal in 99 of 100, ms", {"storm": [*STORM, *replies(900, over=10.0, status=503)] * 2}),
    ("refusals without Retry-After", {"storm": [*STORM, Reply(sent_at=1, seconds=0, status=503)]}),
    ("neither answered nor refused", {"storm": [*STORM, Reply(sent_at=1, seconds=0, status=0)]}),
    ("as before it after, s", {"rest": [Reply(sent_at=2.5, seconds=0.3, status=200)]}),
    ("memory more than before it, %", {"growth_percent": 25.0}),
]


@pytest.mark.parametrize(("name", "change"), FAULTS, ids=[name for name, _ in FAULTS])
def test_a_service_that_does_not_is_found(name: str, change: dict[str, Any]) -> None:
    slow = {"refusal in 99 of 100, ms": replies(99, over=10.0, status=503, seconds=0.2)}
    storm = [*change.get("storm", STORM), *slow.get(name, [])]

    assert name in missed(**{**change, "storm": storm})


def suffered(**changed: Any) -> Suffered:
    values: dict[str, Any] = {
        "assault": ASSAULTS[0],
        "unrefused": [],
        "more_bytes": 2**20,
        "others": replies(100, over=1.0),
    }
    return Suffered(**values | changed)


@pytest.mark.parametrize(
    ("figure", "change"),
    [
        ("not refused, or others not served", {"unrefused": ["answered with 201"]}),
        ("not refused, or others not served", {"others": replies(9, over=1.0, status=503)}),
        ("memory, MiB", {"more_bytes": 31 * 2**20}),
        ("others wait, ms", {"others": replies(100, over=1.0, seconds=0.3)}),
    ],
)
def test_what_an_abuse_did_is_found(figure: str, change: dict[str, Any]) -> None:
    def missed_of(one: Suffered) -> list[str]:
        return [found.name for found in abuse_figures([one]) if found.missed]

    assert missed_of(suffered()) == []
    assert missed_of(suffered(**change)) == [f"{ASSAULTS[0].name}: {figure}"]


def test_every_sabotage_is_of_something_that_is_measured() -> None:
    assert [one.found_by for one in named("no-schema,threads")] == ["deep JSON", "20 log-ins"]
    names = {assault.name for assault in ASSAULTS}
    assert {one.found_by for one in SABOTAGES.values() if one.scenario == "abuse"} <= names


def test_a_request_is_what_a_server_reads() -> None:
    assert request("POST", "/x", b"ab", content_type="text/plain") == (
        b"POST /x HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: text/plain\r\n"
        b"content-length: 2\r\n\r\nab"
    )
    assert percentile([3, 1, 2], 0.99) == 3
    assert percentile([], 0.5) == 0.0


@pytest.mark.stress
@pytest.mark.parametrize("sabotage", [None, "patience"])
def test_who_reads_nothing_in_a_room_is_closed(tmp_path: Path, sabotage: str | None) -> None:
    abuse = Abuse(database="sqlite", folder=tmp_path, sabotage=sabotage, only=["room"], scale=0.1)
    [refused, *_] = asyncio.run(abuse.run(Mock())).figures

    assert refused.examples == ([] if sabotage is None else ["10 too many are open"])
    assert refused.missed == (sabotage is not None)
