"""Mail: written, sent by a job, on a real SMTP server, and shown in development."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator, Generator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import httpx2
import pytest
import structlog
from asgi_lifespan import LifespanManager
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi import FastAPI
from sample_accounts import SECRET
from sample_mail import Server, Sink, running

from newel import mail
from newel.app import create_app
from newel.db import Database
from newel.drivers import smtp
from newel.drivers.smtp import SmtpMailer
from newel.errors import ConfigurationError, Invalid, UpstreamError
from newel.mail import FileMailer, LogMailer, Mail, MailTemplate, open_mailer, send_mail
from newel.modules import Module
from newel.settings import Settings
from newel.worker import Worker

pytestmark = pytest.mark.anyio

MAIL = Mail(to="ann@example.com", subject="Grüße", text="Hello Änn,\n\nsee https://x.test/?a=1&b=2")


def message(written: Mail = MAIL) -> EmailMessage:
    return mail._message(written, sender="Shop <shop@example.org>", identity="7")


def part(found: EmailMessage, kind: str) -> str:
    body = found.get_body((kind,))
    assert body is not None
    return body.get_content()


class TestWriting:
    def test_both_parts_say_the_same(self) -> None:
        made = message()
        assert part(made, "plain").replace("\r\n", "\n").strip() == MAIL.text
        html = part(made, "html")
        assert "<p>Hello Änn,</p>" in html
        assert 'href="https://x.test/?a=1&amp;b=2"' in html
        assert made["to"] == "ann@example.com"
        assert made["from"] == "Shop <shop@example.org>"
        assert made["subject"] == "Grüße"
        assert made["message-id"] == "<7@example.org>"
        assert made["auto-submitted"] == "auto-generated"

    def test_a_template_is_filled(self) -> None:
        template = MailTemplate(subject="$what", text="Dear $name: $$5", html="<b>$name</b>")
        made = template.fill(to="a@b.example", what="Order\n 7", name="<script>")
        assert made == Mail(
            to="a@b.example",
            subject="Order 7",
            text="Dear <script>: $5",
            html="<b>&lt;script&gt;</b>",
        )

    def test_a_value_that_is_missing_is_a_mistake(self) -> None:
        with pytest.raises(KeyError, match="name"):
            MailTemplate(subject="Hi", text="$name").fill(to="a@b.example")

    def test_text_is_no_html(self) -> None:
        made = message(Mail(to="a@b.example", subject="x", text="<img src=x>\n& more"))
        assert "<img" not in part(made, "html")
        assert "&lt;img src=x&gt;<br>&amp; more" in part(made, "html")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("subject", "x\r\nBcc: everybody@example.com"),
            ("to", "a@b.example\nBcc: everybody@example.com"),
            ("to", "a@b.example, everybody@example.com"),
            ("to", "no address"),
        ],
    )
    def test_nothing_adds_a_header_or_an_address(self, field: str, value: str) -> None:
        fields = {"to": "a@b.example", "subject": "x", "text": "y", field: value}
        with pytest.raises(ValueError):  # noqa: PT011 - of several libraries
            message(Mail(**fields))


class TestMailers:
    @pytest.mark.parametrize(
        "url", ["", "mail", "log", "file:", "smtp:", "smtp://", "http://x", "smtp://h?tls=maybe"]
    )
    def test_what_is_no_mail_url(self, url: str) -> None:
        with pytest.raises(ConfigurationError) as caught:
            open_mailer(url, shows_text=True)
        assert caught.value.fix

    def test_each_scheme_has_its_own(self, tmp_path: Path) -> None:
        assert isinstance(open_mailer("log:", shows_text=True), LogMailer)
        assert isinstance(open_mailer(f"file:{tmp_path}", shows_text=True), FileMailer)
        assert isinstance(open_mailer("smtp://host", shows_text=True), SmtpMailer)

    def test_a_driver_that_is_not_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def missing(name: str) -> Any:
            raise ModuleNotFoundError(name)

        monkeypatch.setattr("importlib.import_module", missing)
        with pytest.raises(ConfigurationError, match="not installed") as caught:
            open_mailer("smtp://host", shows_text=True)
        assert caught.value.fix == "install newel[smtp]"

    async def test_the_log_shows_the_text_in_development_only(
        self, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
    ) -> None:
        shown = {}
        for shows_text in (True, False):
            mailer = LogMailer(shows_text=shows_text)
            await mailer.send(message())
            shown[shows_text] = capsys.readouterr().out + caplog.text
            caplog.clear()
            assert len(await mailer.recent()) == shows_text
        assert "x.test" in shown[True]
        assert "x.test" not in shown[False]
        for text in shown.values():
            assert "mail_not_sent" in text

    async def test_the_log_remembers_the_last_fifty(self) -> None:
        mailer = LogMailer(shows_text=True)
        for number in range(60):
            await mailer.send(message(Mail(to="a@b.example", subject=str(number), text="x")))
        recent = await mailer.recent()
        assert [recent[0]["subject"], recent[-1]["subject"], len(recent)] == ["59", "10", 50]

    async def test_files_are_their_owners(self, tmp_path: Path) -> None:
        directory = tmp_path / "mails"
        mailer = open_mailer(f"file:{directory}", shows_text=True)
        assert await mailer.recent() == []
        await mailer.send(message())
        [path] = directory.iterdir()
        assert path.suffix == ".eml"
        assert path.stat().st_mode & 0o777 == 0o600
        [found] = await mailer.recent()
        text = part(found, "plain").replace("\r\n", "\n").strip()
        assert (found["subject"], text) == ("Grüße", MAIL.text)


# ------------------------------------------------------------------------------------------- SMTP


@pytest.fixture
def sink() -> Sink:
    return Sink()


@pytest.fixture
def server(sink: Sink) -> Generator[Server]:
    """A server in the clear, as it stands beside a service on one machine."""
    yield from running(Server(sink))


def certificate(directory: Path) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server on 127.0.0.1 and of a client that trusts it."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = made.public_bytes(serialization.Encoding.PEM)
    file = directory / "server.pem"
    file.write_bytes(
        pem
        + key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server.load_cert_chain(file)
    return server, ssl.create_default_context(cadata=pem.decode())


class TestSmtp:
    async def test_it_arrives(self, server: Server, sink: Sink) -> None:
        await SmtpMailer(f"smtp://127.0.0.1:{server.port}?tls=none").send(message())
        [got] = sink.received
        assert got.rcpt_tos == ["ann@example.com"]
        assert got.mail_from == "shop@example.org"
        assert isinstance(got.content, bytes)
        assert b"Content-Type: text/html" in got.content
        assert await SmtpMailer("smtp://host").recent() == ()

    async def test_without_tls_nothing_is_sent(self, server: Server, sink: Sink) -> None:
        """Neither the mail nor the password, unless the address says so."""
        mailer = SmtpMailer(f"smtp://ann:p%40ss@127.0.0.1:{server.port}")
        with pytest.raises(UpstreamError):
            await mailer.send(message())
        assert (sink.received, sink.log_ins) == ([], [])

    async def test_starttls_and_log_in(
        self, sink: Sink, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(smtp, "TIMEOUT_SECONDS", 0.5)
        its, ours = certificate(tmp_path)
        for server in running(Server(sink, tls_context=its, require_starttls=True)):
            url = f"smtp://ann:p%40ss@localhost:{server.port}"
            await SmtpMailer(url, tls_context=ours).send(message())
            with pytest.raises(UpstreamError):
                await SmtpMailer(url.replace("p%40ss", "wrong"), tls_context=ours).send(message())
            with pytest.raises(UpstreamError):  # a certificate that nobody knows
                await SmtpMailer(url).send(message())
        assert len(sink.received) == 1
        assert sink.log_ins[0].login == b"ann"
        assert len(sink.log_ins) == 2

    async def test_tls_from_the_start(self, sink: Sink, tmp_path: Path) -> None:
        its, ours = certificate(tmp_path)
        for server in running(Server(sink, ssl_context=its)):
            mailer = SmtpMailer(f"smtps://localhost:{server.port}", tls_context=ours)
            await mailer.send(message())
        assert len(sink.received) == 1

    @pytest.mark.parametrize(
        ("recipient", "data", "error"),
        [
            ("550 no such user", "", Invalid),
            ("450 mailbox is busy", "", UpstreamError),
            ("", "554 spam", Invalid),
            ("", "451 try later", UpstreamError),
        ],
    )
    async def test_what_is_refused_for_good_and_what_for_now(
        self, server: Server, sink: Sink, recipient: str, data: str, error: type[Exception]
    ) -> None:
        sink.refuse_recipient, sink.refuse_data = recipient, data
        with pytest.raises(error) as caught:
            await SmtpMailer(f"smtp://127.0.0.1:{server.port}?tls=none").send(message())
        assert "no such user" not in str(caught.value), "what a server says stays in the log"

    async def test_a_server_that_is_down(self, sink: Sink) -> None:
        [server] = running(Server(sink))
        with pytest.raises(UpstreamError):
            await SmtpMailer(f"smtp://127.0.0.1:{server.port}?tls=none").send(message())


# -------------------------------------------------------------------------------- as a job, preview


def build(database_url: str, directory: Path, **settings: Any) -> FastAPI:
    directory.joinpath("migrations").mkdir(exist_ok=True)
    values = {
        "_env_file": None,
        "secret_key": SECRET,
        "environment": "test",
        "database_url": database_url,
        "migrations": directory / "migrations",
        "mail_from": "shop@example.org",
        **settings,
    }
    return create_app(Settings(**values), Module("mails", jobs=[send_mail]))


async def work_off(app: FastAPI) -> None:
    await Worker(app, app.state.background).drain()


class TestJob:
    @pytest.fixture
    async def app(
        self, database_url: str, tmp_path: Path, server: Server
    ) -> AsyncGenerator[FastAPI]:
        url = f"smtp://127.0.0.1:{server.port}?tls=none"
        app = build(database_url, tmp_path, mail_url=url)
        async with LifespanManager(app):
            yield app

    async def test_it_is_sent_after_the_commit(self, app: FastAPI, sink: Sink) -> None:
        database: Database = app.state.database
        async with database.write(None) as work:
            work.enqueue(send_mail, MAIL)
            await work.flush()
            await work_off_elsewhere(app)
            assert sink.received == []
        await work_off(app)
        assert len(sink.received) == 1

    async def test_a_unit_that_fails_sends_nothing(self, app: FastAPI, sink: Sink) -> None:
        database: Database = app.state.database

        async def fail() -> None:
            async with database.write(None) as work:
                work.enqueue(send_mail, MAIL)
                raise RuntimeError

        with pytest.raises(RuntimeError):
            await fail()
        await work_off(app)
        assert sink.received == []

    @pytest.mark.parametrize(
        ("refusal", "state"), [("550 no such user", "dead"), ("450 busy", "scheduled")]
    )
    async def test_what_is_refused_for_good_is_not_tried_again(
        self, app: FastAPI, sink: Sink, refusal: str, state: str
    ) -> None:
        sink.refuse_recipient = refusal
        database: Database = app.state.database
        async with database.write(None) as work:
            work.enqueue(send_mail, MAIL)
        await work_off(app)
        async with database.engine.connect() as connection:
            [(found,)] = await connection.exec_driver_sql("SELECT state FROM jobs")
        assert found == state

    async def test_an_address_that_is_none_is_a_dead_letter(self, app: FastAPI, sink: Sink) -> None:
        database: Database = app.state.database
        async with database.write(None) as work:
            work.enqueue(send_mail, Mail(to="a@b.example\nBcc: x@y.example", subject="", text=""))
        await work_off(app)
        async with database.engine.connect() as connection:
            [(found,)] = await connection.exec_driver_sql("SELECT state FROM jobs")
        assert (found, sink.received) == ("dead", [])


async def work_off_elsewhere(app: FastAPI) -> None:
    """Let a worker look while the transaction is open; SQLite's waits for the writer."""
    database: Database = app.state.database
    if not database.is_sqlite:
        await work_off(app)


