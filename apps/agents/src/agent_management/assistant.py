"""The models behind the agents: any server that speaks the chat completions protocol."""

from dataclasses import dataclass
from typing import Annotated

import httpx2
from newel.outgoing import Destinations, lan, outgoing_client, public
from newel.schemas import Text
from pydantic import BaseModel, Field, SecretStr, ValidationError
from starlette.requests import HTTPConnection

_SECONDS = 60.0
_AGAIN = {408, 425, 429}  # as likely to be answered later as an error of the server


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What is asked, and of which model."""

    model: str
    system_prompt: str
    query: str


class AnswerError(Exception):
    """The model's server refuses this question, or says what nobody understands."""


class _Message(BaseModel):
    content: Annotated[Text, Field(min_length=1, max_length=20_000)]


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    choices: Annotated[list[_Choice], Field(min_length=1)]


class Assistant:
    """Asks the server at ``url``, for example ``https://api.example.com/v1``.

    Only one on the internet, unless ``network`` (a CIDR) says which private one it is in.
    """

    def __init__(self, url: str, *, key: SecretStr | None, network: str | None) -> None:
        self._url = httpx2.URL(f"{url.rstrip('/')}/chat/completions")
        self._headers = {"Authorization": f"Bearer {key.get_secret_value()}"} if key else {}
        self._destinations = self._where(network)

    def _where(self, network: str | None) -> Destinations:
        port = self._url.port or {"http": 80, "https": 443}.get(self._url.scheme, 0)
        if not network:
            return public(hosts={self._url.host}, ports={port})
        return lan([network], ports={port})

    async def answer(self, question: Question) -> str:
        """Raise ``AnswerError``; and what is worth another try, such as ``OutgoingError``."""
        messages = [
            {"role": "system", "content": question.system_prompt},
            {"role": "user", "content": question.query},
        ]
        async with outgoing_client(self._destinations, timeout_seconds=_SECONDS) as client:
            answer = await client.post(
                self._url,
                json={"model": question.model, "messages": messages},
                headers=self._headers,
            )
        if answer.status_code in _AGAIN or answer.is_server_error:
            answer.raise_for_status()
        try:
            return _Completion.model_validate_json(answer.content).choices[0].message.content
        except ValidationError as error:
            raise AnswerError(f"status {answer.status_code}") from error


def get_assistant(connection: HTTPConnection) -> Assistant:
    assistant: Assistant = connection.app.state.assistant
    return assistant
