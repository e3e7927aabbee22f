"""Plans as YAML: one field a line, and behind each line the words it came from.

``read_plan(write_plan(plan)) == plan``, the provenance in the comments included.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final, TypeVar, cast

import yaml
from pydantic import BaseModel, ValidationError

from newel_tools.errors import PlanError
from newel_tools.plan.fields import Line, read_line, refusal, write_line
from newel_tools.plan.jobs import read_job, write_job
from newel_tools.plan.nouns import singular
from newel_tools.plan.plan import (
    ASSUMED,
    Action,
    Field,
    Job,
    Plan,
    Relation,
    Resource,
    Role,
    States,
    Users,
    usual_events,
    usual_roles,
)

__all__ = ["read_plan", "write_plan"]

_Part = TypeVar("_Part", bound=BaseModel)

_HEAD: Final = "# A plan: nouns only. Change what you like, then: newel new plan.yaml\n"
_LONGEST: Final = 1_000_000


def write_plan(plan: Plan) -> str:
    """Write a plan as YAML that people read and change."""
    lines = [*_head(plan), *_users(plan)]
    if plan.resources:
        lines.append(("resources:", None))
        for resource in plan.resources:
            lines += _resource(resource, plan.provenance)
    lines.append(("roles:", None))
    for role in plan.roles:
        text = f"  {role.name}: [{', '.join(_scalar(p, flow=True) for p in role.permissions)}]"
        lines.append((text, plan.provenance.get(f"roles.{role.name}")))
    for name, notes in (("assumed", plan.assumed), ("not_understood", plan.not_understood)):
        if notes:
            lines.append((f"{name}:", None))
            lines += [(f"  - {_scalar(note)}", None) for note in notes]
    lines.append((f"coverage: {plan.coverage}", None))
    return _HEAD + "\n".join(_commented(text, source) for text, source in lines) + "\n"


_Lines = list[tuple[str, str | None]]


def _head(plan: Plan) -> _Lines:
    lines: _Lines = [
        (f"service: {plan.service}", plan.provenance.get("service")),
        (f"title: {_scalar(plan.title)}", None),
    ]
    if plan.sentence:
        lines.append((f"sentence: {_scalar(plan.sentence)}", None))
    if plan.broker is not None:
        lines.append((f"broker: {plan.broker}", plan.provenance.get("broker")))
    if plan.webhooks:
        lines.append(("webhooks: true", plan.provenance.get("webhooks")))
    if plan.chat is not None:
        lines.append((f"chat: {plan.chat}", plan.provenance.get("chat")))
    if plan.files:
        lines.append(("files: true", plan.provenance.get("files")))
    return lines


def _users(plan: Plan) -> _Lines:
    lines: _Lines = [("  fields:", None)] if plan.users.fields else []
    for field in plan.users.fields:
        source = plan.provenance.get(f"users.fields.{field.name}")
        lines.append((f"    {field.name}: {_scalar(write_line(field))}", source))
    jobs = _jobs("users", plan.users.jobs, plan.provenance)
    lines += [(text.removeprefix("  "), source) for text, source in jobs]
    return [("users:", None), *lines] if lines else []


def _jobs(owner: str, jobs: tuple[Job, ...], sources: Mapping[str, str]) -> _Lines:
    lines: _Lines = [("    jobs:", None)] if jobs else []
    for job in jobs:
        text = f"      {job.name}: {_scalar(write_job(job))}"
        lines.append((text, sources.get(f"{owner}.jobs.{job.name}")))
    return lines


def _resource(resource: Resource, sources: Mapping[str, str]) -> _Lines:
    name = resource.name
    lines: _Lines = [(f"  {name}:", sources.get(name))]

    def add(key: str, text: str) -> None:
        lines.append((f"    {key}: {text}", sources.get(f"{name}.{key}")))

    if resource.singular != singular(name):
        add("singular", resource.singular)
    if resource.owner is not None:
        add("owner", resource.owner)
    add("read", resource.read)
    if resource.soft_delete:
        add("soft_delete", "true")
    lines += _columns(resource, sources)
    if resource.actions:
        lines.append(("    actions:", None))
        for action in resource.actions:
            lines.append((f"      - {action.name}", sources.get(f"{name}.actions.{action.name}")))
    if resource.events != usual_events(resource.states):
        add("events", f"[{', '.join(resource.events)}]")
    return [*lines, *_jobs(name, resource.jobs, sources)]


def _columns(resource: Resource, sources: Mapping[str, str]) -> _Lines:
    named: list[tuple[str, Line]] = [(f.name, f) for f in resource.fields]
    named += [(r.name, r) for r in resource.relations]
    if resource.states is not None:
        named.append((resource.states.field, resource.states))
    lines: _Lines = [("    fields:", None)] if named else []
    for key, line in named:
        text = f"      {key}: {_scalar(write_line(line))}"
        lines.append((text, sources.get(f"{resource.name}.fields.{key}")))
    return lines


def _commented(text: str, source: str | None) -> str:
    if source is None:
        return text
    # what splits lines in YAML is not printable, and stays escaped
    words = json.dumps(source, ensure_ascii=not source.isprintable())
    return f"{text}  # {'assumed' if source == ASSUMED else words}"


def _scalar(text: str, *, flow: bool = False) -> str:
    """Return a text as YAML, quoted only where it must be."""
    risky = flow and re.search(r"[\[\]{},*]", text)
    try:
        plain = yaml.safe_load(f"x: {text}") == {"x": text} if text.isprintable() else False
    except yaml.YAMLError:
        plain = False
    return text if plain and not risky and text == text.strip() else _quoted(text)


def _quoted(text: str) -> str:
    """Return a text in quotes: JSON's escapes are YAML's too, but for those above FFFF."""
    return "".join(_escaped(letter) for letter in json.dumps(text, ensure_ascii=False))


def _escaped(letter: str) -> str:
    if letter.isprintable():
        return letter
    code = ord(letter)
    return f"\\U{code:08x}" if code > 0xFFFF else f"\\u{code:04x}"


# -- reading -------------------------------------------------------------------------------------


class _Text:
    """A YAML document with the lines of its nodes."""

    def __init__(self, text: str) -> None:
        if len(text) > _LONGEST:
            raise PlanError("the plan is longer than 1 MB", fix="remove what is no plan")
        self.lines = re.split(r"\r\n|[\n\r\x85\u2028\u2029]", text)
        self.provenance: dict[str, str] = {}
        try:
            self.root = yaml.SafeLoader(text).get_single_node()
        except RecursionError:
            raise PlanError("the brackets are nested too deeply", fix="remove some") from None
        except yaml.YAMLError as error:
            mark = getattr(error, "problem_mark", None)
            raise PlanError(
                f"this is no YAML: {getattr(error, 'problem', None) or 'it cannot be read'}",
                fix="see docs/plan.md for the form of a plan",
                line=None if mark is None else mark.line + 1,
            ) from None

    def pairs(self, node: yaml.Node | None, what: str) -> Iterator[tuple[str, yaml.Node]]:
        """Yield the keys and nodes of a mapping, each key once."""
        if node is None or (isinstance(node, yaml.ScalarNode) and node.value == ""):
            return
        if not isinstance(node, yaml.MappingNode):
            raise PlanError(
                f"{what} has to be a list of 'name: value' lines",
                fix="see docs/plan.md for the form of a plan",
                line=node.start_mark.line + 1,
            )
        seen: set[str] = set()
        for key, value in cast("list[tuple[yaml.Node, yaml.Node]]", node.value):
            name = self.scalar(key)
            if name in seen:
                raise PlanError(
                    f"{what} has '{name}' twice",
                    fix="remove one of the two",
                    line=key.start_mark.line + 1,
                    word=name,
                )
            seen.add(name)
            yield name, value

    def scalar(self, node: yaml.Node) -> str:
        """Return the text of a scalar."""
        if not isinstance(node, yaml.ScalarNode):
            raise PlanError(
                "there is a list or a mapping where one value belongs",
                fix="put texts with brackets or colons in quotes",
                line=node.start_mark.line + 1,
            )
        return str(node.value)

    def items(self, node: yaml.Node) -> list[yaml.Node]:
        """Return the nodes of a list."""
        if isinstance(node, yaml.ScalarNode) and node.value == "":
            return []
        if not isinstance(node, yaml.SequenceNode):
            raise PlanError(
                "there is one value where a list belongs",
                fix="write [a, b], or a line '- a' for each",
                line=node.start_mark.line + 1,
            )
        return cast("list[yaml.Node]", node.value)

    def source(self, key: str, node: yaml.Node, *, heading: str = "") -> None:
        """Note what the comment behind a node says, or the one behind the heading above it."""
        mark = node.start_mark if heading else node.end_mark
        number = mark.line - 1 if heading else mark.line
        if not 0 <= number < len(self.lines):
            return
        rest = self.lines[number]
        if heading and not rest.lstrip().startswith(f"{heading}:"):
            return
        rest = rest if heading else rest[mark.column :]
        found = re.search(r'\s#\s(assumed|"(?:[^"\\]|\\.)*")\s*$', rest)
        if found is None:
            return
        try:
            words = ASSUMED if found[1] == "assumed" else str(json.loads(found[1]))
        except ValueError:
            return
        self.provenance[key] = words


def read_plan(text: str) -> Plan:
    """Read a plan from YAML; ``PlanError`` names the line and the word at fault.

    ``service`` and ``resources`` are enough: roles, events and the rest have usual values.
    """
    return _PlanReader(_Text(text)).plan()


class _PlanReader:
    """Builds a plan from the nodes of a document."""

    def __init__(self, text: _Text) -> None:
        self.text = text
        self.at: dict[str, int] = {}

    def plan(self) -> Plan:
        values: dict[str, Any] = {}
        nodes = dict(self.text.pairs(self.text.root, "a plan"))
        for key, node in nodes.items():
            self.at[key] = node.start_mark.line + 1
            if key in {"assumed", "not_understood"}:
                values[key] = tuple(self.text.scalar(n) for n in self.text.items(node))
            elif key in _SCALARS:
                values[key] = self.text.scalar(node)
                self.text.source(key, node)
            elif key == "users":
                values[key] = self.users(node)
            elif key == "resources":
                values[key] = tuple(
                    self.resource(name, n) for name, n in self.text.pairs(node, key)
                )
            elif key == "roles":
                values[key] = tuple(self.role(name, n) for name, n in self.text.pairs(node, key))
            else:
                raise self.unknown(key, node, _KEYS)
        return self.build(values)

    def build(self, values: dict[str, Any]) -> Plan:
        if "service" not in values:
            raise PlanError(
                "the plan names no service", fix="add the line 'service: my_service'", line=1
            )
        name = str(values["service"]).replace("_", " ")
        values.setdefault("title", f"{name[:1].upper()}{name[1:]} API")
        has = {key: values.get(key) == "true" for key in ("webhooks", "files")}
        values.setdefault("roles", usual_roles(values.get("resources", ()), **has))
        values["provenance"] = self.text.provenance
        try:
            return Plan(**values)
        except ValidationError as error:
            problem = refusal(error)
            raise problem.at(self.line_of(problem.word, error)) from None

    def line_of(self, word: str | None, error: ValidationError) -> int:
        """Return the line a refused word stands in, else that of the part it belongs to."""
        if word:
            for number, line in enumerate(self.text.lines, start=1):
                if re.search(rf"(?<![\w:]){re.escape(word)}(?![\w:])", line.partition(" #")[0]):
                    return number
        first = error.errors(include_url=False)[0]["loc"][:1]
        return self.at.get(str(first[0]) if first else "", 1)

    def users(self, node: yaml.Node) -> Users:
        fields: list[Field] = []
        jobs: tuple[Job, ...] = ()
        for key, value in self.text.pairs(node, "users"):
            if key == "jobs":
                jobs = self.jobs("users", value)
                continue
            if key != "fields":
                raise self.unknown(key, value, ("fields", "jobs"))
            for name, text in self.text.pairs(value, "users.fields"):
                line = self.line("users", name, text)
                if not isinstance(line, Field):
                    raise PlanError(
                        f"users.{name} is no plain field",
                        fix="link to users from the other resource, such as 'user: -> users'",
                        line=text.start_mark.line + 1,
                        word=name,
                    )
                fields.append(line)
        return self.made(node, Users, fields=tuple(fields), jobs=jobs)

    def resource(self, name: str, node: yaml.Node) -> Resource:
        self.text.source(name, node, heading=name)
        values: dict[str, Any] = {"name": name, "singular": singular(name)}
        for key, value in self.text.pairs(node, name):
            if key == "fields":
                self.fields(name, value, values)
            elif key == "actions":
                values[key] = tuple(self.action(name, n) for n in self.text.items(value))
            elif key == "events":
                values[key] = tuple(self.text.scalar(n) for n in self.text.items(value))
                self.text.source(f"{name}.events", value)
            elif key == "jobs":
                values[key] = self.jobs(name, value)
            elif key in {"singular", "owner", "read", "soft_delete"}:
                values[key] = self.text.scalar(value)
                self.text.source(f"{name}.{key}", value)
            else:
                raise self.unknown(key, value, _RESOURCE_KEYS)
        if values.get("owner") == "none":
            values["owner"] = None
        if values.get("owner") and "read" not in values:
            values["read"] = "owner"
        values.setdefault("events", usual_events(values.get("states")))
        return self.made(node, Resource, **values)

    def action(self, name: str, node: yaml.Node) -> Action:
        action = self.made(node, Action, name=self.text.scalar(node))
        self.text.source(f"{name}.actions.{action.name}", node)
        return action

    def jobs(self, owner: str, node: yaml.Node) -> tuple[Job, ...]:
        jobs: list[Job] = []
        for name, value in self.text.pairs(node, f"{owner}.jobs"):
            self.text.source(f"{owner}.jobs.{name}", value)
            try:
                jobs.append(read_job(name, self.text.scalar(value)))
            except PlanError as error:
                raise error.at(value.start_mark.line + 1) from None
        return tuple(jobs)

    def fields(self, name: str, node: yaml.Node, values: dict[str, Any]) -> None:
        kept: dict[str, list[Any]] = {"fields": [], "relations": []}
        for key, value in self.text.pairs(node, f"{name}.fields"):
            line = self.line(name, key, value)
            if isinstance(line, States):
                if "states" in values:
                    raise PlanError(
                        f"{name} have two columns with states",
                        fix="make one of them an enum",
                        line=value.start_mark.line + 1,
                        word=key,
                    )
                values["states"] = line
            else:
                kept["relations" if isinstance(line, Relation) else "fields"].append(line)
        values |= {key: tuple(lines) for key, lines in kept.items()}

    def line(self, resource: str, name: str, node: yaml.Node) -> Line:
        self.text.source(f"{resource}.fields.{name}", node)
        number = node.start_mark.line + 1
        try:
            return read_line(name, self.text.scalar(node))
        except PlanError as error:
            raise error.at(number) from None

    def role(self, name: str, node: yaml.Node) -> Role:
        self.text.source(f"roles.{name}", node)
        permissions = tuple(self.text.scalar(n) for n in self.text.items(node))
        return self.made(node, Role, name=name, permissions=permissions)

    def made(self, node: yaml.Node, model: type[_Part], **values: Any) -> _Part:
        """Build a part, putting the line of its node on a refusal."""
        try:
            return model(**values)
        except ValidationError as error:
            problem = refusal(error)
            raise problem.at(self.near(node, problem.word)) from None

    def near(self, node: yaml.Node, word: str | None) -> int:
        """Return the line inside a node where a word stands as a key; else the node's."""
        first, end = node.start_mark.line, node.end_mark
        last = max(end.line + (end.column > 0), first + 1)
        # the heading of a mapping stands in the line above
        for number in range(max(first - 1, 0), min(last, len(self.text.lines))):
            if word and re.match(rf"\s*(?:- )?{re.escape(word)}\b", self.text.lines[number]):
                return number + 1
        return first + 1

    def unknown(self, key: str, node: yaml.Node, known: tuple[str, ...]) -> PlanError:
        return PlanError(
            f"'{key}' means nothing here",
            fix=f"the words are {', '.join(known)}",
            line=node.start_mark.line + 1,
            word=key,
        )


_SCALARS: Final = (
    "service", "title", "sentence", "broker", "webhooks", "chat", "files", "coverage"
)  # fmt: skip
_KEYS: Final = (
    *_SCALARS[:-1], "users", "resources", "roles", "assumed", "not_understood", "coverage"
)  # fmt: skip
_RESOURCE_KEYS: Final = (
    "singular", "owner", "read", "soft_delete", "fields", "actions", "events", "jobs"
)  # fmt: skip
