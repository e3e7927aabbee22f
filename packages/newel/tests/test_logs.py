"""Logs: what a reader of the lines gets, what must never be in them, and that they stay lines."""

import io
import json
import logging
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import structlog
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, SecretStr

from newel.context import request_id
from newel.logs import configure_logs, log_request

SECRET = "canary-4711-of-the-tests"
MAX_LINE_BYTES = 16 * 1024
UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access", "uvicorn.asgi")


@pytest.fixture(autouse=True)
def logging_as_it_was() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    theirs = {name: logging.getLogger(name) for name in UVICORN}
    before = {name: (each.handlers[:], each.propagate) for name, each in theirs.items()}
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name, (its_handlers, propagate) in before.items():
        theirs[name].handlers[:], theirs[name].propagate = its_handlers, propagate
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Lines:
    """What was logged since ``configure_logs``."""

    def __init__(self, stream: io.StringIO | None = None, **options) -> None:
        self.stream = stream or io.StringIO()
        # pytest's own handlers would write out the whole of what these tests log.
        root = logging.getLogger()
        root.handlers[:] = [h for h in root.handlers if type(h).__module__ != "_pytest.logging"]
        configure_logs(stream=self.stream, **options)

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def all(self) -> list[dict]:
        assert self.text == "" or self.text.endswith("\n")
        # Not splitlines(): "\n" is what ends a line of JSON lines, and all that does.
        return [json.loads(line) for line in self.text.split("\n")[:-1]]

    @property
    def only(self) -> dict:
        (line,) = self.all
        return line


@pytest.fixture
def lines() -> Lines:
    return Lines(secrets=[SECRET])


@pytest.fixture
def log() -> Any:
    return structlog.get_logger("agents_service.agents")


