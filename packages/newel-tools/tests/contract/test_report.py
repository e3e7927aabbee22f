"""What people and GitHub see of changes."""

from rich.console import Console

from newel_tools.contract.agreement import Agreement, Entry
from newel_tools.contract.changes import Change, change, grouped
from newel_tools.contract.report import as_json, github_lines, show_groups

GONE = [
    change(
        "response-required-property-removed",
        operation=f"GET /{name}",
        where="200: [name]",
        text="`name` is gone; renamed to `title`?",
        subject="Agent.name",
        guess="title",
    )
    for name in ("a", "b", "c", "d", "e")
]
SAFE = [change("endpoint-added", operation=f"GET /n{n}", text="new") for n in range(25)]
AGREED = Agreement(
    open=[Entry(rule=GONE[0].rule, place="Agent.name", reason="with the [front] end")]
)


def shown(changes: list[Change], agreement: Agreement, *, colour: bool = False) -> str:
    console = Console(width=200, force_terminal=colour, color_system="standard" if colour else None)
    with console.capture() as capture:
        show_groups(console, grouped(changes), agreement=agreement)
    return capture.get()


def test_a_break_is_shown_once_with_some_of_its_places():
    assert shown(GONE, Agreement()).splitlines() == [
        "BREAKS    Agent.name: `name` is gone; renamed to `title`?",
        "          GET /a, GET /b, GET /c and 2 more, 200: [name]",
        "          response-required-property-removed",
    ]


def test_what_was_agreed_on_is_shown_with_its_reason():
    lines = shown(GONE, AGREED).splitlines()

    assert lines[0].startswith("agreed    Agent.name")
    assert lines[-1].strip() == "with the [front] end"


def test_breaks_come_first_in_colour_and_safe_changes_are_bounded():
    text = shown([*SAFE, *GONE], Agreement(), colour=True)

    assert "\x1b[1;31mBREAKS" in text
    assert text.index("BREAKS") < text.index("safe")
    assert "and 5 more; --json has all" in text
    assert text.count("safe      ") == 20


def test_machines_get_every_change():
    found = as_json(grouped(GONE), agreement=AGREED)

    assert len(found) == 5
    assert found[0] == {
        "rule": "response-required-property-removed",
        "level": "error",
        "breaking": True,
        "operation": "GET /a",
        "where": "200: [name]",
        "subject": "Agent.name",
        "text": "`name` is gone; renamed to `title`?",
        "renamed_to": "title",
        "agreed": "with the [front] end",
    }


def test_github_gets_a_line_a_cause():
    warning = change("request-parameter-removed", operation="GET /a", where="q", text="50%\nless")

    assert github_lines(grouped([*GONE, warning])) == [
        (
            "::error title=response-required-property-removed::Agent.name: `name` is gone; renamed"
            " to `title`? (GET /a, GET /b, GET /c and 2 more, 200: [name])"
        ),
        "::warning title=request-parameter-removed::GET /a, q: 50%25%0Aless (q)",
    ]
