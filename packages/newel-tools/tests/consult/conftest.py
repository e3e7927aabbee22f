"""One application, imported once, for all questions about it."""

from pathlib import Path

import pytest

from newel_tools.application import read_application
from newel_tools.facts.facts import Facts

MAIN = """
from typing import Annotated, Literal
from uuid import UUID

from fastapi import Depends, FastAPI, Header, UploadFile, WebSocket
from fastapi.security import APIKeyHeader, HTTPBasic, HTTPBearer, OAuth2PasswordBearer
from fastapi.security import OAuth2PasswordRequestForm
from pydantic import BaseModel, Field

app = FastAPI()
oauth2 = OAuth2PasswordBearer(tokenUrl="auth/login")
key = APIKeyHeader(name="X-Key")


class AgentCreate(BaseModel):
    name: str = Field(min_length=1, max_length=64)
    kind: Literal["chat", "search"] = "chat"
    weight: float | None = Field(None, gt=0, lt=9)
    tags: list[str] = []
    mode: str = Field(pattern="^[a-z]+$", examples=["fast"])


class AgentRead(AgentCreate):
    id: UUID
    parent: "AgentRead | None" = None


def get_current_user(token: Annotated[str, Depends(oauth2)]) -> str:
    return token


User = Annotated[str, Depends(get_current_user)]


@app.post("/auth/register")
def register() -> None: ...


@app.post("/auth/login")
def login(form: Annotated[OAuth2PasswordRequestForm, Depends()]) -> dict[str, str]: ...


@app.post("/auth/refresh", deprecated=True)
def refresh() -> None: ...


@app.get("/auth/me")
def me(user: User) -> dict[str, str]: ...


@app.get("/agents")
def list_agents(user: User, limit: int = 20) -> list[AgentRead]: ...


TWICE = {409: {"description": "Twice"}}


@app.post("/agents", status_code=201, summary="Create an agent", responses=TWICE)
def create_agent(
    user: User, data: AgentCreate, team: Annotated[str, Header()], dry: bool
) -> AgentRead: ...


@app.get("/agents/{agent_id}")
def get_agent(user: User, agent_id: UUID) -> AgentRead: ...


@app.post("/agents/{agent_id}/photo")
def photo(agent_id: UUID, file: UploadFile, secret: Annotated[str, Depends(key)]) -> None: ...


@app.get("/files/{path:path}")
def file(path: str) -> bytes: ...


@app.get("/other", dependencies=[Depends(HTTPBearer()), Depends(HTTPBasic())])
def other() -> None: ...


@app.get("/internal", include_in_schema=False)
def internal() -> None: ...


@app.websocket("/ws")
async def ws(websocket: WebSocket) -> None: ...
"""


@pytest.fixture(scope="session")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of an application with every kind of route and scheme."""
    folder = tmp_path_factory.mktemp("agents")
    (folder / "main.py").write_text(MAIN)
    return folder


@pytest.fixture(scope="session")
def facts(project: Path) -> Facts:
    """Return what is true of it."""
    return read_application(project)