class TestLines:
    def test_have_what_a_reader_needs(self, lines: Lines, log) -> None:
        token = request_id.set("0190aaaa")
        try:
            log.info("agent_created", agent_id=UUID(int=7), count=3)
        finally:
            request_id.reset(token)
        line = lines.only
        stamp = datetime.fromisoformat(line.pop("timestamp"))
        assert abs(datetime.now(UTC) - stamp).total_seconds() < 60
        assert line == {
            "level": "info",
            "logger": "agents_service.agents",
            "event": "agent_created",
            "request_id": "0190aaaa",
            "agent_id": str(UUID(int=7)),
            "count": 3,
        }
        assert list(json.loads(lines.text))[:5] == [
            *("timestamp", "level", "logger", "event", "request_id")
        ]

    def test_have_no_request_id_outside_of_a_request(self, lines: Lines, log) -> None:
        log.info("started")
        assert "request_id" not in lines.only

    def test_the_standard_library_comes_out_the_same_way(self, lines: Lines) -> None:
        logging.getLogger("somebody.else").warning("took %d ms", 12, extra={"shard": "a"})
        line = lines.only
        assert (line["level"], line["logger"]) == ("warning", "somebody.else")
        assert (line["event"], line["shard"]) == ("took 12 ms", "a")
        assert line["timestamp"]

    def test_bound_and_context_values_are_in_them(self, lines: Lines, log) -> None:
        with structlog.contextvars.bound_contextvars(job="warm_up"):
            log.bind(agent="a").info("x")
            logging.getLogger("other").warning("y")
        assert [(line["job"], line.get("agent")) for line in lines.all] == [
            *(("warm_up", "a"), ("warm_up", None))
        ]

    def test_nobody_can_pretend_another_level_logger_or_request(self, lines: Lines, log) -> None:
        token = request_id.set("0190aaaa")
        log.info("x", level="critical", logger="root", timestamp="1970", request_id="forged")
        request_id.reset(token)
        line = lines.only
        assert (line["level"], line["logger"]) == ("info", "agents_service.agents")
        assert line["request_id"] == "0190aaaa"
        assert not line["timestamp"].startswith("1970")

    def test_the_level_is_the_least_that_is_written(self, log) -> None:
        lines = Lines(level="WARNING")
        log.info("no")
        logging.getLogger("other").info("no")
        log.warning("yes")
        logging.getLogger("other").error("yes")
        assert [line["event"] for line in lines.all] == ["yes", "yes"]

    def test_a_logger_that_was_used_before_follows_a_new_configuration(self, log) -> None:
        first = Lines(level="ERROR")
        log.info("too little")
        second = Lines(level="INFO", secrets=[SECRET])
        log.info("enough", note=SECRET)
        assert first.text == ""
        assert second.only["note"] == "[redacted]"

    def test_users_tests_can_capture_what_is_logged(self, log) -> None:
        Lines()
        log.info("before")
        Lines()
        with structlog.testing.capture_logs() as captured:
            log.info("x", name="n")
        assert captured[0]["event"] == "x"

    def test_configuring_twice_writes_once(self, log) -> None:
        first, second = Lines(), Lines()
        log.info("x")
        logging.getLogger("other").warning("y")
        assert len(first.all) == 0
        assert len(second.all) == 2

    def test_handlers_of_others_stay_but_not_the_plain_ones(self, log) -> None:
        root, plain = logging.getLogger(), io.StringIO()
        root.addHandler(logging.StreamHandler(plain))
        seen: list[logging.LogRecord] = []

        class Tracker(logging.Handler):
            def emit(self, record: logging.LogRecord) -> None:
                seen.append(record)

        root.addHandler(Tracker())
        Lines()
        log.info("x")
        assert len(seen) == 1
        assert plain.getvalue() == ""

    def test_warnings_become_lines(self, lines: Lines) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("always")
            logging.captureWarnings(capture=False)
            logging.captureWarnings(capture=True)
            warnings.warn("old and tired", stacklevel=1)
        assert "old and tired" in lines.only["event"]
        assert lines.only["logger"] == "py.warnings"

    def test_go_to_standard_output_whatever_that_is_now(
        self, log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        configure_logs()
        replaced = io.StringIO()
        monkeypatch.setattr(sys, "stdout", replaced)
        log.info("x")
        assert json.loads(replaced.getvalue())["event"] == "x"


class TestUvicorn:
    @pytest.mark.parametrize("before", [True, False])
    def test_its_access_lines_are_ours_to_write_its_errors_stay(self, *, before: bool) -> None:
        if before:  # under `uvicorn service:app`, which configures logging before the app is there
            uvicorn.Config(lambda: None)
            assert logging.getLogger("uvicorn.access").hasHandlers()
        lines = Lines()
        logging.getLogger("uvicorn.access").info('%s - "%s"', "192.0.2.1", "GET /")
        assert not logging.getLogger("uvicorn.access").hasHandlers()
        logging.getLogger("uvicorn.error").info("Started", extra={"color_message": "\x1b[1mS"})
        assert lines.only["event"] == "Started"
        assert "color_message" not in lines.only


class Agent(BaseModel):
    name: str
    password: str


class TestSecrets:
    @pytest.mark.parametrize(
        "name",
        [
            *("password", "PASSWORD", "new_password", "passwd", "passphrase", "userPassword"),
            *("secret", "client_secret", "secret_key", "token", "access_token", "refreshToken"),
            *("Authorization", "Proxy-Authorization", "cookie", "Set-Cookie", "credentials"),
            *("api_key", "apikey", "x-api-key", "apiKey", "private_key", "aws_access_key_id"),
        ],
    )
    def test_are_replaced_by_the_name_of_their_key(self, lines: Lines, log, name: str) -> None:
        log.info("x", **{name: "hunter2"}, deep=[{"inner": {name: ["hunter2"]}}])
        logging.getLogger("other").warning("y", extra={name: "hunter2"})
        assert "hunter2" not in lines.text
        assert lines.all[0][name] == "[redacted]"
        assert lines.all[0]["deep"] == [{"inner": {name: "[redacted]"}}]
        assert lines.all[1][name] == "[redacted]"

    def test_a_number_is_one_too_unless_it_measures(self, lines: Lines, log) -> None:
        log.info("x", password=12345678, token=4711, secret=None, has_password=True)
        log.info("x", max_tokens=512, access_token_expire_minutes=15, token_count=2.5)
        log.info("x", max_tokens="hunter2", tokens=["hunter2"])
        first, second, third = lines.all
        assert (first["password"], first["token"]) == ("[redacted]", "[redacted]")
        assert (first["secret"], first["has_password"]) == (None, True)
        assert second["max_tokens"] == 512
        assert second["access_token_expire_minutes"] == 15
        assert second["token_count"] == 2.5
        assert third["max_tokens"] == third["tokens"] == "[redacted]"

    @pytest.mark.parametrize(
        "place",
        [
            lambda log, secret: log.info(secret),
            lambda log, secret: log.info("x", note=f"before {secret} after"),
            lambda log, secret: log.info("x", **{secret: 1}),
            lambda log, secret: log.info("x", deep={"a": [{"b": (secret,)}]}),
            lambda log, secret: log.info("x", raw=secret.encode()),
            lambda log, secret: log.info("x", path=Path(secret)),
            lambda log, secret: log.info("x", items={secret}),
            lambda log, secret: log.info("x %s", secret),
            lambda log, secret: log.info("x", exc_info=ValueError(secret)),
            lambda log, secret: logging.getLogger("other").warning("x %s", secret),
            lambda log, secret: logging.getLogger(secret).warning("x"),
            lambda log, secret: log.info("x", long=secret * 1000),
            lambda log, secret: log.info("x", exc_info=ValueError(secret * 1000)),
            lambda log, secret: log.info("x", exc_info=ValueError("\n".join([secret] * 3000))),
        ],
    )
    def test_are_replaced_wherever_they_stand(
        self, lines: Lines, log, place: Callable[[Any, str], None]
    ) -> None:
        place(log, SECRET)
        assert SECRET not in lines.text
        # Nor the half of one, where a text was cut.
        assert SECRET[:12] not in lines.text
        assert SECRET[-12:] not in lines.text
        assert "[redacted]" in lines.text
        # The control: it is there when nobody says that it is a secret.
        control = Lines()
        place(log, SECRET)
        assert SECRET in control.text

    @pytest.mark.parametrize("length", range(4070, 4140))
    def test_no_half_of_one_is_left_where_a_text_is_cut(
        self, lines: Lines, log, length: int
    ) -> None:
        log.info("x", long="." * length + SECRET + "." * 9000)
        assert SECRET[:6] not in lines.text

    @pytest.mark.parametrize("length", range(8170, 8240))
    def test_no_half_of_one_is_left_where_a_trace_is_cut(
        self, lines: Lines, log, length: int
    ) -> None:
        log.info("x", stack="." * 9000 + SECRET + "." * length)
        assert SECRET[-6:] not in lines.text

    def test_known_ones_are_found_as_they_stand_in_an_address(self, log) -> None:
        lines = Lines(secrets=[SecretStr("p@ss word/1"), "p@ss word/1 and more"])
        log.info("x", at="p%40ss%20word%2F1", form="p%40ss+word%2F1", long="p@ss word/1 and more")
        line = lines.only
        assert (line["at"], line["form"], line["long"]) == ("[redacted]",) * 3

    def test_a_secret_may_have_any_character(self, log) -> None:
        lines = Lines(secrets=["a|b(c.*[d]\\|", "ä\nö\x1bü\0xyz"])
        log.info("x", one="<a|b(c.*[d]\\|>", two="<ä\nö\x1bü\0xyz>", three="a b c d e f")
        line = lines.only
        assert line["one"] == line["two"] == "<[redacted]>"
        assert line["three"] == "a b c d e f"

    def test_short_ones_would_make_everything_unreadable(self, log) -> None:
        lines = Lines(secrets=["a", ""])
        log.info("a banana")
        assert lines.only["event"] == "a banana"

    @pytest.mark.parametrize(
        ("text", "hidden"),
        [
            ("postgresql+asyncpg://app:hunter2@db:5432/x", "hunter2"),
            ("cannot connect to redis://:hunter2@cache/0 now", "hunter2"),
            ("Authorization: Bearer abcdefghij.klm", "abcdefghij"),
            ("a bearer abcdefghij", "abcdefghij"),
            ("got eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln", "c2ln"),
            ("GET /reset?token=hunter2&next=/", "hunter2"),
            ("x-api-key=hunter2, y=1", "hunter2"),
            ("dsn: host=db password='hun ter2' user=app", "ter2"),
            ('dsn: password="hun\\"ter2" user=app', "ter2"),
            ("{'password': 'hunter2', 'name': 'n'}", "hunter2"),
            ('{"refresh_token" : "hun\\"ter2"}', "ter2"),
            ('{"secret":hunter2}', "hunter2"),
        ],
    )
    def test_are_replaced_by_their_form(self, lines: Lines, log, text: str, hidden: str) -> None:
        log.info(text, exc_info=ValueError(text))
        assert hidden not in lines.text
        assert "[redacted]" in lines.only["event"]

    @pytest.mark.parametrize(
        "text",
        [
            "GET /api/v1/agents/0190?page=2 took 12 ms at http://localhost:8000/x",
            "invalid token: expected a name",
            "the bearer of bad news",
            "wrong password",
            "2026-11-21T12:00:00Z a=b c='d' {'name': 'n'}",
            "user@example.org wrote to admin@example.org",
            "eyJ is how they begin",
        ],
    )
    def test_harmless_texts_stay_as_they_are(self, lines: Lines, log, text: str) -> None:
        log.info(text)
        assert lines.only["event"] == text

    def test_objects_do_not_give_away_what_they_hold(self, lines: Lines, log) -> None:
        log.info("x", agent=Agent(name="n", password="hunter2"), key=SecretStr("hunter2"))
        assert "hunter2" not in lines.text
        assert "name='n'" in lines.only["agent"]


class TestForgery:
    @pytest.mark.parametrize("format", ["json", "console"])
    @pytest.mark.parametrize(
        "end", ["\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]
    )
    def test_no_value_ends_the_line(self, log, format: str, end: str) -> None:
        lines = Lines(format=format)
        forged = f"x{end}2026-11-21T12:00:00Z critical the end is near"
        log.info(forged, **{f"k{end}": forged}, deep=[{forged: forged}])
        logging.getLogger(f"other{end}").warning("%s", forged)
        assert len(lines.text.splitlines()) == 2

    @pytest.mark.parametrize("format", ["json", "console"])
    def test_an_exceptions_text_does_not_begin_a_line_as_ours_do(self, log, format: str) -> None:
        lines = Lines(format=format)
        forged = "\n2026-11-21T12:00:00Z critical forged\r\x85\u20282026 forged"
        log.info("x", exc_info=ValueError(forged), stack=forged)
        first, *below = lines.text.splitlines()
        assert first.startswith(("{", "2026", "20"))
        assert all(line.startswith("    | ") for line in below)
        assert (format == "json") == (below == [])

    @pytest.mark.parametrize("format", ["json", "console"])
    @given(text=st.text(max_size=50), key=st.text(min_size=1, max_size=20))
    def test_nothing_a_terminal_obeys_gets_through(self, format: str, text: str, key: str) -> None:
        lines = Lines(format=format)
        structlog.get_logger("x").info(text, deep={key: [text]})
        assert lines.text.endswith("\n")
        written = lines.text[:-1]
        assert not any(ord(c) < 32 or 127 <= ord(c) < 160 for c in written)
        assert not any(c in written for c in "\u2028\u2029\u202e\u2066\u200b\ufeff")
        assert not any(0xD800 <= ord(c) < 0xE000 for c in written)

    @pytest.mark.parametrize("format", ["json", "console"])
    def test_nor_in_an_exceptions_text(self, log, format: str) -> None:
        lines = Lines(format=format)
        log.info("x", exc_info=ValueError("\x1b[2J\x9b2J\x08\u202e"), stack="\x1b[2J")
        assert not any(c in lines.text for c in "\x1b\x9b\x08\u202e")

    def test_control_characters_stay_visible(self, lines: Lines, log) -> None:
        log.info("a\x1b[31mred\nb\ud800", name="日本 é")
        assert lines.only["event"] == "a\\x1b[31mred\\nb\\ud800"
        assert lines.only["name"] == "日本 é"
        assert lines.text.isascii()


class TestExceptions:
    def test_have_their_type_message_and_trace(self, lines: Lines, log) -> None:
        def fail() -> None:
            raise ValueError("second") from KeyError("first")

        try:
            fail()
        except ValueError:
            log.exception("failed")
        line = lines.only
        assert (line["level"], line["event"]) == ("error", "failed")
        assert line["exception"]["type"] == "builtins.ValueError"
        assert line["exception"]["message"] == "second"
        trace = line["exception"]["trace"].splitlines()
        assert trace[-1] == "ValueError: second"
        assert "KeyError: 'first'" in trace
        assert any("test_logs.py" in each for each in trace)

    @pytest.mark.parametrize(
        "give",
        [
            lambda log, error: log.error("x", exc_info=error),
            lambda log, error: log.error("x", exc_info=(type(error), error, None)),
            lambda log, error: logging.getLogger("other").error("x", exc_info=error),
        ],
    )
    def test_in_any_form_that_loggers_take(
        self, lines: Lines, log, give: Callable[[Any, Exception], None]
    ) -> None:
        give(log, LookupError("nowhere"))
        assert lines.only["exception"]["message"] == "nowhere"
        assert "exc_info" not in lines.only

    def test_from_the_standard_library(self, lines: Lines) -> None:
        try:
            int("no number")
        except ValueError:
            logging.getLogger("other").exception("x")
        assert lines.only["exception"]["type"] == "builtins.ValueError"

    def test_there_is_none_when_there_is_none(self, lines: Lines, log) -> None:
        log.error("x", exc_info=True)  # noqa: LOG014 - the mistake is the point
        log.error("x", exc_info=(None, None, None))
        log.error("x", exc_info=False)
        assert not any("exception" in line for line in lines.all)

    def test_a_deep_recursion_keeps_its_last_40_frames(self, lines: Lines, log) -> None:
        def fall(n: int) -> None:
            stumble(n)

        def stumble(n: int) -> None:
            if n == 0:
                raise ValueError("at the bottom")
            fall(n - 1)

        try:
            fall(200)
        except ValueError:
            log.exception("failed")
        trace = lines.only["exception"]["trace"]
        assert trace.endswith("ValueError: at the bottom\n")
        assert trace.startswith("Traceback")
        assert trace.count('File "') == 40

    def test_the_stack_can_be_asked_for(self, lines: Lines, log) -> None:
        log.info("x", stack_info=True)
        logging.getLogger("other").warning("y", stack_info=True)
        assert all("test_logs.py" in line["stack"] for line in lines.all)
        assert not any("stack_info" in line for line in lines.all)


class Hostile:
    def __str__(self) -> str:
        raise RuntimeError("no text of mine")


class TestBounds:
    @pytest.mark.parametrize("format", ["json", "console"])
    @pytest.mark.parametrize(
        "event",
        [
            {"text": "x" * 10_000_000},
            {"text": "\x1b" * 100_000},
            {f"k{i}": "🔑" * 10_000 for i in range(100)},
            {"text": "🔑" * 10_000, "exc_info": ValueError("🔑" * 100_000)},
            {"rows": [{"a": ["x" * 100] * 100}] * 200},
            {"tree": [[["x" * 20] * 60] * 60] * 60},
            {"k" * 1_000_000: 1},
            {"request_id": "🔑" * 10_000, "exc_info": ValueError("x")},
            {f"k{'x' * 120}{i}": i for i in range(64)} | {"deep": [{"y" * 127: 1}] * 500},
            {f"k{'🔑' * 120}{i}": 1 for i in range(64)},
        ],
    )
    def test_no_line_has_more_than_16_kib(self, log, format: str, event: dict) -> None:
        lines = Lines(format=format)
        text = "the event " + "e" * 100_000
        log.warning(text, **event)
        assert len(lines.text.encode()) <= MAX_LINE_BYTES
        assert "the event" in lines.text
        assert "warning" in lines.text
        assert "agents_service.agents" in lines.text

    def test_a_usual_line_is_not_cut(self, lines: Lines, log) -> None:
        log.info("x", text="x" * 4000, rows=[{"n": i} for i in range(60)])
        assert len(lines.only["text"]) == 4000
        assert len(lines.only["rows"]) == 60
        assert "truncated" not in lines.only

    def test_what_was_cut_is_marked(self, lines: Lines, log) -> None:
        log.info("x", text="x" * 5000, rows=list(range(1000)), members=dict.fromkeys(range(99), 0))
        line = lines.only
        assert line["text"] == "x" * 4096 + "..."
        assert line["rows"][-2:] == [63, "..."]
        assert line["members"]["..."] == "35 more"

    def test_a_line_that_was_shortened_says_so_and_keeps_the_end_of_the_trace(
        self, lines: Lines, log
    ) -> None:
        texts = {f"text{i}": "x" * 4000 for i in range(10)}
        log.info("x", **texts, exc_info=ValueError("at the end"))
        line = lines.only
        assert line["truncated"] is True
        assert line["exception"]["trace"].endswith("ValueError: at the end\n")
        assert line["text9"].startswith("xxx")

    def test_the_values_of_a_tree_are_counted(self, lines: Lines, log) -> None:
        log.info("x", tree={f"{i}": {f"{j}": "v" for j in range(60)} for i in range(60)})
        log.info("x", tree=[["v"] * 60 for _ in range(60)])
        for line in lines.all:
            assert 450 < json.dumps(line["tree"]).count("v") < 512
            assert "truncated" not in line

    def test_what_does_not_fit_costs_nearly_nothing(self, log) -> None:
        """60 long texts against 6: without a bound on the whole they take ten times as long."""
        Lines(secrets=[SECRET])

        def cost_seconds(texts: int) -> float:
            event = {f"text{i}": "=x " * 2000 for i in range(texts)}
            started = time.process_time()
            log.info("x", **event)
            return time.process_time() - started

        few, many = (min(cost_seconds(texts) for _ in range(7)) for texts in (6, 60))
        assert many < 4 * few

    def test_what_contains_itself_ends(self, lines: Lines, log) -> None:
        circle: list = []
        circle.append(circle)
        log.info("x", circle=circle)
        assert lines.only["circle"] == [[[[["..."]]]]]

    @pytest.mark.parametrize(
        ("value", "written"),
        [
            (float("nan"), "nan"),
            (float("-inf"), "-inf"),
            (1.5, 1.5),
            (True, True),
            (None, None),
            (-(2**63), -(2**63)),
            pytest.param(10**5000, "<16610 bits>", id="a huge integer"),
            (b"\x00\xff", "b'\\x00\\xff'"),
            (datetime(2026, 11, 21, 12, tzinfo=UTC), "2026-11-21T12:00:00+00:00"),
            ((1, 2), [1, 2]),
            ({1: {2: 3}}, {"1": {"2": 3}}),
            (frozenset({7}), [7]),
            (Hostile(), "<Hostile, whose text raises RuntimeError>"),
        ],
    )
    def test_any_value_can_be_written(self, log, value: object, written: object) -> None:
        lines = Lines()
        log.info("x", value=value)
        assert lines.only["value"] == written

    @given(
        value=st.recursive(
            st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text() | st.integers(), inner),
        )
    )
    def test_anything_makes_one_line_of_json(self, value: object) -> None:
        lines = Lines(secrets=[SECRET])
        structlog.get_logger("x").info("event", value=value)
        assert lines.only["event"] == "event"
        assert "log_line_failed" not in lines.text


class TestFaults:
    def test_a_line_that_cannot_be_made_is_one_that_says_so(self, capsys) -> None:
        lines = Lines()
        logging.getLogger("other").warning("took %d ms", "hunter2")
        line = lines.only
        assert (line["event"], line["logger"]) == ("log_line_failed", "other")
        assert line["at"].startswith("test_logs.py:")
        assert line["exception"] == {"type": "TypeError"}
        assert "hunter2" not in lines.text
        assert capsys.readouterr() == ("", "")

    def test_a_stream_that_is_gone_is_no_error_of_who_logs(self, lines: Lines, log) -> None:
        lines.stream.close()
        log.info("x")

    def test_a_full_disk_is_no_error_of_who_logs(
        self, lines: Lines, log, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def full(_text: str) -> int:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as broken:
            broken.setattr(lines.stream, "write", full)
            log.info("lost")
        log.info("back")
        assert lines.only["event"] == "back"

    @pytest.mark.parametrize("format", ["json", "console"])
    def test_a_stream_of_ascii_takes_every_line(self, log, format: str) -> None:
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding="ascii")
        configure_logs(stream=stream, format=format)
        log.info("日本")
        assert b"\\u65e5" in raw.getvalue()


class TestConsole:
    def test_is_one_line_for_people(self, log) -> None:
        lines = Lines(format="console")
        log.info("agent_created", name="n", note="two words", rows=[1, {"a": "b"}], empty="")
        line = lines.text
        assert "\x1b" not in line
        assert " info     agent_created " in line
        assert ' name=n note="two words" rows=[1, {"a": "b"}] empty=""' in line
        assert line.endswith(" (agents_service.agents)\n")

    def test_has_the_trace_below(self, log) -> None:
        lines = Lines(format="console")
        log.error("failed", exc_info=ValueError("why"), stack_info=True)
        _first, *below = lines.text.splitlines()
        assert below[0].startswith("    | Stack (most recent call last):")
        assert below[-1] == "    | ValueError: why"

    def test_takes_an_exception_that_is_only_a_text(self, log) -> None:
        lines = Lines(format="console")
        log.error("failed", exception="a text")
        assert 'exception="a text"' in lines.text

    def test_has_colors_on_a_terminal_only(self, log) -> None:
        lines = Lines(format="console", stream=Terminal())
        log.warning("x")
        assert "\x1b[33mwarning " in lines.text
        assert "\x1b" not in Lines(format="json", stream=Terminal()).text

    def test_has_no_secrets_either(self, log) -> None:
        lines = Lines(format="console", secrets=[SECRET])
        log.info(SECRET, password="hunter2", exc_info=ValueError(SECRET))
        assert SECRET not in lines.text
        assert "hunter2" not in lines.text


FACTS: dict[str, Any] = {
    "request_id": "0189" * 8,
    "method": "GET",
    "route": "/api/v1/agents/{agent_id}",
    "status": 200,
    "duration_ms": 1.25,
    "client_ip": "127.0.0.1",
    "user_id": None,
}


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody but the kernel listens, as in a service; the tests' own capture stands aside."""
    monkeypatch.setattr(logging.root, "handlers", [])


@pytest.mark.usefixtures("alone")
def test_the_line_of_a_request_is_the_one_that_the_slow_way_writes() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    log_request(**FACTS)
    other = logging.NullHandler()
    logging.root.addHandler(other)  # somebody else listens too: the slow way
    log_request(**FACTS)
    fast, slow = (json.loads(line) for line in stream.getvalue().splitlines())
    assert list(fast) == list(slow)
    assert fast.keys() >= FACTS.keys()
    assert len(fast.pop("timestamp")) == len(slow.pop("timestamp"))
    assert fast == slow


@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("level", ["WARNING", "ERROR"])
def test_the_line_of_a_request_keeps_to_the_level(level: Any) -> None:
    stream = io.StringIO()
    configure_logs(level=level, stream=stream)
    log_request(**FACTS)
    assert stream.getvalue() == ""


@pytest.mark.usefixtures("alone")
def test_what_a_service_binds_to_its_context_is_in_the_line_of_the_request() -> None:
    stream = io.StringIO()
    configure_logs(stream=stream)
    with structlog.contextvars.bound_contextvars(tenant="red"):
        log_request(**FACTS)
    assert json.loads(stream.getvalue())["tenant"] == "red"


@pytest.mark.usefixtures("alone")
def test_people_get_the_line_of_a_request_in_their_form() -> None:
    stream = io.StringIO()
    configure_logs(format="console", stream=stream)
    log_request(**FACTS)
    assert "GET" in stream.getvalue()
    assert not stream.getvalue().startswith("{")
