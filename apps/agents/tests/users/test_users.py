"""Users over HTTP: their administration, and that accounts are wired in."""

import asyncio
from typing import Any

import pytest
from httpx2 import AsyncClient

pytestmark = pytest.mark.anyio

Row = dict[str, Any]

URL = "/api/v1/users"
AUTH = "/api/v1/auth"
ONE = [("GET", ""), ("PATCH", ""), ("DELETE", ""), ("POST", "/activate"), ("POST", "/deactivate")]
PROFILE: Row = {
    "full_name": "Full name 1",
}
REGISTER = PROFILE | {"email": "new@example.com", "password": "a long enough passphrase"}
OTHER: Row = {"full_name": "Full name 2", "roles": ["reader"], "is_active": False}
REFUSED: Row = {
    "full_name too short": "",
    "full_name too long": "x" * 256,
    "full_name with NUL": "\0",
    "full_name of another type": 7,
    "roles that do not exist": ["root"],
}
REFUSED.update({f"{name} null": None for name in ["roles", "is_active"]})
REFUSED.update(
    {
        f"{name} is not changed here": 7
        for name in ["email", "password_hash", "epoch", "id", "version"]
    }
)


@pytest.fixture
async def user(owner: AsyncClient) -> Row:
    """An ordinary user, logged in as ``owner``."""
    return (await owner.get(f"{AUTH}/me")).json()


async def test_read_shows_the_version_and_no_secret(admin: AsyncClient, user: Row) -> None:
    answer = await admin.get(f"{URL}/{user['id']}")
    assert (answer.status_code, answer.json()) == (200, user)
    assert answer.headers["ETag"].startswith('"1-')
    assert "password" not in answer.text


@pytest.mark.parametrize("field", OTHER)
async def test_update_changes_what_is_sent(admin: AsyncClient, user: Row, field: str) -> None:
    answer = await admin.patch(f"{URL}/{user['id']}", json={field: OTHER[field]})
    assert answer.status_code == 200
    now = {name: answer.json()[name] for name in ("version", "updated_at")}
    assert answer.json() == user | now | {field: OTHER[field]}


async def test_deactivate_ends_the_sessions_for_good(
    admin: AsyncClient, owner: AsyncClient, user: Row
) -> None:
    for action, is_active in (("deactivate", False), ("activate", True)):
        answer = await admin.post(f"{URL}/{user['id']}/{action}")
        assert (answer.status_code, answer.json()["is_active"]) == (200, is_active)
        assert (await owner.get(f"{AUTH}/me")).status_code == 401


async def test_delete_removes_the_account(
    admin: AsyncClient, owner: AsyncClient, user: Row
) -> None:
    assert (await admin.delete(f"{URL}/{user['id']}")).status_code == 204
    for method, path in ONE:
        answer = await admin.request(method, f"{URL}/{user['id']}{path}", json=OTHER)
        assert answer.status_code == 404
    assert (await owner.get(f"{AUTH}/me")).status_code == 401


@pytest.mark.parametrize(
    ("method", "path"), [("PATCH", ""), ("DELETE", ""), ("POST", "/deactivate")]
)
async def test_administrators_cannot_lock_themselves_out(
    admin: AsyncClient, method: str, path: str
) -> None:
    me = (await admin.get(f"{AUTH}/me")).json()
    answer = await admin.request(method, f"{URL}/{me['id']}{path}", json=OTHER)
    assert answer.status_code == 409
    assert (await admin.get(f"{AUTH}/me")).json() == me


async def test_two_administrators_at_once_leave_one(admin: AsyncClient, log_in: Any) -> None:
    pair = [admin, await log_in("admin")]
    urls = [f"{URL}/{(await client.get(f'{AUTH}/me')).json()['id']}" for client in pair[::-1]]
    await asyncio.gather(*map(AsyncClient.post, pair, [f"{url}/deactivate" for url in urls]))
    assert sorted([(await client.get(f"{AUTH}/me")).status_code for client in pair]) == [200, 401]


