"""`newel admin create`: the password is never an argument, and nothing half is made."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
from typing import Any

import pytest
from sample_runs import Service, error_lines

STRONG = "a long enough passphrase 7"


def administrators(service: Service) -> list[str]:
    script = (
        "import sqlite3, sys, json\n"
        "rows = sqlite3.connect('data.db').execute('SELECT email, roles FROM users').fetchall()\n"
        "print(json.dumps([email for email, roles in rows if 'admin' in roles]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=service.root, check=True, capture_output=True
    )
    return json.loads(done.stdout)


def test_an_administrator_by_environment_and_by_standard_input(service: Service):
    done = service.run("admin", "create", "--email", "ada@example.com", NEWEL_ADMIN_PASSWORD=STRONG)
    assert (done.returncode, done.stdout) == (0, "ada@example.com is an administrator\n"), done
    done = service.run(
        "admin", "create", "--email", "eve@example.com", "--password-stdin", stdin=f"{STRONG}\n"
    )
    assert done.returncode == 0, done.stderr
    assert administrators(service) == ["ada@example.com", "eve@example.com"]
    assert STRONG not in done.stdout + done.stderr


def test_what_makes_no_administrator_is_two_lines(service: Service):
    environment = {"NEWEL_ADMIN_PASSWORD": STRONG}
    create = ["admin", "create", "--email"]
    assert service.run(*create, "ada@example.com", **environment).returncode == 0
    for arguments, given, expected in (
        ([*create, "Ada@Example.com"], environment, ("already", "run it again")),
        ([*create, "no address"], environment, ("not an e-mail address", "run it again")),
        ([*create, "eve@example.com"], {"NEWEL_ADMIN_PASSWORD": "short"}, ("8", "run it again")),
        ([*create, "eve@example.com"], {}, ("no terminal to ask", "--password-stdin")),
    ):
        done = service.run(*arguments, **given)
        assert done.returncode == 1
        what, fix = error_lines(done.stderr)
        assert expected[0] in what
        assert expected[1] in fix
    assert administrators(service) == ["ada@example.com"]


def test_a_wrong_folder_is_said_before_a_password_is_asked_for(service: Service):
    (service.root / "pyproject.toml").unlink()
    done = service.run("admin", "create", "--email", "a@example.com")  # no terminal: it would fail
    assert "pyproject.toml" in error_lines(done.stderr)[0]


def test_the_password_is_no_argument(service: Service):
    done = service.run("admin", "create", "--email", "a@example.com", "--password", STRONG)
    assert done.returncode == 2


def test_an_administrator_needs_the_tables(service: Service):
    (service.root / "data.db").unlink()
    done = service.run("admin", "create", "--email", "a@example.com", NEWEL_ADMIN_PASSWORD=STRONG)
    assert done.returncode == 1
    assert "newel migrate up" in error_lines(done.stderr)[1]


class Terminal:
    """A command at a terminal of its own, and somebody who answers its questions."""

    def __init__(self, command: dict[str, Any]) -> None:
        self.seen = ""
        self._pid, self._fd = pty.fork()
        if self._pid == 0:  # pragma: no cover - the child becomes the command
            os.chdir(command["cwd"])
            os.execve(command["args"][0], command["args"], command["env"])

    def expect(self, words: str) -> None:
        """Read until ``words`` are on the screen."""
        begin = len(self.seen)
        while words not in self.seen[begin:]:
            ready, _, _ = select.select([self._fd], [], [], 30)
            assert ready, f"no {words!r} after {self.seen!r}"
            self.seen += os.read(self._fd, 1000).decode()

    def answer(self, words: str) -> None:
        os.write(self._fd, f"{words}\n".encode())

    def end(self) -> int:
        status = os.waitpid(self._pid, 0)[1]
        os.close(self._fd)
        return os.waitstatus_to_exitcode(status)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_at_a_terminal_the_password_is_asked_for_twice_and_not_shown(service: Service):
    terminal = Terminal(service.command("admin", "create", "--email", "ada@example.com"))
    for first, second in (("one thing 12345", "another 12345"), (STRONG, STRONG)):
        terminal.expect("Password: ")  # the space comes when the echo is off
        terminal.answer(first)
        terminal.expect("confirmation: ")
        terminal.answer(second)
    terminal.expect("ada@example.com is an administrator")
    assert terminal.end() == 0
    assert STRONG not in terminal.seen
    assert administrators(service) == ["ada@example.com"]


def test_an_app_without_accounts_has_no_administrators(service: Service):
    source = service.root / "src/sample_service/application.py"
    source.write_text(
        source.read_text().replace("create_app(settings, users, ", "create_app(settings, ")
    )
    done = service.run("admin", "create", "--email", "a@example.com", NEWEL_ADMIN_PASSWORD=STRONG)
    assert done.returncode == 1
    assert "no accounts" in error_lines(done.stderr)[0]
