"""Sentences as people write them, and the plans they get.

Each outline is what a reader of the plan would look at: the package, each resource with its owner
and readers, its lines, and the roles beyond user, reader and admin. They are in sentences.txt.
"""

from pathlib import Path

import pytest

from newel_tools.plan.fields import write_line
from newel_tools.plan.jobs import write_job
from newel_tools.plan.plan import Plan, Resource, usual_events
from newel_tools.plan.text import read_plan, write_plan
from newel_tools.planner.planner import plan_sentence

SENTENCES = (Path(__file__).parent / "sentences.txt").read_text()


def lines_of(resource: Resource) -> list[str]:
    owner = "owned" if resource.owner else "shared"
    soft = ", soft delete" if resource.soft_delete else ""
    lines = [f"{resource.name}: {owner}, read by {resource.read}{soft}"]
    lines += [f"  {field.name}: {write_line(field)}" for field in resource.fields]
    lines += [f"  {link.name}: {write_line(link)}" for link in resource.relations]
    if resource.states is not None:
        lines.append(f"  {resource.states.field}: {write_line(resource.states)}")
    lines += [f"  action {action.name}" for action in resource.actions]
    usual = usual_events(resource.states)
    lines += [f"  event {event}" for event in resource.events if event not in usual]
    lines += [f"  job {job.name}: {write_job(job)}" for job in resource.jobs]
    return lines


def outline(plan: Plan) -> str:
    """Write what matters of a plan, one line each."""
    lines = [f"package {plan.service}"]
    fields = [f"{field.name}: {write_line(field)}" for field in plan.users.fields]
    if fields != ["full_name: str(255) optional"]:
        lines += [f"users {field}" for field in fields]
    lines += [f"users job {job.name}: {write_job(job)}" for job in plan.users.jobs]
    if plan.broker is not None:
        lines.append(f"broker {plan.broker}")
    if plan.chat is not None:
        lines.append(f"chat {plan.chat}")
    if plan.files:
        lines.append("files")
    for resource in plan.resources:
        lines += lines_of(resource)
    for role in plan.roles:
        if role.name not in {"user", "reader", "admin"}:
            lines.append(f"role {role.name}: {', '.join(role.permissions)}")
    lines += [f"not understood: {words}" for words in plan.not_understood]
    return "\n".join(lines)


def paragraphs(text: str) -> list[tuple[str, str]]:
    """Cut ``> sentence`` and the outline below it into pairs."""
    pairs = []
    for part in text.strip().split("\n\n"):
        lines = part.splitlines()
        sentence = " ".join(line.removeprefix("> ") for line in lines if line.startswith("> "))
        pairs.append((sentence, "\n".join(line for line in lines if not line.startswith("> "))))
    return pairs


@pytest.mark.parametrize(("sentence", "expected"), paragraphs(SENTENCES))
def test_a_sentence_gets_its_plan(sentence, expected):
    assert outline(plan_sentence(sentence)) == expected


@pytest.mark.parametrize(("sentence", "expected"), paragraphs(SENTENCES))
def test_a_plan_is_the_same_after_writing_and_reading(sentence, expected):
    plan = plan_sentence(sentence)

    assert read_plan(write_plan(plan)) == plan
    assert Plan.model_validate_json(plan.model_dump_json()) == plan


def test_there_are_many_sentences():
    assert len(paragraphs(SENTENCES)) >= 95
