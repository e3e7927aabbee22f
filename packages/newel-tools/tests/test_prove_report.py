"""What a run tells: findings by cause, text for people, JSON for machines, a page in a browser."""

import asyncio
import json
import re
import shutil
import socket
import subprocess
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import websockets
from rich.console import Console

from newel_tools.check.finding import Finding, Severity
from newel_tools.prove.page import page, write_page
from newel_tools.prove.probe import Evidence, Result, load_probes
from newel_tools.prove.requests import Request, curl
from newel_tools.prove.run import Report
from newel_tools.prove.text import explain, progress, show_report


def broke(
    probe: str,
    route: str,
    *,
    severity: Severity = "block",
    what: str = "it gave way",
    place: str | None = None,
    cause: str | None = None,
) -> Result:
    file, _, line = (place or "").partition(":")
    finding = Finding(
        rule=probe,
        severity=severity,
        certainty="confirmed",
        what=what,
        why="because <b>it</b> matters",
        fix="mend it",
        seed="the seed",
        file=file or None,
        line=int(line or 0),
        route=route,
    )
    evidence = Evidence(
        curl=(f"curl -sS -i http://127.0.0.1:8000{route.partition(' ')[2]}",),
        answer="500 <script>alert(1)</script>",
        details=("SELECT 1",),
    )
    return Result(
        probe=probe, route=route, state="broke", finding=finding, cause=cause, evidence=evidence
    )


def report(*results: Result, **more: Any) -> Report:
    routes = dict.fromkeys(result.route for result in results if result.route)
    titles = {probe.id: probe.title for probe in load_probes().values()}
    said: dict[str, Any] = {"requests": 7, "seconds": 1.5, "callers": ("user", "other")}
    return Report(
        application="shop.main:app",
        routes=tuple(routes),
        results=results,
        titles=titles,
        **{**said, **more},
    )


def kept(probe: str, route: str) -> Result:
    return Result(probe=probe, route=route, state="kept")


def test_one_line_of_the_project_is_one_finding() -> None:
    found = report(
        broke("ERR005", "GET /a/{id}", place="app/a.py:3"),
        broke("ERR005", "DELETE /a/{id}", place="app/a.py:3"),
        broke("ERR005", "GET /b/{id}", place="app/b.py:3"),
    ).findings

    assert [(f.file, f.route, f.also) for f in found] == [
        ("app/a.py", "GET /a/{id}", ("DELETE /a/{id}",)),
        ("app/b.py", "GET /b/{id}", ()),
    ]


def test_what_has_one_cause_is_one_finding_wherever_it_is() -> None:
    found = report(
        broke("DATA002", "POST /a", place="app/a.py:3", cause="NUL"),
        broke("DATA002", "POST /b", place="app/b.py:9", cause="NUL"),
        broke("DATA002", "POST /b", place="app/b.py:9"),
    ).findings

    assert [(f.route, f.also) for f in found] == [("POST /a", ("POST /b",)), ("POST /b", ())]


def test_what_odd_requests_find_again_is_no_second_finding() -> None:
    found = report(
        broke("DATA001", "PATCH /a", place="app/a.py:3"),
        broke("ERR007", "PUT /a", place="app/a.py:3"),
        broke("ERR007", "PUT /b", place="app/b.py:4"),
    ).findings

    assert [(f.rule, f.route, f.also) for f in found] == [
        ("DATA001", "PATCH /a", ("PUT /a",)),
        ("ERR007", "PUT /b", ()),
    ]


@pytest.mark.parametrize(
    ("severities", "verdict"),
    [
        ([], "APPROVE"),
        (["note"], "APPROVE"),
        (["note", "change"], "REQUEST CHANGES"),
        (["change", "block"], "BLOCK"),
    ],
)
def test_the_verdict_is_the_gravest(severities: list[Severity], verdict: str) -> None:
    results = [broke("ERR005", f"GET /{one}", severity=one) for one in severities]

    made = report(*results)

    assert made.verdict == verdict
    assert [f.severity for f in made.findings] == sorted(
        severities, key=["block", "change", "note"].index
    )


def test_what_let_nobody_in_is_not_approved() -> None:
    made = report(kept("ERR005", "GET /a/{id}"), is_locked_out=True)

    assert made.verdict == "REQUEST CHANGES"
    assert report(kept("ERR005", "GET /a/{id}")).verdict == "APPROVE"


