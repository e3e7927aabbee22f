"""A real Chromium, driven by its own protocol, and a server for it to look at."""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import httpx2
import pytest
import uvicorn
import websockets
from fastapi import FastAPI
from sample_jobs import until

_KEYS = {
    "Tab": {"key": "Tab", "code": "Tab", "windowsVirtualKeyCode": 9},
    "Enter": {"key": "Enter", "code": "Enter", "windowsVirtualKeyCode": 13, "text": "\r"},
    "Space": {"key": " ", "code": "Space", "windowsVirtualKeyCode": 32, "text": " "},
}
_SHIFT = 8


class Server(uvicorn.Server):
    """uvicorn in the test's own event loop; signals stay the test runner's."""

    def capture_signals(self) -> Any:
        return nullcontext()


@asynccontextmanager
async def served(app: FastAPI, **options: Any) -> AsyncGenerator[str]:
    """Serve ``app`` on a free port; give its address."""
    config = uvicorn.Config(
        app, host="127.0.0.1", port=0, log_config=None, timeout_graceful_shutdown=1, **options
    )
    server = Server(config)
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    assert server.started
    scheme = "https" if config.is_ssl else "http"
    try:
        yield f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        await task


class Tab:
    """One tab: keys are pressed in it, and what it logged and asked for is kept."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._answers: dict[int, asyncio.Future[dict[str, Any]]] = {}
        self._number = 0
        self.errors: list[str] = []
        self.requests: list[str] = []
        self._reading = asyncio.create_task(self._read())

    async def close(self) -> None:
        self._reading.cancel()
        await asyncio.gather(self._reading, return_exceptions=True)

    async def _read(self) -> None:
        async for text in self._connection:
            said = json.loads(text)
            if "id" in said:
                self._answers.pop(said["id"]).set_result(said)
                continue
            details = said["params"]
            match said["method"]:
                case "Network.requestWillBeSent":
                    self.requests.append(details["request"]["url"])
                case "Runtime.exceptionThrown":
                    self.errors.append(str(details["exceptionDetails"]))
                case "Log.entryAdded" if details["entry"]["level"] == "error":
                    self.errors.append(f"{details['entry']['text']} {details['entry'].get('url')}")
                case "Runtime.consoleAPICalled" if details["type"] == "error":
                    self.errors.append(str(details["args"]))
                case _:
                    pass

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        answer = self._answers[self._number] = asyncio.get_running_loop().create_future()
        said = {"id": self._number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(said))
        found = await asyncio.wait_for(answer, 20)
        assert "error" not in found, found
        return found["result"]

    async def evaluate(self, expression: str) -> Any:
        answer = await self.ask("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def text(self) -> str:
        return str(await self.evaluate("document.body ? document.body.innerText : ''"))

    async def path(self) -> str:
        return str(await self.evaluate("location.pathname + location.search"))

    async def shows(self, text: str) -> None:
        """Wait until the page says something."""

        async def said() -> bool:
            with suppress(AssertionError):  # between two pages there is none
                return text in await self.text()
            return False

        try:
            await until(said)
        except AssertionError:
            raise AssertionError(f"{text!r} is not in {await self.text()!r}") from None

    async def becomes(self, expression: str, *, press: str | None = None) -> None:
        """Wait until an expression is true, on whatever page; ``press`` a key until it is."""

        async def holds() -> bool:
            with suppress(AssertionError):  # between two pages there is none
                if await self.evaluate(expression):
                    return True
                if press is not None:
                    await self.press(press)
            return False

        await until(holds)

    async def open(self, url: str) -> None:
        async with self._other_page():
            await self.ask("Page.navigate", url=url)

    @asynccontextmanager
    async def _other_page(self) -> AsyncGenerator[None]:
        """Wait after the block for a page that was not there before, whole."""
        began = "[performance.timeOrigin, document.readyState]"
        [before, _] = await self.evaluate(began)
        yield

        async def is_there() -> bool:
            with suppress(AssertionError):  # between two pages there is none
                [origin, state] = await self.evaluate(began)
                return bool(origin != before and state == "complete")
            return False

        await until(is_there)

    async def press(self, key: str, *, shift: bool = False) -> None:
        held = {"modifiers": _SHIFT if shift else 0, **_KEYS[key]}
        kind = "keyDown" if "text" in held else "rawKeyDown"
        await self.ask("Input.dispatchKeyEvent", type=kind, **held)
        await self.ask("Input.dispatchKeyEvent", type="keyUp", **held)

    async def press_and_load(self, key: str) -> None:
        """Press a key that leads to another page, and wait for it."""
        async with self._other_page():
            await self.press(key)

    async def type(self, text: str) -> None:
        await self.ask("Input.insertText", text=text)

    async def tab_to(self, text: str) -> None:
        """Press Tab until what is focused says ``text`` (its words, its label or its name)."""
        said = (
            "(e => e && (e.ariaLabel || e.labels?.[0]?.innerText || e.innerText || e.name || '')"
            ".trim())(document.activeElement)"
        )
        for _ in range(60):
            await self.press("Tab")
            if await self.evaluate(said) == text:
                visible = "getComputedStyle(document.activeElement).outlineStyle"
                assert await self.evaluate(visible) != "none", "nobody sees where the focus is"
                return
        raise AssertionError(f"no Tab leads to {text!r} in {await self.text()!r}")

    async def has_focus_on(self, name: str) -> None:
        """Wait until a field has the focus without a key: it gets it when it is painted."""

        async def has() -> bool:
            return bool(await self.evaluate("document.activeElement.name") == name)

        await until(has)

    async def resize(self, width: int, height: int = 800) -> None:
        await self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )

    async def fits(self) -> bool:
        """Tell whether nothing has to be scrolled sideways."""
        wide = "document.documentElement.scrollWidth <= window.innerWidth"
        return bool(await self.evaluate(wide))

    async def screenshot(self, path: Path) -> None:
        shot = await self.ask("Page.captureScreenshot", captureBeyondViewport=True)
        await asyncio.to_thread(path.write_bytes, base64.b64decode(shot["data"]))

    async def cookies(self) -> dict[str, dict[str, Any]]:
        found = await self.ask("Network.getCookies")
        return {one["name"]: one for one in found["cookies"]}


@asynccontextmanager
async def chromium(*options: str) -> AsyncGenerator[Tab]:
    """Run a Chromium of its own, and give a tab of it."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install -y chromium")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        process = await asyncio.create_subprocess_exec(
            *(program, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"),
            *("--remote-debugging-port=0", f"--user-data-dir={profile}", *options, "about:blank"),
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
        )
        try:
            said = Path(profile, "DevToolsActivePort")  # written when it listens
            await until(lambda: said.is_file() and said.read_text().count("\n"), seconds=30)
            address = await asyncio.to_thread(_new_tab, said)
            async with websockets.connect(address, max_size=None) as connection:
                tab = Tab(connection)
                for domain in ("Page", "Network", "Runtime", "Log"):
                    await tab.ask(f"{domain}.enable")
                yield tab
                await tab.close()
        finally:
            process.terminate()
            await process.wait()


def _new_tab(said: Path) -> str:
    port = said.read_text().split()[0]
    answer = httpx2.put(f"http://127.0.0.1:{port}/json/new", trust_env=False)
    address: str = answer.json()["webSocketDebuggerUrl"]
    return address
