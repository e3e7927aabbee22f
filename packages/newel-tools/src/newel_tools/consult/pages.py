"""The answers to questions, for people."""

from __future__ import annotations

import json
from typing import Any

from rich.console import Console
from rich.syntax import Syntax
from rich.table import Table

from newel_tools.consult.login import Login
from newel_tools.consult.operation import Content, Described, Field

__all__ = ["show_login", "show_operation"]


def show_operation(console: Console, operation: Described) -> None:
    """Show one operation: parameters, body, answers, examples, a curl line."""
    console.print(f"[bold]{operation.method} {operation.path}[/]", highlight=False)
    if operation.summary:
        _say(console, operation.summary)
    _say(console, f"callers: {operation.needs}")
    if operation.parameters:
        _heading(console, "parameters")
        console.print(_table(operation.parameters))
    if operation.request is not None:
        _heading(console, f"body, {operation.request.media_type}", operation.request.model)
        _show_content(console, operation.request)
    for status, (said, content) in operation.answers.items():
        _heading(console, f"{status} {said}", None if content is None else content.model)
        if content is not None and status.startswith("2"):
            _show_content(console, content)
    _heading(console, "try it")
    _say(console, operation.curl)


def show_login(console: Console, login: Login) -> None:
    """Show how to log in, what to send, and what the routes ask for."""
    if not login.schemes:
        _say(console, "The API's document names no way to log in.")
    for scheme in login.schemes:
        console.print(f"[bold]{scheme.name}[/] {scheme.type}", highlight=False)
        _say(console, f"  send  {scheme.send}")
        if scheme.description:
            _say(console, f"        {scheme.description}")
    if login.steps:
        _heading(console, "steps")
        for step, operation in login.steps.items():
            _say(console, f"  {step:<9} {operation}")
    _heading(console, "what routes ask for")
    for need, count in login.needs.items():
        _say(console, f"  {count:>4}  {need}")
    if login.open_routes:
        _heading(console, "anyone may call")
        for route in login.open_routes:
            _say(console, f"  {route}")


def _show_content(console: Console, content: Content) -> None:
    if content.fields:
        console.print(_table(content.fields))
    if content.example is not None:
        _say(console, "")
        _show_json(console, content.example)


def _table(fields: tuple[Field, ...]) -> Table:
    table = Table(box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0))
    for _ in range(4):
        table.add_column(overflow="fold")
    for one in fields:
        required = "required" if one.required else "optional"
        table.add_row(f"  {one.name}", one.type, required, one.notes)
    return table


def _show_json(console: Console, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False)
    if console.is_terminal:
        console.print(Syntax(text, "json", background_color="default"))
    else:
        _say(console, text)


def _heading(console: Console, text: str, model: str | None = None) -> None:
    console.print()
    console.print(text, style="bold cyan", end="", markup=False, highlight=False)
    console.print(f" ({model})" if model else "", markup=False, highlight=False)


def _say(console: Console, line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
