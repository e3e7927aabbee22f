"""``newel client``: typed clients from the application, and whether the committed ones are stale.

The generators are the best-known of their languages, at pinned versions, run by `npx` and `uvx`
from their own caches: nothing is installed into the project, and nothing of it leaves the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from newel_tools.application import AppName, AppPython, ProjectFolder, document_of, read_application
from newel_tools.openapi.document import DocumentError
from newel_tools.refusal import refused

__all__ = ["Staleness", "client", "staleness_of", "write_python", "write_typescript"]

OPENAPI_TYPESCRIPT: Final = "openapi-typescript@7.13.0"
TYPESCRIPT: Final = "typescript@5.9.3"
OPENAPI_PYTHON_CLIENT: Final = "openapi-python-client==0.29.1"
STALE: Final = "TS001"
_STAMP: Final = ".newel-client.json"
_SECONDS: Final = 300  # for a first run, which downloads the generator
_HEAD: Final = re.compile(r"^// newel client: openapi (\w+), content (\w+)$", re.MULTILINE)

client: typer.Typer = typer.Typer(help="Typed clients of the API: TypeScript and Python.")

Check = Annotated[
    bool, typer.Option("--check", help="Write nothing; exit code 1 when the client is stale.")
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Staleness:
    """Why a committed client does not belong to the present API."""

    path: Path
    reason: str

    def __str__(self) -> str:
        return f"{STALE} {self.path}: {self.reason}"


@client.command("ts")
def ts(
    out: Annotated[Path, typer.Argument(help="The file to write, such as src/api.d.ts.")],
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    check: Check = False,
) -> None:
    """Write the API's types for TypeScript (openapi-typescript)."""
    with refused(as_json=False):
        document = document_of(read_application(project, name=app, python=python))
        if check:
            _answer(staleness_of(out, document), again=f"newel client ts {out}")
            return
        write_typescript(document, out)
        typer.echo(f"wrote {out}")


@client.command("py")
def py(
    out: Annotated[Path, typer.Argument(help="The folder to write, such as agents_client.")],
    project: ProjectFolder = Path(),
    *,
    app: AppName = None,
    python: AppPython = None,
    check: Check = False,
) -> None:
    """Write a client package for Python (openapi-python-client)."""
    with refused(as_json=False):
        document = document_of(read_application(project, name=app, python=python))
        if check:
            _answer(staleness_of(out, document), again=f"newel client py {out}")
            return
        write_python(document, out)
        typer.echo(f"wrote {out}")


def write_typescript(document: Mapping[str, Any], out: Path) -> None:
    """Write the types of ``document`` to ``out``; raises ``DocumentError`` when that fails.

    The first line says which document the file belongs to, and what it contained.
    """
    with tempfile.TemporaryDirectory(prefix="newel-client-") as scratch:
        source, made = Path(scratch, "openapi.json"), Path(scratch, "api.d.ts")
        source.write_text(json.dumps(document), encoding="utf-8")
        packages = ["--package", OPENAPI_TYPESCRIPT, "--package", TYPESCRIPT]
        command = [_program("npx", "node, which has npx"), "--yes", *packages]
        _run([*command, "openapi-typescript", str(source), "--output", str(made)], cwd=scratch)
        text = made.read_text(encoding="utf-8")
    out.parent.mkdir(parents=True, exist_ok=True)
    head = f"// newel client: openapi {_digest(_canonical(document))}, content {_digest(text)}\n"
    out.write_text(head + text, encoding="utf-8")


def write_python(document: Mapping[str, Any], out: Path) -> None:
    """Write a client package to the folder ``out``; raises ``DocumentError`` when that fails.

    A folder that it did not write is never replaced.
    """
    if out.exists() and not (out / _STAMP).is_file():
        raise DocumentError(
            f"{out} exists, and `newel client py` did not write it", fix="name another folder"
        )
    with tempfile.TemporaryDirectory(prefix="newel-client-") as scratch:
        source, made = Path(scratch, "openapi.json"), Path(scratch, out.name)
        source.write_text(json.dumps(document), encoding="utf-8")
        options = ["generate", "--path", str(source), "--output-path", str(made), "--meta", "none"]
        _run([*_python_generator(), *options], cwd=scratch)
        stamp = {"openapi": _digest(_canonical(document)), "content": _content_of(made)}
        (made / _STAMP).write_text(json.dumps(stamp, indent=2) + "\n", encoding="utf-8")
        if out.exists():
            shutil.rmtree(out)
        out.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, out)


def staleness_of(out: Path, document: Mapping[str, Any]) -> Staleness | None:
    """Return why the client at ``out`` is not that of ``document``; None when it is.

    Nothing is generated: the client says which document it came from, and what it contained.
    """
    if not out.exists():
        return Staleness(path=out, reason="it was never written")
    if out.is_dir():
        stamp = _stamp(out)
        present = _content_of(out)
    else:
        head, _, text = out.read_text(encoding="utf-8", errors="replace").partition("\n")
        found = _HEAD.match(head)
        stamp = {"openapi": found[1], "content": found[2]} if found else {}
        present = _digest(text)
    if not stamp:
        return Staleness(path=out, reason="`newel client` did not write it")
    if stamp.get("openapi") != _digest(_canonical(document)):
        return Staleness(path=out, reason="the API has changed since it was written")
    if stamp.get("content") != present:
        return Staleness(path=out, reason="it was edited by hand")
    return None


def _answer(stale: Staleness | None, *, again: str) -> None:
    if stale is None:
        typer.echo("the client is that of the present API")
        return
    typer.echo(f"{stale}\n  fix: {again}", err=True)
    raise typer.Exit(1)


def _python_generator() -> list[str]:
    for name in ("uvx", "uv"):
        if found := shutil.which(name) or _beside(name):
            run = [found] if name == "uvx" else [found, "tool", "run"]
            return [*run, "--from", OPENAPI_PYTHON_CLIENT, "openapi-python-client"]
    raise DocumentError("uv is not installed", fix="pip install uv; it runs the generator")


def _beside(name: str) -> str | None:
    program = Path(sys.executable).with_name(name)
    return str(program) if program.is_file() else None


def _program(name: str, what: str) -> str:
    if found := shutil.which(name):
        return found
    raise DocumentError(f"{name} is not installed", fix=f"install {what}")


def _run(command: Sequence[str], *, cwd: str) -> None:
    try:
        done = subprocess.run(  # noqa: S603 - the generator, with arguments of ours
            command,
            cwd=cwd,
            # One generator formats what it wrote with ruff, which would leave its cache in there.
            env={**os.environ, "RUFF_CACHE_DIR": cwd},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise DocumentError(
            f"{Path(command[0]).name} was not done within {_SECONDS} s",
            fix="is its registry reachable from here?",
        ) from None
    if done.returncode:
        said = [line.strip() for line in (done.stderr + done.stdout).splitlines() if line.strip()]
        last = next((line for line in said if "rror" in line), said[-1] if said else "nothing")
        raise DocumentError(
            f"the generator failed and said: {last[:300]}",
            fix="run it again with a network; else the API's document is beyond it",
        )


def _stamp(folder: Path) -> dict[str, str]:
    try:
        said: dict[str, str] = json.loads((folder / _STAMP).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return said


def _content_of(folder: Path) -> str:
    seen = hashlib.sha256()
    for path in sorted(folder.rglob("*.py")):
        seen.update(f"{path.relative_to(folder).as_posix()}\0".encode() + path.read_bytes())
    return seen.hexdigest()[:16]


def _canonical(document: Mapping[str, Any]) -> str:
    return json.dumps(document, sort_keys=True)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]
