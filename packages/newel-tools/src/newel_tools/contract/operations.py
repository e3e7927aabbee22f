"""Two operations side by side: parameters, body, answers, who may call, how long it lasts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from typing import Final

from newel_tools.contract.changes import Change, change
from newel_tools.contract.finding import Direction, Finding
from newel_tools.contract.renames import guess_renames
from newel_tools.contract.rules import RULES, Level
from newel_tools.contract.schemas import SchemaComparison
from newel_tools.openapi.document import Document, Node, Operation
from newel_tools.openapi.shape import Shapes
from newel_tools.openapi.values import as_mapping, as_texts

__all__ = ["OperationComparison", "removed_operation"]

_FORMS: Final = ("application/x-www-form-urlencoded", "multipart/form-data")


def removed_operation(operation: Operation, *, with_path: bool, today: date) -> Change | None:
    """Return what it means that an operation is gone; None when its last day is over."""
    kind = "api-path" if with_path else "api"
    if not operation.deprecated:
        text = "the operation is gone, and was never deprecated"
        return change(f"{kind}-removed-without-deprecation", operation=operation.name, text=text)
    if operation.sunset is None:
        text = "the operation is gone; it was deprecated"
        return change(f"{kind}-removed-with-deprecation", operation=operation.name, text=text)
    try:
        last = date.fromisoformat(operation.sunset[:10])
    except ValueError:
        text = f"the operation is gone, and {operation.sunset!r} is no day of the year"
        return change("api-path-sunset-parse", operation=operation.name, text=text)
    if today < last:
        text = f"the operation is gone before its last day, {last}"
        return change(f"{kind}-removed-before-sunset", operation=operation.name, text=text)
    return None


class OperationComparison:
    """Compares operations of an old document with those of a new one."""

    def __init__(self, old: Document, new: Document) -> None:
        self._old = old
        self._new = new
        self._old_shapes = Shapes(old)
        self._new_shapes = Shapes(new)
        self._schemas = SchemaComparison(self._old_shapes, self._new_shapes)

    def compare(self, old: Operation, new: Operation) -> Iterator[Change]:
        """Yield every change of one operation."""
        yield from self._life(old, new)
        yield from self._parameters(old, new)
        yield from self._body(old, new)
        yield from self._answers(old, new)
        yield from self._security(old, new)

    def same(self, old: Operation, new: Operation) -> bool:
        """Tell whether a client of the old operation is served by the new one, but for its name."""
        return not any(found.breaks for found in self.compare(old, new))

    def _life(self, old: Operation, new: Operation) -> Iterator[Change]:
        name = new.name
        if new.deprecated and not old.deprecated:
            until = f" until {new.sunset}" if new.sunset else ""
            rule = "endpoint-deprecated-with-sunset" if new.sunset else "endpoint-deprecated"
            yield change(rule, operation=name, text=f"the operation is deprecated{until}")
        elif old.deprecated and not new.deprecated:
            yield change("endpoint-reactivated", operation=name, text="it is no longer deprecated")
        elif old.deprecated and old.sunset and not new.sunset:
            yield change("sunset-deleted", operation=name, text="its last day is no longer said")
        was, is_now = old.content.get("operationId"), new.content.get("operationId")
        if was != is_now and was is not None:
            text = f"generated clients call it {is_now or 'something else'} now, not {was}"
            yield change("api-operation-id-removed", operation=name, text=text)
        elif is_now is not None and was is None:
            text = f"generated clients call it {is_now}"
            yield change("api-operation-id-added", operation=name, text=text)
        tags_before, tags_after = (as_texts(op.content.get("tags")) for op in (old, new))
        for tag in tags_before:
            if tag not in tags_after:
                yield change("api-tag-removed", operation=name, text=f"the tag {tag} is gone")
        for tag in tags_after:
            if tag not in tags_before:
                yield change("api-tag-added", operation=name, text=f"the tag {tag} is new")

    def _parameters(self, old: Operation, new: Operation) -> Iterator[Change]:
        before, after = self._old.parameters(old), self._new.parameters(new)
        places = {place for place, _ in before}
        renames: dict[tuple[str, str], str] = {}
        for place in places:
            gone = [name for where, name in before if where == place and (place, name) not in after]
            fresh = [
                name for where, name in after if where == place and (place, name) not in before
            ]
            guessed = guess_renames(
                gone,
                fresh,
                lambda one, other, place=place: (
                    not self._schemas.compare(
                        _schema(before[place, one]), _schema(after[place, other]), "request"
                    )
                ),
            )
            renames |= {(place, one): other for one, other in guessed.items()}
        for key, parameter in before.items():
            if key not in after:
                yield _removed_parameter(new.name, parameter, guess=renames.get(key))
            else:
                yield from self._parameter(new.name, parameter, after[key])
        for key, parameter in after.items():
            if key not in before:
                required = bool(parameter.get("required"))
                rule = "new-required-request-parameter"
                rule = rule if required else "new-optional-request-parameter"
                text = "it has to be sent now" if required else "it may be sent now"
                yield change(rule, operation=new.name, where=_where(parameter), text=text)

    def _parameter(self, name: str, old: Node, new: Node) -> Iterator[Change]:
        where = _where(new)

        def said(rule: str, text: str) -> Change:
            return change(rule, operation=name, where=where, text=text)

        was, is_now = bool(old.get("required")), bool(new.get("required"))
        if is_now and not was:
            yield said("request-parameter-became-required", "it has to be sent now")
        elif was and not is_now:
            yield said("request-parameter-became-optional", "it may be left out now")
        if bool(new.get("deprecated")) != bool(old.get("deprecated")):
            word = "deprecated" if new.get("deprecated") else "reactivated"
            yield said(f"request-parameter-{word}", f"it was {word}")
        if _style(old) != _style(new):
            text = f"lists and objects are written as {_style(new)} now, not {_style(old)}"
            yield said("request-parameter-style-changed", text)
        findings = self._schemas.compare(_schema(old), _schema(new), "request", loose=True)
        yield from _placed(findings, "request", operation=name, where=where, kind="parameter")

    def _body(self, old: Operation, new: Operation) -> Iterator[Change]:
        before, _ = self._old.resolve(old.content.get("requestBody"))
        after, _ = self._new.resolve(new.content.get("requestBody"))
        name, was, is_now = new.name, bool(before.get("required")), bool(after.get("required"))

        def said(rule: str, text: str) -> Change:
            return change(rule, operation=name, where="body", text=text)

        if not before and not after:
            return
        if not before:
            rule = "request-body-added-required" if is_now else "request-body-added-optional"
            yield said(rule, f"a body {'has to' if is_now else 'may'} be sent now")
        elif not after:
            yield said("request-body-removed", "the body is not read any more")
        else:
            if is_now and not was:
                yield said("request-body-became-required", "a body has to be sent now")
            elif was and not is_now:
                yield said("request-body-became-optional", "the body may be left out now")
            yield from self._media(before, after, "request", operation=name, where="body")

    def _answers(self, old: Operation, new: Operation) -> Iterator[Change]:
        before, after = (
            as_mapping(old.content.get("responses")),
            as_mapping(new.content.get("responses")),
        )
        for status in before:
            if status not in after:
                kind = "success" if _is_success(status) else "non-success"
                rule = f"response-{kind}-status-removed"
                text = "this status is not answered any more"
                yield change(rule, operation=new.name, where=status, text=text)
        for status in after:
            if status not in before:
                kind = "success" if _is_success(status) else "non-success"
                text = "this status may be answered now"
                rule = f"response-{kind}-status-added"
                yield change(rule, operation=new.name, where=status, text=text)
                continue
            one, _ = self._old.resolve(before[status])
            other, _ = self._new.resolve(after[status])
            yield from self._headers(one, other, operation=new.name, status=status)
            yield from self._media(one, other, "response", operation=new.name, where=status)

    def _headers(self, old: Node, new: Node, *, operation: str, status: str) -> Iterator[Change]:
        before = {name.lower(): node for name, node in as_mapping(old.get("headers")).items()}
        after = {name.lower(): node for name, node in as_mapping(new.get("headers")).items()}
        for name in sorted(before.keys() | after.keys()):
            one, _ = self._old.resolve(before.get(name))
            other, _ = self._new.resolve(after.get(name))
            where = f"{status} header {name}"
            required = bool(one.get("required"))
            if name not in after:
                rule = f"{'required' if required else 'optional'}-response-header-removed"
                yield change(rule, operation=operation, where=where, text="the header is gone")
            elif name not in before:
                text = "the header is new"
                yield change("response-header-added", operation=operation, where=where, text=text)
            else:
                if required and not other.get("required"):
                    rule, text = "response-header-became-optional", "it may be missing now"
                    yield change(rule, operation=operation, where=where, text=text)
                findings = self._schemas.compare(_schema(one), _schema(other), "response")
                yield from _placed(
                    findings, "response", operation=operation, where=where, kind="header"
                )

    def _media(
        self, old: Node, new: Node, direction: Direction, *, operation: str, where: str
    ) -> Iterator[Change]:
        before, after = as_mapping(old.get("content")), as_mapping(new.get("content"))
        scope = "request-body" if direction == "request" else "response"
        for kind in before:
            if kind not in after:
                rule, text = f"{scope}-media-type-removed", f"{kind} is gone"
                yield change(rule, operation=operation, where=where, text=text)
        for kind, node in after.items():
            if kind not in before:
                rule, text = f"{scope}-media-type-added", f"{kind} is new"
                yield change(rule, operation=operation, where=where, text=text)
                continue
            one, other = (as_mapping(media).get("schema") for media in (before[kind], node))
            place = f"{where} {kind}"
            if (one is None) != (other is None):
                text = "the schema is gone" if other is None else "the schema is new"
                rule = (
                    f"{direction}-body-media-type-schema-{'removed' if other is None else 'added'}"
                )
                yield change(rule, operation=operation, where=place, text=text)
                continue
            findings = self._schemas.compare(one, other, direction, loose=kind in _FORMS)
            yield from _placed(findings, direction, operation=operation, where=place, kind="body")

    def _security(self, old: Operation, new: Operation) -> Iterator[Change]:
        before, after = self._old.security(old), self._new.security(new)
        if before == after:
            return

        def serves(way: Mapping[str, frozenset[str]], caller: Mapping[str, frozenset[str]]) -> bool:
            return all(scheme in caller and way[scheme] <= caller[scheme] for scheme in way)

        def shown(way: Mapping[str, frozenset[str]]) -> str:
            said = (
                f"{scheme} ({', '.join(sorted(scopes))})" if scopes else scheme
                for scheme, scopes in way.items()
            )
            return " and ".join(said) or "nobody in particular"

        locked_out = [way for way in before if not any(serves(it, way) for it in after)]
        let_in = [way for way in after if not any(serves(it, way) for it in before)]
        wider = [way for way in after if way not in before and way not in let_in]
        now = " or ".join(shown(way) for way in after)
        for way in locked_out:
            rule = "api-security-added" if not way else "api-security-removed"
            if any(set(way) == set(it) for it in after):
                rule = "api-security-scope-added"
            text = f"callers with {shown(way)} are refused; needed now: {now}"
            yield change(rule, operation=new.name, text=text, level=Level.ERROR)
        if not locked_out and (let_in or wider):
            text = f"more callers are let in: {now}"
            rule = "api-security-removed" if {} in after else "api-security-added"
            yield change(rule, operation=new.name, text=text)


def _placed(
    findings: Iterable[Finding], direction: Direction, *, operation: str, where: str, kind: str
) -> Iterator[Change]:
    """Yield the findings as changes of one place; what has no rule is no news to a client."""
    for finding in findings:
        rule = finding.rule(direction, kind=kind)
        if rule is None:
            continue
        subject = None
        if finding.component is not None:
            subject = ".".join((finding.component, "/".join(finding.inside))).rstrip(".")
        path = "/".join(finding.path)
        yield change(
            rule,
            operation=operation,
            where=f"{where}: {path}" if path else where,
            text=finding.text,
            level=finding.level or RULES[rule],
            subject=subject,
            guess=finding.guess,
        )


def _removed_parameter(operation: str, parameter: Node, *, guess: str | None) -> Change:
    rule = "request-parameter-removed"
    rule += "-with-deprecation" if parameter.get("deprecated") else ""
    hint = f"; renamed to `{guess}`?" if guess else ""
    text = f"it is ignored now{hint}"
    return change(rule, operation=operation, where=_where(parameter), text=text, guess=guess)


def _where(parameter: Node) -> str:
    return f"{parameter.get('in')} {parameter.get('name')}"


def _schema(node: Node) -> object:
    """Return the schema of a parameter or header, which may be that of its one media type."""
    if "schema" in node:
        return node["schema"]
    for media in as_mapping(node.get("content")).values():
        return as_mapping(media).get("schema")
    return None


def _style(parameter: Node) -> str:
    default = "form" if parameter.get("in") in ("query", "cookie") else "simple"
    style = str(parameter.get("style", default))
    exploded = bool(parameter.get("explode", style == "form"))
    return f"{style}, {'repeated' if exploded else 'joined'}"


def _is_success(status: str) -> bool:
    return status.startswith("2")
