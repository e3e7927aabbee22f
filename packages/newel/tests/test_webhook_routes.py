"""Users keep their webhooks: their own, to addresses that may be called, secrets shown once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx2
import pytest
from asgi_lifespan import LifespanManager
from sample_jobs import until
from sample_webhooks import OrderItemAdded, Receiver, World, build, receiving
from standardwebhooks import Webhook, WebhookVerificationError

from newel import webhook_routes
from newel.limits import MemoryLimiter
from newel.testing import log_in, make_user

pytestmark = pytest.mark.anyio

HOOKS = "/api/v1/webhooks"


@pytest.fixture
async def receiver() -> AsyncGenerator[Receiver]:
    async with receiving() as found:
        yield found


@pytest.fixture
async def world(database_url: str, tmp_path: Path, receiver: Receiver) -> AsyncGenerator[World]:
    app = build(database_url, tmp_path, api_limit="10000/minute")
    async with LifespanManager(app):
        yield World(app, (await make_user(app)).id, receiver)


async def client(world: World, *roles: str) -> httpx2.AsyncClient:
    """Return a client of a new user with ``roles``."""
    user = await make_user(world.app, roles=roles or ("user",))
    headers = await log_in(world.app, user)
    transport = httpx2.ASGITransport(world.app)
    return httpx2.AsyncClient(transport=transport, base_url="https://test", headers=headers)


@pytest.fixture
async def ann(world: World) -> AsyncGenerator[httpx2.AsyncClient]:
    async with await client(world) as found:
        yield found


async def create(world: World, who: httpx2.AsyncClient, **fields: Any) -> dict[str, Any]:
    body = {"url": world.receiver.url, "events": ["order_item.added"], **fields}
    answer = await who.post(HOOKS, json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


# ---------------------------------------------------------------- the way of its owner


async def test_it_is_created_tried_and_read_about(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    tried = await ann.post(f"{HOOKS}/{hook['id']}/test")
    assert (tried.status_code, tried.json()["state"]) == (202, "pending")
    await world.work_off()
    [(headers, body)] = world.receiver.received
    said = Webhook(hook["secret"]).verify(body, headers)
    assert (said["type"], said["data"]) == ("webhook.test", {})
    page = (await ann.get(f"{HOOKS}/{hook['id']}/deliveries")).json()
    [message] = page["items"]
    assert (message["id"], message["state"]) == (headers["webhook-id"], "delivered")
    assert (message["attempts"], message["answer"]) == (1, "204")
    whole = (await ann.get(f"{HOOKS}/{hook['id']}/deliveries/{message['id']}")).json()
    assert whole["body"].encode() == body


async def test_its_secret_is_shown_once(world: World, ann: httpx2.AsyncClient) -> None:
    answer = await ann.post(HOOKS, json={"url": world.receiver.url, "events": ["renamed"]})
    hook = answer.json()
    assert hook["secret"].startswith("whsec_")
    assert answer.headers["location"] == f"{HOOKS}/{hook['id']}"
    assert answer.headers["cache-control"] == "no-store"
    for path in ("", f"/{hook['id']}"):
        read = await ann.get(f"{HOOKS}{path}")
        assert read.status_code == 200
        assert hook["secret"] not in read.text
    changed = await ann.patch(f"{HOOKS}/{hook['id']}", json={"is_active": False})
    assert hook["secret"] not in changed.text


async def test_a_new_secret_leaves_time_to_change(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    new = (await ann.post(f"{HOOKS}/{hook['id']}/secret")).json()
    assert new["old_secret_until"] is not None
    newest = (await ann.post(f"{HOOKS}/{hook['id']}/secret", json={"keep_old_hours": 0})).json()
    assert newest["old_secret_until"] is None
    assert len({hook["secret"], new["secret"], newest["secret"]}) == 3
    await ann.post(f"{HOOKS}/{hook['id']}/test")
    await world.work_off()
    [(headers, body)] = world.receiver.received
    Webhook(newest["secret"]).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(new["secret"]).verify(body, headers)


async def test_both_secrets_sign_meanwhile(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    new = (await ann.post(f"{HOOKS}/{hook['id']}/secret")).json()
    await ann.post(f"{HOOKS}/{hook['id']}/test")
    await world.work_off()
    [(headers, body)] = world.receiver.received
    for secret in (hook["secret"], new["secret"]):
        Webhook(secret).verify(body, headers)


async def test_it_is_changed_switched_off_and_deleted(
    world: World, ann: httpx2.AsyncClient
) -> None:
    hook = await create(world, ann)
    path = f"{HOOKS}/{hook['id']}"
    read = await ann.get(path)
    changed = await ann.patch(
        path, json={"events": ["renamed"]}, headers={"If-Match": read.headers["etag"]}
    )
    assert (changed.status_code, changed.json()["events"]) == (200, ["renamed"])
    stale = await ann.patch(
        path, json={"is_active": False}, headers={"If-Match": read.headers["etag"]}
    )
    assert stale.status_code == 412
    off = await ann.patch(path, json={"is_active": False})
    assert off.json()["is_active"] is False
    assert (await ann.post(f"{path}/test")).status_code == 409
    listed = (await ann.get(HOOKS, params={"is_active": "false"})).json()
    assert [one["id"] for one in listed["items"]] == [hook["id"]]
    assert (await ann.get(HOOKS, params={"is_active": "true"})).json()["items"] == []
    assert (await ann.delete(path)).status_code == 204
    assert (await ann.get(path)).status_code == 404


async def test_a_message_is_sent_again_by_hand(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    world.receiver.answers = [500, 410]
    message = (await ann.post(f"{HOOKS}/{hook['id']}/test")).json()
    await world.work_off()
    path = f"{HOOKS}/{hook['id']}/deliveries/{message['id']}"
    assert (await ann.get(path)).json()["answer"] == "500"
    await world.hurry()
    await world.work_off()  # 410: switched off
    assert (await ann.post(f"{path}/replay")).status_code == 409
    await ann.patch(f"{HOOKS}/{hook['id']}", json={"is_active": True})
    again = await ann.post(f"{path}/replay")
    assert (again.status_code, again.json()["id"]) == (202, message["id"])
    await world.work_off()
    assert (await ann.get(path)).json()["state"] == "delivered"
    bodies = {body for _, body in world.receiver.received}
    assert (len(world.receiver.received), len(bodies)) == (3, 1)


async def test_messages_are_listed_by_state(world: World, ann: httpx2.AsyncClient) -> None:
    hook, other = await create(world, ann), await create(world, ann)
    world.receiver.answers = [204, 500]
    for one in (hook, other, hook):
        await ann.post(f"{HOOKS}/{one['id']}/test")
        await world.work_off()
    for query, count in ((None, 2), ("delivered", 2), ("pending", 0)):
        params = {} if query is None else {"state": query}
        page = await ann.get(f"{HOOKS}/{hook['id']}/deliveries", params=params)
        assert len(page.json()["items"]) == count
    [message] = (await ann.get(f"{HOOKS}/{other['id']}/deliveries")).json()["items"]
    assert message["state"] == "pending"
    elsewhere = await ann.get(f"{HOOKS}/{hook['id']}/deliveries/{message['id']}")
    assert elsewhere.status_code == 404


async def test_what_can_be_asked_for_is_told(world: World, ann: httpx2.AsyncClient) -> None:
    types = (await ann.get(f"{HOOKS}/types")).json()
    assert [one["type"] for one in types] == ["order_item.added", "renamed"]
    assert types[0]["data"]["properties"]["amount"]["type"] == "integer"


# ---------------------------------------------------------------- somebody else's

OTHERS: list[tuple[str, str, Any]] = [
    ("GET", "", None),
    ("PATCH", "", {"is_active": False}),
    ("PATCH", "", {"url": "https://127.0.0.1/", "events": ["nothing"]}),
    ("DELETE", "", None),
    ("POST", "/secret", None),
    ("POST", "/test", None),
    ("GET", "/deliveries", None),
    ("GET", "/deliveries/{message}", None),
    ("POST", "/deliveries/{message}/replay", None),
]


async def test_another_users_webhook_is_not_found(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    message = (await ann.post(f"{HOOKS}/{hook['id']}/test")).json()["id"]
    await world.work_off()
    before = (await ann.get(f"{HOOKS}/{hook['id']}")).json()
    async with await client(world) as bob:
        for method, path, body in OTHERS:
            for id in (hook["id"], str(uuid4())):
                url = f"{HOOKS}/{id}{path.format(message=message)}"
                answer = await bob.request(method, url, json=body)
                assert answer.status_code == 404, (method, path)
        assert (await bob.get(HOOKS)).json()["items"] == []
    assert (await ann.get(f"{HOOKS}/{hook['id']}")).json() == before
    await world.work_off()
    assert len(world.receiver.received) == 1


async def test_an_administrator_sees_all(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    async with await client(world, "admin") as admin:
        assert [one["id"] for one in (await admin.get(HOOKS)).json()["items"]] == [hook["id"]]


async def test_it_takes_the_permission(world: World, ann: httpx2.AsyncClient) -> None:
    hook = await create(world, ann)
    async with await client(world, "reader") as reader, await client(world, "stranger") as stranger:
        for method, path, body in OTHERS:
            url = f"{HOOKS}/{hook['id']}{path.format(message=uuid4())}"
            assert (await stranger.request(method, url, json=body)).status_code == 403
            expected = 404 if method == "GET" else 403
            assert (await reader.request(method, url, json=body)).status_code == expected
        assert (await reader.get(HOOKS)).status_code == 200
    transport = httpx2.ASGITransport(world.app)
    async with httpx2.AsyncClient(transport=transport, base_url="https://test") as nobody:
        assert (await nobody.get(HOOKS)).status_code == 401


# ---------------------------------------------------------------- what is refused


REFUSED = {
    "ftp://127.0.0.1/": "begin with http or https",
    "http://10.0.0.1/": "no address that can be called",
    "http://169.254.169.254/latest": "no address that can be called",
    "http://[::ffff:10.0.0.1]/": "no address that can be called",
    "http://0x0a.1/": "no address that can be called",
    "http://there-is-no.invalid/": "no address that can be called",
    "http://ann:secret@127.0.0.1/": "user name and password",
    "http:///nowhere": "no address that can be called",
    "nonsense": "begin with http or https",
}


async def test_an_address_that_may_not_be_called_is_not_kept(
    world: World, ann: httpx2.AsyncClient
) -> None:
    hook = await create(world, ann)
    for url, says in REFUSED.items():
        for answer in (
            await ann.post(HOOKS, json={"url": url, "events": ["renamed"]}),
            await ann.patch(f"{HOOKS}/{hook['id']}", json={"url": url}),
        ):
            assert answer.status_code == 422, url
            [field] = answer.json()["errors"]
            assert (field["pointer"], field["code"]) == ("#/url", "url_refused")
            assert says in field["message"]
            assert "secret@" not in answer.text
    assert [one["url"] for one in (await ann.get(HOOKS)).json()["items"]] == [hook["url"]]


async def test_a_name_that_moves_into_our_network_is_not_called(
    world: World, ann: httpx2.AsyncClient
) -> None:
    """Judged when it is kept and again when it is called; the owner is not told which it was."""
    hook = await create(world, ann)
    world.app.state.settings = world.app.state.settings.model_copy(
        update={"webhook_networks": ("192.0.2.0/24",)}
    )
    await ann.post(f"{HOOKS}/{hook['id']}/test")
    await world.work_off()
    [message] = (await ann.get(f"{HOOKS}/{hook['id']}/deliveries")).json()["items"]
    assert (message["state"], message["answer"]) == ("pending", "unreachable")
    assert world.receiver.received == []


BAD: list[tuple[dict[str, Any], str]] = [
    ({"events": ["order_item.added", "nothing"]}, "#/events/1"),
    ({"events": []}, "#/events"),
    ({"events": None}, "#/events"),
    ({"url": ""}, "#/url"),
    ({"url": "https://x.example/" + "a" * 2048}, "#/url"),
    ({"url": "https://x.example/\0"}, "#/url"),
    ({"secret": "whsec_mine"}, "#/secret"),
    ({"owner_id": str(uuid4())}, "#/owner_id"),
    ({"sealed_secret": "x"}, "#/sealed_secret"),
]


async def test_bad_input_is_named(world: World, ann: httpx2.AsyncClient) -> None:
    good = {"url": world.receiver.url, "events": ["renamed"]}
    hook = await create(world, ann)
    for change, pointer in BAD:
        for answer in (
            await ann.post(HOOKS, json={**good, **change}),
            await ann.patch(f"{HOOKS}/{hook['id']}", json=change),
        ):
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == pointer


async def test_nobody_has_any_number_of_them(
    world: World, ann: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(webhook_routes, "MOST_ENDPOINTS", 2)
    for _ in range(2):
        await create(world, ann)
    answer = await ann.post(HOOKS, json={"url": world.receiver.url, "events": ["renamed"]})
    assert (answer.status_code, answer.json()["error"]) == (409, "conflict")
    async with await client(world) as bob:
        await create(world, bob)


async def test_tests_are_limited(world: World, ann: httpx2.AsyncClient) -> None:
    world.app.state.limiter = MemoryLimiter(monotonic=lambda: 0.0)  # however long it takes
    hook = await create(world, ann)
    answers = [await ann.post(f"{HOOKS}/{hook['id']}/test") for _ in range(31)]
    assert {answer.status_code for answer in answers[:30]} == {202}
    assert answers[30].status_code == 429


async def test_one_endpoint_that_hangs_holds_up_nobody(
    world: World, ann: httpx2.AsyncClient
) -> None:
    async def hang(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(hang, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        await create(world, ann, url=f"http://127.0.0.1:{port}/")
        await create(world, ann)
        owner = UUID((await ann.get(HOOKS)).json()["items"][0]["owner_id"])
        async with world.database.write(None) as work:
            work.publish(OrderItemAdded(id=uuid4(), amount=1, owner_id=owner))
        working = asyncio.create_task(world.work_off())
        await until(lambda: world.receiver.received, seconds=8)
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


def test_it_is_documented(tmp_path: Path) -> None:
    app = build(f"sqlite+aiosqlite:///{tmp_path}/x.db", tmp_path)
    paths = app.openapi()["paths"]
    mine = {path.removeprefix(HOOKS) for path in paths if path.startswith(HOOKS)}
    assert mine == {
        *("", "/types", "/{webhook_id}", "/{webhook_id}/secret", "/{webhook_id}/test"),
        *("/{webhook_id}/deliveries", "/{webhook_id}/deliveries/{delivery_id}"),
        "/{webhook_id}/deliveries/{delivery_id}/replay",
    }
    created = paths[HOOKS]["post"]["responses"]["201"]["content"]["application/json"]["schema"]
    assert created == {"$ref": "#/components/schemas/WebhookCreated"}
