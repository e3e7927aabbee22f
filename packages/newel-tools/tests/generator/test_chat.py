"""Chats as they are printed: what is said is kept, and what is kept is heard."""

import pytest

from newel.chat import ChatMessage
from newel_tools.generator.features import render_features
from newel_tools.generator.layout import LAYOUTS, Layout
from newel_tools.plan.chat import LONGEST
from newel_tools.plan.text import read_plan

PLAN = """
service: club
chat: messages
resources:
  channels:
    fields:
      name: str(64)
      team: -> teams
  teams:
    fields:
      name: str(64)
  messages:
    owner: users
    read: signed_in
    fields:
      words: text(..4000)
      channel: -> channels
"""


def files(text: str = PLAN, layout: Layout = "features") -> dict[str, str]:
    return {file.path: file.text for file in render_features(read_plan(text), layout)}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_is_said_becomes_a_row(layout: Layout) -> None:
    folder = "src/club/core" if layout == "layered" else "src/club"
    text = files(layout=layout)[f"{folder}/chat.py"]

    assert "MessageCreate(channel_id=channel_id_of(visit), words=said.content)" in text
    assert 'return caller.can("messages:read")' in text
    assert "module = chat.module(may_join=may_join, on_message=keep)" in text


def test_what_is_posted_is_heard_and_nothing_else() -> None:
    found = files()

    heard = 'work.broadcast(f"chat:{message.channel_id}", ChatMessage(content=message.words))'
    assert heard in found["src/club/messages/router.py"]
    assert "broadcast" not in found["src/club/channels/router.py"]


def test_the_tests_make_all_that_a_chat_needs() -> None:
    text = files()["tests/test_chat.py"]

    assert '"/api/v1/teams"' in text
    assert "return f\"chat:{links['channel_id']}\"" in text


def test_what_anyone_reads_anyone_who_is_logged_in_hears() -> None:
    found = files(PLAN.replace("signed_in", "public"))

    assert "return True" in found["src/club/chat.py"]
    assert "test_who_may_not_read_hears_nothing" not in found["tests/test_chat.py"]


def test_live_chats_need_no_module_of_the_service() -> None:
    found = files("service: club\nchat: live")

    assert "src/club/chat.py" not in found
    assert "test_what_is_said_is_kept" not in found["tests/test_chat.py"]
    assert '"/rooms/" not in path' in found["tests/test_guards.py"]


def test_files_have_tests_and_a_link_that_anybody_follows() -> None:
    found = files("service: club\nfiles: true")

    assert "test_nobody_else_finds_it" in found["tests/test_files.py"]
    assert "GET /api/v1/files/shared/{signed}" in found["tests/test_guards.py"]
    assert "tests/test_files.py" not in files()


def test_a_message_is_as_long_as_the_kernels() -> None:
    assert ChatMessage(content="x" * LONGEST)
    with pytest.raises(ValueError, match=str(LONGEST)):
        ChatMessage(content="x" * (LONGEST + 1))
