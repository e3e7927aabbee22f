"""Users on the wire; a password never leaves."""

from typing import Annotated, Literal

from newel.accounts import AccountRead, Register
from newel.identity import Email
from newel.pages import PageQuery
from newel.schemas import InputModel, Text, omittable
from pydantic import Field

FullName = Annotated[Text, Field(min_length=1, max_length=255, examples=["Full name 1"])]
Role = Literal["user", "reader", "admin"]


class UserRegister(Register):
    """What signing up takes, besides e-mail and password."""

    full_name: FullName | None = None


class ProfileUpdate(InputModel):
    """What users change about themselves."""

    full_name: FullName | None = None


class UserUpdate(ProfileUpdate):
    """What administrators change: the body of PATCH."""

    roles: Annotated[list[Role], Field(max_length=3)] = omittable()
    is_active: bool = omittable()


class UserRead(AccountRead):
    """A user as they and administrators see it."""

    full_name: str | None


class UserQuery(PageQuery):
    """How the list is sorted and filtered."""

    sort: Literal["created_at", "-created_at", "email", "-email"] = "-created_at"
    email: Email | None = None
    is_active: bool | None = None
