"""Ordinary routes, and one for each error, for the tests of problems and middleware."""

from datetime import datetime, timedelta
from typing import Annotated, Any
from uuid import UUID

from fastapi import (
    APIRouter,
    Body,
    Cookie,
    FastAPI,
    File,
    Form,
    Header,
    UploadFile,
)
from fastapi.testclient import TestClient
from pydantic import BaseModel, ConfigDict, Field, SecretStr

from newel import problems

CANARY = "hunter2-zqXw7"
MEMBERS = {
    *("type", "title", "status", "detail", "instance", "error", "request_id", "timestamp"),
    "errors",
}


class NewAgent(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: Annotated[str, Field(min_length=3, max_length=64)]
    password: SecretStr | None = None
    score: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] = 0
    size: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    tags: list[str] = []


class Agent(BaseModel):
    id: int
    name: str


class AgentLine(BaseModel):
    text: str


def raising(error: Exception) -> Any:
    async def endpoint() -> None:
        raise error

    return endpoint


router = APIRouter()


@router.post("/agents", status_code=201)
async def create_agent(data: NewAgent) -> Agent:
    return Agent(id=1, name=data.name)


@router.get("/agents/{agent_id}")
async def read_agent(
    agent_id: UUID,
    page: Annotated[int, Field(ge=1)] = 1,
    x_trace: Annotated[int | None, Header()] = None,
    theme: Annotated[int | None, Cookie()] = None,
) -> Agent:
    return Agent(id=page, name=str(agent_id))


@router.delete("/agents/{agent_id}", status_code=204)
async def delete_agent(agent_id: UUID) -> None: ...


@router.post("/login")
async def login(username: Annotated[str, Form()], password: Annotated[str, Form()]) -> None: ...


@router.post("/files")
async def upload(file: Annotated[UploadFile, File()]) -> str | None:
    return file.filename


@router.post("/raw")
async def raw(data: Annotated[bytes, Body(media_type="image/png", max_length=4)]) -> int:
    return len(data)


@router.post("/anything")
async def anything(data: dict[str, Any]) -> dict[str, Any]:
    return data


@router.post("/untyped", response_model=None)
async def untyped(data: dict[str, Any]) -> Any:
    return data


@router.get("/text/{text}")
async def text(text: str, query: str = "") -> list[str]:
    return [text, query]


@router.get("/broken-answer")
async def broken_answer() -> AgentLine:
    return {"secret": CANARY}  # type: ignore[return-value] # the mistake that a 500 hides


def application(**errors: Exception) -> FastAPI:
    """Return an application with ordinary routes, and one for each error, named after it."""
    app = FastAPI()
    problems.install(app)
    app.include_router(router)
    for name, error in errors.items():
        app.add_api_route(f"/{name}", raising(error))
    return app


def problem_of(response: Any) -> dict[str, Any]:
    """Return the problem in ``response``, after checking all that every problem keeps."""
    assert response.headers["content-type"] == "application/problem+json", response.text
    body: dict[str, Any] = response.json()
    problems.Problem.model_validate(body, strict=False)
    assert set(body) >= MEMBERS
    assert body["status"] == response.status_code
    assert body["type"] == f"urn:newel:problem:{body['error']}"
    assert datetime.fromisoformat(body["timestamp"]).utcoffset() == timedelta(0)
    assert CANARY not in response.text
    return body


def answer_to(error: Exception, path: str = "/raises") -> Any:
    app = application(raises=error)
    with TestClient(app, raise_server_exceptions=False) as client:
        return client.get(path)
