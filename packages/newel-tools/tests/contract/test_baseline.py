"""The committed contract: one document a version, and the breaks that were agreed on."""

import json
from pathlib import Path

import pytest

from newel_tools.contract.agreement import Agreement, Entry, place_of, read_agreement
from newel_tools.contract.baseline import Version, by_version, read_baseline, write_baseline
from newel_tools.contract.changes import Group, change, grouped
from newel_tools.openapi.document import DocumentError

ANSWER = {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/User"}}}}
CONTENT = {
    "openapi": "3.1.0",
    "paths": {
        "/api/v1/users": {"get": {"responses": {"200": ANSWER}, "security": [{"Key": []}]}},
        "/api/v2/users": {"get": {"responses": {"200": {"description": ""}}}},
        "/health": {"get": {"responses": {"200": {"description": ""}}}},
        "/v10": {},
    },
    "x-newel-routes": {"GET /api/v2/secret": {"access": [], "hidden": True}},
    "components": {
        "schemas": {
            "User": {
                "discriminator": {"mapping": {"a": "#/components/schemas/Admin"}},
                "properties": {"tree": {"$ref": "#/components/schemas/a~1b"}},
            },
            "Admin": {},
            "a/b": {"items": {"$ref": "#/components/schemas/a~1b"}},
            "Unused": {},
        },
        "securitySchemes": {"Key": {"type": "apiKey"}, "Other": {"type": "apiKey"}},
    },
}


def test_each_version_has_a_document_that_is_complete_in_itself():
    found = by_version(CONTENT)

    assert {version.name: list(d.content["paths"]) for version, d in found.items()} == {
        "": ["/health"],
        "v1": ["/api/v1/users"],
        "v10": ["/v10"],
        "v2": ["/api/v2/users"],
    }
    first = found[Version("v1")].content
    assert set(first["components"]["schemas"]) == {"User", "Admin", "a/b"}
    assert set(first["components"]["securitySchemes"]) == {"Key"}
    assert first["x-newel-routes"] == {}
    assert "components" not in found[Version("")].content
    assert "GET /api/v2/secret" in found[Version("v2")].content["x-newel-routes"]


def test_what_was_written_is_read_again(tmp_path: Path):
    folder = tmp_path / "contract"
    documents = by_version(CONTENT)

    written = write_baseline(folder, documents)

    assert sorted(path.name for path in written) == [
        "openapi.json",
        "openapi.v1.json",
        "openapi.v10.json",
        "openapi.v2.json",
    ]
    assert {v: d.content for v, d in read_baseline(folder).items()} == {
        v: d.content for v, d in documents.items()
    }
    assert write_baseline(folder, documents) == []


def test_the_order_of_keys_changes_no_file(tmp_path: Path):
    write_baseline(tmp_path, by_version(CONTENT))
    turned = json.loads(json.dumps(CONTENT), object_pairs_hook=lambda pairs: dict(pairs[::-1]))

    assert write_baseline(tmp_path, by_version(turned)) == []


def test_a_version_that_is_gone_loses_its_document_and_other_files_stay(tmp_path: Path):
    write_baseline(tmp_path, by_version(CONTENT))
    (tmp_path / "openapi.draft.json").write_text("{}")
    left = {**CONTENT, "paths": {"/api/v1/users": {}}, "x-newel-routes": {}}

    changed = write_baseline(tmp_path, by_version(left))

    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "openapi.draft.json",
        "openapi.v1.json",
    ]
    assert len(changed) == 4


GONE = Group(
    changes=[
        change("response-required-property-removed", operation="GET /a", text="", subject="A.name")
    ]
)
MOVED = Group(changes=[change("api-removed-without-deprecation", operation="GET /b", text="")])


def test_a_break_is_agreed_on_by_rule_and_place(tmp_path: Path):
    path = tmp_path / "acknowledged.toml"
    path.write_text(
        '[[change]]\nrule = "response-required-property-removed"\nplace = "A.name"\n'
        'reason = "with the front end"\n\n'
        '[[accepted]]\nrule = "api-removed-without-deprecation"\nplace = "GET /b"\nreason = "old"\n'
    )
    agreement = read_agreement(path)

    assert agreement.covers(GONE)
    assert not agreement.covers(MOVED)
    assert agreement.stale([MOVED]) == [agreement.open[0]]
    assert agreement.stale([GONE]) == []


def test_what_was_accepted_is_kept_with_its_reason(tmp_path: Path):
    path = tmp_path / "acknowledged.toml"
    entry = Entry(rule=GONE.first.rule, place=place_of(GONE), reason='said "yes"\nin #51 \\ ü')

    Agreement(open=[entry]).settled([GONE, MOVED], reason="nobody used it").write(path)

    read = read_agreement(path)
    assert read.open == []
    assert read.accepted == [
        entry,
        Entry(rule=MOVED.first.rule, place="GET /b", reason="nobody used it"),
    ]


def test_an_agreement_on_nothing_is_no_file(tmp_path: Path):
    path = tmp_path / "acknowledged.toml"
    Agreement(open=[Entry(rule="a", place="b", reason="c")]).write(path)
    assert "[[change]]" in path.read_text()

    Agreement().write(path)

    assert not path.exists()
    assert read_agreement(path) == Agreement()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rule = ", "is no TOML"),
        ('[[chnage]]\nrule = "a"', "unknown table chnage"),
        ('[[change]]\nrule = "a"\nplace = "b"', "exactly rule, place and reason"),
        ('[[change]]\nrule = "a"\nplace = "b"\nreason = " "', "each a text"),
        ('[[change]]\nrule = "a"\nplace = "b"\nreason = 3', "each a text"),
        ("change = [1]", "exactly rule"),
    ],
)
def test_a_broken_agreement_is_refused(tmp_path: Path, text, message):
    path = tmp_path / "acknowledged.toml"
    path.write_text(text)

    with pytest.raises(DocumentError, match=message) as refused:
        read_agreement(path)

    assert len(str(refused.value).splitlines()) == 2


def test_changes_of_one_cause_are_one_group_and_the_worst_come_first():
    def gone(operation: str, subject: str | None = "A.name"):
        rule = "response-required-property-removed"
        return change(rule, operation=operation, where="200", text="gone", subject=subject)

    safe = change("endpoint-added", operation="GET /new", text="new")
    warning = change("request-parameter-removed", operation="GET /a", where="query x", text="x")

    groups = grouped(
        [safe, warning, gone("GET /a"), gone("GET /b"), gone("GET /a"), gone("", None)]
    )

    assert [group.first.level for group in groups] == ["error", "error", "warning", "info"]
    assert groups[0].places == ["GET /a", "GET /b"]
    assert groups[1].places == ["200"]
    assert groups[2].places == ["GET /a, query x"]
