"""Who may come into rooms and what they may do there, on a real server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from sample_rooms import API, Client, People, Said, Served, connected, members_of, served
from sample_valkey import until
from structlog.typing import EventDict
from websockets.exceptions import InvalidStatus

from newel import room_routes, room_tickets, rooms
from newel.errors import TooManyRequests, Unavailable, UpstreamError
from newel.limits import MemoryLimiter, Rate
from newel.principal import Principal

pytestmark = pytest.mark.anyio

LISTED = "https://www.example.com"


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Served]:
    async with served(tmp_path_factory.mktemp("rooms"), cors_origins=(LISTED,)) as found:
        yield found


@pytest.fixture
def token(server: Served) -> str:
    return server.people.add()


@pytest.fixture
def chat() -> str:
    return f"chat:{uuid4()}"


@asynccontextmanager
async def once_an_hour(server: Served) -> AsyncGenerator[None]:
    """Let each caller of the API call once an hour."""
    state = server.app.state
    before = state.limiter, state.api_rate
    state.limiter, state.api_rate = MemoryLimiter(), Rate.parse("1/hour")
    yield
    state.limiter, state.api_rate = before


class TestWhoComesIn:
    @pytest.mark.parametrize("origin", ["https://evil.example", "null", f"{LISTED}.evil.example"])
    async def test_pages_of_others_are_refused_before_anything_is_accepted(
        self, server: Served, token: str, origin: str
    ) -> None:
        ticket = await server.ticket(token)
        with pytest.raises(InvalidStatus) as refused:
            async with connected(server, query=f"?ticket={ticket}", origin=origin):
                pass
        assert refused.value.response.status_code == 403
        assert json.loads(refused.value.response.body or b"")["error"] == "forbidden"

    async def test_own_and_listed_pages_come_in(self, server: Served, token: str) -> None:
        for origin in (f"http://127.0.0.1:{server.port}", LISTED):
            async with connected(server, token, origin=origin) as client:
                await client.nothing_more()

    async def test_a_ticket_is_good_once(self, server: Served, token: str) -> None:
        query = f"?ticket={await server.ticket(token)}"
        assert token not in query
        async with connected(server, query=query) as client:
            welcome = (await client.next("welcome"))["data"]
            assert welcome["user_id"] == token
            assert welcome["connection_id"]
        async with connected(server, query=query) as client:
            assert await client.closed() == 4401

    async def test_a_ticket_ends(
        self, server: Served, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_tickets, "TICKET_SECONDS", -1)
        query = f"?ticket={await server.ticket(token)}"
        async with connected(server, query=query) as client:
            assert await client.closed() == 4401

    @pytest.mark.parametrize("ticket", ["x", "AAAA", "%00", "ü", "A" * 200])
    async def test_a_ticket_cannot_be_made(self, server: Served, ticket: str) -> None:
        async with connected(server, query=f"?ticket={ticket}") as client:
            assert await client.closed() == 4401

    async def test_a_program_may_send_its_token_with_the_handshake(
        self, server: Served, token: str
    ) -> None:
        headers = {"Authorization": f"Bearer {token}"}
        async with connected(server, additional_headers=headers) as client:
            assert (await client.next("welcome"))["data"]["user_id"] == token

    async def test_a_token_in_the_address_is_none(
        self, server: Served, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_routes, "_AUTH_SECONDS", 0.1)
        async with connected(server, query=f"?token={token}&access_token={token}") as client:
            assert await client.closed() == 4408

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            ('{"type":"auth","data":{"token":"bad"}}', 4401),
            ('{"type":"auth","data":{}}', 4401),
            ('{"type":"join","room":"chat:1"}', 4401),
            ('{"type":"auth","data":', 4400),
            ("[]", 4400),
            ("{}", 4400),
            (b'{"type":"auth"}', 4400),
        ],
    )
    async def test_the_first_message_says_who(
        self, server: Served, message: str | bytes, code: int
    ) -> None:
        async with connected(server) as client:
            await client.socket.send(message)
            assert await client.closed() == code

    async def test_strangers_are_counted_and_who_has_a_ticket_is_not(
        self, server: Served, token: str
    ) -> None:
        tickets = [await server.ticket(token) for _ in range(2)]
        async with once_an_hour(server), connected(server, token):
            with pytest.raises(InvalidStatus) as refused:
                async with connected(server, token):
                    pass
            assert refused.value.response.status_code == 429
            for ticket in tickets:
                async with connected(server, query=f"?ticket={ticket}") as client:
                    await client.next("welcome")

    @pytest.mark.parametrize(
        ("query", "headers"),
        [("?ticket=x", {}), ("", {"Authorization": "Bearer x"})],
    )
    async def test_who_offers_what_is_not_good_is_a_stranger(
        self, server: Served, token: str, query: str, headers: dict[str, str]
    ) -> None:
        good = await server.ticket(token)
        async with once_an_hour(server):
            async with connected(server, query=query, additional_headers=headers) as client:
                assert await client.closed() == 4401  # and learns why
            with pytest.raises(InvalidStatus) as refused:
                async with connected(server, query=query, additional_headers=headers):
                    pass
            assert refused.value.response.status_code == 429
            async with connected(server, query=f"?ticket={good}") as client:
                await client.next("welcome")

    async def test_a_user_has_so_many_connections(
        self, server: Served, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rooms, "MAX_CONNECTIONS", 2)
        async with connected(server, token), connected(server, token):
            async with connected(server) as third:
                await third.send("auth", data={"token": token})
                assert await third.closed() == 4429
            async with server.http(token) as client:
                assert (await client.get(f"{API}/chat:1/events")).status_code == 429
            async with connected(server, server.people.add()):
                pass  # others have their own
        async with asyncio.timeout(20):  # what is closed does not count
            while server.app.state.room_kinds._connected:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)


async def looked_at(server: Served, *, times: int) -> None:
    """Wait until those who are connected were looked at again."""
    end = server.people.looks + times
    await until(lambda: server.people.looks >= end, seconds=20)


async def forever(*_args: Any) -> None:
    await asyncio.Event().wait()


async def away(*_args: Any) -> None:
    raise Unavailable


class Trouble:
    """A room whose question goes wrong once it has begun, and one of the same kind that is well."""

    def __init__(self, people: People) -> None:
        self._people = people
        self.room = f"asked:{uuid4()}:trouble"
        self.other = f"asked:{uuid4()}:well"
        self.asked = 0

    def begin(self, how: Callable[[], Awaitable[None]]) -> None:
        async def happens() -> None:
            self.asked += 1
            await how()

        self._people.asked.clear()
        self._people.trouble = happens

    def end(self) -> None:
        self._people.trouble = None


class TestWhoStays:
    @pytest.fixture(autouse=True)
    def _soon(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room_routes, "_LOOK_SECONDS", 0.1)

    @pytest.fixture
    def trouble(self, server: Served) -> Iterator[Trouble]:
        found = Trouble(server.people)
        yield found
        found.end()

    async def test_who_logged_out_is_closed(self, server: Served, token: str) -> None:
        async with connected(server, token) as client:
            await client.join("chat:1")
            await looked_at(server, times=2)  # and still good
            await client.nothing_more()
            del server.people.tokens[token]
            assert await client.closed() == 4401

    async def test_another_token_of_the_same_user_goes_on(self, server: Served, token: str) -> None:
        server.people.tokens["newer"] = server.people.tokens[token]
        async with connected(server, token) as client:
            await client.send("auth", data={"token": "newer"})
            await client.next("welcome")
            del server.people.tokens[token]
            await looked_at(server, times=2)
            await client.nothing_more()
            await client.send("auth", data={"token": server.people.add()})
            assert await client.closed() == 4401

    async def test_who_may_not_be_there_any_more_leaves(self, server: Served) -> None:
        token = server.people.add("staff:read")
        async with connected(server, token) as client:
            assert (await client.join("staff"))["epoch"]
            server.people.tokens[token] = Principal(id=UUID(token))
            assert (await client.next("error"))["data"]["error"] == "not_found"
            assert await server.rooms.members("staff", tenant_id=None) == []
            await client.nothing_more()

    async def test_who_was_removed_neither_hears_nor_speaks(self, server: Served) -> None:
        people, name = server.people, f"club:{uuid4()}"
        ann, bob = people.add(), people.add()
        async with connected(server, ann) as member, connected(server, bob) as removed:
            await member.join(name)
            await removed.join(name)
            people.is_away = True  # it cannot be asked: that is no answer
            people.removed.add(UUID(bob))
            await looked_at(server, times=4)
            await removed.say(name, "not asked yet")
            assert await member.texts(1) == await removed.texts(1) == ["not asked yet"]
            people.is_away = False
            error = await removed.next()
            assert (error["room"], error["data"]["error"]) == (name, "not_found")
            await removed.say(name, "hello")
            assert (await removed.next())["data"]["error"] == "not_found"
            await member.say(name, "a secret")
            assert await member.texts(1) == ["a secret"]
            await removed.nothing_more()

    async def test_who_is_removed_while_they_join_is_removed(
        self, server: Served, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        people, name = server.people, f"club:{uuid4()}"
        is_admitted, may_go_on = asyncio.Event(), asyncio.Event()
        join = server.rooms.join

        async def slow(*args: Any, **more: Any) -> None:
            is_admitted.set()
            await may_go_on.wait()
            await join(*args, **more)

        monkeypatch.setattr(server.rooms, "join", slow)
        token = people.add()
        async with connected(server, token) as client:
            await client.send("join", name)
            await asyncio.wait_for(is_admitted.wait(), 20)
            people.removed.add(UUID(token))
            await looked_at(server, times=1)
            may_go_on.set()
            assert (await client.next("error"))["room"] == name
            await client.nothing_more()
            assert await server.rooms.members(name, tenant_id=None) == []

    async def test_who_logged_out_is_closed_while_a_room_is_asked(
        self, server: Served, token: str, trouble: Trouble
    ) -> None:
        async with connected(server, token) as client:
            await client.join(trouble.room)
            trouble.begin(forever)
            await until(lambda: trouble.asked > 0, seconds=20)
            del server.people.tokens[token]
            assert await client.closed() == 4401

    async def test_a_room_that_does_not_answer_is_left(
        self, server: Served, token: str, trouble: Trouble, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(rooms, "_ASK_SECONDS", 0.1)
        async with connected(server, token) as client:
            await client.join(trouble.room)
            await client.join(trouble.other)
            trouble.begin(forever)
            error = await client.next()
            assert (error["room"], error["data"]["error"]) == (trouble.room, "gateway_timeout")
            await client.say(trouble.other, "hello")
            assert await client.texts(1) == ["hello"]
            assert (await client.join(trouble.room))["error"] == "gateway_timeout"

    @pytest.mark.parametrize(
        ("error", "told"),
        [
            (UpstreamError("members"), "upstream_error"),
            (TooManyRequests(retry_after_seconds=1), "too_many_requests"),
            (RuntimeError("the text of an exception"), "server_error"),
        ],
    )
    async def test_a_room_whose_question_fails_is_left_and_no_other(
        self,
        server: Served,
        trouble: Trouble,
        error: Exception,
        told: str,
        log_lines: list[EventDict],
    ) -> None:
        async def fails() -> None:
            raise error

        async with connected(server, server.people.add()) as client:
            await client.join(trouble.room)
            await client.join(trouble.other)
            trouble.begin(fails)
            heard = await client.next()
            assert (heard["type"], heard["room"]) == ("error", trouble.room)
            assert heard["data"]["error"] == told
            assert "exception" not in json.dumps(heard)
            await looked_at(server, times=2)
            await client.say(trouble.other, "hello")
            assert await client.texts(1) == ["hello"]
            await client.nothing_more()
        assert "room_check_failed" in [line["event"] for line in log_lines]

    async def test_the_stream_of_a_room_whose_question_fails_ends(
        self, server: Served, token: str, trouble: Trouble
    ) -> None:
        async def fails() -> None:
            raise RuntimeError

        async with events(server, trouble.room, token) as stream:
            await anext(stream)
            trouble.begin(fails)
            assert [one async for one in stream] == []

    async def test_after_a_question_that_failed_the_others_have_another_unit(
        self, server: Served, trouble: Trouble
    ) -> None:
        async def fails() -> None:
            raise RuntimeError

        trouble.begin(fails)
        names = ["asked:1:a", "asked:1:b", trouble.room, "asked:1:c"]
        kinds, caller = server.app.state.room_kinds, Principal(id=uuid4())
        assert list(await kinds.refused(caller, names)) == [trouble.room]
        a, b, failed, c = (visit.work for visit in server.people.asked)
        assert a is b is failed is not c

    @pytest.mark.parametrize("how", [forever, away])
    @pytest.mark.parametrize("what", ["caller", "room"])
    async def test_who_cannot_be_looked_at_for_long_is_closed(
        self,
        server: Served,
        trouble: Trouble,
        monkeypatch: pytest.MonkeyPatch,
        how: Callable[..., Awaitable[Any]],
        what: str,
    ) -> None:
        monkeypatch.setattr(room_routes, "_UNCHECKED_SECONDS", 1.5)
        name, token = trouble.room, server.people.add()
        async with connected(server, token) as client, events(server, name, token) as stream:
            await client.join(name)
            await anext(stream)
            if what == "caller":
                monkeypatch.setattr(server.people, "authenticate", how)
            else:
                trouble.begin(how)
            assert [one async for one in stream] == []
            assert await client.closed() == 1011

    def test_it_is_looked_at_within_five_seconds(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.undo()
        assert room_routes._LOOK_SECONDS < 5


class TestWhoLeaves:
    @pytest.fixture
    async def client(self, server: Served, token: str) -> AsyncGenerator[Client]:
        server.people.left.clear()
        server.people.may_go.clear()  # who leaves a room is told of for as long
        async with connected(server, token) as found:
            yield found
        server.people.may_go.set()

    async def test_nobody_waits_for_what_is_said_of_it(
        self, server: Served, client: Client, token: str
    ) -> None:
        names = [f"slow:{uuid4()}" for _ in range(3)]
        for name in names:
            await client.join(name)
        await client.send("auth", data={"token": "of nobody"})
        assert await client.closed() == 4401
        await until(lambda: server.people.left, seconds=20)
        for name in names:
            assert await server.rooms.members(name, tenant_id=None) == []
        assert UUID(token) not in server.app.state.room_kinds._connected
        assert len(server.people.left) == 1, "it is still being said of the first"
        server.people.may_go.set()
        await until(lambda: sorted(server.people.left) == sorted(names), seconds=20)

    async def test_what_is_said_of_it_has_an_end(
        self, client: Client, monkeypatch: pytest.MonkeyPatch, log_lines: list[EventDict]
    ) -> None:
        await client.join(f"slow:{uuid4()}")
        monkeypatch.setattr(room_routes, "_HANDLER_SECONDS", 0.2)
        await client.send("auth", data={"token": "of nobody"})
        assert await client.closed() == 4401

        def is_told() -> bool:
            return "room_notices_late" in [line["event"] for line in log_lines]

        await until(is_told, seconds=20)


class TestJoining:
    async def test_a_room_of_others_is_like_none(self, server: Served, token: str) -> None:
        other = f"own:{server.people.add()}"
        async with connected(server, token) as client:
            refusals = [await client.join(name) for name in (other, "nothing:1", "", "chat:a/b")]
            assert len({json.dumps(refusal) for refusal in refusals}) == 1
            assert refusals[0]["error"] == "not_found"
            assert (await client.join(f"own:{token}"))["epoch"]
            for path in ("events", "members"):
                async with server.http(token) as http:
                    refused = [
                        (await http.get(f"{API}/{name}/{path}")).json()
                        for name in (other, "nothing:1")
                    ]
                assert [one["status"] for one in refused] == [404, 404]
                assert len({one["detail"] for one in refused}) == 1

    async def test_a_permission_opens_rooms(self, server: Served, token: str) -> None:
        async with connected(server, token) as client:
            assert (await client.join("staff"))["error"] == "not_found"
        async with connected(server, server.people.add("staff:*")) as client:
            assert (await client.join("staff"))["recovered"] is False

    async def test_rooms_of_two_tenants_are_two(self, server: Served, chat: str) -> None:
        one, two = (server.people.add(tenant_id=uuid4()) for _ in range(2))
        async with connected(server, one) as ann, connected(server, two) as bob:
            await ann.join(chat)
            assert (await bob.join(chat))["members"] == [two]
            await ann.say(chat, "ours")
            await ann.next("said")
            await bob.nothing_more()
            async with server.http(one) as http:  # what a route says is said to its tenant
                assert (await http.post(f"/api/v1/posts/{chat}")).status_code == 200
            assert await ann.texts(1) == ["posted"]
            await bob.nothing_more()

    async def test_who_asks_again_for_what_was_missed_reads_it_first(
        self, server: Served, token: str, chat: str
    ) -> None:
        for number in range(16):
            await server.rooms.publish(chat, Said(text=f"{number:2}" + "x" * 59_000))
        async with connected(server, token) as client:
            joined = await client.join(chat)
            for _ in range(5):  # 5 MB, asked for at once: more than may ever wait
                since = {"epoch": joined["epoch"], "offset": 0}
                await client.send("join", chat, data=since)
            heard = await client.texts(5 * 16)
            assert [int(text[:2]) for text in heard] == [*range(16)] * 5
            await client.nothing_more()

    async def test_a_connection_joins_so_many_rooms(
        self, server: Served, token: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_routes, "_MAX_ROOMS", 2)
        async with connected(server, token) as client:
            for name in ("chat:1", "chat:2", "chat:2"):
                assert (await client.join(name))["epoch"]
            assert (await client.join("chat:3"))["error"] == "conflict"
            await client.send("leave", "chat:1")
            assert (await client.next("left"))["room"] == "chat:1"
            assert (await client.join("chat:3"))["epoch"]

    @pytest.mark.parametrize(
        "since", [{"epoch": "a"}, {"epoch": 1, "offset": 1}, {"epoch": "a", "offset": -1}]
    )
    async def test_a_position_is_an_epoch_and_an_offset(
        self, server: Served, token: str, since: dict[str, Any]
    ) -> None:
        async with connected(server, token) as client:
            assert (await client.join("chat:1", since))["error"] == "validation_failed"


class TestSpeaking:
    async def test_the_sender_is_who_is_logged_in(
        self, server: Served, token: str, chat: str
    ) -> None:
        async with connected(server, token) as client:
            await client.join(chat)
            claim = {"from": "somebody", "user": "somebody", "offset": 99}
            await client.say(chat, "hello", **claim)
            said = await client.next("said")
        assert (said["from"], said["offset"]) == (token, 1)
        assert said["data"] == {"text": "hello"}

    async def test_who_speaks_may_be_left_out_and_learns_where_it_is(
        self, server: Served, token: str
    ) -> None:
        name = f"quiet:{uuid4()}"
        async with connected(server, token) as ann, connected(server, token) as tab:
            joined = await ann.join(name)
            await tab.join(name)
            await ann.say(name, "hello", id="a1")
            sent = await ann.next()
            assert (sent["type"], sent["room"]) == ("sent", name)
            assert sent["data"] == {"id": "a1", "epoch": joined["epoch"], "offset": 1}
            assert await tab.texts(1) == ["hello"]  # her other tab hears it
            await ann.nothing_more()

    async def test_what_is_not_said_on_has_no_number(self, server: Served, token: str) -> None:
        async with connected(server, token) as client:
            await client.join("chat:1")
            await client.send("typing", "chat:1", id="a1")
            assert (await client.next("sent"))["data"] == {
                "id": "a1",
                "epoch": None,
                "offset": None,
            }

    @pytest.mark.parametrize(
        ("kind", "data", "pointers"),
        [
            ("unknown", {"text": "a"}, ["#"]),
            ("said", {}, ["#/text"]),
            ("said", {"text": "a", "type": "typing", "x": 1}, ["#/x"]),
            ("said", {"text": 7}, ["#/text"]),
        ],
    )
    async def test_what_is_no_message_of_the_room_is_answered(
        self, server: Served, token: str, kind: str, data: Any, pointers: list[str]
    ) -> None:
        async with connected(server, token) as client:
            await client.join("chat:1")
            await client.send(kind, "chat:1", data=data, id="a1")
            error = await client.next()
            assert (error["type"], error["room"]) == ("error", "chat:1")
            assert error["data"]["error"] == "validation_failed"
            assert error["data"]["id"] == "a1"
            assert [one["pointer"] for one in error["data"]["errors"]] == pointers
            await client.nothing_more()

    async def test_who_has_not_joined_does_not_speak(self, server: Served, token: str) -> None:
        async with connected(server, token) as client:
            await client.say("chat:1", "hello")
            assert (await client.next())["data"]["error"] == "not_found"
            await client.join(f"own:{token}")
            await client.say(f"own:{token}", "hello")  # where only the service speaks
            assert (await client.next())["data"]["error"] == "validation_failed"

    async def test_what_fails_is_not_said_and_keeps_its_words(
        self, server: Served, token: str, chat: str, log_lines: list[EventDict]
    ) -> None:
        async with connected(server, token) as client:
            await client.join(chat)
            await client.send("fail", chat, data={"how": "expected"}, id="a1")
            error = (await client.next())["data"]
            assert (error["error"], error["detail"]) == ("conflict", "The chat is closed.")
            await client.send("fail", chat, data={"how": "unexpected"})
            error = await client.next()
            assert error["data"]["error"] == "server_error"
            assert "exception" not in json.dumps(error)
            await client.nothing_more()
        assert "room_message_failed" in [line["event"] for line in log_lines]

    async def test_what_a_route_says_is_said_after_its_commit_or_never(
        self, server: Served, token: str, chat: str
    ) -> None:
        async with connected(server, server.people.add()) as client:
            await client.join(chat)
            async with server.http(token) as http:
                assert (await http.post(f"/api/v1/posts/{chat}/fail")).status_code == 409
                assert (await http.post(f"/api/v1/posts/{chat}")).status_code == 200
            said = await client.next()
            assert (said["data"], said["from"]) == ({"text": "posted"}, token)

    async def test_too_many_messages_end_it(self, server: Served, token: str) -> None:
        async with connected(server, token) as client:
            for _ in range(400):
                await client.socket.send('{"type":"ping"}')
            assert await client.closed() == 4009

    @pytest.mark.parametrize("text", ["[]", '{"type":""}', "nothing", '{"type":"x","data":[]}'])
    async def test_what_is_no_message_ends_it(self, server: Served, token: str, text: str) -> None:
        async with connected(server, token) as client:
            await client.socket.send(text)
            assert await client.closed() == 4400

    async def test_a_frame_too_big_ends_it(
        self, server: Served, token: str, tmp_path: Path
    ) -> None:
        message = json.dumps({"type": "said", "room": "chat:1", "data": {"text": "x" * 66_000}})
        async with connected(server, token) as client:
            await client.socket.send(message)
            assert await client.closed() == 1009  # before it is read
        async with (
            served(tmp_path, server.people, plain=True) as plain,
            connected(plain, token) as client,
        ):
            await client.join("chat:1")
            await client.say("chat:1", "hello")
            assert await client.texts(1) == ["hello"]  # without what `newel serve` adds
            await client.socket.send(message)
            assert await client.closed() == 4009


@asynccontextmanager
async def events(
    server: Served, room: str, token: str, last: str | None = None
) -> AsyncGenerator[AsyncGenerator[tuple[str | None, dict[str, Any]]]]:
    """The server-sent events of a room: each with its id."""

    async def parsed(response: httpx2.Response) -> AsyncGenerator[tuple[str | None, Any]]:
        data, id = "", None
        async for line in response.aiter_lines():
            field, _, value = line.partition(": ")
            if field == "data":
                data = value
            elif field == "id":
                id = value
            elif not line and data:
                yield id, json.loads(data)
                data, id = "", None

    headers = {} if last is None else {"last-event-id": last}
    async with (
        server.http(token) as client,
        client.stream("GET", f"{API}/{room}/events", headers=headers, timeout=20) as response,
    ):
        assert response.status_code == 200
        yield parsed(response)


class TestListening:
    async def test_events_are_what_is_said_and_resume(
        self, server: Served, token: str, chat: str
    ) -> None:
        async with members_of(server, chat, 1) as (speaker,):
            async with events(server, chat, token) as stream:
                id, joined = await anext(stream)
                assert joined["type"] == "joined"
                assert id == f"{joined['data']['epoch']}:0"
                assert set(joined["data"]["members"]) == {token, *joined["data"]["members"]}
                await speaker.say(chat, "a")
                id, said = await anext(stream)
                assert (said["data"]["text"], said["offset"]) == ("a", 1)
            await speaker.say(chat, "b")
            await speaker.say(chat, "c")
            await speaker.texts(3)
            for _ in range(2):  # it breaks before what was missed has come, and nothing is lost
                async with events(server, chat, token, last=id) as stream:
                    again, joined = await anext(stream)
                    assert joined["data"]["recovered"] is True
                    id = again or id  # as a browser does
            async with events(server, chat, token, last=id) as stream:
                await anext(stream)
                missed = [await anext(stream) for _ in range(2)]
        assert [one["data"]["text"] for _, one in missed] == ["b", "c"]
        assert missed[1][0] == f"{joined['data']['epoch']}:3"

    async def test_what_waits_is_sent_without_a_pause(
        self, server: Served, token: str, chat: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_routes, "_IDLE_SECONDS", 30)  # a pause is longer than the test
        first = await server.rooms.publish(chat, Said(text="first"))
        assert first is not None
        texts = [f"{number:2}" + "x" * 20_000 for number in range(20)]  # of several frames
        for text in texts:
            await server.rooms.publish(chat, Said(text=text))
        since = f"{first.epoch}:{first.offset}"
        async with asyncio.timeout(25), events(server, chat, token, last=since) as stream:
            assert (await anext(stream))[1]["data"]["recovered"] is True
            assert [(await anext(stream))[1]["data"]["text"] for _ in texts] == texts
            for text in texts[:8]:  # what is said at once to who reads fast
                await server.rooms.publish(chat, Said(text=text))
            assert [(await anext(stream))[1]["data"]["text"] for _ in range(8)] == texts[:8]
            monkeypatch.undo()
            await server.rooms.publish(chat, Said(text="last"))
            assert (await anext(stream))[1]["data"]["text"] == "last"

    @pytest.mark.parametrize("last", ["nonsense", "other:7", "a:b", ":1"])
    async def test_what_cannot_be_resumed_is_said(
        self, server: Served, token: str, chat: str, last: str
    ) -> None:
        async with events(server, chat, token, last=last) as stream:
            assert (await anext(stream))[1]["data"]["recovered"] is False

    async def test_the_stream_of_who_logged_out_ends(
        self, server: Served, token: str, chat: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room_routes, "_LOOK_SECONDS", 0.1)
        async with events(server, chat, token) as stream:
            await anext(stream)
            del server.people.tokens[token]
            assert [one async for one in stream] == []
        await until(lambda: not server.rooms._rooms.get(f"/{chat}"), seconds=20)

    async def test_members_are_listed(self, server: Served, token: str, chat: str) -> None:
        async with members_of(server, chat, 2), server.http(token) as http:
            answer = (await http.get(f"{API}/{chat}/members")).json()
        assert answer["member_count"] == len(answer["members"]) == 2


async def test_a_server_that_stops_says_so(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        token = server.people.add()
        async with connected(server, token) as client, events(server, "chat:1", token) as stream:
            await anext(stream)
            await client.join("chat:1")
            closing = asyncio.create_task(client.closed())
            await server.stop()
            assert await closing == 1012
            assert [one async for one in stream] == []
