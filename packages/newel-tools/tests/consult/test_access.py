"""What a route asks of its callers, read from its dependencies."""

import pytest

from newel_tools.consult.access import access_of
from newel_tools.facts.routes import Dependency, Route

BEARER = {
    "call": {"name": "HTTPBearer", "module": "fastapi.security"},
    "security": {"name": "Bearer"},
}


def call(name: str, *inner: dict, module: str = "app.auth", **more: object) -> dict:
    return {"call": {"name": name, "module": module}, "dependencies": list(inner), **more}


@pytest.mark.parametrize(
    ("dependencies", "needs"),
    [
        ([], "open"),
        ([call("get_session")], "open"),
        ([BEARER], "Bearer"),
        ([call("get_current_user", BEARER)], "get_current_user"),
        ([call("get_service", call("get_current_user", BEARER))], "get_current_user"),
        ([call("get_service", BEARER)], "Bearer"),
        ([call("require_role.<locals>.check")], "require_role"),
        ([call("get_current_user"), call("check_admin")], "check_admin, get_current_user"),
        ([call("OAuth2PasswordRequestForm", module="fastapi.security.oauth2")], "open"),
        ([call("load", oauth_scopes=["items:read"])], "scope:items:read"),
        (
            [call("get_current_user", BEARER, oauth_scopes=["me"])],
            "get_current_user, scope:me",
        ),
    ],
)
def test_the_outermost_guard_is_what_a_caller_has_to_pass(dependencies, needs):
    route = Route.model_validate(
        {"kind": "http", "path": "/a", "dependant": {"dependencies": dependencies}}
    )

    assert str(access_of(route)) == needs


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"__newel_access__": ["agents:read", "role:admin"]}, "agents:read, role:admin"),
        ({"__newel_access__": []}, "public"),
        ({"allowed_roles": ["admin", "staff"]}, "RoleChecker(admin, staff)"),
        ({"permission": "agents:read"}, "RoleChecker(agents:read)"),
        ({"superuser": True}, "RoleChecker(superuser)"),
        ({"key": "hunter2"}, "RoleChecker"),
        ({"roles": 3}, "RoleChecker"),
    ],
)
def test_permissions_are_said_and_other_values_are_not(values, said):
    guard = Dependency.model_validate({**call("_RoleChecker"), "values": values})
    route = Route(kind="http", path="/a", dependant=Dependency(dependencies=(guard,)))

    assert str(access_of(route)) == said
