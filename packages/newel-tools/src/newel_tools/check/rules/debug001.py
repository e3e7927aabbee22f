"""DEBUG001: what helps the developer helps everybody."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import libcst

from newel_tools.check.finding import Finding
from newel_tools.check.mend import LineTransformer
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]


def find(review: Review) -> Iterator[Finding]:
    """Find an application in debug mode, and engines that print every statement."""
    application = review.facts.application or {}
    if application.get("debug") is True:
        file, line = review.application_place
        yield RULE.found("the application answers errors with its traceback", file=file, line=line)
    if any(engine.echo for engine in review.facts.engines):
        for file, line in _echoing(review):
            yield RULE.found(
                "the engine logs every statement with its values", file=file, line=line
            )


def _echoing(review: Review) -> Iterator[tuple[str, int]]:
    """Yield where an engine is made with `echo=True`, or with a setting that is true."""
    for module in review.source.own_modules():
        for node in module.nodes if "create_" in module.text else ():
            match node:
                case ast.Call(func=callee, keywords=keywords) if _makes_engine(callee):
                    yield from (
                        (module.file, keyword.value.lineno)
                        for keyword in keywords
                        if keyword.arg == "echo" and not _is_off(keyword.value)
                    )
                case _:
                    pass


def _makes_engine(callee: ast.expr) -> bool:
    return ast.unparse(callee).endswith(("create_engine", "create_async_engine"))


def _is_off(value: ast.expr) -> bool:
    return isinstance(value, ast.Constant) and not value.value


class _SwitchOff(LineTransformer):
    """`FastAPI(debug=True)` and `create_engine(..., echo=True)` get a `False`."""

    def leave_Call(  # noqa: N802 - the name that libcst calls it by
        self, original_node: libcst.Call, updated_node: libcst.Call
    ) -> libcst.Call:
        arguments = [
            self._off(before, after, is_marked=self.is_marked(original_node))
            for before, after in zip(original_node.args, updated_node.args, strict=True)
        ]
        return updated_node.with_changes(args=arguments)

    def _off(self, before: libcst.Arg, after: libcst.Arg, *, is_marked: bool) -> libcst.Arg:
        name = before.keyword.value if before.keyword is not None else ""
        is_on = isinstance(before.value, libcst.Name) and before.value.value == "True"
        found = (name == "debug" and is_marked) or (name == "echo" and self.is_marked(before.value))
        if not (found and is_on):
            return after
        self.note(before.value)
        return after.with_changes(value=libcst.Name("False"))


RULE = Rule(
    id="DEBUG001",
    title="Debugging is on where nobody asked for it",
    severity="note",
    how="import",
    why="A traceback shows strangers the code and its values; logged statements show operators "
    "the users' data, "
    "and cost as much as the queries.",
    fix="a setting `debug: bool = False` that production leaves alone",
    seed="003 Configuration",
    expected="debugging that the settings turn on: what counts is what the application is without "
    "them.",
    bad="""
from fastapi import FastAPI
from sqlalchemy import create_engine

app = FastAPI(debug=True)  # finding
engine = create_engine("sqlite://", echo=True)  # finding
""",
    good="""
from fastapi import FastAPI
from pydantic_settings import BaseSettings
from sqlalchemy import create_engine


class Settings(BaseSettings):
    debug: bool = False


settings = Settings()
app = FastAPI(debug=settings.debug)
engine = create_engine("sqlite://", echo=settings.debug)
quiet = create_engine("sqlite://", echo=False)
""",
    find=find,
    mend=_SwitchOff,
)
