"""``newel.refusals``: a full service answers before it makes a request of what it is asked."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, suppress
from typing import Any

import pytest
from fastapi import FastAPI, Request
from fastapi.testclient import TestClient
from structlog.testing import capture_logs
from test_connections import Served, options, serving

from newel.admission import Admission, Places
from newel.connections import ConnectionConfig
from newel.metrics import RequestMetrics
from newel.middleware import default_middleware
from newel.refusals import Refusals
from newel.settings import Settings

HEADER_SECONDS = 0.4
SETTINGS = Settings(
    _env_file=None,
    secret_key="k3Jd9sLq0aZx7Vb2Nm5Rt8Yw1Ec4Ui6Op",
    cors_origins=["https://front.example"],
)


class Doors(Places):
    """Places that are full, the line too, until there is one."""

    entered = 0

    def expect(self) -> bool:
        return bool(self.most)

    async def enter(self) -> bool:
        self.entered += 1
        return bool(self.most) and await super().enter()


class Site:
    """A served application whose places are ``doors``, and what came to it."""

    def __init__(self) -> None:
        self.doors = Doors(0)
        self.asked: list[str] = []
        chain = default_middleware(SETTINGS)
        [place] = [one for one in chain if one.cls is Admission]
        place.kwargs["places"] = self.doors
        self.app = FastAPI(middleware=chain)
        self.app.state.settings = SETTINGS
        self.app.state.metrics = RequestMetrics()
        self.app.get("/health")(self._health)
        self.app.api_route("/{name}", methods=["GET", "POST"])(self._take)

    async def _health(self) -> str:
        return "well"

    async def _take(self, name: str, request: Request) -> int:
        self.asked.append(name)
        return len(await request.body())

    def config(self) -> ConnectionConfig:
        return ConnectionConfig(
            self.app,
            header_seconds=HEADER_SECONDS,
            refusals=Refusals.of(self.app),
            **options(timeout_keep_alive=30, server_header=False),
        )


@pytest.fixture
def site() -> Site:
    return Site()


@pytest.fixture
def served(site: Site) -> Iterator[Served]:
    with serving(site.config()) as one:
        yield one


@pytest.fixture
def client(served: Served) -> Iterator[http.client.HTTPConnection]:
    with closing(connected(served)) as connection:
        yield connection


def connected(served: Served) -> http.client.HTTPConnection:
    return http.client.HTTPConnection(*served.listener.getsockname(), timeout=20)


def ask(
    client: http.client.HTTPConnection, method: str = "GET", path: str = "/bread", **values: Any
) -> tuple[http.client.HTTPResponse, bytes]:
    client.request(method, path, **values)
    answer = client.getresponse()
    return answer, answer.read()


def test_it_says_what_admission_says(site: Site, client: http.client.HTTPConnection) -> None:
    short, problem = ask(client, path="/br%20ead?x=1")
    site.app.state.metrics.series.clear()
    with TestClient(site.app) as inside:
        long = inside.get("/br%20ead?x=1")

    assert (short.status, short.getheader("retry-after")) == (503, "1")
    del long.headers["vary"]  # of CORS, for caches: nobody may keep this
    assert {name.lower() for name, _ in short.getheaders()} == {"date", *long.headers}
    for name, value in long.headers.items():
        assert name == "x-request-id" or short.getheader(name) == value
    varying = {"request_id", "timestamp"}
    said, expected = json.loads(problem), long.json()
    assert said.keys() == expected.keys()
    assert all(name in varying or said[name] == expected[name] for name in said)
    assert said["request_id"] == short.getheader("x-request-id")
    assert site.asked == []


def test_it_is_counted_and_has_a_line(site: Site, client: http.client.HTTPConnection) -> None:
    with capture_logs() as logs:
        ask(client, headers={"X-Request-ID": "a-request-of-mine"})

    [line] = [one for one in logs if one["event"] == "request"]
    assert (line["status"], line["request_id"]) == (503, "a-request-of-mine")
    assert list(site.app.state.metrics.series) == [("GET", "unmatched", 503)]


def test_the_connection_goes_on(site: Site, client: http.client.HTTPConnection) -> None:
    ask(client)
    mine = client.sock
    ask(client, "POST", body=b"x" * 200_000)
    ask(client, "HEAD")
    site.doors.most = 1
    answer, body = ask(client, "POST", body=b"12345")

    assert (answer.status, body) == (200, b"5")
    assert client.sock is mine
    assert site.asked == ["bread"]


def test_who_has_been_refused_may_think_about_it(
    site: Site, client: http.client.HTTPConnection
) -> None:
    ask(client)
    mine = client.sock
    mine.settimeout(2 * HEADER_SECONDS)
    with pytest.raises(TimeoutError):
        mine.recv(1)
    mine.settimeout(20)
    site.doors.most = 1

    assert ask(client)[0].status == 200


def test_so_may_who_has_been_refused_with_a_long_body(
    site: Site, served: Served, client: http.client.HTTPConnection
) -> None:
    """Its body came in many pieces, which had to come in time; it has."""
    ask(client, "POST", body=b"x" * 2_000_000)
    client.sock.settimeout(2 * HEADER_SECONDS)
    with pytest.raises(TimeoutError):
        client.sock.recv(1)
    client.sock.settimeout(20)
    site.doors.most = 1

    assert ask(client)[0].status == 200
    assert len(served.server.server_state.connections) == 1


@pytest.mark.parametrize("rest", [b"content-length: 9\r\n\r\nhalf", b"\r\nGET / HT"])
def test_who_sends_the_rest_too_slowly_is_closed(served: Served, rest: bytes) -> None:
    client = served.connect(b"POST / HTTP/1.1\r\nhost: x\r\n" + rest)
    assert b" 503 " in all_of(client)


def all_of(client: socket.socket) -> bytes:
    received = b""
    with client, suppress(ConnectionResetError):
        while part := client.recv(65_536):
            received += part
    return received


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.0\r\n\r\n",
        b"GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n",
        b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ],
)
def test_who_wants_one_answer_gets_one(served: Served, head: bytes) -> None:
    answer = all_of(served.connect(head)).lower()

    assert answer.startswith(b"http/1.1 503 ")
    assert b"\r\nconnection: close\r\n" in answer


def test_nothing_is_done_after_the_last_answer(site: Site, served: Served) -> None:
    """Nobody would hear of it; the place that is there by then is of no use to it."""
    served.config.draining = True  # type: ignore[attr-defined] - of ours, which it is
    head = b"POST /bread HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\n"
    client = served.connect(head)
    assert client.recv(65_536).startswith(b"HTTP/1.1 503 ")
    site.doors.most = 1
    client.sendall(b"1" + 2 * (head + b"1"))

    assert all_of(client) == b""
    with closing(connected(served)) as another:
        assert ask(another, path="/milk")[0].status == 200
    assert site.asked == ["milk"]


def test_what_has_its_answer_gets_no_other(served: Served) -> None:
    head = b"POST / HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n"

    assert all_of(served.connect(head + b"no chunk\r\n")).count(b"HTTP/1.1 ") == 1


def test_an_application_below_a_path_says_where_it_was_asked() -> None:
    site = Site()
    config = site.config()
    config.root_path = "/shop"
    with serving(config) as one, closing(connected(one)) as client:
        answer, problem = ask(client, path="/bread")
        assert (answer.status, json.loads(problem)["instance"]) == (503, "/shop/bread")
        assert ask(client, path="/health?x=1")[0].status == 200


def test_while_draining_it_is_the_last(served: Served, client: http.client.HTTPConnection) -> None:
    served.config.draining = True  # type: ignore[attr-defined] - of ours, which it is

    answer, _ = ask(client)
    assert (answer.status, answer.getheader("connection")) == (503, "close")


def test_whoever_looks_at_a_full_service_sees_it(client: http.client.HTTPConnection) -> None:
    assert ask(client, path="/health")[0].status == 200


def test_a_browser_of_another_origin_may_read_the_answer(
    client: http.client.HTTPConnection,
) -> None:
    answer, _ = ask(client, headers={"Origin": "https://front.example"})

    assert answer.status == 503
    assert answer.getheader("access-control-allow-origin") == "https://front.example"


def test_who_asks_many_things_at_once_waits_for_each(site: Site, served: Served) -> None:
    """The second of one read is the application's, which answers one after the other."""
    head = b"GET / HTTP/1.1\r\nhost: x\r\n"
    answers = all_of(served.connect(2 * (head + b"\r\n") + head + b"connection: close\r\n\r\n"))

    assert answers.count(b"HTTP/1.1 503 ") == 3
    assert site.doors.entered == 2


def test_who_waits_for_leave_to_send_is_answered_by_the_application(
    client: http.client.HTTPConnection,
) -> None:
    """What then comes may be the body or another request: uvicorn knows which it awaits."""
    assert ask(client, "POST", headers={"Expect": "100-continue"}, body=b"1")[0].status == 503


def test_negative_control_without_it_the_application_is_asked(site: Site) -> None:
    config = ConnectionConfig(site.app, **options())
    with serving(config) as one, closing(connected(one)) as client:
        assert ask(client)[0].status == 503
    assert site.doors.entered == 1


def test_an_application_without_places_refuses_nobody() -> None:
    app = FastAPI()
    assert Refusals.of(app) is None
