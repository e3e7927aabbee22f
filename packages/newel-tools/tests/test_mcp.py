"""``newel mcp`` as an assistant uses it: a real client, over stdin and stdout and over HTTP."""

import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import psutil
import pytest
import typer
from mcp.client.client import Client
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from typer.testing import CliRunner

from newel_tools.mcp import mcp, server_of

NEWEL = str(Path(sys.executable).with_name("newel"))
MAIN = """
from fastapi import FastAPI

app = FastAPI()


@app.get("/agents")
def list_agents(page: int = 1) -> list[str]: ...
"""

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a service and two documents."""
    service = tmp_path / "service"
    service.mkdir()
    (service / "main.py").write_text(MAIN)
    for name, paths in (("old", {"/a": {"get": {}}}), ("new", {})):
        (tmp_path / f"{name}.json").write_text(json.dumps({"openapi": "3.1.0", "paths": paths}))
    return tmp_path


async def ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    assert result.structured_content is not None
    return result.structured_content


async def refused(client: Client, tool: str, **arguments: Any) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return result.content[0].text  # type: ignore[union-attr] - a tool error is one text


async def test_every_tool_answers_over_stdin_and_stdout(folder: Path):
    server = StdioServerParameters(command=NEWEL, args=["mcp", str(folder)])
    async with Client(stdio_client(server)) as client:
        tools = {tool.name: tool for tool in (await client.list_tools()).tools}
        assert set(tools) == {
            *("plan", "routes", "schema", "auth", "check", "prove"),
            *("contract_check", "contract_diff"),
        }
        for tool in tools.values():
            assert tool.description
            assert tool.annotations is not None
            assert tool.annotations.read_only_hint

        plan = await ask(client, "plan", sentence="blog with posts and tags")
        assert {resource["name"] for resource in plan["resources"]} >= {"posts", "tags"}

        listed = await ask(client, "routes", project="service")
        assert ["GET", "/agents", "open"] in [
            [row["method"], row["path"], row["access"]] for row in listed["routes"]
        ]
        operation = await ask(client, "schema", method="GET", path="/agents", project="service")
        assert operation["parameters"][0]["name"] == "query page"
        login = await ask(client, "auth", project="service", app="main:app")
        assert "GET /agents" in login["open"]
        review = await ask(client, "check", project="service")
        assert review["verdict"] in {"APPROVE", "REQUEST CHANGES", "BLOCK"}
        difference = await ask(client, "contract_diff", old="old.json", new="new.json")
        assert difference["ok"] is False
        assert difference["changes"][0]["rule"] == "api-path-removed-without-deprecation"


@asynccontextmanager
async def served(folder: Path) -> AsyncIterator[Client]:
    async with Client(server_of(folder)) as client:
        yield client


async def test_what_is_to_be_mended_is_said_in_two_lines(folder: Path):
    async with served(folder) as client:
        said = [
            await refused(client, "routes", project="nowhere"),
            await refused(client, "schema", method="GET", path="/b", project="service"),
            await refused(client, "plan", sentence="colorless green ideas sleep furiously"),
            await refused(client, "contract_diff", old="old.json", new="none.json"),
        ]

    for text in said:
        assert "\n  fix: " in text
        assert "Traceback" not in text


BROKEN = """
from fastapi import FastAPI

app = FastAPI()
notes: dict[int, str] = {}


@app.post("/notes", status_code=201)
def create_note(text: str) -> dict[str, int]:
    notes[len(notes) + 1] = text
    return {"id": len(notes)}


@app.get("/notes/{note_id}")
def read_note(note_id: int) -> str:
    return notes[note_id]
