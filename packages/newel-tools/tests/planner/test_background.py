"""What a sentence says of events, jobs, schedules and brokers, with the words that say it."""

import pytest

from newel_tools.errors import PlanError
from newel_tools.plan.jobs import write_job
from newel_tools.plan.plan import Plan, usual_events
from newel_tools.plan.text import read_plan, write_plan
from newel_tools.planner.planner import plan_sentence

INVENTORY = (
    "inventory API: products (name, sku unique, price decimal, stock int) and warehouses, "
    "stock movements event to kafka, nightly report job"
)


def said(plan: Plan) -> list[str]:
    """Return what a plan does in the background, one line each."""
    lines = [f"broker {plan.broker}"] if plan.broker else []
    lines += [f"users {job.name} {write_job(job)}" for job in plan.users.jobs]
    for resource in plan.resources:
        usual = usual_events(resource.states)
        lines += [f"{resource.name}.{word}" for word in resource.events if word not in usual]
        lines += [f"{resource.name} {job.name} {write_job(job)}" for job in resource.jobs]
    return lines


def test_the_sentence_of_the_issue_becomes_events_a_broker_and_a_schedule():
    plan = plan_sentence(INVENTORY)

    assert [resource.name for resource in plan.resources] == ["products", "warehouses"]
    assert said(plan) == [
        "broker kafka",
        "products.stock_moved",
        "products nightly_report cron(0 3 * * *)",
    ]
    assert plan.not_understood == ()
    assert plan.coverage == 1
    assert plan.provenance["broker"] == "stock movements event to kafka"
    assert plan.provenance["products.events"] == "stock movements event to kafka"
    assert plan.provenance["products.jobs.nightly_report"] == "nightly report job"
    assert "nightly_report runs at 03:00 every day, in UTC: cron(0 3 * * *)" in plan.assumed
    assert "nightly_report lies with products, since nothing says whose it is" in plan.assumed
    assert "what nightly_report does is yours to write" in plan.assumed
    assert read_plan(write_plan(plan)) == plan


EVENTS = {
    "publish order.paid event to nats": ["broker nats", "orders.paid"],
    "publish order.paid and order.shipped events": ["orders.paid", "orders.shipped"],
    "emit OrderExported events to kafka": ["broker kafka", "orders.exported"],
    "emit an event when an order is paid": ["orders.paid"],
    "publish price change events over nats": ["broker nats", "products.price_changed"],
    "publish order paid, order shipped and stock movement events to kafka": [
        *("broker kafka", "orders.paid", "orders.shipped", "products.stock_moved"),
    ],
    "product price change event": ["products.price_changed"],
    "order shipment event through redis streams": ["broker redis", "orders.shipped"],
    "order events go to rabbitmq": ["broker rabbit"],
    "events are published to kafka": ["broker kafka"],
    "publish all events to redis streams": ["broker redis"],
    "kafka as message bus": ["broker kafka"],
    "event bus: nats": ["broker nats"],
    "rabbitmq events": ["broker rabbit"],
    "with kafka": ["broker kafka"],
    "user.registered event to kafka": ["broker kafka"],
}


@pytest.mark.parametrize("words", EVENTS)
def test_events_and_brokers_are_understood(words):
    plan = plan_sentence(f"shop with orders and products; {words}")

    assert said(plan) == EVENTS[words]
    assert plan.not_understood == ()
    kept = " ".join(plan.provenance.values())
    assert words.removeprefix("with ").split(",")[0] in kept


JOBS = {
    "hourly cleanup job": "orders hourly_cleanup cron(0 * * * *)",
    "daily sales report": "orders sales_report cron(0 3 * * *)",
    "weekly digest email to all users": "users digest_email_to_users cron(0 3 * * 1)",
    "a yearly archive job": "orders yearly_archive cron(0 3 1 1 *)",
    "a job that expires unpaid orders every 5 minutes": (
        "orders expire_unpaid_orders cron(*/5 * * * *)"
    ),
    "every 5 minutes sync prices": "orders sync_prices cron(*/5 * * * *)",
    "every two hours fetch exchange rates": "orders fetch_exchange_rates cron(0 */2 * * *)",
    "recalculate stock every night at 2am": "orders recalculate_stock cron(0 2 * * *)",
    "every night: recalculate ratings": "orders recalculate_ratings cron(0 3 * * *)",
    'cron job "*/15 * * * *" that syncs products': "products sync_products cron(*/15 * * * *)",
    "report every weekday at 7:30": "orders report cron(30 7 * * 1-5)",
    "send reminders on mondays at 9": "orders send_reminders cron(0 9 * * 1)",
    "clean up old carts twice a day": "orders clean_up_old_carts cron(0 0,12 * * *)",
    "monthly invoice run on the first of every month": "orders invoice_run cron(0 3 1 * *)",
    "a background job to reindex products": "products reindex_products job",
    "background job resize_image (photo_id uuid, width int)": (
        "orders resize_image job(photo_id uuid, width int)"
    ),
    "import job (url str, note str optional)": "orders import_job job(url str, note str optional)",
    "purge inactive users every month": "users purge_inactive_users cron(0 3 1 * *)",
    "send a mail on sign-up": "users send_mail_job on(registered)",
}


