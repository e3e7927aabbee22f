"""Reset and verification by mail: the way of the holder, and every way of somebody else."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncGenerator
from email import message_from_bytes, policy
from email.message import EmailMessage
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID

import httpx2
import pytest
from sample_accounts import AUTH, EMAIL, PASSWORD, Unlimited, World, open_world
from sample_entities import User
from sample_mail import Server, Sink, running
from sqlalchemy import text

from newel import recovery
from newel.limits import MemoryLimiter
from newel.mail import Mailer, MailTemplate
from newel.recovery import AccountMails
from newel.worker import Worker

pytestmark = pytest.mark.anyio

NEW = "another horse 8 stapled"
BAD = "The link is not valid, or not any more. Ask for a new one."


class Post(World):
    """A world whose mails are read."""

    @property
    def mailer(self) -> Mailer:
        return self.app.state.mailer

    async def work_off(self) -> None:
        await Worker(self.app, self.app.state.background).drain()

    async def mails(self) -> list[Any]:
        """Return the mails so far, the newest first."""
        await self.work_off()
        return list(await self.mailer.recent())

    async def token(self, page: str = "reset-password") -> str:
        """Return the token of the newest mail with a link to ``page``."""
        for mail in await self.mails():
            text = mail.get_body(("plain",)).get_content()
            if found := re.search(rf"/{page}#token=(\S+)", text):
                return found[1]
        raise AssertionError("no such mail")

    async def verification(self) -> str:
        """Return the newest token that verifies an address."""
        return await self.token("verify-email")

    async def forget(self, email: str = EMAIL, *, ip: str = "192.0.2.1") -> httpx2.Response:
        client = await self.client(ip)
        return await client.post(f"{AUTH}/password/forgot", json={"email": email})

    async def reset(
        self, token: str, password: str = NEW, *, ip: str = "192.0.2.1"
    ) -> httpx2.Response:
        client = await self.client(ip)
        body = {"token": token, "new_password": password}
        return await client.post(f"{AUTH}/password/reset", json=body)

    async def verify(self, token: str, *, ip: str = "192.0.2.1") -> httpx2.Response:
        client = await self.client(ip)
        return await client.post(f"{AUTH}/email/verify", json={"token": token})

    async def fresh_limits(self) -> None:
        self.app.state.limiter = MemoryLimiter()


@pytest.fixture
async def world(database_url: str, tmp_path: Path) -> AsyncGenerator[Post]:
    async with open_post(database_url, tmp_path) as world:
        yield world


def open_post(database_url: str, directory: Path, **choices: Any) -> Any:
    settings = {"site_url": "https://www.example.com/", "mail_from": "shop@example.com", **choices}
    opened = open_world(database_url, directory, **settings)

    class Opened:
        async def __aenter__(self) -> Post:
            world = await opened.__aenter__()
            world.__class__ = Post
            assert isinstance(world, Post)
            return world

        async def __aexit__(self, *error: object) -> None:
            await opened.__aexit__(*error)

    return Opened()


def refused(answer: httpx2.Response) -> bool:
    if answer.status_code != 422:
        return False
    body = answer.json()
    return (body["detail"], body["errors"][0]["pointer"]) == (BAD, "#/token")


class TestWelcome:
    async def test_who_registers_is_welcomed_with_a_link(self, world: Post) -> None:
        await world.register()
        [mail] = await world.mails()
        assert (mail["to"], mail["from"]) == (EMAIL, "shop@example.com")
        assert mail["subject"] == "Welcome to newel"
        text = mail.get_body(("plain",)).get_content()
        assert "https://www.example.com/verify-email#token=" in text
        assert "<a href=" in mail.get_body(("html",)).get_content()

    async def test_the_link_verifies_the_address(self, world: Post) -> None:
        client = await world.member()
        assert (await client.get(f"{AUTH}/me")).json()["email_verified_at"] is None
        assert (await world.verify(await world.verification())).status_code == 204
        assert (await client.get(f"{AUTH}/me")).json()["email_verified_at"] is not None

    async def test_it_can_be_sent_again(self, world: Post) -> None:
        client = await world.member()
        first = await world.verification()
        assert (await client.post(f"{AUTH}/email/resend")).status_code == 202
        second = await world.verification()
        assert second != first
        assert refused(await world.verify(first)), "the newer one replaces it"
        assert (await world.verify(second)).status_code == 204
        assert (await (await world.client()).post(f"{AUTH}/email/resend")).status_code == 401

    async def test_another_address_is_not_verified(self, world: Post) -> None:
        await world.register()
        await world.verify(await world.verification())
        async with world.database.write(None) as work, work.as_system("arrange"):
            user = await work.session.get_one(User, (await world.user()).id)
            user.email = EMAIL.upper()
            assert user.email_verified_at is not None, "it is the same one"
            user.email = "other@example.com"
        assert (await world.user()).email_verified_at is None

    async def test_a_link_to_the_address_before_is_dead(self, world: Post) -> None:
        await world.register()
        token = await world.verification()
        await world.change_user(email="other@example.com")
        assert refused(await world.verify(token))

    async def test_the_words_are_the_services(self, database_url: str, tmp_path: Path) -> None:
        words = AccountMails(
            welcome=MailTemplate(subject="Hej", text="$email $link", html="<a href='$link'>x</a>"),
            verify_path="/ja",
        )
        async with open_post(database_url, tmp_path, mails=words) as world:
            await world.register()
            [mail] = await world.mails()
        assert mail["subject"] == "Hej"
        assert f"{EMAIL} https://www.example.com/ja#token=" in mail.as_string()


class TestReset:
    async def test_a_forgotten_password_is_replaced(self, world: Post) -> None:
        member = await world.member()
        answer = await world.forget(EMAIL.upper())
        assert answer.status_code == 202
        token = await world.token()
        assert (await world.reset(token)).status_code == 204
        assert (await world.log_in(password=NEW)).status_code == 200
        assert (await world.log_in(password=PASSWORD)).status_code == 401
        assert (await member.get(f"{AUTH}/me")).status_code == 401, "every device is logged out"
        assert (await world.refresh(member.headers["x-refresh"])).status_code == 401
        assert (await world.user()).email_verified_at is not None, "they read its mail"

    async def test_a_link_works_once(self, world: Post) -> None:
        await world.register()
        await world.forget()
        token = await world.token()
        answers = await asyncio.gather(*(world.reset(token, ip=f"192.0.2.{n}") for n in range(5)))
        assert sorted(answer.status_code for answer in answers) == [204, 422, 422, 422, 422]
        assert refused(await world.reset(token))

    async def test_for_half_an_hour(self, world: Post) -> None:
        await world.register()
        await world.forget()
        token = await world.token()
        world.clock.move(minutes=30)
        assert refused(await world.reset(token))
        world.clock.move(seconds=-1)
        assert (await world.reset(token)).status_code == 204

    async def test_a_password_that_was_changed_meanwhile_ends_it(self, world: Post) -> None:
        client = await world.member()
        await world.forget()
        token = await world.token()
        body = {"current_password": PASSWORD, "new_password": NEW}
        assert (await client.post(f"{AUTH}/password", json=body)).status_code == 204
        assert refused(await world.reset(token, "a third horse 9 staples"))

    async def test_a_newer_link_ends_it(self, world: Post) -> None:
        await world.register()
        await world.forget()
        first = await world.token()
        await world.forget()
        second = await world.token()
        assert refused(await world.reset(first))
        assert (await world.reset(second)).status_code == 204

    async def test_a_weak_password_does_not_use_it_up(self, world: Post) -> None:
        await world.register()
        await world.forget()
        token = await world.token()
        for weak in ("password", "password1"):
            answer = await world.reset(token, weak)
            assert answer.status_code == 422
            assert answer.json()["errors"][0]["pointer"] == "#/new_password"
        assert (await world.reset(token)).status_code == 204

    async def test_who_was_switched_off_gets_neither_link_nor_password(self, world: Post) -> None:
        await world.register()
        await world.forget()
        token = await world.token()
        async with world.database.write(None) as work, work.as_system("arrange"):
            (await work.session.get_one(User, (await world.user()).id)).is_active = False
        assert refused(await world.reset(token))
        before = len(await world.mails())
        await world.forget()
        assert len(await world.mails()) == before

    async def test_another_ones_password_stays(self, world: Post) -> None:
        await world.register()
        await world.register("bob@example.com")
        await world.forget()
        await world.reset(await world.token())
        assert (await world.log_in("bob@example.com")).status_code == 200

    @pytest.mark.parametrize(
        "token", ["x", "A" * 43, "A" * 128, "\u0000", "' OR 1=1 --", str(UUID(int=1)), "é"]
    )
    async def test_what_is_no_token(self, world: Post, token: str) -> None:
        for answer in (await world.reset(token), await world.verify(token)):
            assert answer.status_code == 422

    async def test_a_token_of_the_other_kind(self, world: Post) -> None:
        await world.register()
        verification = await world.verification()
        await world.forget()
        reset = await world.token()
        assert refused(await world.reset(verification))
        assert refused(await world.verify(reset))
        assert (await world.log_in()).status_code == 200


class TestSabotage:
    """Each guard taken away lets something through that a test above holds."""

    async def test_the_binding(self, world: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recovery, "_binding", lambda account, purpose: b"")
        client = await world.member()
        await world.forget()
        token = await world.token()
        body = {"current_password": PASSWORD, "new_password": NEW}
        await client.post(f"{AUTH}/password", json=body)
        assert not refused(await world.reset(token, "a third horse 9 staples"))

    async def test_the_compare_and_set(self, world: Post, monkeypatch: pytest.MonkeyPatch) -> None:
        select_instead = recovery.select

        class Reads:
            def __init__(self, table: Any) -> None:
                self.table = table

            def where(self, *conditions: Any) -> Any:
                self.conditions = conditions
                return self

            def returning(self, *columns: Any) -> Any:
                return select_instead(*columns).where(*self.conditions)

        await world.register()
        await world.verify(await world.verification())
        await world.forget()
        token = await world.token()
        monkeypatch.setattr(recovery, "delete", Reads)
        monkeypatch.setattr(recovery, "_binding", lambda account, purpose: b"")
        monkeypatch.setattr(recovery.hmac, "compare_digest", lambda *_: True)
        assert (await world.reset(token)).status_code == 204
        assert (await world.reset(token, "a third horse 9 staples")).status_code == 204


class TestEnumeration:
    async def test_the_answer_is_the_same_for_every_address(self, world: Post) -> None:
        await world.register()
        known, unknown = await world.forget(), await world.forget("nobody@example.com")
        assert (known.status_code, known.content) == (unknown.status_code, unknown.content)
        assert known.headers.keys() == unknown.headers.keys()
        sent = [mail["to"] for mail in await world.mails()]
        assert sent == [EMAIL, EMAIL], "the welcome and the link"

    async def test_the_work_is_the_same_for_every_address(self, world: Post) -> None:
        await world.register()
        await world.work_off()
        world.app.state.limiter = Unlimited()
        client = await world.client()
        times: dict[bool, list[float]] = {True: [], False: []}
        for _ in range(60):
            for known in (True, False):
                email = EMAIL if known else "nobody@example.com"
                began = time.perf_counter()
                await client.post(f"{AUTH}/password/forgot", json={"email": email})
                times[known].append(time.perf_counter() - began)
        assert abs(median(times[True]) - median(times[False])) < 0.005

    async def test_a_mailbox_is_not_flooded_and_nobody_is_told(self, world: Post) -> None:
        await world.register()
        await world.work_off()
        for email in (EMAIL, "nobody@example.com"):
            statuses = []
            for number in range(10):
                statuses.append((await world.forget(email, ip=f"192.0.2.{number}")).status_code)
                await world.work_off()
            assert statuses == [202] * 10
        assert len(await world.mails()) == 1 + 3

    async def test_an_address_of_the_network_is_limited(self, world: Post) -> None:
        for call in (
            lambda n: world.forget(f"n{n}@example.com", ip="192.0.2.7"),
            lambda n: world.reset("A" * 43, ip="192.0.2.7"),
            lambda n: world.verify("A" * 43, ip="192.0.2.7"),
        ):
            statuses = [(await call(n)).status_code for n in range(6)]
            assert statuses[-1] == 429
            assert 429 not in statuses[:5]


class TestSecrets:
    async def test_the_token_is_nowhere_but_in_the_mail(
        self, world: Post, capsys: pytest.CaptureFixture[str]
    ) -> None:
        await world.register()
        await world.forget()
        token = await world.token()
        async with world.database.read(None) as work, work.as_system("dump"):
            for table in ("account_tokens", "jobs", "outbox", "users", "auth_sessions"):
                for row in await work.session.execute(text(f"SELECT * FROM {table}")):
                    assert token not in repr(tuple(row))
                    assert token.encode() not in b"".join(v for v in row if isinstance(v, bytes))

    async def test_in_production_not_in_the_log(
        self, database_url: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
    ) -> None:
        seen: list[str] = []
        async with open_post(database_url, tmp_path, environment="production", role="web") as world:
            deliver = recovery.deliver

            async def watch(run: Any, mail: Any) -> None:
                seen.extend(re.findall(r"#token=(\S+)", mail.text))
                await deliver(run, mail)

            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(recovery, "deliver", watch)
                await world.register()
                await world.work_off()
        assert len(seen) == 1
        assert "mail_not_sent" in caplog.text
        assert seen[0] not in caplog.text

    async def test_a_token_has_256_bits(self, world: Post) -> None:
        await world.register()
        assert len(await world.verification()) == 43

    async def test_answers_are_not_stored(self, world: Post) -> None:
        assert (await world.forget()).headers["cache-control"] == "no-store"


WORDS = AccountMails(
    welcome=MailTemplate(
        subject="Välkommen, $email",
        text="Bekräfta: $link",
        html="<h1>Välkommen till $service</h1><a href='$link'>Bekräfta</a>",
    ),
    reset_path="/nytt-losenord",
)


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
async def posted(
    database_url: str, tmp_path: Path, sink: Sink
) -> AsyncGenerator[tuple[Post, Sink]]:
    """A service with words of its own, whose mails go through a real server."""
    for server in running(Server(sink)):
        url = f"smtp://127.0.0.1:{server.port}?tls=none"
        async with open_post(database_url, tmp_path, mail_url=url, mails=WORDS) as world:
            yield world, sink


def received(sink: Sink) -> tuple[EmailMessage, str, str]:
    """Return the last mail of a server, its text and its HTML."""
    content = sink.received[-1].content
    assert isinstance(content, bytes)
    mail = message_from_bytes(content, policy=policy.default)
    assert mail.get_content_type() == "multipart/alternative"
    text, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    return mail, text.get_content(), html.get_content()


class TestBySmtp:
    async def test_the_mails_of_an_account_arrive_in_the_services_words(
        self, posted: tuple[Post, Sink]
    ) -> None:
        """Welcome, verification, reset: each link does what its mail says."""
        world, sink = posted
        member = await world.member()
        await world.work_off()
        mail, text, html = received(sink)
        assert (mail["to"], mail["subject"]) == (EMAIL, f"Välkommen, {EMAIL}")
        assert "<h1>Välkommen till newel</h1>" in html
        token = token_in(text, "verify-email")
        assert token_in(html, "verify-email") == token
        assert (await world.verify(token)).status_code == 204

        await member.post(f"{AUTH}/email/resend")
        await world.work_off()
        mail, text, html = received(sink)
        assert mail["subject"] == "Confirm your address for newel"
        assert token_in(html, "verify-email") == token_in(text, "verify-email") != token

        await world.forget()
        await world.work_off()
        mail, text, html = received(sink)
        assert mail["subject"] == "Set a new password for newel"
        assert token_in(html, "nytt-losenord") == token_in(text, "nytt-losenord")
        assert (await world.reset(token_in(text, "nytt-losenord"))).status_code == 204
        assert (await world.log_in(password=NEW)).status_code == 200
        assert [envelope.rcpt_tos for envelope in sink.received] == [[EMAIL]] * 3

    async def test_a_server_that_is_busy_costs_no_registration(
        self, posted: tuple[Post, Sink]
    ) -> None:
        world, sink = posted
        sink.refuse_data = "451 try later"
        assert (await world.register()).status_code == 201
        await world.work_off()
        assert sink.received == []
        sink.refuse_data = ""
        async with world.database.write(None) as work, work.as_system("time goes by"):
            await work.session.execute(text("UPDATE jobs SET run_at = created_at"))
        await world.work_off()
        _, said, _ = received(sink)
        assert (await world.verify(token_in(said, "verify-email"))).status_code == 204


def token_in(said: str, page: str) -> str:
    found = re.search(rf"https://www\.example\.com/{page}#token=([\w-]+)", said)
    assert found is not None, said
    return found[1]


async def test_an_address_may_be_as_long_as_addresses_are(world: Post) -> None:
    email = f"{'a' * 60}@{'.'.join(['b' * 60] * 3)}.example"
    assert 242 <= len(email) <= 254
    client = await world.client("192.0.2.9")
    body = {"email": email, "password": PASSWORD}
    assert (await client.post(f"{AUTH}/register", json=body)).status_code == 201
    assert (await world.forget(email)).status_code == 202
    assert await world.token()
