"""An exception's text to the client: which functions of the project say it, and which say none."""

import pytest

from newel_tools.check.rule import load_rules

RULE = load_rules()["ERR001"]

APP = """
import logging
import traceback

from fastapi import FastAPI
from fastapi.responses import JSONResponse

app = FastAPI()
logger = logging.getLogger(__name__)


class Problem:
    def __init__(self, cause):
        self.cause = cause


def kind_of(error):
    return type(error).__name__


def body(error: Exception) -> dict[str, object]:
    {body}


@app.get("/notes")
def notes() -> object:
    try:
        return 1
    except Exception as error:
        return JSONResponse(body(error), status_code=500)
"""


@pytest.mark.parametrize(
    "body",
    [
        'return {"error": "{}".format(error)}',
        'return {"error": "%s" % error}',
        'return {"error": "".join(map(str, [error]))}',
        'return {"error": error.args}',
        'return {"error": Problem(error)}',
        'cause = error; return {"error": str(cause)}',
        'return {"error": traceback.format_exc()}',
        'parts = []; parts.append(error); return {"error": parts}',
    ],
)
def test_a_function_that_uses_an_exception_says_it(reviewed, body: str):
    (found,) = reviewed(APP.replace("{body}", body), rules=[RULE]).findings

    assert found.severity == "change"


@pytest.mark.parametrize(
    "body",
    [
        'return {"error": "lost" if isinstance(error, KeyError) else "wrong"}',
        'return {"error": kind_of(error)}',
        'logger.error("failed: %s", str(error)); return {"error": "wrong"}',
        'logging.getLogger("a").info(error); return {"error": "wrong"}',
        'print(traceback.format_exc()); return {"error": "wrong"}',
        'raise RuntimeError("wrong") from error',
        'return {"error": "lost" if error is None else "wrong"}',
        'return {"error": getattr(error.response, "code", 1)}',
    ],
)
def test_a_function_that_only_looks_at_an_exception_says_nothing(reviewed, body: str):
    assert not reviewed(APP.replace("{body}", body), rules=[RULE]).findings