def test_machines_get_everything() -> None:
    made = report(broke("ERR005", "GET /a/{id}"), kept("ERR005", "GET /b"), notes=("no users",))

    said = json.loads(json.dumps(made.as_json()))

    assert (said["verdict"], said["requests"], said["notes"]) == ("BLOCK", 7, ["no users"])
    [finding] = said["findings"]
    assert finding["certainty"] == "confirmed"
    assert finding["evidence"]["curl"] == ["curl -sS -i http://127.0.0.1:8000/a/{id}"]
    assert {result["state"] for result in said["results"]} == {"kept", "broke"}


def shown(made: Report) -> str:
    output = StringIO()
    show_report(Console(file=output, width=100, highlight=False), made)
    return output.getvalue()


def test_people_see_the_request_and_the_fix() -> None:
    text = shown(
        report(
            broke("TX002", "POST /a", place="app/a.py:3", what="it answered 201"),
            kept("TX002", "POST /b"),
            Result(probe="TX002", route="POST /c", state="skipped", why="no body"),
            notes=("the migrations failed",),
            ways_in=("curl http://127.0.0.1:8000/login",),
        )
    )

    assert "TX002  block  POST /a" in text
    assert "it answered 201" in text
    assert "at app/a.py:3" in text
    assert "$ curl -sS -i http://127.0.0.1:8000/a" in text
    assert re.search(r"TX002 +No success is answered.* 1 +1 +1", text)
    assert "note: the migrations failed" in text
    assert "$USER_TOKEN" in text
    assert "BLOCK: 1 to block" in text


def test_nothing_found_is_said() -> None:
    text = shown(report(kept("TX002", "POST /b"), callers=()))

    assert "APPROVE: nothing gave way" in text
    assert "7 requests as anonymous" in text


def test_many_routes_of_one_cause_are_counted() -> None:
    many = [broke("DATA002", f"POST /{n}", cause="NUL") for n in range(9)]

    assert "and 3 more" in shown(report(*many))


def test_progress_is_a_line_each_without_a_terminal() -> None:
    output = StringIO()

    with progress(Console(file=output, width=100)) as say:
        say("start [the] application")

    assert output.getvalue() == "start [the] application\n"


def test_progress_is_one_line_on_a_terminal() -> None:
    output = StringIO()

    with progress(Console(file=output, force_terminal=True, width=100)) as say:
        say("start [the] application")

    assert output.getvalue().count("\n") <= 1


def test_a_probe_explains_itself() -> None:
    output = StringIO()

    explain(Console(file=output, width=100), load_probes()["TX002"])

    assert "TX002  No success is answered when the commit fails" in output.getvalue()
    assert 'scope="function"' in output.getvalue()


# ---------------------------------------------------------------- the page

EVERYTHING = report(
    broke("TX002", "POST /a", place="app/a.py:3"),
    broke("RACE001", "PATCH /a/{id}", severity="note"),
    kept("TX002", "PATCH /a/{id}"),
    Result(probe="ERR005", route="POST /a", state="skipped", why='no "valid" request'),
    notes=("<i>a note</i>",),
    ways_in=("curl http://127.0.0.1:8000/login",),
)


def test_the_page_asks_nobody_for_anything(tmp_path: Path) -> None:
    write_page(EVERYTHING, tmp_path / "report.html")

    text = (tmp_path / "report.html").read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)=\"(?!#)", text)


def test_the_page_shows_answers_and_does_not_run_them() -> None:
    text = page(EVERYTHING)

    assert "<script>alert(1)</script>" not in text
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in text
    assert "<i>a note</i>" not in text


