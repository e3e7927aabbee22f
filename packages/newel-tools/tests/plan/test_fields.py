"""The language of one field: what it reads, writes and refuses."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from newel_tools.errors import PlanError
from newel_tools.plan.bounds import INT32, INT64
from newel_tools.plan.fields import TYPE_WORDS, read_line, refusal, write_line
from newel_tools.plan.plan import Field, Relation, Role, States


def field(text: str) -> Field:
    line = read_line("x", text)
    assert isinstance(line, Field)
    return line


def error(text: str) -> PlanError:
    with pytest.raises(PlanError) as caught:
        read_line("x", text)
    return caught.value


@pytest.mark.parametrize(
    "text",
    [
        "str(255)",
        "str(3..64) unique",
        "str(0..10)",
        "text",
        "text(10..)",
        "text(..500) optional",
        "text(0..5)",
        "int",
        "int(0..)",
        "int(..5)",
        "int(1..5) = 3",
        "bigint",
        "float",
        "float(0..1)",
        "float(-0.5..1e-07)",
        "decimal(12,2)",
        "decimal(10,2, 0..) = 1.50",
        "decimal(6,0, -5..5)",
        "bool = true",
        "bool = false",
        "datetime = now",
        "date = 2026-01-31",
        "uuid",
        "json = {}",
        "email unique",
        "email(..100)",
        "url(..300) optional",
        "enum[EUR, USD] = EUR",
        'str(20) = "dark blue"',
        'str(20) = "a \\"b\\" c"',
        "str(20) indexed",
        "str(20) unique optional indexed",
        "-> posts",
        "-> posts unique optional",
        "<-> tags",
        "state[draft -> published, published -> archived]",
        "state[a, b, c]",
        "state[b, a, c, a -> b|c, c -> a]",
        "state[pending -> approved|rejected by x:moderate; visible approved]",
        "state[a -> b by x:go, a -> c by x:stop]",
    ],
)
def test_a_line_is_written_as_it_is_read(text):
    assert write_line(read_line("x", text)) == text


@pytest.mark.parametrize(
    ("text", "same"),
    [
        ("string", "str(255)"),
        ("varchar(64)", "str(64)"),
        ("str(1..64)", "str(64)"),
        ("STR(64)", "str(64)"),
        ("integer", "int"),
        ("boolean default true", "bool = true"),
        ("bool = yes", "bool = true"),
        ("timestamp", "datetime"),
        ("money", "decimal(12,2)"),
        ("decimal", "decimal(12,2)"),
        ("decimal(0..)", "decimal(12,2, 0..)"),
        ("decimal(8)", "decimal(8,0)"),
        ("text(1..20000)", "text"),
        ("text()", "text"),
        ("str nullable", "str(255) optional"),
        ("str required", "str(255)"),
        ("str not null", "str(255)"),
        ("str index", "str(255) indexed"),
        ("str UNIQUE", "str(255) unique"),
        ("str = 'a b'", 'str(255) = "a b"'),
        ("float = 3", "float = 3.0"),
        ("enum[a,b]", "enum[a, b]"),
        (
            "state[draft -> published -> archived]",
            "state[draft -> published, published -> archived]",
        ),
        ("state[In Progress -> on-hold]", "state[in_progress -> on_hold]"),
        ("state[a, b, a|b -> c]", "state[a, b, c, a -> c, b -> c]"),
    ],
)
def test_other_spellings_mean_the_same(text, same):
    assert read_line("x", text) == read_line("x", same)


def test_a_str_that_has_to_be_there_is_not_empty():
    assert field("str").minimum == 1
    assert field("str(64)").minimum == 1
    assert field("text").minimum == 1
    assert field("str(0..64)").minimum == 0


def test_integers_are_bounded_to_their_column():
    assert (field("int").minimum, field("int").maximum) == INT32
    assert (field("bigint").minimum, field("bigint").maximum) == INT64


def test_a_link_has_a_name_and_a_target():
    assert read_line("author", "-> users optional") == Relation(
        name="author", target="users", optional=True
    )
    assert read_line("tags", "<-> tags") == Relation(
        name="tags", target="tags", kind="many_to_many"
    )


def test_states_start_with_the_first():
    states = read_line("x", "state[open -> closed]")

    assert isinstance(states, States)
    assert states.initial == "open"
    assert states.field == "x"


@pytest.mark.parametrize(
    ("text", "word", "fix"),
    [
        ("strng", "strng", "did you mean 'string'?"),
        ("", "", "types are str"),
        ("5", "5", "types are str"),
        ("zzz(5)", "zzz", "types are str"),
        ("str uniqe", "uniqe", "did you mean 'unique'?"),
        ("str zzz", "zzz", "unique, optional, indexed"),
        ("str(", "x", "add the ')'"),
        ("enum[a", "x", "add the ']'"),
        ("int(5)", "5", "int(0..100)"),
        ("bool(5)", "5", "without brackets"),
        ("date(1..2)", "1..2", "without brackets"),
        ("str(a..b)", "a..b", "str(3..64)"),
        ("str(1..2, 3)", "3", "str(3..64)"),
        ("decimal(1,2,3)", "3", "decimal(12,2)"),
        ("text(x)", "x", "text(10..)"),
        ("str =", None, "the default behind it"),
        ("-> ", "x", "'-> posts'"),
        ("<-> 5", "x", "'<-> posts'"),
        ("-> posts = 5", "x", "only 'optional' and 'unique'"),
        ("-> posts indexed", "x", "only 'optional' and 'unique'"),
        ("<-> posts optional", "x", "'->'"),
        ("state", "x", "state[draft -> published"),
        ("state[]", "x", "state[draft -> published"),
        ("state[a -> b] optional", "optional", "state[draft -> published"),
        ("state[a -> b; hidden b]", None, "visible published"),
        ("state[a -> b; visible c]", "c", "use one of a, b"),
        ("state[a]", None, ""),
        ("state[a -> b by me]", "me", "resource:verb"),
        ("state[a -> b by x:y, a -> b by x:z]", "a -> b", "remove one"),
        ("state[A! -> b]", "a!", "a-z"),
        ("enum[a, b!]", "b!", "a-z"),
        ("str(9..3)", "x", "low..high"),
        ("int = x", "x", "a whole number"),
    ],
)
def test_what_is_no_field_is_refused_with_its_fix(text, word, fix):
    refused = error(text)

    assert refused.word == word or word is None
    assert fix in refused.fix
    assert len(str(refused).splitlines()) == 2


def test_every_word_for_a_type_can_be_read():
    for word in TYPE_WORDS:
        bracket = {"enum": "[a]", "state": "[a, b]"}.get(word, "")
        assert read_line("x", word + bracket)


@given(st.text(max_size=60))
def test_any_text_is_a_field_or_refused(text):
    try:
        line = read_line("x", text)
    except PlanError:
        return
    assert read_line("x", write_line(line)) == line


@given(st.text(max_size=40))
def test_any_default_comes_back(text):
    try:
        made = Field(name="x", type="str", default=text)
    except ValidationError:
        return
    assert read_line("x", write_line(made)) == made


@given(
    st.integers(min_value=INT64[0], max_value=INT64[1]),
    st.integers(min_value=INT64[0], max_value=INT64[1]),
)
def test_any_bounds_come_back(one, other):
    made = Field(name="x", type="int", minimum=min(one, other), maximum=max(one, other))

    assert read_line("x", write_line(made)) == made


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_comes_back(number):
    made = Field(name="x", type="float", minimum=number, default=number)

    assert read_line("x", write_line(made)) == made


class _Numbers(BaseModel):
    number: int


def test_a_refusal_of_a_model_becomes_a_refusal_of_a_plan():
    with pytest.raises(ValidationError) as caught:
        Role(name="user", permissions=("posts",))
    assert refusal(caught.value).fix == "write a permission as resource:verb, such as posts:write"

    with pytest.raises(ValidationError) as caught:
        Role(name="Big Boss", permissions=())
    assert refusal(caught.value).message == "'Big Boss' cannot be the name"

    with pytest.raises(ValidationError) as caught:
        _Numbers.model_validate({"number": []})
    assert "valid integer" in refusal(caught.value).message


@pytest.mark.parametrize(
    ("text", "default"),
    [
        ("str = 'new'", "new"),
        ('str = "in stock"', "in stock"),
        ("str = 'say \"no\"'", 'say "no"'),
        ('str = "tab\\t"', "tab\t"),
    ],
)
def test_either_kind_of_quotes_holds_a_default(text, default):
    assert read_line("x", text).default == default
