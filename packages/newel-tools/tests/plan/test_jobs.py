"""The line of a job: what it means, and what is wrong with it."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.plan.events import moment
from newel_tools.plan.fields import read_line
from newel_tools.plan.jobs import read_argument, read_job, write_job
from newel_tools.plan.plan import Argument, Job, States
from newel_tools.plan.text import read_plan

LINES = {
    "job": Job(name="x"),
    "cron(0 3 * * *)": Job(name="x", cron="0 3 * * *"),
    "cron(*/5 8-18 * * mon-fri)": Job(name="x", cron="*/5 8-18 * * mon-fri"),
    "on(paid)": Job(name="x", event="paid"),
    "job(width int, note str optional)": Job(
        name="x",
        arguments=(
            Argument(name="width", type="int"),
            Argument(name="note", type="str", optional=True),
        ),
    ),
}


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_and_written(line):
    assert read_job("x", line) == LINES[line]
    assert write_job(LINES[line]) == line


def test_other_spellings_are_read_too():
    assert read_job("x", " cron ( 0  3 * * * ) ") == LINES["cron(0 3 * * *)"]
    assert read_job("x", "job()") == LINES["job"]
    assert read_argument("width: integer") == Argument(name="width", type="int")
    assert read_argument("total bigint") == Argument(name="total", type="int")


@pytest.mark.parametrize(
    ("line", "message", "fix"),
    [
        ("sometimes", "does not say when the job 'x' runs", "cron(0 3 * * *)"),
        ("cron", "does not say when", "cron(0 3 * * *)"),
        ("cron()", "does not say when", "cron(0 3 * * *)"),
        ("cron(0 25 * * *)", "is no time for the job 'x'", "30 3 * * mon"),
        ("job(width)", "'width' is no argument", "width int"),
        ("job(width wide)", "'width wide' is no argument", "width int"),
        ("job(size enum)", "cannot be an enum", "size str"),
        ("job(class int)", "'class' is a word of Python", "class_argument"),
        ("job(a int, a int)", "has the argument 'a' twice", "rename"),
        ("on(Paid!)", "cannot be the event", "a-z"),
    ],
)
def test_a_line_that_means_nothing_is_refused(line, message, fix):
    with pytest.raises(PlanError) as refused:
        read_job("x", line)

    assert message in refused.value.message
    assert fix in refused.value.fix


def test_a_job_has_one_cause():
    with pytest.raises(ValueError, match="more than one of"):
        Job(name="x", cron="0 3 * * *", event="paid")


PLAN = """
service: shop
users:
  jobs:
    greet: on(registered)
resources:
  orders:
    fields:
      total: decimal
    events: [created, paid]
    jobs:
      report: cron(0 3 * * *)
"""


@pytest.mark.parametrize(
    ("wrong", "message", "line"),
    [
        ("on(paid)", "waits for 'paid', which is no event of users", 5),
        ("cron(x)", "is no time for the job 'greet'", 5),
    ],
)
def test_a_plan_names_the_line_at_fault(wrong, message, line):
    assert read_plan(PLAN).users.jobs[0].event == "registered"

    with pytest.raises(PlanError) as refused:
        read_plan(PLAN.replace("on(registered)", wrong))

    assert message in refused.value.message
    assert refused.value.line == line


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("greet: on", "report: on", "has the job 'report' twice"),
        ("cron(0 3 * * *)", "on(shipped)", "waits for 'shipped'"),
        ("[created, paid]", "[created, paid, paid]", "has the event 'paid' twice"),
        ("greet:", "class:", "'class' is a word of Python, so no job can have it"),
        ("greet:", "send_mail:", "'send_mail' is a job of the kernel, so no job can have it"),
        ("service: shop", "service: shop\nbroker: pigeon", "'pigeon' cannot be the broker"),
        ("service: shop", "service: shop\nwebhooks: true", "webhooks tell users what happens"),
        ("  jobs:\n    greet", "  job:\n    greet", "'job' means nothing here"),
    ],
)
def test_a_plan_that_contradicts_itself_is_refused(old, new, message):
    with pytest.raises(PlanError) as refused:
        read_plan(PLAN.replace(old, new))
    assert message in refused.value.message


def test_a_fact_is_made_true_by_a_state_or_a_field():
    states = read_line("status", "state[open -> paid]")
    assert isinstance(states, States)

    assert moment("paid", states, ["total"]) == "paid"
    assert moment("open", states, []) is None  # a row is made open, and never becomes it
    assert moment("total_changed", None, ["total"]) == "total"
    assert moment("total_exploded", None, ["total"]) is None
    assert moment("paid", None, ["total"]) is None
