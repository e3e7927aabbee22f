"""Makes a plan of a draft: fills the gaps from the vocabulary and accounts for every line."""

from __future__ import annotations

from newel_tools.errors import PlanError
from newel_tools.plan.chat import LIVE, LONGEST, kept_in
from newel_tools.plan.events import moment
from newel_tools.plan.names import resource_conflict, service_conflict, snake
from newel_tools.plan.nouns import singular
from newel_tools.plan.plan import (
    ASSUMED,
    Action,
    Broker,
    Field,
    Job,
    Plan,
    Resource,
    Role,
    Users,
    Visibility,
    usual_events,
    usual_roles,
)
from newel_tools.plan.verbs import action_of
from newel_tools.planner.draft import Draft, DraftResource, Grant
from newel_tools.planner.lexicon import API_NOUNS, PATRONS
from newel_tools.planner.parts import Parts, PartsMaker
from newel_tools.planner.sentence import Span

__all__ = ["Blueprint"]


class Blueprint:
    """Builds the plan of one draft."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.assumed: list[str] = list(draft.notes)
        self.provenance: dict[str, str] = {}

    def plan(self) -> Plan:
        """Return the plan; ``PlanError`` or pydantic's ``ValidationError`` for a contradiction."""
        parts = PartsMaker(self.draft, self.provenance, self.assumed)
        parts.complete_links()
        service = self.service()
        users = parts.users()
        resources = tuple(self.resource(r, parts.of(r)) for r in self.draft.resources.values())
        webhooks, files = self.webhooks(resources), self.files()
        ledger = self.draft.ledger
        return Plan(
            service=service,
            title=self.title(),
            sentence=ledger.sentence,
            broker=self.broker(),
            webhooks=webhooks,
            chat=self.chat(resources),
            files=files,
            users=Users(fields=users, jobs=self.jobs("users", self.draft.jobs_of_users)),
            resources=resources,
            roles=self.roles(usual_roles(resources, webhooks=webhooks, files=files)),
            assumed=tuple(note[:500] for note in self.assumed),
            not_understood=tuple(words[:500] for words in ledger.missed()),
            coverage=round(ledger.coverage(), 2),
            provenance=self.provenance,
        )

    def service(self) -> str:
        """Return the package's name: the topic, or the first resource's."""
        names = list(self.draft.resources)
        topic = snake(self.draft.topic.lower())[:50].rstrip("_")
        name = topic or (names[0] if names else self.brought())
        self.source("service", self.draft.topic_span if topic else None)
        nouns = {*names, *(singular(n) for n in names)}
        if name in nouns or service_conflict(name) or resource_conflict(name):
            name += "_service"
        return name

    def brought(self) -> str:
        """Return what a service is about that keeps nothing of its own."""
        return "files" if self.draft.files else "chat" if self.draft.chat else "users"

    def title(self) -> str:
        """Return what the API is called in its documentation."""
        words = self.draft.topic or " and ".join(
            name.replace("_", " ") for name in list(self.draft.resources)[:3]
        )
        words = words or self.brought().capitalize()
        if words.split()[-1].lower() not in API_NOUNS - {"service"}:
            words += " API"
        return (words[0].upper() + words[1:])[:200]

    def resource(self, draft: DraftResource, parts: Parts) -> Resource:
        """Build one resource."""
        name = draft.name
        self.source(name, draft.span)
        owner = self.owner(draft)
        for target, span in self.draft.only_admins:
            if owner and target == name:
                self.draft.ledger.lost(span)  # who owns a row may write and delete it
        read = self.visibility(draft, owned=owner)
        soft = draft.soft_delete or self.draft.all_soft
        if soft:
            self.source(f"{name}.soft_delete", soft)
        for verb, span in draft.actions:
            self.source(f"{name}.actions.{verb}", span)
        events, actions = self.events(draft, parts)
        return Resource(
            name=name,
            singular=singular(name),
            fields=self.fields(draft, parts),
            relations=parts.relations,
            states=parts.states,
            owner="users" if owner else None,
            read=read,
            soft_delete=soft is not None,
            actions=tuple(Action(name=verb) for verb in actions),
            events=events,
            jobs=self.jobs(name, draft.jobs),
        )

    def broker(self) -> Broker | None:
        """Return what carries the events."""
        if self.draft.broker is None:
            return None
        name, span = self.draft.broker
        self.source("broker", span)
        return name

    def webhooks(self, resources: tuple[Resource, ...]) -> bool:
        """Tell whether users have webhooks; there must be rows of theirs to hear of."""
        span = self.draft.webhooks
        owned = [resource.name for resource in resources if resource.owner]
        if span is None:
            return False
        if not owned:
            self.draft.ledger.lost(span)
            return False
        self.source("webhooks", span)
        self.assumed.append(f"webhooks tell users of their own {', '.join(owned)}")
        return True

    def chat(self, resources: tuple[Resource, ...]) -> str | None:
        """Tell what keeps the words of chats, if there are chats: messages, where they can."""
        if self.draft.chat is None:
            return None
        self.source("chat", self.draft.chat)
        for name in (r.name for r in resources if r.name.endswith("messages")):
            try:
                _, link = kept_in(name, resources)
            except PlanError as error:
                self.assumed.append(error.message)
            else:
                self.assumed.append(f"what is said in the chat of {link.target} is kept as {name}")
                return name
        self.assumed.append("chats are live: nothing that is said in them is kept")
        return LIVE

    def files(self) -> bool:
        """Tell whether users upload files."""
        if self.draft.files is None:
            return False
        self.source("files", self.draft.files)
        self.assumed.append("files belong to the user who uploads them, and are found by them only")
        return True

    def fields(self, draft: DraftResource, parts: Parts) -> tuple[Field, ...]:
        """Return the fields of a resource; messages can be made of what is said in a chat."""
        if self.draft.chat is None or not draft.name.endswith("messages"):
            return parts.fields
        fields = tuple(_said(field) for field in parts.fields)
        if fields != parts.fields:
            note = f"{draft.name} are said: texts have at most {LONGEST} characters, times are now"
            self.assumed.append(note)
        return fields

    def jobs(self, owner: str, said: list[tuple[Job, Span]]) -> tuple[Job, ...]:
        """Return the jobs of one resource, or of the users."""
        for job, span in said:
            self.source(f"{owner}.jobs.{job.name}", span)
        return tuple(job for job, _ in said)

    def events(self, draft: DraftResource, parts: Parts) -> tuple[tuple[str, ...], list[str]]:
        """Return the events and actions of a resource; what nothing makes true needs an action."""
        usual = usual_events(parts.states)
        actions = list(dict.fromkeys(verb for verb, _ in draft.actions))
        said = [(event, span) for event, span in draft.events if event not in usual]
        for event, _ in said:
            source = moment(event, parts.states, [f.name for f in parts.fields])
            verb = action_of(event)
            if source is None and verb not in actions:
                actions.append(verb)
                note = f"{draft.name} have the action {verb}: what makes them {event}"
                self.assumed.append(f"{note} is yours to write")
        if said:
            words = [self.draft.ledger.words(span) for _, span in said]
            self.provenance[f"{draft.name}.events"] = "; ".join(dict.fromkeys(words))
        return (*usual, *(event for event, _ in said)), actions

    def owner(self, draft: DraftResource) -> bool:
        """Tell whether users own the rows."""
        key = f"{draft.name}.owner"
        if draft.owner is not None:
            self.source(key, draft.owner)
            return True
        keeping = self.draft.usual(draft.name).keeping
        edited = any(g.verb == "write" and g.target == draft.name for g in self.draft.grants)
        staffed = keeping == "private" and bool(PATRONS & self.draft.resources.keys())
        if draft.shared is not None or keeping == "shared" or edited or staffed:
            return False
        self.source(key, None)
        self.assumed.append(f"{draft.name} belong to the user who makes them")
        return True

    def visibility(self, draft: DraftResource, *, owned: bool) -> Visibility:
        """Tell who reads the rows."""
        key = f"{draft.name}.read"
        said = draft.read or (("public", self.draft.all_public) if self.draft.all_public else None)
        if said is not None:
            self.source(key, said[1])
            return said[0]
        self.source(key, None)
        authored = self.draft.usual(draft.name).keeping == "authored"
        if owned and not authored and draft.moderated is None:
            self.assumed.append(f"{draft.name} are read by their owner only")
            return "owner"
        if owned:
            self.assumed.append(
                f"{draft.name} are read by every signed-in user, and changed by their owner only"
            )
        else:
            self.assumed.append(
                f"{draft.name} are shared: every signed-in user reads them, "
                f"writing needs {draft.name}:write"
            )
        return "signed_in"

    def roles(self, usual: tuple[Role, ...]) -> tuple[Role, ...]:
        """Return the usual roles, and those the sentence names."""
        roles = {role.name: role for role in usual}
        said: dict[str, list[Grant]] = {}
        for grant in self.draft.grants:
            said.setdefault(grant.role, []).append(grant)
        for name, grants in said.items():
            if name == "admin":
                continue
            known = roles.get(name)
            reads = known.permissions if known else roles["reader"].permissions
            given = [f"{grant.target}:{grant.verb}" for grant in grants]
            roles[name] = Role(name=name, permissions=tuple(dict.fromkeys((*reads, *given))))
            self.source(f"roles.{name}", grants[0].span)
        for grant in self.draft.grants:
            right = f"{grant.target}:{grant.verb}"
            if grant.role == "admin" and (held := roles.get("operator")):
                rest = tuple(given for given in held.permissions if given != right)
                roles["operator"] = held.model_copy(update={"permissions": rest})
        if "operator" in roles and roles["operator"].permissions == roles["user"].permissions:
            del roles["operator"]  # what only admins do is nobody else's
        for name, span in self.draft.roles:
            roles.setdefault(name, Role(name=name, permissions=roles["reader"].permissions))
            self.source(f"roles.{name}", span)
        if any(grant.verb == "moderate" for grant in self.draft.grants):
            roles.pop("moderator", None) if "moderator" not in said else None
        for name in roles.keys() - said.keys() - {name for name, _ in self.draft.roles}:
            self.source(f"roles.{name}", None)
        self.assumed.append(
            "the role user reads what is shared and writes their own, reader only reads, "
            "admin may do everything"
        )
        admin = roles.pop("admin")
        return (*roles.values(), admin)

    def source(self, key: str, span: Span | None) -> None:
        """Note the words a line came from."""
        self.provenance[key] = ASSUMED if span is None else self.draft.ledger.words(span)


def _said(field: Field) -> Field:
    """Return a field of messages so that it is as long as what is said, and its time is now."""
    if field.type == "text" and (field.maximum or 0) > LONGEST:
        return field.model_copy(update={"maximum": LONGEST})
    if field.type == "datetime" and field.default is None and not field.optional:
        return field.model_copy(update={"default": "now"})
    return field
