"""``newel mcp``: the tools' answers for assistants, over the Model Context Protocol.

Everything is read: a tool changes no file, and imports a project only as the commands do, in its
own interpreter on a copy. What lies outside of the folder it was started for is refused.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from newel_tools.application import ProjectFolder, read_application
from newel_tools.check.check import check_project
from newel_tools.consult.commands import auth_of, schema_of
from newel_tools.consult.routes import routes_of
from newel_tools.contract.agreement import Agreement
from newel_tools.contract.changes import grouped
from newel_tools.contract.commands import agreed_standing
from newel_tools.contract.contract import compare
from newel_tools.contract.report import as_json
from newel_tools.errors import PlanError
from newel_tools.facts.project import ProjectError, find_project
from newel_tools.openapi.document import DocumentError, read_document
from newel_tools.planner.planner import plan_sentence
from newel_tools.prove.command import chosen_probes, project_of
from newel_tools.prove.errors import ProveError
from newel_tools.prove.run import prove_project
from newel_tools.refusal import refused

if TYPE_CHECKING:
    from mcp.server import MCPServer

__all__ = ["mcp", "server_of"]

_ABOUT: Final = (
    "Answers about FastAPI projects from their imported application: who may call which route, what"
    " an operation takes and answers, how to log in, what a review finds, whether the API breaks"
    " its clients. Paths are relative to the folder that the server was started for."
)


def mcp(
    folder: ProjectFolder = Path(),
    *,
    port: Annotated[
        int | None,
        typer.Option(help="Speak HTTP at http://127.0.0.1:PORT/mcp instead of stdin and stdout."),
    ] = None,
) -> None:
    """Serve these tools to an assistant by the Model Context Protocol."""
    with refused(as_json=False):
        if importlib.util.find_spec("mcp") is None:
            raise ProjectError(
                "`newel mcp` needs the MCP SDK, which is not installed",
                fix="uv pip install 'newel-tools[mcp]'",
            )
        if not folder.is_dir():
            raise ProjectError(f"{folder} is no folder", fix="name the folder of your projects")
        server = server_of(folder)
    if port is None:
        server.run("stdio")
    else:
        # The SDK refuses other Host and Origin headers at this address: no web page gets in.
        server.run("streamable-http", host="127.0.0.1", port=port, stateless_http=True)


def server_of(folder: Path) -> MCPServer[Any]:
    """Return the server for the projects below ``folder``."""
    # An extra, and a second of imports: only this command needs it.
    sdk = importlib.import_module("mcp.server.mcpserver")
    kind = importlib.import_module("mcp.server.mcpserver.tools").Tool
    annotations = importlib.import_module("mcp.types").ToolAnnotations(read_only_hint=True)
    described = [
        kind.from_function(
            tool, name=name, annotations=annotations, structured_output=True, context_kwarg=asked
        )
        for name, (tool, asked) in _Tools(folder.resolve()).named().items()
    ]
    return sdk.MCPServer("newel", instructions=_ABOUT, log_level="WARNING", tools=described)


class _Tools:
    """The functions that assistants see; their docstrings are what assistants read."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def named(self) -> dict[str, tuple[Callable[..., dict[str, Any]], str | None]]:
        """Return the tools by the names that assistants call, and who tells of their progress."""
        return {
            "plan": (self.plan, None),
            "routes": (self.routes, None),
            "schema": (self.schema, None),
            "auth": (self.auth, None),
            "check": (self.check, None),
            "prove": (self.prove, "context"),
            "contract_check": (self.contract_check, None),
            "contract_diff": (self.contract_diff, None),
        }

    def plan(self, sentence: str) -> dict[str, Any]:
        """Plan a service from one sentence; says what was assumed and what was not understood."""
        with _explained():
            return plan_sentence(sentence).model_dump(mode="json")

    def routes(self, project: str = ".", app: str | None = None) -> dict[str, Any]:
        """List every route of a FastAPI project and what it asks of its callers.

        `access` is permissions, guards or scopes; `public` (declared), `open` (nothing guards it).
        """
        with _explained():
            facts = read_application(self._inside(project), name=app)
            return {"routes": [row.as_json() for row in routes_of(facts)]}

    def schema(
        self, method: str, path: str, project: str = ".", app: str | None = None
    ) -> dict[str, Any]:
        """Give one operation's parameters, body and answers, with schemas, examples, a curl line.

        `path` is a template (`/agents/{agent_id}`), a real path (`/agents/42`) or its end.
        """
        with _explained():
            facts = read_application(self._inside(project), name=app)
            return schema_of(facts, method, path).as_json()

    def auth(self, project: str = ".", app: str | None = None) -> dict[str, Any]:
        """Explain how clients of a FastAPI project log in, and which routes ask for what."""
        with _explained():
            return auth_of(read_application(self._inside(project), name=app)).as_json()

    def check(self, project: str = ".", app: str | None = None) -> dict[str, Any]:
        """Review a FastAPI project: findings with place, reason and fix, and a verdict."""
        with _explained():
            return check_project(find_project(self._inside(project), application=app)).as_json()

    def prove(
        self,
        context: Any,
        project: str = ".",
        app: str | None = None,
        only: list[str] | None = None,
    ) -> dict[str, Any]:
        """Break a FastAPI application on purpose, on a throw-away database; takes minutes.

        Every finding has the requests that show it as curl lines. `only` names probes (`TX002`).
        """
        thread = importlib.import_module("anyio.from_thread")
        steps = itertools.count(1)

        def progress(said: str) -> None:
            thread.check_cancelled()  # raises: what was started ends on the way out
            thread.run(context.report_progress, next(steps), None, said)

        with _explained():
            found, settings = project_of(self._inside(project), app=app)
            probes = chosen_probes(only)
            return prove_project(found, settings, probes, progress=progress).as_json()

    def contract_check(self, project: str = ".", app: str | None = None) -> dict[str, Any]:
        """Say what changed for clients since the committed contract; `ok` is false for a break."""
        with _explained():
            return agreed_standing(self._inside(project), app=app).as_json()

    def contract_diff(self, old: str, new: str) -> dict[str, Any]:
        """Compare two OpenAPI documents (JSON or YAML files); `ok` is false for a break."""
        with _explained():
            before, after = (read_document(self._inside(path)) for path in (old, new))
            groups = grouped(compare(before, after))
            return {
                "ok": not any(group.first.breaks for group in groups),
                "changes": as_json(groups, agreement=Agreement()),
            }

    def _inside(self, path: str) -> Path:
        found = (self._folder / path).resolve()
        if not found.is_relative_to(self._folder):
            raise ProjectError(
                f"{path} is outside of the folder that this server was started for",
                fix="name a path below it, or start `newel mcp` there",
            )
        return found


@contextmanager
def _explained() -> Generator[None]:
    """Turn what the caller has to mend into the protocol's tool error, in two lines."""
    try:
        yield
    except (ProjectError, ProveError, DocumentError, PlanError) as error:
        refusal = importlib.import_module("mcp.server.mcpserver.exceptions").ToolError
        raise refusal(f"{error.message}\n  fix: {error.fix}") from None
