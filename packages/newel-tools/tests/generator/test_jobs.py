"""What is printed for events and jobs: what makes them happen, and how tests make them happen."""

import ast

import pytest

from newel_tools.generator.features import render_features
from newel_tools.generator.jobs import listed
from newel_tools.generator.layout import LAYOUTS, Layout
from newel_tools.generator.view import ResourceView, view_resource, view_users
from newel_tools.plan.plan import Plan
from newel_tools.plan.text import read_plan

TEXT = """
service: shop
users:
  jobs:
    greet: on(registered)
resources:
  orders:
    fields:
      total: decimal
      status: state[open -> paid|lost by orders:process]
    actions: [export]
    events: [created, updated, deleted, status_changed, paid, total_changed, exported, audited]
    jobs:
      thank: on(paid)
      count: on(created)
      report: cron(0 3 * * *)
      scan: job(note str optional, page_id uuid)
      create_order: job
  tags:
    fields:
      name: str
"""
PLAN = read_plan(TEXT)


def view(plan: Plan = PLAN) -> ResourceView:
    return view_resource(plan, plan.resource("orders"))


def files(layout: Layout = "features") -> dict[str, str]:
    return {file.path: file.text for file in render_features(PLAN, layout)}


def test_a_fact_knows_what_makes_it_true() -> None:
    facts = {fact.word: fact for fact in view().facts}

    assert facts["paid"].state == "paid"
    assert facts["total_changed"].field is not None
    assert facts["total_changed"].lines == ("before: Decimal", "after: Decimal")
    assert facts["exported"].action == "export"
    assert facts["audited"].says == "Publish it in the service, where it becomes true."
    assert [fact.word for fact in view().said] == ["paid", "total_changed", "exported", "audited"]


def test_the_service_publishes_each_where_it_becomes_true() -> None:
    service = files()["src/shop/orders/service.py"]

    paid = service[service.index("async def pay") :].partition("async def ")[2].partition("\n\n")[0]
    assert "self.work.publish(OrderPaid(id=order_id))" in paid
    change = service[service.index("async def _change") :]
    assert "total_before = order.total" in change
    assert "if order.total != total_before:" in change
    assert service.count("OrderPaid(") == service.count("OrderTotalChanged(") == 1


def test_each_kind_of_job_is_declared_as_the_kernel_has_it() -> None:
    jobs = {job.name: job for job in view().jobs}

    assert jobs["thank"].decorator == "@on(OrderPaid)"
    assert jobs["thank"].parameters == "run: JobRun, event: OrderPaid"
    assert jobs["thank"].cause == "work.publish(OrderPaid(id=uuid4()))"
    assert jobs["report"].decorator == '@job(as_system="a schedule has no caller")'
    assert jobs["report"].says == "At 03:00 every day, in UTC."
    assert jobs["scan"].parameters == "run: JobRun, *, page_id: UUID, note: str | None = None"
    assert jobs["scan"].cause == 'work.enqueue(scan, note="a", page_id=uuid4())'


def test_a_job_that_is_called_like_an_endpoint_gets_another_name() -> None:
    assert "create_order_job" in {job.name for job in view().jobs}


def test_the_module_lists_them_all() -> None:
    assert listed(view().jobs) == (
        ", jobs=[report, scan, create_order_job], handlers=[thank, count], "
        'schedules=[schedule("0 3 * * *", report)]'
    )
    assert listed(view_users(PLAN).jobs) == ", handlers=[greet]"
    assert listed(()) == ""


@pytest.mark.parametrize("layout", LAYOUTS)
def test_their_files_are_where_the_layout_has_them(layout: Layout) -> None:
    folder = "src/shop/jobs/order.py" if layout == "layered" else "src/shop/orders/jobs.py"
    found = files(layout)

    assert {folder, "tests/orders/test_jobs.py", "tests/users/test_jobs.py"} <= found.keys()
    assert "tests/tags/test_jobs.py" not in found
    bodies = [n for n in ast.parse(found[folder]).body if isinstance(n, ast.AsyncFunctionDef)]
    assert [ast.unparse(node.body[-1]) for node in bodies] == [
        "raise NotImplementedError('what happens here is for you to write')"
    ] * len(view().jobs)


def test_every_job_has_a_strict_test_of_what_it_owes() -> None:
    tests = files()["tests/orders/test_jobs.py"]

    for job in view().jobs:
        assert f"async def test_{job.name}_ends(" in tests
    assert tests.count("@pytest.mark.xfail(strict=True") == len(view().jobs)
    assert "test_of_several_workers_one_wins_each_tick" in tests
    assert "test_of_several_workers" not in files()["tests/users/test_jobs.py"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_webhooks_tell_of_all_that_happens_to_rows_of_users(layout: Layout) -> None:
    owned = TEXT.replace("service: shop", "service: shop\nwebhooks: true")
    plan = read_plan(owned.replace("  orders:\n", "  orders:\n    owner: users\n"))
    found = {file.path: file.text for file in render_features(plan, layout)}
    folder = "src/shop/core" if layout == "layered" else "src/shop"
    text = found[f"{folder}/webhooks.py"]

    assert "    OrderCreated: Order,\n" in text
    assert "    OrderPaid: Order,\n" in text
    assert "OrderDeleted" not in text, "whose it was is gone with it"
    assert "Tag" not in text
    assert 'TYPE = "order.created"' in found["tests/test_webhooks.py"]
    assert "tests/test_webhooks.py" not in files(layout)


def test_where_nothing_was_said_nothing_is_printed() -> None:
    tests = files()["tests/tags/test_tags.py"]

    assert "commits_fail" not in tests
    assert "commits_fail" in files()["tests/orders/test_orders.py"]
