"""A chat on a real server: who speaks, who hears it, who comes and goes."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sample_rooms import SECRET, Client, People, Served, connected
from sample_valkey import Valkey

from newel import chat, room_routes
from newel.app import create_app
from newel.errors import Conflict
from newel.modules import Module
from newel.principal import Principal
from newel.rooms import Visit
from newel.settings import Settings

pytestmark = pytest.mark.anyio


async def is_member(caller: Principal, visit: Visit) -> bool:
    return caller.can(f"chats:{visit.values['id']}")


@asynccontextmanager
async def served(
    directory: Path, people: People, *modules: Module, redis_url: str | None = None
) -> AsyncGenerator[Served]:
    settings = Settings(
        _env_file=None,
        secret_key=SECRET,
        database_url=f"sqlite+aiosqlite:///{directory}/{uuid4()}.db",
        migrations=directory,
        redis_url=redis_url,
        service_name=f"chat {directory}",
        api_limit="100000/minute",
    )
    known = Module("people", authenticator=lambda _: people)
    found = Served(create_app(settings, *modules, room_routes.module(), known), people)
    await found.start()
    try:
        yield found
    finally:
        await found.stop()


@pytest.fixture(scope="module")
async def server(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[Served]:
    private = chat.module(pattern="private:{id}", may_join=is_member)
    directory = tmp_path_factory.mktemp("chat")
    async with served(directory, People(), chat.module(), private) as found:
        yield found


async def say(client: Client, room: str, content: Any, **more: Any) -> dict[str, Any]:
    """Say something; return its outcome."""
    await client.send("message", room, data={"content": content, **more}, id="1")
    return await client.next("sent", "error")


async def heard(client: Client) -> tuple[Any, ...]:
    """Return what comes next: a message and who said it, or an event and of whom."""
    message = await client.next("message", "system", "pong")
    data = message["data"]
    if message["type"] == "message":
        return data["content"], message["from"]
    return data.get("event"), data.get("user_id")


async def test_the_others_hear_what_is_said_and_who_comes_and_goes(server: Served) -> None:
    ann_id, ben_id = server.people.add(), server.people.add()
    async with connected(server, ann_id) as ann:
        await ann.join("chat:1")
        async with connected(server, ben_id) as ben:
            await ben.join("chat:1")
            notice = await ann.next("system")
            assert notice["data"] == {
                "content": "Somebody joined the chat",
                "event": "joined",
                "user_id": ben_id,
            }
            assert set(notice) == {"type", "data", "timestamp", "room", "from", "offset"}
            async with connected(server, ben_id) as tab:
                await tab.join("chat:1")
                assert (await say(ben, "chat:1", "hello"))["type"] == "sent"
                assert await heard(ann) == ("hello", ben_id), "and nothing of another tab"
                assert await heard(tab) == ("hello", ben_id)
            await say(ann, "chat:1", "hi")
            assert await heard(ben) == ("hi", ann_id), "one does not hear oneself"
        assert await heard(ann) == ("left", ben_id), "not with the first of two connections"
        await ann.send("leave", "chat:1")
        await ann.next("left")
        await ann.nothing_more()


async def test_only_what_is_a_message_is_said(server: Served) -> None:
    ann_id, ben_id = server.people.add(), server.people.add()
    async with connected(server, ann_id) as ann, connected(server, ben_id) as ben:
        await ann.join("chat:2")
        await ben.join("chat:2")
        assert (await heard(ann)) == ("joined", ben_id)
        for content, more in (
            ("", {}),
            ("x" * 4001, {}),
            ("a\0b", {}),
            (7, {}),
            ("in another's name", {"user": "root"}),
        ):
            refused = await say(ben, "chat:2", content, **more)
            assert refused["data"]["error"] == "validation_failed", content
            assert refused["data"]["errors"]
        assert (await say(ben, "chat:2", "x" * 4000))["type"] == "sent"
        assert await heard(ann) == ("x" * 4000, ben_id)


async def test_the_rule_who_may_join_is_replaced(server: Served) -> None:
    member = server.people.add("chats:7")
    async with connected(server, member) as client:
        assert "epoch" in await client.join("private:7")
        other, none = await client.join("private:8"), await client.join("nothing")
        assert (other["error"], other["detail"]) == (none["error"], none["detail"])
        assert other["error"] == "not_found"


class Kept:
    """What was said, as ``on_message`` keeps it; ``refused`` is not kept."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def keep(
        self, caller: Principal, visit: Visit, message: chat.ChatMessage
    ) -> chat.ChatMessage:
        if message.content == "refused":
            raise Conflict("This is not kept.")
        self.said.append((visit.values["id"], message.content))
        return message


async def test_what_is_said_is_kept_before_it_is_heard(tmp_path: Path) -> None:
    people, kept = People(), Kept()
    ann_id, ben_id = people.add(), people.add()
    async with (
        served(tmp_path, people, chat.module(on_message=kept.keep)) as server,
        connected(server, ann_id) as ann,
        connected(server, ben_id) as ben,
    ):
        await ann.join("chat:1")
        await ben.join("chat:1")
        assert await heard(ann) == ("joined", ben_id)
        assert (await say(ben, "chat:1", "refused"))["data"]["error"] == "conflict"
        assert (await say(ben, "chat:1", "hello"))["type"] == "sent"
        assert await heard(ann) == ("hello", ben_id), "and nothing of what was refused"
    assert kept.said == [("1", "hello")]


async def test_a_user_is_one_over_two_processes(tmp_path: Path, valkey: Valkey) -> None:
    people = People()
    ann_id, ben_id = people.add(), people.add()
    async with (
        served(tmp_path, people, chat.module(), redis_url=valkey.url) as one,
        served(tmp_path, people, chat.module(), redis_url=valkey.url) as two,
        connected(one, ann_id) as ann,
    ):
        await ann.join("chat:1")
        async with connected(one, ben_id) as ben:
            await ben.join("chat:1")
            assert await heard(ann) == ("joined", ben_id)
            async with connected(two, ben_id) as tab:
                await tab.join("chat:1")
                await say(tab, "chat:1", "from the other process")
                assert await heard(ann) == ("from the other process", ben_id)
            await say(ben, "chat:1", "still here")
            assert await heard(ann) == ("still here", ben_id)
        assert await heard(ann) == ("left", ben_id)
