"""Keys for a trial: in place of a pair in a project's `.env`, one of the same kind and form."""

from __future__ import annotations

import base64
import binascii
import json
import re
import secrets
import subprocess
from functools import cached_property
from pathlib import Path
from typing import Final, Literal

__all__ = ["Keys", "in_file"]

_HEAD: Final = re.compile(r"-----BEGIN (RSA |EC )?(PRIVATE|PUBLIC) KEY-----")
_SECONDS: Final = 30.0
# In the project's interpreter: who signs with such keys has what makes them.
_MAKE: Final = """
import json, sys
from cryptography.hazmat.primitives import serialization as form
from cryptography.hazmat.primitives.asymmetric import ec, rsa
is_curve, is_traditional = json.loads(sys.argv[1])
key = ec.generate_private_key(ec.SECP256R1()) if is_curve else rsa.generate_private_key(65537, 2048)
wrapping = form.PrivateFormat.TraditionalOpenSSL if is_traditional else form.PrivateFormat.PKCS8
private = key.private_bytes(form.Encoding.PEM, wrapping, form.NoEncryption())
public = key.public_key().public_bytes(form.Encoding.PEM, form.PublicFormat.SubjectPublicKeyInfo)
print(json.dumps({"PRIVATE": private.decode(), "PUBLIC": public.decode()}))
"""


class Keys:
    """Makes secrets that look like those they stand for; ``text`` is the whole `.env`."""

    def __init__(self, python: Path, text: str) -> None:
        self._python = python
        self._text = text

    def like(self, value: str) -> str:
        """Return a key of the one pair if ``value`` is a key, as PEM or in base64; else a token.

        A PEM is one: `in_file` gives it the form that a line of a `.env` has.
        """
        bare = value.strip().strip("\"'")
        found = _HEAD.search(_decoded(bare))
        if found is None or not self._pair:
            return secrets.token_hex(32)
        kind: Literal["PRIVATE", "PUBLIC"] = "PRIVATE" if found[2] == "PRIVATE" else "PUBLIC"
        key = self._pair[kind]
        if _HEAD.search(bare) is None:
            return base64.b64encode(key.encode()).decode()
        return key.strip()

    @cached_property
    def _pair(self) -> dict[str, str]:
        values = [_decoded(part.strip().strip("\"'")) for part in re.split(r"[=\n]", self._text)]
        heads = [found[1] for value in values if (found := _HEAD.search(value))]
        is_curve = "EC " in heads or re.search(r"\bES256\b", self._text) is not None
        is_traditional = any(head is not None for head in heads)
        try:
            done = subprocess.run(  # noqa: S603 - the project's interpreter and our own program
                [str(self._python), "-I", "-c", _MAKE, json.dumps([is_curve, is_traditional])],
                capture_output=True,
                text=True,
                timeout=_SECONDS,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return {}  # without `cryptography` nobody signs with such keys
        return json.loads(done.stdout)


def in_file(value: str) -> str:
    """Return a secret as a line of a `.env` holds it: a PEM in quotes, on one line."""
    return '"' + value.replace("\n", "\\n") + '"' if "\n" in value else value


def _decoded(value: str) -> str:
    """Return what stands in base64, or the value itself."""
    if "BEGIN" in value:
        return value
    try:
        return base64.b64decode(value + "=" * (-len(value) % 4), validate=True).decode("ascii")
    except (binascii.Error, UnicodeDecodeError, ValueError):
        return value
