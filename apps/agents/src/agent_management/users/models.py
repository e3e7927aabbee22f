"""Users in the database."""

from newel.identity import Account
from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column


class User(Account):
    """Who can log in: e-mail, password and roles are the account's, the rest is ours."""

    __tablename__ = "users"

    full_name: Mapped[str | None] = mapped_column(String(255), default=None)
