"""Getting in: accounts are registered and logged in as the application itself offers it."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any, Final, cast

from newel_tools.prove.callers import Caller
from newel_tools.prove.credentials import (
    Form,
    find_log_in,
    find_odd_log_in,
    find_registration,
    tokens_in,
)
from newel_tools.prove.documents import object_of
from newel_tools.prove.operations import Operation
from newel_tools.prove.refusals import refused_fields
from newel_tools.prove.requests import BASE_URL, Request, build
from newel_tools.prove.service import Exchange, Service, Table
from newel_tools.prove.settings import Account, Settings
from newel_tools.prove.values import PASSWORD, Maker

__all__ = ["Entrance", "said_of"]

_TRIES: Final = 5
_READS: Final = 20  # that are asked who they refuse
_TRIED: Final = 3  # of those that refuse: administrators' are among them
_SCHEMES: Final = ("Bearer {}", "Token {}", "JWT {}", "{}")
_SWITCHED_ON: Final = re.compile(
    r"^(is_)?(active|activated|enabled|(e?mail_)?(verified|confirmed)|approved)$", re.IGNORECASE
)
_SWITCHED_OFF: Final = re.compile(
    r"^(is_)?(disabled|blocked|banned|locked|suspended)$", re.IGNORECASE
)
_MOMENTS: Final = re.compile(r"(verified|confirmed|activated)(_at|_on)$", re.IGNORECASE)
_POWER: Final = re.compile(r"^(is_)?(super_?user|admin|administrator|staff)$", re.IGNORECASE)
_NAMES: Final = re.compile(r"^(e_?mail|user_?name|login|user_email)$", re.IGNORECASE)
_SECRETS: Final = re.compile(r"pass|hash", re.IGNORECASE)


class Entrance:
    """Registers and logs in. ``log_in`` and ``registration`` are how; ``None`` if unknown.

    ``turned_away`` is a read that refused whatever the log-in answered; ``None`` if one let it in.
    """

    def __init__(
        self, service: Service, maker: Maker, settings: Settings, *, urls: tuple[str, ...]
    ) -> None:
        self.log_in: Form | None = None
        self.registration: Form | None = None
        self.log_in_exchange: Exchange | None = None
        self.users = _user_table(service)
        self._service = service
        self._maker = maker
        self._settings = settings
        self._urls = urls
        self.turned_away: Exchange | None = None
        self._way: tuple[str, str] | None = None
        self._refusals: list[str] = []

    @property
    def refusal(self) -> str:
        """What the application said when the last attempt failed."""
        return self._refusals[-1] if self._refusals else ""

    @property
    def login_line(self) -> str:
        """The setting that describes a log-in which takes other fields than a name and a password.

        Empty if there is none, or if the usual ones are taken.
        """
        operations = self._service.operations
        if self._settings.login is not None or find_log_in(operations, token_urls=self._urls):
            return ""
        found = find_odd_log_in(operations)
        if found is None:
            return ""
        fields = ", ".join(f'{name} = "{word}"' for name, word in found[1].items())
        kind = "json" if "json" in (found[0].media or "") else "form"
        return f'login = {{ path = "{found[0].path}", {kind} = {{ {fields} }} }}'

    def register(self, name: str) -> Caller | None:
        """Make an account and log in with it; ``None`` if that is not possible here."""
        forms = [self.registration] if self.registration else self._registrations()
        for form in forms:
            body = self._registered(form)
            for user in self._names(form, body) if body is not None else ():
                account = Account(username=str(_at(body, user)), password=PASSWORD)
                caller = self.enter(account, name)
                if caller is not None:
                    self.registration = replace(form, user=user)
                    return caller
        return None

    def _names(self, form: Form, body: dict[str, Any]) -> list[tuple[str, ...]]:
        """Return the fields of a registration that may be its name, the likeliest first."""
        if self.registration is not None:
            return [form.user]
        log_ins = find_log_in(self._service.operations, token_urls=self._urls)[:1]
        known = {log_in.user[-1] for log_in in log_ins}
        beside = [(*form.user[:-1], name) for name in object_of(_at(body, form.user[:-1]))]
        found = [path for path in beside if path == form.user or _NAMES.match(path[-1])]
        return sorted(found, key=lambda path: (path[-1] not in known, path != form.user))

    def _registrations(self) -> list[Form]:
        log_in = next(iter(find_log_in(self._service.operations, token_urls=self._urls)), None)
        return find_registration(self._service.operations, not_this=log_in)[:3]

    def _registered(self, form: Form) -> dict[str, Any] | None:
        """Register somebody and return what was sent, mended by what was said to be wrong."""
        for tries in range(_TRIES):
            body = self._body(form, full=tries == 1)
            exchange = self._service.ask(form.operation, body=body)
            if exchange.answer.is_success:
                return body
            self._refusals.append(said_of(exchange))
            if exchange.answer.status not in (400, 409, 422) or not _mend(self._maker, exchange):
                break
        return None

    def register_with(self, form: Form, more: Mapping[str, Any]) -> tuple[Exchange, str]:
        """Register somebody with further fields; return the exchange and the name."""
        body = {**self._body(form, full=False), **more}
        return self._service.ask(form.operation, body=body), str(_at(body, form.user))

    def _body(self, form: Form, *, full: bool) -> dict[str, Any]:
        operation = form.operation
        made = object_of(self._maker.body(operation.schemas, operation.body, full=full))
        schema = {"type": "string", **({"format": "email"} if form.wants_email else {})}
        if _at(made, form.user) is None:
            _put(made, form.user, self._maker.value(operation.schemas, schema, name=form.user[-1]))
        for name, said in operation.schemas.properties(operation.body).items():
            if name not in made and _NAMES.match(name):  # by default everybody's is the same
                made[name] = self._maker.value(operation.schemas, said, name=name)
        for path in (form.password, *form.again):
            _put(made, path, PASSWORD)
        return made

    def enter(self, account: Account, name: str) -> Caller | None:
        """Log in; an account that has to be verified first is verified in the database."""
        caller = self._enter(account, name)
        if self._activate(account.username):
            caller = self._enter(account, name) or caller
        return caller

    def _enter(self, account: Account, name: str) -> Caller | None:
        for form, request in self._requests(account):
            exchange = self._service.send(request)
            if not exchange.answer.is_success:
                self._refusals.append(said_of(exchange))
                continue
            caller = self._caller(exchange, account, name)
            if caller is not None:
                self.log_in, self.log_in_exchange = form, exchange
                return caller
        return None

    def _requests(self, account: Account) -> Iterator[tuple[Form | None, Request]]:
        if self._settings.login is not None:
            yield None, self._configured(account)
            return
        known = [self.log_in] if self.log_in else None
        forms = known or find_log_in(self._service.operations, token_urls=self._urls)[:3]
        for form in forms:
            yield form, self.log_in_request(form, account)

    def log_in_request(self, form: Form, account: Account) -> Request:
        """Return the request that logs an account in."""
        operation = form.operation
        made = object_of(self._maker.body(operation.schemas, operation.body))
        _put(made, form.user, account.username)
        _put(made, form.password, account.password)
        if "grant_type" in operation.fields:
            made["grant_type"] = "password"
        return build(operation, body=made)

    def _configured(self, account: Account) -> Request:
        said = self._settings.login
        if said is None:
            raise ValueError("no log-in is configured")
        words = {"{username}": account.username, "{password}": account.password}
        text = json.dumps(said.json_ if said.json_ is not None else said.form or {})
        for word, value in words.items():
            text = text.replace(word, json.dumps(value)[1:-1])
        media = (
            "application/json" if said.json_ is not None else "application/x-www-form-urlencoded"
        )
        known = self._service.operation("POST", said.path)
        schemas = self._service.operations[0].schemas
        operation = known or Operation(method="POST", path=said.path, schemas=schemas)
        return build(replace(operation, media=media), body=json.loads(text))

    def _caller(self, exchange: Exchange, account: Account, name: str) -> Caller | None:
        tokens = tokens_in(exchange.answer.json)
        said = self._settings.login
        if said is not None and said.token is not None:
            tokens["access"] = str(_at(exchange.answer.json, tuple(said.token.split("."))))
        cookies = _cookies(exchange)
        caller = Caller(
            name=name,
            username=account.username,
            password=account.password,
            id=self.id_of(account.username),
            account=self._row(account.username) or {},
            tokens={**tokens, **({"cookie": cookies} if cookies else {})},
        )
        return self.with_headers(caller)

    def with_headers(self, caller: Caller) -> Caller | None:
        """Return the caller with the headers that let it in; found by trying, once."""
        token, cookie = caller.tokens.get("access"), caller.tokens.get("cookie")
        if self._settings.headers:
            said = self._settings.headers.items()
            return replace(
                caller, headers={key: value.replace("{token}", token or "") for key, value in said}
            )
        if token is None and cookie is None:
            return None
        name, form = self._way or self._find_way(token, cookie)
        value = cookie if name == "Cookie" else token
        return None if value is None else replace(caller, headers={name: form.format(value)})

    def _find_way(self, token: str | None, cookie: str | None) -> tuple[str, str]:
        """Return the header that lets in, of those that the log-in's answer is good for."""
        ways = [] if token is None else [("Authorization", form) for form in _SCHEMES]
        if cookie is not None:
            is_secured = any(operation.secured for operation in self._service.operations)
            ways.insert(len(ways) if is_secured else 0, ("Cookie", "{}"))
        for operation, refusal in self._guarded():
            for name, form in ways:
                value = form.format((cookie if name == "Cookie" else token) or "")
                exchange = self._read(operation, {name: value})
                if _lets_in(exchange.answer.status, refusal):
                    self._way, self.turned_away = (name, form), None
                    return name, form
                self.turned_away = exchange if exchange.answer.status == 401 else None
        return ways[0]

    def _guarded(self) -> list[tuple[Operation, int]]:
        """Return reads that refuse who sends nothing, and how: some are enough to try a token."""
        reads = [op for op in self._service.operations if op.method == "GET"]
        reads.sort(key=lambda op: (not op.secured, "/me" not in op.path, len(op.path_names)))
        asked = ((op, self._read(op, {}).answer.status) for op in reads[:_READS])
        return list(itertools.islice((pair for pair in asked if pair[1] in (401, 403)), _TRIED))

    def _read(self, operation: Operation, headers: Mapping[str, str]) -> Exchange:
        path_values = dict.fromkeys(operation.path_names, "1")
        return self._service.ask(operation, headers=headers, path_values=path_values)

    def id_of(self, username: str) -> str | None:
        """Return the primary key of an account's row, as text."""
        row = self._row(username)
        if row is None or self.users is None or self.users.key is None:
            return None
        return str(row[self.users.key])

    def row_by_name(self, username: str) -> Mapping[str, Any] | None:
        """Return the row of an account."""
        return self._row(username)

    def _row(self, username: str) -> dict[str, Any] | None:
        for column in self._name_columns():
            rows = self._service.rows(cast("Table", self.users).name, **{column: username})
            if rows:
                return rows[0]
        return None

    def _name_columns(self) -> list[str]:
        if self.users is None:
            return []
        return [column.name for column in self.users.columns if _NAMES.match(column.name)]

    def _change(self, username: str, values: Mapping[str, Any]) -> bool:
        row = self._row(username)
        if self.users is None or self.users.key is None or row is None or not values:
            return False
        where = {self.users.key: row[self.users.key]}
        return self._service.change_rows(self.users.name, where, values) > 0

    def _activate(self, username: str) -> bool:
        """Do what a click in an e-mail, or an administrator, would do; tell whether it was due."""
        values: dict[str, Any] = {}
        row = self._row(username) or {}
        for column in self.users.columns if self.users else ():
            if column.type == "bool" and _SWITCHED_ON.match(column.name):
                values[column.name] = True
            elif column.type == "bool" and _SWITCHED_OFF.match(column.name):
                values[column.name] = False
            elif column.type == "datetime" and _MOMENTS.search(column.name):
                values[column.name] = dt.datetime.now(dt.UTC).isoformat()
            elif column.name == "status" and "active" in {v.lower() for v in column.values}:
                values[column.name] = next(v for v in column.values if v.lower() == "active")
        due = {name: value for name, value in values.items() if not _is_set(row.get(name), value)}
        return self._change(username, due)

    def promote(self, caller: Caller) -> Caller | None:
        """Make an account an administrator in the database, and log in again."""
        values = self._power(self._row(caller.username) or {})
        if not self._change(caller.username, values):
            return None
        account = Account(username=caller.username, password=caller.password)
        return self.enter(account, caller.name)

    def _power(self, row: Mapping[str, Any]) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for column in self.users.columns if self.users else ():
            name = column.name.lower()
            if column.type == "bool" and _POWER.match(name):
                values[column.name] = True
            elif name == "roles" and isinstance(row.get(column.name), list):
                values[column.name] = [*row[column.name], "admin"]
            elif re.match(r"(user_?)?role$", name):
                admins = [value for value in column.values if "admin" in value.lower()]
                values[column.name] = admins[0] if admins else "admin"
        return values