class Browser:
    """One tab of a real Chromium, driven by its own protocol."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._number = 0

    async def ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        said = {"id": self._number, "method": method, "params": parameters}
        await self._connection.send(json.dumps(said))
        while True:
            answer = json.loads(await asyncio.wait_for(self._connection.recv(), 20))
            if answer.get("id") == self._number:
                return answer["result"]

    async def evaluate(self, expression: str) -> Any:
        answer = await self.ask(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")


@contextmanager
def chromium(folder: Path) -> Iterator[int]:
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.skip("there is no Chromium: apt-get install -y chromium")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run"]
    options += [f"--remote-debugging-port={port}", f"--user-data-dir={folder}/profile"]
    with subprocess.Popen(
        [program, *options, "about:blank"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        try:
            yield port
        finally:
            process.terminate()
            process.wait(20)


def new_tab(port: int, path: Path) -> str:
    """Return the address by which a new tab with a page is driven."""
    url = f"http://127.0.0.1:{port}/json/new?file://{path}"
    with urllib.request.urlopen(urllib.request.Request(url, method="PUT"), timeout=5) as answer:
        return json.load(answer)["webSocketDebuggerUrl"]


async def open_page(port: int, path: Path) -> tuple[Any, Browser]:

    for _ in range(400):
        with suppress(OSError):
            address = await asyncio.to_thread(new_tab, port, path)
            break
        await asyncio.sleep(0.05)
    else:
        pytest.fail("Chromium did not answer")
    connection = await websockets.connect(address, max_size=None)
    browser = Browser(connection)
    is_there = "document.readyState === 'complete' && location.href !== 'about:blank'"
    for _ in range(400):
        if await browser.evaluate(is_there):
            break
        await asyncio.sleep(0.05)
    return connection, browser


@pytest.mark.browser
@pytest.mark.timeout(120)
def test_the_page_works_in_a_browser(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    write_page(EVERYTHING, path)

    async def look(port: int) -> None:
        connection, browser = await open_page(port, path)
        async with connection:
            assert await browser.evaluate("document.title") == "BLOCK: shop.main:app"
            colour = "getComputedStyle(document.querySelector('h1')).color"
            assert await browser.evaluate(colour) == "rgb(206, 44, 49)"
            cells = "[...document.querySelectorAll('td')].map(cell => cell.textContent).join('')"
            assert await browser.evaluate(cells) == "·✗✗✓"
            # A cross in the matrix opens its finding.
            second = "document.querySelectorAll('#findings details')[1]"
            assert await browser.evaluate(f"{second}.open") is False
            await browser.evaluate("document.querySelectorAll('td a')[0].click()")
            await browser.evaluate("document.querySelector('td a[data-rule=RACE001]').click()")
            assert await browser.evaluate(f"{second}.open") is True
            # The filters hide what is not asked for.
            await browser.evaluate("document.querySelector('[data-severity=note]').click()")
            visible = (
                "[...document.querySelectorAll('#findings details')]"
                ".map(one => one.checkVisibility())"
            )
            assert await browser.evaluate(visible) == [False, True]
            await browser.evaluate("document.querySelector('[data-severity=note]').click()")
            assert await browser.evaluate(visible) == [True, True]
            wide = "document.documentElement.scrollWidth <= window.innerWidth"
            assert await browser.evaluate(wide) is True

    with chromium(tmp_path) as port:
        asyncio.run(look(port))


@pytest.mark.parametrize(
    ("severities", "more", "meaning"),
    [
        ([], {}, "Nothing gave way."),
        (
            ["block", "block", "change", "note"],
            {},
            "2 to mend before a release, 1 to mend soon, 1 to know of",
        ),
        ([], {"is_locked_out": True}, "little was tried, for nobody was let in"),
    ],
)
def test_the_page_begins_with_what_the_verdict_asks_for(
    severities: list[Severity], more: dict[str, Any], meaning: str
) -> None:
    results = [broke("ERR005", f"GET /{n}", severity=s) for n, s in enumerate(severities)]

    text = page(report(*results, notes=("alembic failed",), **more))

    assert f'<p id="meaning">{meaning}</p>' in text
    assert text.index("shop.main:app</p>") < text.index("<h1>") < text.index("alembic failed")
    assert text.index("alembic failed") < text.index('id="findings"')
    assert ("An unknown id is answered with 404</dd>" in text) is bool(severities)


@pytest.mark.parametrize(
    "body",
    [
        '{"name": "' + "x" * 100_000 + '"}',
        json.dumps({"a": "y" * 600, "b": "it's 100 % \\n", "c": "0" * 200_000}),
    ],
)
def test_a_long_text_is_written_as_what_makes_it(body: str) -> None:
    request = Request(method="POST", path="/notes", label="POST /notes", body=body.encode())

    line = curl(request)

    assert len(line) < 500
    shown = line.replace("curl -sS -i", "cat #")  # what curl would read
    done = subprocess.run(["sh", "-c", shown], check=True, capture_output=True, text=True)
    assert done.stdout == body
