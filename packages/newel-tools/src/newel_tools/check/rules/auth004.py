"""AUTH004: an administrators' route that any user may call."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from newel_tools.check.access import Access, is_public
from newel_tools.check.finding import Finding
from newel_tools.check.review import Review
from newel_tools.check.roles import asks_role, knows_roles
from newel_tools.check.rule import Rule
from newel_tools.facts.entities import Entity

__all__ = ["RULE"]

_PATH: Final = re.compile(r"/(admin|admins|superadmin|super-admin|backoffice|administration)(/|$)")
_ROLE_COLUMNS: Final = frozenset(
    {"is_superuser", "is_admin", "is_staff", "role", "roles", "role_id", "permissions", "superuser"}
)


def find(review: Review) -> Iterator[Finding]:
    """Find routes below `/admin` that ask who is calling, but not whether they may."""
    access = Access(review)
    if access.guarding_middleware or not _has_roles(review):
        return
    for route in review.http_routes:
        if not _PATH.search(route.path) or is_public(review, route):
            continue
        protected = access.is_protected(route)
        answers_data = route.response.model is not None and not route.writes
        if (protected or answers_data) and not asks_role(review, route):
            file, line = review.at(route)
            said = (
                "who is calling, but not whether they are" if protected else "nobody whether it is"
            )
            yield RULE.found(
                f"it asks {said} an administrator",
                file=file,
                line=line,
                route=route.label,
            )


def _has_roles(review: Review) -> bool:
    """Tell whether the application knows more than one kind of user."""
    return any(_is_ranked(entity) for entity in review.facts.entities) or knows_roles(review)


def _is_ranked(entity: Entity) -> bool:
    return any(column.attribute in _ROLE_COLUMNS for column in entity.columns)


RULE = Rule(
    id="AUTH004",
    title="Any user may call an administrators' route",
    severity="block",
    how="import",
    why="A path named `/admin` hides nothing: it stands in the OpenAPI document.",
    fix="depend on the role, best in the router: "
    "`APIRouter(prefix='/admin', dependencies=[Depends(require_role('admin'))])`",
    seed='003 "require_role(*roles) - Factory for RBAC"',
    expected="routes whose dependencies, decorators or code mention a role, a permission, a scope "
    "or 403; "
    "applications with one kind of user; pages; routes that change rows and ask nobody: AUTH001.",
    bad="""
from typing import Annotated

from fastapi import Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer

app = FastAPI()
bearer = OAuth2PasswordBearer(tokenUrl="login")


def get_current_user(token: Annotated[str, Depends(bearer)]) -> str:
    if not token:
        raise HTTPException(401)
    return token


def require_admin(user: Annotated[str, Depends(get_current_user)]) -> str:
    if user != "root":
        raise HTTPException(403)
    return user


@app.delete("/admin/users/{user_id}")
def delete_user(user_id: int, admin: Annotated[str, Depends(require_admin)]) -> None:
    return None


@app.get("/admin/users")
def users(user: Annotated[str, Depends(get_current_user)]) -> list[str]:  # finding
    return [user]


@app.get("/admin/totals")
def totals() -> list[str]:  # finding
    return []
""",
    good="""
from typing import Annotated

from fastapi import APIRouter, Depends, FastAPI, HTTPException
from fastapi.security import OAuth2PasswordBearer

bearer = OAuth2PasswordBearer(tokenUrl="login")


def get_current_user(token: Annotated[str, Depends(bearer)]) -> str:
    if not token:
        raise HTTPException(401)
    return token


class Allowed:
    def __init__(self, *roles: str) -> None:
        self.roles = roles

    def __call__(self, user: Annotated[str, Depends(get_current_user)]) -> str:
        if user not in self.roles:
            raise HTTPException(403)
        return user


User = Annotated[str, Depends(get_current_user)]
router = APIRouter(prefix="/admin", dependencies=[Depends(Allowed("admin"))])


@router.get("/users")
def users(user: User) -> list[str]:
    return [user]


app = FastAPI()
app.include_router(router)


@app.get("/admin/settings")
def settings(user: User) -> str:
    if user != "root":
        raise HTTPException(status_code=403)
    return user


@app.post("/admin/login")
def login(name: str) -> str:
    return name


@app.get("/administrators-guide")
def guide(user: User) -> str:
    return user
""",
    find=find,
)