async def test_list_is_paged_and_newest_first(
    owner: AsyncClient, stranger: AsyncClient, admin: AsyncClient
) -> None:
    users = [(await client.get(f"{AUTH}/me")).json() for client in (owner, stranger, admin)]
    first = (await admin.get(URL, params={"page_size": 2})).json()
    second = (await admin.get(URL, params={"page_size": 2, "page": 2})).json()
    assert first["items"] + second["items"] == users[::-1]
    assert (first["total"], first["page"], first["page_size"], first["pages"]) == (3, 1, 2, 2)


async def test_list_is_sorted_and_filtered(admin: AsyncClient, user: Row) -> None:
    emails = [row["email"] for row in (await admin.get(f"{URL}?sort=-email")).json()["items"]]
    assert emails == sorted(emails, reverse=True)
    query = {"email": user["email"].upper(), "is_active": True}
    assert (await admin.get(URL, params=query)).json()["items"] == [user]
    assert (await admin.get(f"{URL}?is_active=false")).json()["items"] == []


@pytest.mark.parametrize(("method", "path"), ONE)
async def test_users_are_for_administrators(
    stranger: AsyncClient, admin: AsyncClient, user: Row, method: str, path: str
) -> None:
    answer = await stranger.request(method, f"{URL}/{user['id']}{path}", json=OTHER)
    assert answer.status_code == 403
    assert (await admin.get(f"{URL}/{user['id']}")).json() == user


@pytest.mark.parametrize("wrong", REFUSED)
async def test_a_wrong_field_is_refused(admin: AsyncClient, user: Row, wrong: str) -> None:
    body = {wrong.split()[0]: REFUSED[wrong]}
    assert (await admin.patch(f"{URL}/{user['id']}", json=body)).status_code == 422
    assert (await admin.get(f"{URL}/{user['id']}")).json() == user


@pytest.mark.parametrize("method", ["PATCH", "DELETE"])
async def test_a_stale_version_is_not_changed(admin: AsyncClient, user: Row, method: str) -> None:
    url, first = f"{URL}/{user['id']}", {"If-Match": '"1"'}
    assert (await admin.patch(url, json=OTHER, headers=first)).status_code == 200
    assert (await admin.request(method, url, json=OTHER, headers=first)).status_code == 412


async def test_who_registers_can_log_in(client: AsyncClient) -> None:
    answer = await client.post(f"{AUTH}/register", json=REGISTER)
    assert answer.status_code == 201
    assert answer.json().items() >= PROFILE.items()
    form = {"username": "NEW@example.com", "password": REGISTER["password"]}
    token = (await client.post(f"{AUTH}/login", data=form)).json()["access_token"]
    me = await client.get(f"{AUTH}/me", headers={"Authorization": f"Bearer {token}"})
    assert (me.json()["id"], me.json()["roles"]) == (answer.json()["id"], ["user"])


async def test_an_address_has_one_account(client: AsyncClient, user: Row) -> None:
    body = REGISTER | {"email": user["email"].upper()}
    answer = await client.post(f"{AUTH}/register", json=body)
    assert answer.status_code == 409
    assert answer.json()["errors"][0]["pointer"] == "#/email"


@pytest.mark.parametrize("field", ["roles", "is_active", "id", "epoch"])
async def test_nobody_registers_as_more_than_a_user(client: AsyncClient, field: str) -> None:
    body = REGISTER | {field: OTHER.get(field, 7)}
    assert (await client.post(f"{AUTH}/register", json=body)).status_code == 422


async def test_users_change_their_own_profile_only(owner: AsyncClient) -> None:
    answer = await owner.patch(f"{AUTH}/me", json=PROFILE)
    assert answer.status_code == 200
    assert answer.json().items() >= PROFILE.items()
    assert (await owner.patch(f"{AUTH}/me", json={"roles": ["reader"]})).status_code == 422