class TestSettings:
    def settings(self, **values: Any) -> Settings:
        return Settings(secret_key=SECRET, _env_file=None, **values)

    def test_the_address_of_the_front_end(self) -> None:
        assert self.settings(site_url="https://x.test/app/").site_url == "https://x.test/app"
        with pytest.raises(ConfigurationError, match="SITE_URL"):
            self.settings(site_url="x.test")

    async def test_the_password_of_the_mail_server_is_in_no_log(
        self, database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        url = "smtp://ann:sw0rdf%40sh@mail.example"
        async with LifespanManager(build(database_url, tmp_path, mail_url=url)):
            for secret in ("sw0rdf%40sh", "sw0rdf@sh"):
                structlog.get_logger("test").info("said", text=f"it is {secret}")
        shown = capsys.readouterr().out
        assert shown.count("it is [redacted]") == 2
        assert "sw0rdf" not in shown


class TestPreview:
    @pytest.fixture
    async def client(self, database_url: str, tmp_path: Path) -> AsyncGenerator[httpx2.AsyncClient]:
        app = build(database_url, tmp_path, environment="development")
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            client.headers["x-app"] = ""
            self.app = app
            yield client

    async def test_it_shows_what_was_sent(self, client: httpx2.AsyncClient) -> None:
        assert "Nothing was sent yet" in (await client.get("/dev/mail")).text
        evil = Mail(
            to="ann@example.com", subject="<b>x</b>", text="hello", html='<p title="a">hello</p>'
        )
        await self.app.state.mailer.send(message(evil))
        page = await client.get("/dev/mail")
        assert "ann@example.com" in page.text
        assert "&lt;b&gt;x&lt;/b&gt;" in page.text
        one = await client.get("/dev/mail/0")
        assert '<iframe sandbox="" srcdoc="&lt;p title=&quot;a&quot;&gt;hello' in one.text
        assert "script-src" not in one.headers["content-security-policy"]
        assert (await client.get("/dev/mail/1")).status_code == 404

    async def test_it_is_not_in_the_docs(self, client: httpx2.AsyncClient) -> None:
        assert not [path for path in self.app.openapi()["paths"] if "mail" in path]

    @pytest.mark.parametrize("environment", ["test", "production"])
    async def test_elsewhere_there_is_none(
        self, database_url: str, tmp_path: Path, environment: str
    ) -> None:
        app = build(database_url, tmp_path, environment=environment)
        transport = httpx2.ASGITransport(app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://test") as client:
            assert (await client.get("/dev/mail")).status_code == 404
