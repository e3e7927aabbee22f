"""Models and operations of the service on Django Ninja; imported when Django is configured."""

from __future__ import annotations

import uuid
from typing import Any

import jwt
from django.db import models
from django.shortcuts import get_object_or_404
from django.urls import path
from ninja import NinjaAPI, Query
from ninja.security import HttpBearer

from benchmarks.variants.environment import Environment
from benchmarks.variants.models import utc_now
from benchmarks.variants.schemas import AgentCreate, AgentPage, AgentRead, AgentUpdate


class PlainJSON(models.JSONField):
    """PostgreSQL's `json`, which its driver has decoded already."""

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> Any:
        return value


class Row(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    created_at = models.DateTimeField(default=utc_now)
    updated_at = models.DateTimeField(default=utc_now)
    version = models.IntegerField(default=1)

    class Meta:
        abstract = True
        app_label = "agents"


class User(Row):
    email = models.CharField(max_length=320)
    full_name = models.CharField(max_length=255, null=True)
    password_hash = models.CharField(max_length=255)
    roles = PlainJSON()
    is_active = models.BooleanField()
    epoch = models.IntegerField()

    class Meta(Row.Meta):
        db_table = "users"


class AuthSession(Row):
    user = models.ForeignKey(User, on_delete=models.CASCADE)
    epoch = models.IntegerField()
    expires_at = models.DateTimeField()
    revoked_at = models.DateTimeField(null=True)

    class Meta(Row.Meta):
        db_table = "auth_sessions"

    def is_live(self) -> bool:
        return (
            self.user.is_active
            and self.revoked_at is None
            and self.epoch == self.user.epoch
            and self.expires_at > utc_now()
        )


class Agent(Row):
    owner = models.ForeignKey(User, on_delete=models.CASCADE)
    name = models.CharField(max_length=64)
    description = models.TextField(null=True)
    model_name = models.CharField(max_length=128)
    system_prompt = models.TextField()
    config = PlainJSON()
    is_active = models.BooleanField(default=True)
    deleted_at = models.DateTimeField(null=True)

    class Meta(Row.Meta):
        db_table = "agents"


class Bearer(HttpBearer):
    def __init__(self, environment: Environment) -> None:
        super().__init__()
        self._environment = environment

    def authenticate(self, request: Any, token: str) -> User | None:
        try:
            claims = jwt.decode(
                token,
                self._environment.token_key,
                algorithms=["HS256"],
                issuer=self._environment.issuer,
                audience=self._environment.issuer,
                options={"require": ["exp", "sub", "sid"]},
            )
        except jwt.PyJWTError:
            return None
        sessions = AuthSession.objects.select_related("user")
        session = sessions.filter(id=claims["sid"], user_id=claims["sub"]).first()
        return session.user if session is not None and session.is_live() else None


api = NinjaAPI(title="agents", auth=Bearer(Environment.read()))


def own_agents(request: Any) -> models.QuerySet[Agent]:
    return Agent.objects.filter(owner_id=request.auth.id, deleted_at=None)


@api.get("agents", response=AgentPage)
def list_agents(
    request: Any, page: int = Query(1, ge=1), page_size: int = Query(20, ge=1, le=100)
) -> Any:
    agents = own_agents(request)
    total = agents.count()
    start = (page - 1) * page_size
    return {
        "items": list(agents.order_by("-created_at", "-id")[start : start + page_size]),
        "total": total,
        "page": page,
        "page_size": page_size,
        "pages": -(-total // page_size),
    }


@api.post("agents", response={201: AgentRead})
def create_agent(request: Any, data: AgentCreate) -> Any:
    return 201, Agent.objects.create(owner=request.auth, **data.model_dump())


@api.get("agents/{uuid:agent_id}", response=AgentRead)
def get_agent(request: Any, agent_id: uuid.UUID) -> Any:
    return get_object_or_404(own_agents(request), id=agent_id)


@api.patch("agents/{uuid:agent_id}", response=AgentRead)
def update_agent(request: Any, agent_id: uuid.UUID, data: AgentUpdate) -> Any:
    agent = get_object_or_404(own_agents(request), id=agent_id)
    changes = {**data.model_dump(exclude_unset=True), "updated_at": utc_now()}
    changes["version"] = agent.version + 1
    for name, value in changes.items():
        setattr(agent, name, value)
    agent.save(update_fields=list(changes))
    return agent


@api.delete("agents/{uuid:agent_id}", response={204: None})
def delete_agent(request: Any, agent_id: uuid.UUID) -> Any:
    agent = get_object_or_404(own_agents(request), id=agent_id)
    agent.deleted_at = utc_now()
    agent.save(update_fields=["deleted_at"])
    return 204, None


urlpatterns = [path("api/v1/", api.urls)]