def _lets_in(status: int, refusal: int) -> bool:
    """Tell whether an answer is no refusal, or one for another reason than who sends nothing."""
    return (status not in (401, 403) and status < 500) or (status, refusal) == (403, 401)


def _is_set(stored: Any, wanted: Any) -> bool:
    """Tell whether a switch stands as wanted; any moment will do for one."""
    if isinstance(wanted, bool):
        return stored is wanted
    return stored is not None and (str(stored).lower() == str(wanted).lower() or "T" in str(stored))


def _user_table(service: Service) -> Table | None:
    """Return the table of accounts: a name to log in with, and a secret."""
    found = [
        table
        for table in service.tables.values()
        if any(_NAMES.match(column.name) for column in table.columns)
        and any(_SECRETS.search(column.name) for column in table.columns)
    ]
    return min(
        found, key=lambda table: ("user" not in table.name.lower(), table.name), default=None
    )


def _cookies(exchange: Exchange) -> str:
    headers = exchange.answer.headers
    pairs = [value.split(";")[0] for name, value in headers if name.lower() == "set-cookie"]
    return "; ".join(pairs)


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        value = object_of(value).get(name)
    return value


def _put(body: dict[str, Any], path: tuple[str, ...], value: Any) -> None:
    for name in path[:-1]:
        body = body.setdefault(name, {})
    body[path[-1]] = value


def said_of(exchange: Exchange) -> str:
    """Return a request and what it was answered, for people."""
    request, answer = exchange.request, exchange.answer
    error = answer.errors[0] if answer.errors else None
    why = f" ({error.type} at {error.where}: {error.text[:300]})" if error else ""
    said = f"{answer.status} {answer.text[:900]}" if answer.status else f"({answer.outcome})"
    return f"{request.method} {BASE_URL}{request.path} -> {said}{why}"


def _mend(maker: Maker, exchange: Exchange) -> bool:
    """Let the next try make other values for the fields that were refused; a guess without any."""
    names = refused_fields(exchange.answer)
    for name in names:
        maker.tries[name] = maker.tries.get(name, 0) + 1
    return bool(names) or exchange.answer.status in (400, 409)
