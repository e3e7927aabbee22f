"""The sample service's composition root: what the service and its tests are built of."""

from fastapi import FastAPI

from newel import accounts
from newel.app import create_app
from newel.identity import Account
from newel.settings import Settings
from sample_service import notes


class User(Account):
    __tablename__ = "users"


ROLES = {"user": frozenset({"notes:write"}), "admin": frozenset({"*"})}


def build(settings: Settings) -> FastAPI:
    users = accounts.module(User, roles=ROLES)
    return create_app(settings, users, notes.module, title="sample")