@pytest.mark.parametrize("words", JOBS)
def test_jobs_and_their_times_are_understood(words):
    plan = plan_sentence(f"shop with orders and products; {words}")

    assert said(plan) == [JOBS[words]]
    assert plan.not_understood == ()
    owner, name = JOBS[words].split()[:2]
    assert plan.provenance[f"{owner}.jobs.{name}"] == words
    assert f"what {name} does is yours to write" in plan.assumed
    assert read_plan(write_plan(plan)) == plan


HANDLERS = {
    "send a receipt mail when an order is paid": [
        "orders.paid",
        "orders send_receipt_mail on(paid)",
    ],
    "notify the customer whenever an order is shipped": [
        *("orders.shipped", "orders notify_customer on(shipped)"),
    ],
    "warn the buyer when the price of a product changes": [
        *("products.price_changed", "products warn_buyer on(price_changed)"),
    ],
    "email the buyer on order creation": ["orders email_buyer on(created)"],
    "warn the staff when the stock changes": [
        *("products.stock_changed", "products warn_staff on(stock_changed)"),
    ],
}


@pytest.mark.parametrize("words", HANDLERS)
def test_what_answers_to_an_event_is_understood(words):
    plan = plan_sentence(f"shop with orders and products; {words}")

    assert said(plan) == HANDLERS[words]
    assert plan.not_understood == ()


def test_several_jobs_stand_in_one_list():
    plan = plan_sentence(
        "blog with posts and comments, nightly digest job and hourly cleanup job, "
        "a job that archives old posts every week"
    )

    assert said(plan) == [
        "posts nightly_digest cron(0 3 * * *)",
        "posts hourly_cleanup cron(0 * * * *)",
        "posts archive_old_posts cron(0 3 * * 1)",
    ]
    assert [resource.name for resource in plan.resources] == ["posts", "comments"]


@pytest.mark.parametrize(
    "words",
    ["send a welcome mail on sign-up", "a welcome email when a user registers", "welcome mails"],
)
def test_what_accounts_do_by_themselves_plans_nothing(words):
    plan = plan_sentence(f"shop with orders and products; {words}")

    assert said(plan) == []
    assert plan.not_understood == ()
    assert "accounts mail a welcome to who registers, and links for passwords" in plan.assumed


@pytest.mark.parametrize(
    ("words", "events"),
    [
        ("with webhooks", []),
        ("signed webhooks for all events", []),
        ("webhooks for orders", []),
        ("webhooks on order changes", []),
        ("send a webhook when an order is paid", ["orders.paid"]),
    ],
)
def test_webhooks_tell_users_of_their_own_rows(words, events):
    plan = plan_sentence(f"shop with orders and products, orders belong to users; {words}")

    assert plan.webhooks
    assert said(plan) == events
    assert plan.not_understood == ()
    assert plan.provenance["webhooks"] == words
    assert "webhooks tell users of their own orders" in plan.assumed
    rights = {role.name: role.permissions for role in plan.roles}
    assert {"webhooks:read", "webhooks:write"} <= set(rights["user"])
    assert "webhooks:read" not in rights["reader"]
    assert read_plan(write_plan(plan)) == plan


@pytest.mark.parametrize("words", ["webhooks", "webhooks for weather", "webhooks when it rains"])
def test_webhooks_that_would_tell_nobody_are_not_understood(words):
    who = "orders are shared" if words == "webhooks" else "orders belong to users"
    plan = plan_sentence(f"shop with orders, products and tags, {who}; {words}")

    assert not plan.webhooks
    assert plan.not_understood
    assert "webhooks" not in plan.provenance


def test_a_fact_that_nothing_makes_true_gets_an_action():
    plan = plan_sentence("shop with orders; publish order.paid and order.exported events")

    assert [action.name for action in plan.resource("orders").actions] == ["export"]
    assert (
        "orders have the action export: what makes them exported is yours to write" in plan.assumed
    )


@pytest.mark.parametrize(
    ("words", "missed"),
    [
        ("every 7 minutes sync stock", "minutes sync stock"),
        ("publish weather.changed events", "publish weather.changed events"),
        ("call us when weather changes", "call us when weather changes"),
    ],
)
def test_what_cannot_be_done_is_not_understood(words, missed):
    plan = plan_sentence(f"shop with orders, products, customers, categories and tags; {words}")

    assert said(plan) == []
    assert missed in plan.not_understood


@pytest.mark.parametrize(
    ("sentence", "names"),
    [
        ("events API with events (title, starts_at datetime) and tickets", ["events", "tickets"]),
        ("calendar with sport events and reminders", ["sport_events", "reminders"]),
        ("task manager with tasks, projects and daily tasks", ["tasks", "projects", "daily_tasks"]),
        (
            "job board: companies, job postings (title) and tags",
            ["companies", "job_postings", "tags"],
        ),
        ("printers API with printers and print jobs (pages int)", ["printers", "print_jobs"]),
    ],
)
def test_things_that_sound_like_it_are_kept_all_the_same(sentence, names):
    plan = plan_sentence(sentence)

    assert [resource.name for resource in plan.resources] == names
    assert said(plan) == []


def test_what_is_said_twice_is_one_job():
    plan = plan_sentence("shop with orders; nightly report job, nightly report")

    assert said(plan) == ["orders nightly_report cron(0 3 * * *)"]


def test_a_sentence_of_nothing_but_jobs_is_refused():
    with pytest.raises(PlanError, match="nothing of the sentence was understood"):
        plan_sentence("nightly report job")
