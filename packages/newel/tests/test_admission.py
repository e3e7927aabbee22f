"""``newel.admission``: who finds no place is told so at once, and places are for work alone."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from starlette.responses import PlainTextResponse, StreamingResponse
from starlette.types import Message, Receive, Scope, Send
from structlog.testing import capture_logs

from newel.admission import Admission, Places
from newel.middleware import Deadline
from newel.settings import Settings


class VirtualTime(asyncio.SelectorEventLoop):
    """An event loop in which waiting takes no time: it goes on to whatever is due next."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        wait = self._selector.select

        def select(timeout: float | None) -> Any:
            self.now += timeout or 0.0
            return wait(0)

        self._selector.select = select

    def time(self) -> float:
        return self.now


def in_virtual_time(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    with asyncio.Runner(loop_factory=VirtualTime) as runner:
        runner.run(main())


class Work:
    """An application whose requests work until ``done`` is set."""

    def __init__(self) -> None:
        self.running = 0
        self.most = 0
        self.done = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.running += 1
        self.most = max(self.most, self.running)
        try:
            await self.done.wait()
        finally:
            self.running -= 1
        await PlainTextResponse("done")(scope, receive, send)


class Client:
    """One request to an application, with what it sends and what it is answered."""

    def __init__(self, app: Any, *, path: str = "/", kind: str = "http", root: str = "") -> None:
        self.sent: list[Message] = []
        self.body: asyncio.Queue[Message] = asyncio.Queue()
        scope = {"type": kind, "path": path, "root_path": root, "headers": [], "method": "POST"}
        self.task = asyncio.ensure_future(app(scope, self.body.get, self.send))

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    def give(self, body: bytes, *, more: bool = False) -> None:
        self.body.put_nowait({"type": "http.request", "body": body, "more_body": more})

    @property
    def status(self) -> int | None:
        return self.sent[0]["status"] if self.sent else None

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def crowded(admission: Admission, *, body: bytes | None = None) -> list[Client]:
    """Return as many who work for long as may be inside at all: nobody lends a place any more."""
    inside = list[Client]()
    while admission.places.inside < 120:
        inside.append(Client(admission))
        if body is not None:
            inside[-1].give(body)
        await asyncio.sleep(0.6)
    return inside


def test_only_so_many_work_at_once_and_some_more_wait() -> None:
    async def main() -> None:
        work = Work()
        admission = Admission(work, Places(3))
        clients = [Client(admission) for _ in range(3 + 64)]
        await asyncio.sleep(0.03)
        clients += [Client(admission) for _ in range(2)]
        await settle()

        assert work.running == 3
        refused = [client for client in clients if client.status is not None]
        assert refused == clients[67:], "whoever finds the line full is told at once"
        work.done.set()
        await asyncio.gather(*(client.task for client in clients))

        assert [client.status for client in clients] == [200] * 67 + [503] * 2
        assert work.most == 3
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_a_burst_may_wait_that_is_over_at_once() -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await asyncio.sleep(0)
            await PlainTextResponse("done")(scope, receive, send)

        admission = Admission(app, Places(3))
        clients = [Client(admission) for _ in range(3 + 256 + 1)]
        await asyncio.gather(*(client.task for client in clients))

        assert [client.status for client in clients] == [200] * 259 + [503]

    in_virtual_time(main)


def test_who_comes_at_once_is_expected_as_long_as_there_is_room_in_the_line() -> None:
    async def main() -> None:
        places = Places(3)
        assert all(places.expect() for _ in range(1000)), "there are places yet"
        clients = [Client(Admission(Work(), places)) for _ in range(3 + 10)]
        await asyncio.sleep(0.03)

        assert [places.expect() for _ in range(60)] == [True] * 54 + [False] * 6
        await settle()
        assert places.expect(), "who was on the way is there, or went elsewhere"
        places.leave()
        for client in clients:
            client.task.cancel()

    in_virtual_time(main)


def test_a_refusal_is_a_problem_that_says_when_to_come_again() -> None:
    async def main() -> None:
        admission = Admission(Work(), Places(1))
        let_in = [Client(admission, path="/orders") for _ in range(1 + 64)]
        await asyncio.sleep(0.03)
        refused = Client(admission, path="/orders")
        await settle()
        problem = json.loads(refused.sent[1]["body"])

        assert [client.status for client in let_in] == [None] * 65
        assert problem["error"] == "unavailable"
        assert problem["instance"] == "/orders"
        assert refused.headers[b"retry-after"] == b"1"
        for client in let_in:
            client.task.cancel()

    in_virtual_time(main)


def test_nobody_waits_for_more_than_a_second() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        admission = Admission(Work(), Places(1))
        holders, began = await crowded(admission), loop.time()
        waiting = Client(admission)
        await waiting.task

        assert waiting.status == 503
        assert loop.time() - began == pytest.approx(1.0)
        again = Client(admission)
        await settle()
        assert again.status is None, "who gave up has left the line"
        for client in (*holders, again):
            client.task.cancel()

    in_virtual_time(main)


def test_behind_somebody_who_has_waited_for_long_nobody_waits() -> None:
    """They would be sent away after a second: who is told so at once can go elsewhere."""

    async def main() -> None:
        admission = Admission(Work(), Places(3))
        holders = await crowded(admission)
        clients = [Client(admission)]
        await asyncio.sleep(0.45)
        soon = Client(admission)
        await asyncio.sleep(0.1)
        late = Client(admission)
        await settle()

        assert [client.status for client in (*clients, soon, late)] == [None, None, 503]
        clients[0].task.cancel()  # whoever is the first now has not waited for long
        await settle()
        again = Client(admission)
        await settle()
        assert again.status is None
        for client in (*holders, *clients, soon, again):
            client.task.cancel()

    in_virtual_time(main)


def test_who_waits_for_something_else_lends_its_place() -> None:
    """A database that is silent holds up who needs it, and nobody else."""

    async def main() -> None:
        work = Work()
        admission = Admission(work, Places(2))
        clients = [Client(admission) for _ in range(3)]
        await asyncio.sleep(0.45)
        assert work.running == 2, "who works is left to it"
        await asyncio.sleep(0.1)
        assert work.running == 3, "who waits in line gets the place of the first"
        clients.append(Client(admission))
        await settle()
        assert work.running == 4, "and so does who comes"
        work.done.set()
        await asyncio.gather(*(client.task for client in clients))

        assert [client.status for client in clients] == [200] * 4
        assert (admission.places.in_flight, admission.places.inside, admission.places.held) == (
            0,
            0,
            {},
        )

    in_virtual_time(main)


def test_there_is_an_end_to_lending() -> None:
    async def main() -> None:
        work = Work()
        admission = Admission(work, Places(2))
        holders = await crowded(admission)
        waiting = Client(admission)
        await asyncio.sleep(0.9)
        assert (work.running, waiting.status) == (120, None)
        holders[0].task.cancel()
        await settle()
        assert work.running == 119, "who had lent its place has none to give back"
        holders[-1].task.cancel()
        await settle()
        assert work.running == 119, "and whose place it was gives it on"
        for client in (*holders, waiting):
            client.task.cancel()

    in_virtual_time(main)


def test_who_waits_longest_is_next() -> None:
    async def main() -> None:
        order: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            order.append(scope["path"])
            await asyncio.sleep(0.1)

        admission = Admission(app, Places(2))
        clients = [Client(admission, path=f"/{number}") for number in range(4)]
        await asyncio.gather(*(client.task for client in clients))

        assert order == ["/0", "/1", "/2", "/3"]

    in_virtual_time(main)


@pytest.mark.parametrize(("rest", "status"), [(b"rest", 503), (None, 408)], ids=["line", "body"])
def test_who_is_late_in_line_has_not_been_slow(rest: bytes | None, status: int) -> None:
    """All of its body is there: what it waits for is a place."""

    async def main() -> None:
        work = Work()

        async def read(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive())["more_body"]:
                pass

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            inner = Deadline(read, seconds=0.4) if scope["path"] == "/read" else work
            await inner(scope, receive, send)

        admission = Admission(app, Places(1))
        client = Client(admission, path="/read")
        client.give(b"x", more=True)
        await asyncio.sleep(0.1)
        holder = Client(admission)
        await asyncio.sleep(0.1)
        if rest is not None:
            client.give(rest)
        with capture_logs():
            await client.task
        assert (client.status, client.headers.get(b"connection")) == (
            status,
            b"close" if status == 408 else None,
        )
        holder.task.cancel()
        await settle()
        assert (admission.places.in_flight, admission.places.inside) == (0, 0)

    in_virtual_time(main)


def test_a_client_that_goes_away_while_it_waits_takes_no_place_along() -> None:
    async def main() -> None:
        work = Work()
        admission = Admission(work, Places(1))
        first, second, third = Client(admission), Client(admission), None
        await settle()
        second.task.cancel()
        await settle()
        third = Client(admission)
        await settle()
        # It is the third's turn in the moment in which it goes away.
        first.task.cancel()
        await asyncio.sleep(0)
        third.task.cancel()
        await settle()

        assert admission.places.in_flight == 0
        fourth = Client(admission)
        work.done.set()
        await fourth.task
        assert fourth.status == 200

    in_virtual_time(main)


@pytest.mark.parametrize("path", ["/health", "/ready", "/metrics"])
@pytest.mark.parametrize("root", ["", "/behind"])
def test_whoever_looks_at_a_full_service_sees_it(path: str, root: str) -> None:
    async def main() -> None:
        work = Work()
        admission = Admission(work, Places(1))
        holder = Client(admission)
        await settle()
        look = Client(admission, path=root + path, root=root)
        await settle()

        assert work.running == 2
        for client in (holder, look):
            client.task.cancel()

    in_virtual_time(main)


def test_a_websocket_needs_no_place() -> None:
    async def main() -> None:
        work = Work()
        admission = Admission(work, Places(1))
        clients = [Client(admission, kind="websocket") for _ in range(5)]
        await settle()

        assert work.running == 5
        assert admission.places.in_flight == 0
        for client in clients:
            client.task.cancel()

    in_virtual_time(main)


def test_a_long_answer_holds_no_place() -> None:
    async def main() -> None:
        end = asyncio.Event()

        async def parts() -> AsyncIterator[bytes]:
            yield b"first"
            await end.wait()
            yield b"last"

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await StreamingResponse(parts())(scope, receive, send)

        admission = Admission(app, Places(1))
        downloads: list[Client] = []
        for _ in range(5):
            downloads.append(Client(admission))
            await settle()

        assert [client.status for client in downloads] == [200] * 5
        assert admission.places.in_flight == 0
        end.set()
        await asyncio.gather(*(client.task for client in downloads))
        assert {client.sent[-1].get("more_body") for client in downloads} == {False}
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_a_stream_of_events_holds_no_place_though_nothing_happens() -> None:
    async def main() -> None:
        async def events() -> AsyncIterator[bytes]:
            await asyncio.Event().wait()
            yield b"data: never\n\n"

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            answer = StreamingResponse(events(), media_type="text/event-stream")
            await answer(scope, receive, send)

        admission = Admission(app, Places(1))
        clients: list[Client] = []
        for _ in range(5):
            clients.append(Client(admission))
            clients[-1].give(b"")
            await settle()

        assert [client.status for client in clients] == [200] * 5
        assert admission.places.in_flight == 0
        for client in clients:
            client.task.cancel()

    in_virtual_time(main)


def test_who_has_asked_in_full_keeps_its_place_until_there_is_an_answer() -> None:
    """An answer in parts is made while somebody listens for the end of the connection."""

    async def main() -> None:
        made: list[int] = []

        async def parts() -> AsyncIterator[bytes]:
            made.append(1)
            await asyncio.sleep(0.4)  # a query
            yield b"first"

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await StreamingResponse(parts())(scope, receive, send)

        admission = Admission(app, Places(2))
        clients = [Client(admission) for _ in range(4)]
        for client in clients:
            client.give(b"")
        await asyncio.sleep(0.3)
        assert len(made) == 2
        await asyncio.gather(*(client.task for client in clients))

        assert [client.status for client in clients] == [200] * 4
        assert admission.places.in_flight == 0

    in_virtual_time(main)


async def read(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer how many bytes the body had."""
    size, more = 0, True
    while more:
        message = await receive()
        size, more = size + len(message["body"]), message["more_body"]
    await PlainTextResponse(str(size))(scope, receive, send)


def test_a_slow_client_lends_its_place_and_is_served_when_its_body_is_there() -> None:
    async def main() -> None:
        admission = Admission(read, Places(1))
        slow = Client(admission)
        slow.give(b"a", more=True)
        await settle()
        quick = Client(admission)
        quick.give(b"abc")
        await quick.task

        assert quick.sent[1]["body"] == b"3"
        assert slow.status is None
        assert admission.places.in_flight == 0
        slow.give(b"bc")
        await slow.task
        assert slow.sent[1]["body"] == b"3"
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_who_sends_slowly_needs_a_place_again_when_its_body_is_there() -> None:
    """Else as many as like could come inside by sending their bodies a little later."""

    async def main() -> None:
        heard: list[str] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            message = await receive()
            heard.append(message["type"])
            if message["type"] == "http.disconnect":
                heard.append((await receive())["type"])
                await PlainTextResponse("too late")(scope, receive, send)
            await asyncio.Event().wait()

        admission = Admission(app, Places(1))
        slow = Client(admission)
        await settle()
        workers = await crowded(admission, body=b"")
        slow.give(b"{}")
        await asyncio.sleep(0.9)
        assert slow.status is None
        await asyncio.sleep(0.2)

        assert [message.get("status") for message in slow.sent] == [503, None]
        assert slow.headers[b"retry-after"] == b"1"
        assert heard[-2:] == ["http.disconnect"] * 2
        for client in (slow, *workers):
            client.task.cancel()

    in_virtual_time(main)


def test_a_part_of_a_small_body_needs_no_place() -> None:
    """Else two hundred that send byte by byte would stand in line for each of them."""

    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            while (await receive()).get("more_body"):
                pass
            await asyncio.Event().wait()

        admission = Admission(app, Places(1))
        slow = Client(admission)
        slow.give(b"a", more=True)
        await settle()
        workers = await crowded(admission, body=b"abc")
        in_flight = admission.places.in_flight
        slow.give(b"b", more=True)
        await asyncio.sleep(5)

        assert slow.body.empty()
        assert slow.status is None
        assert admission.places.in_flight == in_flight
        for client in (slow, *workers):
            client.task.cancel()

    in_virtual_time(main)


@pytest.mark.parametrize("begins_after_seconds", [0.0, 0.2])
def test_an_answer_that_has_begun_is_not_begun_again(begins_after_seconds: float) -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            listening = asyncio.ensure_future(receive())
            await asyncio.sleep(begins_after_seconds)
            await send({"type": "http.response.start", "status": 200, "headers": []})
            if (await listening)["body"]:
                await asyncio.sleep(2)
            await send({"type": "http.response.body", "body": b"done"})

        admission = Admission(app, Places(1))
        early = Client(admission)
        await settle()
        others = [Client(admission) for _ in range(64)]
        await asyncio.sleep(0.03)
        early.give(b"{}")
        await early.task

        assert [message.get("status") for message in early.sent] == [200, None]
        for client in others:
            client.task.cancel()

    in_virtual_time(main)


def test_who_has_sent_much_of_a_body_is_not_sent_away() -> None:
    async def main() -> None:
        admission = Admission(read, Places(1))
        upload = Client(admission)
        upload.give(b"a" * 70_000, more=True)
        await settle()
        workers = await crowded(admission)
        upload.give(b"b")
        await upload.task

        assert upload.sent[1]["body"] == b"70001"
        for client in workers:
            client.task.cancel()
        await settle()
        assert (admission.places.in_flight, admission.places.inside, admission.places.held) == (
            0,
            0,
            {},
        )

    in_virtual_time(main)


def test_who_is_answered_while_it_waits_for_a_place_again_has_none() -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            listening = asyncio.ensure_future(receive())
            await asyncio.sleep(0.2)
            await PlainTextResponse("done")(scope, receive, send)
            await listening

        admission = Admission(app, Places(1))
        early = Client(admission)
        await settle()
        other = Client(admission)
        other.give(b"")
        await settle()
        early.give(b"{}")
        await asyncio.gather(early.task, other.task)

        assert (early.status, other.status) == (200, 200)
        assert (admission.places.in_flight, admission.places.inside, admission.places.held) == (
            0,
            0,
            {},
        )

    in_virtual_time(main)


def test_a_burst_of_slow_clients_holds_up_nobody() -> None:
    async def main() -> None:
        admission = Admission(read, Places(8))
        slow = [Client(admission) for _ in range(200)]
        quick = Client(admission)
        quick.give(b"abc")
        await quick.task

        assert quick.status == 200
        assert asyncio.get_running_loop().time() == 0.0
        assert {client.status for client in slow} == {None}
        for client in slow:
            client.task.cancel()

    in_virtual_time(main)


def test_a_body_that_comes_at_once_keeps_its_place() -> None:
    async def main() -> None:
        work = Work()

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await receive()
            await work(scope, receive, send)

        admission = Admission(app, Places(2))
        clients = [Client(admission) for _ in range(4)]
        for client in clients:
            client.give(b"abc")
        await asyncio.sleep(0.4)

        assert work.running == 2
        work.done.set()
        await asyncio.gather(*(client.task for client in clients))
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_who_listens_for_the_end_of_the_connection_is_left_in_peace() -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await PlainTextResponse("done")(scope, receive, send)
            assert (await receive())["type"] == "http.disconnect"

        admission = Admission(app, Places(1))
        client = Client(admission)
        await settle()
        assert admission.places.in_flight == 0
        client.body.put_nowait({"type": "http.disconnect"})
        await client.task
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_who_still_listens_when_the_request_is_over_takes_no_place() -> None:
    async def main() -> None:
        listening: list[asyncio.Task[Message]] = []

        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            listening.append(asyncio.ensure_future(receive()))
            await asyncio.sleep(1)

        admission = Admission(app, Places(1))
        client = Client(admission)
        await client.task
        client.body.put_nowait({"type": "http.disconnect"})
        await listening[0]
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_a_request_that_fails_gives_its_place_back() -> None:
    async def main() -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            raise RuntimeError

        admission = Admission(app, Places(1))
        for _ in range(3):
            client = Client(admission)
            with pytest.raises(RuntimeError):
                await client.task
        assert admission.places.in_flight == 0

    in_virtual_time(main)


def test_negative_control_without_it_all_work_at_once() -> None:
    async def main() -> None:
        work = Work()
        clients = [Client(work) for _ in range(50)]
        await settle()

        assert work.running == 50
        work.done.set()
        await asyncio.gather(*(client.task for client in clients))

    in_virtual_time(main)


def test_there_is_a_place_for_each_connection_of_the_pool_and_eight_on_sqlite() -> None:
    secret = "k3Jd9sLq0aZx7Vb2Nm5Rt8Yw1Ec4Ui6Op"

    def most(**values: Any) -> int:
        return Settings(_env_file=None, secret_key=secret, **values).most_in_flight

    postgresql = "postgresql+asyncpg://somebody@localhost/data"
    assert most(database_url=postgresql) == 20
    assert most(database_url=postgresql, database_pool_size=5) == 5
    assert most() == 8
    assert most(database_pool_size=5) == 5
    assert most(max_in_flight=70) == 70
