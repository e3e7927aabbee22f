"""The laboratory: a running application, the callers, and what they made; what probes act on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from newel_tools.prove.callers import ANONYMOUS, Caller
from newel_tools.prove.credentials import is_entrance
from newel_tools.prove.documents import object_of
from newel_tools.prove.entrance import Entrance, said_of
from newel_tools.prove.operations import Operation
from newel_tools.prove.requests import Request
from newel_tools.prove.resources import Resource
from newel_tools.prove.service import Difference, Exchange, Service
from newel_tools.prove.settings import Settings
from newel_tools.prove.values import Maker
from newel_tools.prove.world import Made, World

__all__ = ["Lab", "open_lab"]

_OWN_ACCOUNT = re.compile(
    r"/(me|profile|account|password|sessions?|log-?out|settings|self|current)(/|$)|change[-_]password",
    re.IGNORECASE,
)
_PEOPLE = re.compile(r"/(users?|accounts?|members?|customers?|profiles?)/\{[^}]*\}", re.IGNORECASE)

_AWAY_CHARACTERS: Final = 300


@dataclass(slots=True)
class Lab:
    """What a probe has at hand.

    ``user`` and ``other`` are two ordinary callers; without a way in, ``user`` is anonymous and
    ``other`` is ``None``. ``secrets`` are values that no answer may hold. ``differences`` are those
    between the models and what Alembic's migrations made; ``None`` where there was nothing to
    compare. ``notes`` are sentences for the reader about what could not be tried.
    """

    service: Service
    world: World
    entrance: Entrance
    settings: Settings
    user: Caller
    other: Caller | None
    admin: Caller | None
    secrets: tuple[str, ...] = ()
    differences: tuple[Difference, ...] | None = None
    notes: list[str] = field(default_factory=list[str])
    seen: list[Exchange] = field(default_factory=list[Exchange])
    _fresh: int = 0

    @property
    def operations(self) -> tuple[Operation, ...]:
        """The operations that may be tried."""
        skipped = self.settings.skip
        return tuple(op for op in self.service.operations if op.label not in skipped)

    @property
    def writes(self) -> tuple[Operation, ...]:
        """The operations that change something, without registration, log-in and the like."""
        forms = (self.entrance.registration, self.entrance.log_in)
        own = [form.operation.label for form in forms if form is not None]
        return tuple(
            op
            for op in self.operations
            if op.writes and not is_entrance(op) and op.label not in own
        )

    @property
    def lists(self) -> Iterator[tuple[Resource, Operation]]:
        """The operations that list the things of a resource."""
        for resource in self.world.resources:
            if resource.list is not None and resource.list in self.operations:
                yield resource, resource.list

    @property
    def callers(self) -> list[Caller]:
        """The callers that were let in."""
        found = [caller for caller in (self.user, self.other, self.admin) if caller is not None]
        return [caller for caller in found if not caller.is_anonymous]

    @property
    def ways_in(self) -> tuple[str, ...]:
        """The shell lines that registered and logged in a caller: `$USER_TOKEN` comes of them."""
        forms = (self.entrance.registration, self.entrance.log_in)
        found = [self.last_success(form.operation) for form in forms if form is not None]
        return tuple(exchange.curl for exchange in found if exchange is not None)

    @property
    def failures(self) -> list[str]:
        """Sentences about requests that could not be made to succeed."""
        told = self.world.failures.items()
        return [f"{label} could not be made to succeed: {said}" for label, said in told]

    @property
    def has_log_in(self) -> bool:
        """Tell whether callers can be told apart."""
        return not self.user.is_anonymous

    @property
    def is_locked_out(self) -> bool:
        """Tell whether callers have to say who they are, and nobody was let in."""
        if self.callers:
            return self.entrance.turned_away is not None
        return any(op.secured for op in self.service.operations) or self.refusal is not None

    @property
    def refusal(self) -> Exchange | None:
        """The last refusal, where most operations refuse whatever they are asked."""
        answers: dict[str, set[int]] = {}
        for exchange in self.seen:
            answers.setdefault(exchange.request.label, set()).add(exchange.answer.status)
        shut = {label for label, found in answers.items() if all(map(_refuses, found))}
        if 2 * len(shut) <= len(answers):
            return None
        return next(e for e in reversed(self.seen) if e.request.label in shut)

    @property
    def missing(self) -> list[str]:
        """What has to be added to the settings, so that somebody is let in; nothing if one was."""
        if not self.is_locked_out:
            return []
        if self.callers and self.entrance.turned_away is not None:
            return [_unused(self.entrance.turned_away)]
        errors = (error.text for exchange in self.seen for error in exchange.answer.errors)
        away = next((text for text in errors if "newel prove" in text), "")
        return [_missing(self.entrance, self.refusal, away=away[:_AWAY_CHARACTERS])]

    def fresh(self) -> Caller:
        """Return a user who has done nothing yet; the usual one if no more can be registered."""
        if not self.has_log_in or self.entrance.registration is None:
            return self.user
        self._fresh += 1
        return self.entrance.register(f"user {self._fresh + 2}") or self.user

    def callers_for(self, operation: Operation) -> list[Caller]:
        """Return who may try an operation; somebody new where it changes its caller's account."""
        own = operation.writes and _OWN_ACCOUNT.search(operation.path) is not None
        people = operation.writes and _PEOPLE.search(operation.path) is not None
        user = self.fresh() if own or people else self.user
        return [user] if self.admin is None or own else [user, self.admin]

    def target(self, operation: Operation, caller: Caller) -> Made | None:
        """Return a new thing for an operation on one thing; ``None`` if it is on none."""
        for resource in self.world.resources:
            path = resource.items[0].path.rstrip("/") if resource.items else None
            mine = path is not None and (operation.path.rstrip("/") + "/").startswith(path + "/")
            if mine and resource.create is not None:
                return self.world.make(resource, caller)
        return None

    def allowed(self, operation: Operation) -> Caller | None:
        """Return the first caller whose valid request succeeds."""
        for caller in self.callers_for(operation):
            request = self.request(operation, caller)
            if request is not None and self.send(request, caller).answer.is_success:
                return caller
        return None

    def fresh_maker(self, resource: Resource) -> Caller | None:
        """Return somebody who has made nothing yet and may make things of a kind."""
        for caller in (self.fresh(), self.admin):
            if caller is not None and self.world.make(resource, caller) is not None:
                return caller
        return None

    def maker_for(self, resource: Resource) -> Caller:
        """Return who may make things of a kind: the user, or else the administrator."""
        callers = [caller for caller in (self.user, self.admin) if caller is not None]
        return next((c for c in callers if self.world.kept(resource, c) is not None), self.user)

    def request(
        self, operation: Operation, caller: Caller, target: Made | None = None, **more: Any
    ) -> Request | None:
        """Return a valid request of an operation; see ``World.request``."""
        return self.world.request(operation, caller, target=target, **more)

    def send(self, request: Request, caller: Caller) -> Exchange:
        """Send a request as a caller; when it is asked too often, a new one goes on."""
        return self.service.send(request, caller)

    def without_skipped(self, document: Mapping[str, Any], prefix: str) -> dict[str, Any]:
        """Return an API description without the operations that are to be left alone."""
        skipped = self.settings.skip
        paths = {
            path: {
                method: said
                for method, said in object_of(item).items()
                if f"{method.upper()} {prefix}{path}" not in skipped
            }
            for path, item in object_of(document.get("paths")).items()
        }
        return {**document, "paths": paths}

    def ask_everything(self) -> None:
        """Send a valid request of every operation that has not succeeded yet."""
        succeeded = (exchange for exchange in self.seen if exchange.answer.is_success)
        named = (e for e in succeeded if not (self.has_log_in and e.caller.is_anonymous))
        done = {exchange.request.label for exchange in named}
        for operation in self.operations:
            if operation.label not in done:
                self.allowed(operation)

    def stalls(self) -> list[dict[str, Any]]:
        """Return the stalls of the event loop since the last time this was asked."""
        return self.service.host.ask("stalls")["stalls"]

    def last_success(self, operation: Operation) -> Exchange | None:
        """Return the last request of an operation that succeeded."""
        found = (e for e in reversed(self.seen) if e.request.label == operation.label)
        return next((exchange for exchange in found if exchange.answer.is_success), None)