"""


async def test_an_application_is_broken_step_by_step(folder: Path):
    (folder / "service/main.py").write_text(BROKEN)
    before, told = files(folder), []

    async def note(step: float, _total: float | None, said: str | None) -> None:
        told.append((step, said))

    async with served(folder) as client:
        arguments = {"project": "service", "only": ["err005"]}
        result = await client.call_tool("prove", arguments, progress_callback=note)

    assert result.structured_content is not None
    [finding] = result.structured_content["findings"]
    assert (finding["rule"], finding["route"]) == ("ERR005", "GET /notes/{note_id}")
    assert finding["evidence"]["curl"][0].startswith("curl ")
    assert [step for step, _ in told] == [1, 2]
    assert told[0][1] == "start the application"
    assert files(folder) == before


def is_host(process: psutil.Process) -> bool:
    try:
        return "prove/host" in " ".join(process.cmdline())
    except psutil.Error:  # it has ended meanwhile; an earlier test's may be a zombie
        return False


async def test_who_gives_up_leaves_nothing_running(folder: Path):
    async with served(folder) as client:
        with anyio.CancelScope() as asked:
            started: list[psutil.Process] = []

            async def give_up(_step: float, _total: float | None, said: str | None) -> None:
                if said != "start the application":
                    running = psutil.Process().children(recursive=True)
                    started.extend(filter(is_host, running))
                    asked.cancel()

            arguments = {"project": "service"}
            await client.call_tool("prove", arguments, progress_callback=give_up)

        assert asked.cancelled_caught
        assert started
        _, alive = await anyio.to_thread.run_sync(lambda: psutil.wait_procs(started, timeout=20))
        assert not alive


async def test_a_probe_that_is_not_there_is_refused(folder: Path):
    async with served(folder) as client:
        said = await refused(client, "prove", project="service", only=["XX1"])

    assert "there is no probe XX1\n  fix: one of" in said


@pytest.mark.parametrize("path", ["..", "/etc", "service/../..", "link"])
async def test_nothing_outside_of_the_folder_is_read(folder: Path, path):
    (folder / "link").symlink_to("/etc")
    async with served(folder) as client:
        for tool in ("routes", "auth", "check", "prove", "contract_check"):
            assert "outside of the folder" in await refused(client, tool, project=path)
        assert "outside" in await refused(client, "contract_diff", old="old.json", new=f"{path}/a")


async def test_a_sentence_is_never_the_name_of_a_file(folder: Path):
    (folder / "plan.yaml").write_text("service: blog\nresources: {}\n")
    async with served(folder) as client:
        assert "\n  fix: " in await refused(client, "plan", sentence=str(folder / "plan.yaml"))


def files(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*"))


async def test_nothing_is_written(folder: Path):
    before = files(folder)
    async with served(folder) as client:
        await ask(client, "routes", project="service")
        said = await refused(client, "contract_check", project="service")

    assert "there is no contract in" in said
    assert files(folder) == before


async def test_it_speaks_http_on_this_machine_only(folder: Path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [NEWEL, "mcp", str(folder), "--port", str(port)]
    server = await anyio.open_process(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        with anyio.fail_after(30):
            while True:
                try:
                    await (await anyio.connect_tcp("127.0.0.1", port)).aclose()
                    break
                except OSError:
                    await anyio.sleep(0.05)
        async with Client(streamable_http_client(f"http://127.0.0.1:{port}/mcp")) as client:
            listed = await ask(client, "routes", project="service")
        assert any(row["path"] == "/agents" for row in listed["routes"])
        answer = await foreign(port)
        assert answer.startswith(b"HTTP/1.1 421")
    finally:
        server.terminate()
        await server.wait()
        await server.aclose()


async def foreign(port: int) -> bytes:
    """Return what a page of another site gets whose name points to this machine."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        await stream.send(
            b"POST /mcp HTTP/1.1\r\nHost: evil.example\r\nContent-Type: application/json\r\n"
            b"Accept: application/json, text/event-stream\r\nContent-Length: 2\r\n\r\n{}"
        )
        return await stream.receive()


def run(*words: str):
    program = typer.Typer()
    program.command()(mcp)
    return CliRunner().invoke(program, list(words))


def test_without_the_sdk_the_fix_is_said(tmp_path: Path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    result = run(str(tmp_path))

    assert result.exit_code == 2
    assert "fix: uv pip install 'newel-tools[mcp]'" in result.stderr


def test_a_folder_is_needed(tmp_path: Path):
    result = run(str(tmp_path / "none"))

    assert result.exit_code == 2
    assert "is no folder" in result.stderr


def test_the_sdk_is_imported_by_this_command_alone():
    code = "import sys, newel_tools.mcp; print('mcp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)

    assert done.stdout.strip() == "False"
