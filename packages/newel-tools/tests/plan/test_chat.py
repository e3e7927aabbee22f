"""Which rows can keep what is said in a chat: all that they need is known when it is said."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.plan.chat import kept_in
from newel_tools.plan.text import read_plan

PLAN = """
service: club
chat: messages
resources:
  channels:
    fields:
      name: str(64)
  messages:
    owner: users
    read: signed_in
    fields:
      body: text(..4000)
      sent_at: datetime = now
      mood: str optional
      channel: -> channels
      answers: -> messages optional
"""


def test_a_row_of_one_text_and_one_link_keeps_it():
    plan = read_plan(PLAN)
    text, link = kept_in("messages", plan.resources)

    assert (text.name, link.name, link.target) == ("body", "channel", "channels")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("chat: messages", "chat: letters", "there are no letters"),
        ("text(..4000)", "text(..4001)", "one text of 1 to 4000 characters"),
        ("text(..4000)", "text(2..4000)", "one text of 1 to 4000 characters"),
        ("= now", "", "one text of 1 to 4000 characters"),
        ("      body: text(..4000)\n", "", "one text of 1 to 4000 characters"),
        ("-> channels", "-> channels optional", "do not say where"),
        ("-> channels", "-> channels unique", "do not say where"),
        ("-> channels", "-> users", "do not say where"),
        ("optional\n\n", "\n\n", "do not say where"),
        ("    owner: users\n", "", "nobody says them"),
        ("signed_in", "owner", "not everybody in a chat may read"),
        ("    fields:\n      name", "    owner: users\n    fields:\n      name", "not everybody"),
        ("      name: str(64)", "      s: state[a -> b; visible b]", "not everybody"),
        ("channels", "rooms", "'rooms' are the kernel's"),
    ],
)
def test_a_row_that_needs_more_is_refused(old: str, new: str, reason: str):
    wrong = f"{PLAN}\n".replace(old, new)
    assert wrong != f"{PLAN}\n"

    with pytest.raises(PlanError) as refused:
        read_plan(wrong)

    assert reason in refused.value.message
    assert refused.value.fix


def test_what_is_live_needs_no_rows():
    assert read_plan("service: club\nchat: live").chat == "live"
    with pytest.raises(PlanError, match="rooms"):
        read_plan("service: club\nchat: live\nresources:\n  rooms: {}")


def test_files_are_the_users():
    plan = read_plan("service: club\nfiles: true")

    assert plan.roles[0].permissions == ("files:read", "files:write")
    with pytest.raises(PlanError, match="files:read"):
        read_plan("service: club\nroles:\n  user: [files:read]\n  reader: []\n  admin: ['*']")