def open_lab(
    service: Service,
    settings: Settings,
    *,
    secrets: tuple[str, ...] = (),
    differences: tuple[Difference, ...] | None = None,
) -> Lab:
    """Learn how to get in, let two users and an administrator in, and return the laboratory."""
    maker = Maker()
    entrance = Entrance(service, maker, settings, urls=service.token_urls)
    seen: list[Exchange] = []
    service.listeners.append(seen.append)
    user, other = _users(entrance, settings)
    admin = _admin(entrance, settings) if user is not None or settings.admin else None
    lab = Lab(
        service=service,
        world=World(service, maker, settings),
        entrance=entrance,
        settings=settings,
        user=user or ANONYMOUS,
        other=other,
        admin=admin,
        secrets=secrets,
        differences=differences,
        seen=seen,
    )
    lab.world.newcomer = lab.fresh
    lab.notes.extend(service.problems)
    if not service.operations:
        lab.notes.append("the API description names no operation, so nothing could be asked")
    return lab


def _users(entrance: Entrance, settings: Settings) -> tuple[Caller | None, Caller | None]:
    if settings.users:
        found = [
            entrance.enter(account, name)
            for account, name in zip(settings.users, ("user", "other"), strict=False)
        ]
        return found[0], found[1] if len(found) > 1 else None
    if settings.headers and not any("{token}" in value for value in settings.headers.values()):
        return Caller(name="user", headers=settings.headers), None
    first = entrance.register("user")
    return first, entrance.register("other") if first is not None else None


