"""What leaves for other systems: one CloudEvent, at a place that one rule says."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from cloudevents.core.formats.json import JSONFormat
from cloudevents.core.v1.event import CloudEvent

from newel.broker import MemoryBroker, Message, full_topic, open_broker
from newel.errors import ConfigurationError

pytestmark = pytest.mark.anyio

ID, ENTITY = UUID(int=7), UUID(int=1)


def message(**changes: Any) -> Message:
    fields: dict[str, Any] = {
        "id": ID,
        "topic": "shop.order_item",
        "type": "order_item.added",
        "source": "shop",
        "aggregate_id": ENTITY,
        "position": 4711,
        "occurred_at": datetime(2026, 11, 21, 18, 0, 0, 123456, tzinfo=UTC),
        "data": {"id": str(ENTITY), "amount": 3, "note": "Grüße"},
        "request_id": "request-1",
    }
    return Message(**{**fields, **changes})


class TestMessage:
    def test_it_reads_as_the_page_says(self) -> None:
        assert json.loads(message().body()) == {
            "specversion": "1.0",
            "id": str(ID),
            "source": "shop",
            "type": "order_item.added",
            "subject": str(ENTITY),
            "time": "2026-11-21T18:00:00.123456Z",
            "sequence": "00000000000000004711",
            "datacontenttype": "application/json",
            "requestid": "request-1",
            "data": {"id": str(ENTITY), "amount": 3, "note": "Grüße"},
        }

    def test_the_receivers_own_library_reads_it(self) -> None:
        read = JSONFormat().read(CloudEvent, message().body())
        assert (read.get_id(), read.get_type()) == (str(ID), "order_item.added")
        assert (read.get_source(), read.get_subject()) == ("shop", str(ENTITY))
        assert read.get_time() == datetime(2026, 11, 21, 18, 0, 0, 123456, tzinfo=UTC)
        assert read.get_extension("sequence") == "00000000000000004711"
        assert read.get_data() == {"id": str(ENTITY), "amount": 3, "note": "Grüße"}

    def test_times_are_utc(self) -> None:
        berlin = datetime(2026, 11, 21, 19, tzinfo=timezone(timedelta(hours=1)))
        assert json.loads(message(occurred_at=berlin).body())["time"] == "2026-11-21T18:00:00Z"

    def test_without_a_request_there_is_no_request_id(self) -> None:
        assert "requestid" not in json.loads(message(request_id=None).body())

    def test_a_later_message_compares_as_later_even_as_a_text(self) -> None:
        places = [
            json.loads(message(position=n).body())["sequence"] for n in (9, 10, 99, 2**63 - 1)
        ]
        assert places == sorted(places)
        assert [int(place) for place in places] == [9, 10, 99, 2**63 - 1]

    def test_headers_tell_what_it_is(self) -> None:
        assert message().headers() == {
            "content-type": "application/cloudevents+json",
            "message_id": str(ID),
            "type": "order_item.added",
            "aggregate": str(ENTITY),
        }


class TestTopic:
    @pytest.mark.parametrize(
        ("topic", "service", "full"),
        [
            ("order_item", "shop", "shop.order_item"),
            ("sales.items", "shop", "sales.items"),
            ("order", "My Shop (new)", "My-Shop-new-.order"),
            ("order", "a.b", "a-b.order"),
        ],
    )
    def test_the_service_comes_before_a_word_without_a_dot(
        self, topic: str, service: str, full: str
    ) -> None:
        assert full_topic(topic, service=service) == full


class TestOpening:
    @pytest.mark.parametrize(
        "url",
        ["", "memory", "memory://x", "nats", "nats:", "redis:///0", "http://host", "sqs://host"],
    )
    def test_what_is_no_address_of_a_broker(self, url: str) -> None:
        with pytest.raises(ConfigurationError, match="BROKER_URL") as caught:
            open_broker(url)
        assert "nats://" in caught.value.fix

    @pytest.mark.parametrize(
        ("url", "extra"),
        [
            ("nats://host", "nats"),
            ("rediss://host", "redis"),
            ("kafka://one:9092,two:9092", "kafka"),
            ("amqps://me:secret@host/", "rabbit"),
        ],
    )
    def test_a_driver_that_is_not_installed(
        self, url: str, extra: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(name: str) -> Any:
            raise ModuleNotFoundError(name)

        monkeypatch.setattr("importlib.import_module", missing)
        with pytest.raises(ConfigurationError, match="not installed") as caught:
            open_broker(url)
        assert caught.value.fix == f"install newel[{extra}]"

    async def test_in_memory_the_last_ones_are_kept(self) -> None:
        broker = open_broker("memory:")
        assert isinstance(broker, MemoryBroker)
        for number in range(1001):
            await broker.publish(message(position=number))
        await broker.ping()
        await broker.close()
        assert [broker.sent[0].position, broker.sent[-1].position] == [1, 1000]
