"""Keys for a trial: of the kind and the form of those that they stand for."""

import base64
import sys
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from newel_tools.prove.key_pairs import Keys, in_file

PEM = "-----BEGIN {} KEY-----\nbm90IGEga2V5\n-----END {} KEY-----"


def in_base64(kind: str) -> str:
    return base64.b64encode(PEM.format(kind, kind).encode()).decode()


def in_quotes(kind: str) -> str:
    return '"' + PEM.format(kind, kind).replace("\n", "\\n") + '"'


def plain(value: str) -> str:
    return value if "BEGIN" in value else base64.b64decode(value).decode()


@pytest.mark.parametrize("form", [in_base64, in_quotes])
@pytest.mark.parametrize(
    ("kind", "algorithm"),
    [("RSA PRIVATE", "RS256"), ("PRIVATE", "RS256"), ("EC PRIVATE", "ES256")],
)
def test_a_pair_signs_and_verifies(form, kind: str, algorithm: str):
    text = f"A={form(kind)}\nB={form('PUBLIC')}\nALGORITHM={algorithm}\n"
    keys = Keys(Path(sys.executable), text)

    private, public = keys.like(form(kind)), keys.like(form("PUBLIC"))

    assert ("BEGIN" in private) is ("BEGIN" in public) is (form is in_quotes)
    assert plain(private).startswith(f"-----BEGIN {kind} KEY-----")
    token = jwt.encode({"sub": "ann"}, plain(private), algorithm=algorithm)
    assert jwt.decode(token, plain(public), algorithms=[algorithm]) == {"sub": "ann"}


def test_a_line_of_a_file_holds_a_pem_in_quotes():
    assert in_file("one\ntwo") == r'"one\ntwo"'
    assert in_file("word") == "word"


def test_two_runs_have_two_pairs():
    value = in_base64("PRIVATE")
    first, second = (Keys(Path(sys.executable), value).like(value) for _ in range(2))

    assert first != second
    assert load_pem_private_key(plain(first).encode(), None)


@pytest.mark.parametrize(
    ("value", "python"),
    [
        ("keyboard-cat", sys.executable),
        ("bm90IGEga2V5", sys.executable),
        (in_base64("PRIVATE"), "/bin/false"),
        (in_base64("PRIVATE"), "/bin/not-there"),
    ],
)
def test_other_secrets_become_random_words(value: str, python: str):
    made = Keys(Path(python), f"SECRET={value}").like(value)

    assert len(bytes.fromhex(made)) == 32