def _admin(entrance: Entrance, settings: Settings) -> Caller | None:
    if settings.admin is not None:
        return entrance.enter(settings.admin, "administrator")
    made = entrance.register("administrator") if entrance.registration is not None else None
    return entrance.promote(made) if made is not None else None


def _refuses(status: int) -> bool:
    """Tell whether a status says that nobody looked at what was asked."""
    return 300 <= status < 400 or status in (401, 403, 423, 428, 503)


def _unused(refused: Exchange) -> str:
    return (
        f"the log-in succeeds, and what it answers lets nobody in: {said_of(refused)}. "
        "Add to pyproject.toml, [tool.newel.prove]: login = { path = ..., json = { ... }, "
        'token = "the.field" } that names the token in the answer, or headers = '
        '{ X-Token = "{token}" } where tokens have a header of their own'
    )


def _missing(entrance: Entrance, refusal: Exchange | None, *, away: str) -> str:
    account = '{ username = "...", password = "..." }'
    lines = [
        f"users = [{account}, {account}] - they exist after the set-up (see `setup`)",
        f"admin = {account} where there are administrators alone",
    ]
    if line := entrance.login_line:
        lines.append(f"{line} - for it takes no name and password that are known")
    lines.append('headers = { X-Token = "{token}" } where tokens have a header of their own')
    said = entrance.refusal
    if refusal is not None and not said:
        said = said_of(refusal)
    if refusal is not None and refusal.answer.status not in (401, 403):
        lines.insert(0, 'setup = ["python -m ..."] - what has to be done before it answers')
    said = f"; the last attempt was answered: {said}" if said else ""
    if away:
        lines.insert(0, "env = { ... } with what lets it do without that")
        said += f"; before that it needed what is not here: {away}"
    return (
        f"no way in was found, so only anonymous requests were tried{said}. "
        f"Add to pyproject.toml, [tool.newel.prove]: {'; and '.join(lines)}"
    )
