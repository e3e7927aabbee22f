"""Hooks of schemathesis: log in as an administrator, and count what was answered to what."""

import atexit
import json
import os
import urllib.parse
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

import schemathesis

SERVICE = os.environ["SERVICE_URL"]
LOGIN = {"username": os.environ["ADMIN_EMAIL"], "password": os.environ["ADMIN_PASSWORD"]}
COUNTS = Path(os.environ["COUNTS_FILE"])

counted: Counter[tuple[str, int]] = Counter()


@schemathesis.auth()
class Login:
    def get(self, _case: Any, _context: Any) -> str:
        if token := os.environ.get("TOKEN"):
            return token
        form = urllib.parse.urlencode(LOGIN).encode()
        with urllib.request.urlopen(f"{SERVICE}/api/v1/auth/login", form) as answer:
            return json.load(answer)["access_token"]

    def set(self, case: Any, data: str, _context: Any) -> None:
        case.headers = {**(case.headers or {}), "Authorization": f"Bearer {data}"}


@schemathesis.hook
def after_call(_context: Any, case: Any, response: Any) -> None:
    counted[case.operation.label, response.status_code] += 1


@atexit.register
def write_counts() -> None:
    found = [[label, status, count] for (label, status), count in sorted(counted.items())]
    COUNTS.write_text(json.dumps(found))
