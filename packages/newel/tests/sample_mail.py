"""A real SMTP server that keeps what it is given, on a port of the system's choice."""

from __future__ import annotations

from collections.abc import Generator
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword


class Sink:
    """What a real server was given; its refusals can be set."""

    def __init__(self) -> None:
        self.received: list[Envelope] = []
        self.refuse_recipient = ""
        self.refuse_data = ""
        self.log_ins: list[LoginPassword] = []

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: Any, session: Any, envelope: Envelope, address: str, options: Any
    ) -> str:
        if self.refuse_recipient:
            return self.refuse_recipient
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Envelope) -> str:  # noqa: N802 - as above
        if self.refuse_data:
            return self.refuse_data
        self.received.append(envelope)
        return "250 OK"

    def authenticate(
        self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any
    ) -> AuthResult:
        self.log_ins.append(data)
        return AuthResult(success=data.password == b"p@ss", handled=True)


class Server(Controller):
    """aiosmtpd on a port of the system's choice."""

    def __init__(self, sink: Sink, **options: Any) -> None:
        super().__init__(sink, hostname="127.0.0.1", port=0, **options)

    def _trigger_server(self) -> None:
        self.port = self.server.sockets[0].getsockname()[1]
        super()._trigger_server()

    def factory(self) -> SMTP:
        sink: Any = self.handler
        return SMTP(sink, authenticator=sink.authenticate, **self.SMTP_kwargs)


def running(server: Server) -> Generator[Server]:
    server.start()
    yield server
    server.stop()
