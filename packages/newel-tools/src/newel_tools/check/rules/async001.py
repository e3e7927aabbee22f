"""ASYNC001: a call that waits on the event loop."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import libcst

from newel_tools.check.blocking import blocking_calls
from newel_tools.check.finding import Finding
from newel_tools.check.mend import LineTransformer
from newel_tools.check.review import Review
from newel_tools.check.rule import Rule

__all__ = ["RULE"]

# What takes the time of the call itself, and answers with all of it: a thread may do it as well.
_WAITING: Final = frozenset(
    {"time.sleep", "urllib.request.urlopen", "socket.gethostbyname"}
    | {f"requests.{name}" for name in ("get", "post", "put", "patch", "delete", "head", "request")}
    | {f"httpx.{name}" for name in ("get", "post", "put", "patch", "delete", "head", "request")}
    | {f"subprocess.{name}" for name in ("run", "call", "check_call", "check_output")}
)


def find(review: Review) -> Iterator[Finding]:
    """Find blocking calls in the bodies of `async def` functions that requests run."""
    for call, reach in blocking_calls(review):
        if call.caller.is_async:
            yield RULE.found(
                f"`{call.target}` blocks the event loop in `async def {call.caller.node.name}`",
                file=call.caller.file,
                line=call.line,
                route=reach.route,
            )


class _AwaitIt(LineTransformer):
    """`time.sleep(1)` becomes `await asyncio.sleep(1)`, other calls go to a thread."""

    def __init__(self, lines: frozenset[int]) -> None:
        super().__init__(lines)
        self._may_await: list[bool] = []

    def visit_FunctionDef_body(self, node: libcst.FunctionDef) -> None:  # noqa: N802 - as libcst calls it
        self._may_await.append(node.asynchronous is not None)

    def leave_FunctionDef_body(self, node: libcst.FunctionDef) -> None:  # noqa: N802 - as above
        del node
        self._may_await.pop()

    def visit_ClassDef_body(self, node: libcst.ClassDef) -> None:  # noqa: N802 - as above
        del node
        self._may_await.append(False)

    def leave_ClassDef_body(self, node: libcst.ClassDef) -> None:  # noqa: N802 - as above
        del node
        self._may_await.pop()

    def visit_Lambda(self, node: libcst.Lambda) -> bool:  # noqa: N802 - as above
        """Leave a lambda alone: it cannot wait."""
        del node
        return False

    def visit_GeneratorExp(self, node: libcst.GeneratorExp) -> bool:  # noqa: N802 - as above
        """Leave a generator alone: waiting would make another kind of it."""
        del node
        return False

    def leave_Call(  # noqa: N802 - as above
        self, original_node: libcst.Call, updated_node: libcst.Call
    ) -> libcst.Call | libcst.Await:
        called = libcst.Module([]).code_for_node(original_node.func)
        if not (self._may_await[-1:] == [True] and self.is_marked(original_node)):
            return updated_node
        if called not in _WAITING:
            return updated_node
        self.note(original_node)
        self.needs("asyncio")
        if called == "time.sleep":
            waiting = updated_node.with_changes(func=libcst.parse_expression("asyncio.sleep"))
        else:
            rest = [libcst.Arg(updated_node.func), *updated_node.args]
            thread = libcst.parse_expression("asyncio.to_thread")
            waiting = updated_node.with_changes(func=thread, args=rest)
        return libcst.Await(
            waiting.with_changes(lpar=[], rpar=[]),
            lpar=[libcst.LeftParen()],
            rpar=[libcst.RightParen()],
        )

    def leave_Expr(self, original_node: libcst.Expr, updated_node: libcst.Expr) -> libcst.Expr:  # noqa: N802 - as above
        return updated_node.with_changes(value=_bare(original_node.value, updated_node.value))

    def leave_Assign(  # noqa: N802 - as above
        self, original_node: libcst.Assign, updated_node: libcst.Assign
    ) -> libcst.Assign:
        return updated_node.with_changes(value=_bare(original_node.value, updated_node.value))


def _bare(before: libcst.BaseExpression, after: libcst.BaseExpression) -> libcst.BaseExpression:
    """Return what became an `await` without the brackets that it needs inside of something else."""
    if isinstance(after, libcst.Await) and not isinstance(before, libcst.Await):
        return after.with_changes(lpar=[], rpar=[])
    return after


RULE = Rule(
    id="ASYNC001",
    title="A call blocks the event loop",
    severity="change",
    how="source",
    why="While it waits, no other request of this process is served, not even the health check.",
    fix="use the library's asynchronous counterpart, or hand it to a thread: "
    "`await asyncio.to_thread(...)`; or make the endpoint a plain `def`",
    seed='003 "Blocking calls in async context"',
    expected="code that no route reaches, `def` endpoints (FastAPI runs them in threads), calls "
    "handed to a thread, reading small local files.",
    bad="""
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/slow")
async def slow() -> str:
    time.sleep(1)  # finding
    return "done"
""",
    good="""
import asyncio
import time

from fastapi import FastAPI

app = FastAPI()


@app.get("/slow")
async def slow() -> str:
    await asyncio.sleep(1)
    await asyncio.to_thread(time.sleep, 1)
    return "done"


@app.get("/thread")
def thread() -> str:
    time.sleep(1)
    return "done"


async def never_called() -> None:
    time.sleep(1)
""",
    find=find,
    is_habit=True,
    mend=_AwaitIt,
)
