"""Wishes for what newel brings: chats and files; what no line of a plan fulfils has its page."""

import pytest

from newel_tools.planner.planner import plan_sentence


@pytest.mark.parametrize(
    ("wish", "page"),
    [
        ("multi-tenant zoo with cages", "scope"),
        ("zoo with cages; each club sees only its own data", "scope"),
        ("zoo with cages, real-time notifications", "rooms"),
        ("zoo with cages and websockets", "rooms"),
        ("zoo with cages and caching", "cache"),
        ("zoo with cages; API versioning", "versions"),
        ("zoo with cages and background tasks", "jobs"),
        ("zoo with cages; audit log", "events"),
    ],
)
def test_a_wish_that_stands_elsewhere_is_named_with_its_page(wish: str, page: str):
    plan = plan_sentence(wish)

    assert [resource.name for resource in plan.resources] == ["cages"]
    assert [line for line in plan.not_understood if f"docs/{page}.md" in line]
    assert "tenant" not in plan.service
    assert plan.coverage == 1


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ("zoo with cages; file uploads", "file uploads"),
        ("zoo; cages with name and picture upload", "and picture upload"),
        ("zoo with cages; users attach files", "attach files"),
        ("zoo with cages and document attachments", "and document attachments"),
        ("zoo with cages; file sharing", "file sharing"),
    ],
)
def test_files_are_uploaded(wish: str, words: str):
    plan = plan_sentence(wish)

    assert (plan.files, plan.provenance["files"]) == (True, words)
    assert [resource.name for resource in plan.resources] == ["cages"]
    assert plan.not_understood == ()
    rights = {role.name: role.permissions for role in plan.roles}
    assert {"files:read", "files:write"} <= set(rights["user"])
    assert "files:read" not in rights["reader"]


@pytest.mark.parametrize(
    "wish", ["group chat", "live chat", "chat rooms", "chat over websockets", "real-time messaging"]
)
def test_a_service_about_something_else_has_chats_that_nothing_keeps(wish: str):
    plan = plan_sentence(f"zoo with cages, {wish}")

    assert (plan.chat, plan.provenance["chat"]) == ("live", wish)
    assert [resource.name for resource in plan.resources] == ["cages"]
    assert "chats are live: nothing that is said in them is kept" in plan.assumed
    assert plan.not_understood == ()


@pytest.mark.parametrize(
    ("sentence", "place"),
    [
        ("chat API", "chat_rooms"),
        ("Build a live chat app", "chat_rooms"),
        ("team chat with rooms and messages", "chat_rooms"),
        ("chat over websockets with channels and messages", "channels"),
        ("app with chat rooms and messages", "chat_rooms"),
        ("app with channels and live messages", "channels"),
        ("channels; messages (text, sent_at datetime) over websockets", "channels"),
        ("group chat app with groups and messages", "groups"),
        ("one-to-one chat API with conversations and messages", "conversations"),
        ("chat API with messages", "chat_rooms"),
    ],
)
def test_messages_keep_what_is_said_in_a_chat(sentence: str, place: str):
    plan = plan_sentence(sentence)

    assert plan.chat == "messages"
    assert [link.target for link in plan.resource("messages").relations] == [place]
    assert f"what is said in the chat of {place} is kept as messages" in plan.assumed
    assert plan.not_understood == ()


def test_messages_that_need_more_than_what_is_said_keep_nothing():
    plan = plan_sentence("chat with channels and messages (title, body text)")

    assert plan.chat == "live"
    assert [note for note in plan.assumed if "messages need something else" in note]


@pytest.mark.parametrize(
    ("sentence", "service", "title"),
    [
        ("API for uploading files", "files_service", "Files API"),
        ("upload of images", "files_service", "Files API"),
        ("real-time messaging", "chat", "Chat API"),
    ],
)
def test_what_newel_brings_is_enough_for_a_service(sentence: str, service: str, title: str):
    plan = plan_sentence(sentence)

    assert (plan.service, plan.title, plan.resources) == (service, title, ())
    assert plan.coverage == 1


def test_attachments_are_rows_whose_files_are_uploaded():
    plan = plan_sentence("tickets with comments and attachments")

    assert plan.files
    assert "attachments" in [resource.name for resource in plan.resources]


def test_rooms_of_something_else_keep_their_own_name():
    plan = plan_sentence("hotel with rooms and guests, group chat")

    assert [resource.name for resource in plan.resources] == ["hotel_rooms", "guests"]
    assert "rooms are called hotel_rooms: the kernel's rooms carry the chats" in plan.assumed


@pytest.mark.parametrize(
    "sentence",
    [
        "messaging API with rooms and messages",
        "AI chatbot API with conversations and messages",
        "hotel with rooms and guests",
    ],
)
def test_without_a_wish_for_it_there_is_no_chat(sentence: str):
    plan = plan_sentence(sentence)

    assert (plan.chat, plan.files) == (None, False)


def test_people_who_rent_are_kept():
    assert "tenants" in [each.name for each in plan_sentence("flats and tenants").resources]
