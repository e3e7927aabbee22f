"""Syntax of releases after 3.11 is read, whichever Python newel runs on."""

import ast

import pytest

from newel_tools.facts.newer import parse
from newel_tools.facts.source import read_source

NEWER = {
    "a function's type": ("def first[T](items: list[T]) -> T: ...", "first"),
    "types with limits": ("async def ask[T: int = int, *Ts, **P](it: T) -> None: ...", "ask"),
    "a class's type": ("class Page[T](list[T]): ...", "Page"),
    "types over lines": (
        "class Page[\n    T: int,  # why\n    U,\n](\n    list[T]\n): ...",
        "Page",
    ),
    "types over lines, alone": ("def ask[\n    T,\n](\n    it: T\n): ...", "ask"),
    "a named type": ("type Id = int", "Id"),
    "a named type of types": ("type Pair[\n    T\n] = tuple[T, T]", "Pair"),
    "a quote in a text": ("""said = f"{row["name"]} or '{row['name']}'" """, "said"),
    "a quote at the end": ("""said = f'"{row['name']}"' """, "said"),
    "a text in a text": ("""said = f"{f"{row["name"]}"}" """, "said"),
    "lines in a text": ('said = f"{\n    row\n}"', "said"),
    "what is escaped": (r'''said = f"{"\n".join(row)} \n"''', "said"),
    "exceptions": ("try:\n    first = 1\nexcept TypeError, ValueError:\n    pass", "first"),
}


@pytest.mark.parametrize(("text", "name"), NEWER.values(), ids=NEWER)
def test_newer_syntax_is_read_and_keeps_its_lines(text: str, name: str):
    tree = parse(f"{text}\nlast = 1\n")

    assert name in {
        value for node in ast.walk(tree) for value in vars(node).values() if isinstance(value, str)
    }
    assert tree.body[-1].lineno == len(text.splitlines()) + 1


@pytest.mark.parametrize("text", ["x = (", "def f[T(x): ...", "\n\ntype = = 1", "print 'x'"])
def test_what_no_release_knows_is_a_syntax_error_at_its_line(text: str):
    with pytest.raises(SyntaxError) as theirs:
        ast.parse(text)
    with pytest.raises(SyntaxError) as ours:
        parse(text)

    assert (ours.value.lineno, ours.value.msg) == (theirs.value.lineno, theirs.value.msg)


@pytest.mark.parametrize(
    "deep",
    [
        "(" * 30_000,
        "lambda: " * 10_000 + "x",
        "-" * 30_000 + "x",
        "x" + ".x" * 50_000,
        "if x:\n    x\n" + "elif x:\n    x\n" * 30_000,
    ],
)
def test_what_is_too_deep_is_a_syntax_error_and_ends_nothing(deep: str):
    with pytest.raises(SyntaxError):
        parse(f"def first[T](x: T): ...\n{deep}\nx = (\n")


def test_a_file_of_a_newer_release_is_part_of_the_source(tmp_path):
    path = tmp_path / "rows.py"
    path.write_text("type Id = int\n\n\ndef first[T](items: list[T]) -> T:\n    return items[0]\n")

    source = read_source(tmp_path, [path], [tmp_path])

    assert source.unread == ()
    assert source.functions["rows.first"].line == 4
