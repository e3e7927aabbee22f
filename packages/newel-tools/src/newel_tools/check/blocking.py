"""Calls that wait without giving the event loop back."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

from newel_tools.check.review import Reach, Review
from newel_tools.facts.calls import Call

__all__ = ["blocking_calls", "is_blocking"]

_HTTP: Final = r"(get|post|put|patch|delete|head|options|request|stream|send)"
_BLOCKING: Final = re.compile(
    rf"time\.sleep"
    rf"|requests\.{_HTTP}|requests\.(sessions\.)?Session\.{_HTTP}|requests\.session\.{_HTTP}"
    rf"|httpx\d?\.{_HTTP}|httpx\d?\.Client\.{_HTTP}"
    rf"|urllib\.request\.(urlopen|urlretrieve)|urllib3\.PoolManager\.request"
    rf"|subprocess\.(run|call|check_call|check_output|getoutput|getstatusoutput)|os\.(system|popen|wait)"
    rf"|subprocess\.Popen\.(wait|communicate)"
    rf"|smtplib\.SMTP(_SSL)?(\.(send_message|sendmail|login|starttls))?"
    rf"|socket\.(create_connection|getaddrinfo|gethostbyname)"
    rf"|redis\.(Redis|StrictRedis)\.\w+|redis\.client\.Redis\.\w+"
    rf"|psycopg2\.connect|pymysql\.connect|MySQLdb\.connect|psycopg\.connect|pymongo\.MongoClient"
    rf"|boto3\.\w+|openai\.OpenAI|stripe\.\w+\.(create|retrieve|modify|list)"
    rf"|input"
)
_EXIT: Final = re.compile(r"(sys\.exit|os\._exit|exit|quit)\(|raise SystemExit\b")


def is_blocking(call: Call) -> bool:
    """Tell whether a call is known to wait: for time, the network, a process or a person."""
    if call.is_awaited or call.function is not None or call.target is None:
        return False
    return _BLOCKING.fullmatch(call.target) is not None and not _constructs(call.target)


def _constructs(target: str) -> bool:
    """A client that is only made does not wait yet, nor does one that is closed."""
    made = ("openai.OpenAI", "pymongo.MongoClient", "boto3.session.Session")
    return target in made or target.endswith(("Redis.from_url", "Redis.close", "Redis.pipeline"))


def blocking_calls(review: Review) -> Iterator[tuple[Call, Reach]]:
    """Yield the blocking calls that requests run on the event loop."""
    for function, reach in review.on_loop.items():
        for call in review.calls.of(function):
            if is_blocking(call) and not _ends_here(call):
                yield call, reach


def _ends_here(call: Call) -> bool:
    """Tell whether the process ends right after the call: a last pause, and `sys.exit(1)`."""
    blocks: list[list[ast.stmt]] = [
        getattr(node, name, [])
        for node in call.caller.nodes
        if isinstance(node, ast.stmt | ast.ExceptHandler)
        for name in ("body", "orelse", "finalbody")
    ]
    return any(
        isinstance(now, ast.Expr) and now.value is call.node and _EXIT.match(ast.unparse(then))
        for block in [call.caller.node.body, *blocks]
        for now, then in pairwise(block)
    )
