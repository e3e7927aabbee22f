"""A caller sees and changes their own rows, whichever way the statement is written."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from sample_entities import Agent, Invoice, Post, Run, Tag, User
from sqlalchemy import (
    DDL,
    ColumnElement,
    Executable,
    UnaryExpression,
    cast,
    column,
    delete,
    exists,
    extract,
    func,
    insert,
    literal_column,
    select,
    table,
    text,
    union,
    update,
)
from sqlalchemy import String as SqlString
from sqlalchemy.exc import InvalidRequestError
from sqlalchemy.orm import Mapped, aliased, declared_attr, joinedload, mapped_column, selectinload
from sqlalchemy.sql import quoted_name
from sqlalchemy.sql.operators import custom_op
from structlog.testing import capture_logs

from newel import scope
from newel.db import Database, Work
from newel.entity import Entity, Owned
from newel.errors import Forbidden, NotFound
from newel.principal import ANYONE, Principal
from newel.scope import UnscopedQuery

pytestmark = pytest.mark.anyio


class Leaflet(Entity):
    """A policy of who reads it, and none of who changes it."""

    __tablename__ = "scope_leaflets"

    team: Mapped[str]
    text: Mapped[str]

    @classmethod
    def visible_to(cls, caller: Principal) -> ColumnElement[bool] | None:
        return cls.team.in_([team for team in ("ann", "bob") if caller.can(f"leaflets:{team}")])


class Pet(Owned):
    """Several entities in one table."""

    __tablename__ = "scope_pets"

    kind: Mapped[str] = mapped_column(SqlString(8), init=False)

    if not TYPE_CHECKING:  # as in Entity

        @declared_attr.directive
        def __mapper_args__(cls) -> dict[str, Any]:  # noqa: N805 - as in Entity
            inherited = super().__mapper_args__ if cls.__name__ == "Pet" else {}
            name = {"polymorphic_identity": cls.__name__.lower()}
            return {**inherited, **name, "polymorphic_on": "kind"}


class Kitten(Pet):
    pass


class Puppy(Pet):
    pass


TABLE = Agent.__table__
OTHER = aliased(Agent)
ALIAS = TABLE.alias()
ADMIN = Principal(id=uuid4(), permissions=frozenset({"*"}))


@dataclass
class Rows:
    ann: Principal
    bob: Principal
    ann_agent: UUID
    bob_agent: UUID


@pytest.fixture
async def rows(database: Database) -> Rows:
    """Ann and Bob, an agent each; on Ann's agent a run of each, on Bob's one of Bob's.

    Ann sees all users, but not what is theirs.
    """
    ann, bob = User(email="ann@example.com"), User(email="bob@example.com")
    hers, his = Agent(name="hers", owner_id=ann.id), Agent(name="his", owner_id=bob.id)
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all([ann, bob])
        await work.flush()
        work.session.add_all([hers, his, Tag(label="red")])
        await work.flush()
        work.session.add_all(
            [
                Run(agent_id=hers.id, owner_id=ann.id, cost=1),
                Run(agent_id=hers.id, owner_id=bob.id, cost=10),
                Run(agent_id=his.id, owner_id=bob.id, cost=100),
                Post(title="draft", owner_id=bob.id),
                Post(title="news", owner_id=bob.id, is_published=True),
            ]
        )
    sees_users = frozenset({"users:all"})
    return Rows(Principal(id=ann.id, permissions=sees_users), Principal(id=bob.id), hers.id, his.id)


@pytest.fixture
async def as_ann(database: Database, rows: Rows) -> AsyncIterator[Work]:
    async with database.read(rows.ann) as work:
        yield work


READS = {
    "columns": (select(Agent.name), [("hers",)]),
    "count of the entity": (select(func.count()).select_from(Agent), [(1,)]),
    "count of a column": (select(func.count(Agent.id)), [(1,)]),
    "sum": (select(func.sum(Run.cost)), [(1,)]),
    "maximum by group": (
        select(Run.agent_id.is_not(None), func.max(Run.cost)).group_by(Run.agent_id.is_not(None)),
        [(True, 1)],
    ),
    "join": (select(Agent.name, Run.cost).join(Agent.runs), [("hers", 1)]),
    "join from the unguarded side": (
        select(User.email, Agent.name).join(Agent, Agent.owner_id == User.id),
        [("ann@example.com", "hers")],
    ),
    "outer join": (
        select(User.email, Agent.name)
        .outerjoin(Agent, Agent.owner_id == User.id)
        .order_by(User.email),
        [("ann@example.com", "hers"), ("bob@example.com", None)],
    ),
    "alias": (select(OTHER.name), [("hers",)]),
    "sub-query": (select(select(Agent.name).subquery()), [("hers",)]),
    "common table expression": (select(select(Agent.name).cte()), [("hers",)]),
    "scalar sub-query": (
        select(select(func.count(Agent.id)).scalar_subquery().label("n"), Tag.label),
        [(1, "red")],
    ),
    "in": (
        select(User.email).where(User.id.in_(select(Agent.owner_id))),
        [("ann@example.com",)],
    ),
    "exists": (
        select(User.email).where(exists().where(Agent.owner_id == User.id)),
        [("ann@example.com",)],
    ),
    "any": (select(Agent.name).where(Agent.runs.any(Run.cost == 10)), []),
    "union": (union(select(Agent.name), select(Agent.name)), [("hers",)]),
    "policy": (select(Post.title), [("news",)]),
    "unguarded": (select(Tag.label), [("red",)]),
    "unguarded count": (select(func.count()).select_from(Tag), [(1,)]),
}


@pytest.mark.parametrize("name", READS)
async def test_every_way_of_reading_shows_only_own_rows(as_ann: Work, name: str) -> None:
    statement, expected = READS[name]
    assert (await as_ann.session.execute(statement)).all() == expected


@pytest.mark.parametrize("name", sorted(set(READS) - {"unguarded", "unguarded count"}))
async def test_without_the_predicates_each_of_these_would_show_more(
    database: Database, rows: Rows, name: str
) -> None:
    """The negative control: the same statements see other rows when nothing filters them."""
    statement, expected = READS[name]
    async with database.read(None) as work, work.as_system("control"):
        assert (await work.session.execute(statement)).all() != expected


async def test_get_does_not_find_a_row_of_somebody_else(as_ann: Work, rows: Rows) -> None:
    assert await as_ann.session.get(Agent, rows.ann_agent) is not None
    assert await as_ann.session.get(Agent, rows.bob_agent) is None


@pytest.mark.parametrize("load", [selectinload, joinedload])
async def test_relationship_loads_are_filtered(as_ann: Work, load: Callable[..., object]) -> None:
    statement = select(Agent).options(load(Agent.runs))
    agent = (await as_ann.session.scalars(statement)).unique().one()
    assert [run.cost for run in agent.runs] == [1]


async def test_relationship_loads_from_an_unguarded_entity_are_filtered(as_ann: Work) -> None:
    statement = select(User).options(selectinload(User.agents)).order_by(User.email)
    users = (await as_ann.session.scalars(statement)).all()
    assert [[agent.name for agent in user.agents] for user in users] == [["hers"], []]


UNGUARDABLE: dict[str, Executable] = {
    "text": text("SELECT * FROM agents"),
    "text into an entity": select(Agent).from_statement(text("SELECT * FROM agents")),
    "the table": select(TABLE),
    "a column of the table": select(TABLE.c.name),
    "a count of the table": select(func.count()).select_from(TABLE),
    "an alias of the table": select(ALIAS.c.name),
    "the table inside": select(User.email).where(User.id.in_(select(TABLE.c.owner_id))),
    "a column beside an entity": select(User.email, TABLE.c.name),
    "a function beside an entity": select(User.id, func.count(TABLE.c.id)).group_by(User.id),
    "a join to the table": select(User.email).join(TABLE, TABLE.c.owner_id == User.id),
    "a join to its alias": select(User.email).join(ALIAS, ALIAS.c.owner_id == User.id),
    "from the table": select(User.email).select_from(TABLE),
    "a condition on the table": select(User.email).where(TABLE.c.name == "his"),
    "update of the table": update(TABLE).values(name="x"),
    "delete from the table": delete(TABLE),
    "insert into the table": insert(TABLE).values(name="x"),
    "insert into the entity": insert(Agent).values(name="x"),
    "a union of tables": union(select(TABLE.c.name), select(TABLE.c.name)),
}


@pytest.mark.parametrize("name", UNGUARDABLE)
async def test_what_cannot_be_scoped_raises(database: Database, rows: Rows, name: str) -> None:
    with pytest.raises(UnscopedQuery):
        async with database.write(rows.ann) as work:
            await work.session.execute(UNGUARDABLE[name])


@pytest.mark.parametrize(
    "statement",
    [select(Agent), select(func.count(Agent.id)), select(User).join(User.agents), update(Agent)],
)
async def test_a_unit_without_a_caller_cannot_ask_for_guarded_rows(
    database: Database, rows: Rows, statement: Executable
) -> None:
    with pytest.raises(UnscopedQuery, match="requires"):
        async with database.write(None) as work:
            await work.session.execute(statement)


async def test_a_unit_without_a_caller_may_ask_for_unguarded_rows(
    database: Database, rows: Rows
) -> None:
    async with database.read(None) as work:
        assert await work.session.scalar(select(Tag.label)) == "red"


async def test_anyone_owns_nothing(database: Database, rows: Rows) -> None:
    async with database.read(ANYONE) as work:
        assert (await work.session.scalars(select(Agent.name))).all() == []
        assert (await work.session.scalars(select(Post.title))).all() == ["news"]


async def test_an_administrator_sees_everybody_but_no_other_tenant(
    database: Database, rows: Rows
) -> None:
    tenant = uuid4()
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all(
            [Invoice(number=1, tenant_id=tenant), Invoice(number=2, tenant_id=uuid4())]
        )
    async with database.read(ADMIN) as work:
        assert await work.session.scalar(select(func.count(Agent.id))) == 2
        assert (await work.session.scalars(select(Invoice.number))).all() == []
    member = Principal(id=ADMIN.id, permissions=ADMIN.permissions, tenant_id=tenant)
    async with database.read(member) as work:
        assert (await work.session.scalars(select(Invoice.number))).all() == [1]


async def test_update_and_delete_reach_own_rows_only(database: Database, rows: Rows) -> None:
    async with database.write(rows.ann) as work:
        await work.session.execute(update(Agent).values(name="renamed"))
        await work.session.execute(delete(Run))
        await work.session.execute(update(Post).values(title="taken"))
    async with database.read(None) as work, work.as_system("look"):
        names = (await work.session.scalars(select(Agent.name).order_by(Agent.name))).all()
        costs = (await work.session.scalars(select(Run.cost).order_by(Run.cost))).all()
        titles = (await work.session.scalars(select(Post.title).order_by(Post.title))).all()
    assert names == ["his", "renamed"]
    assert costs == [10, 100]
    assert titles == ["draft", "news"]


async def test_what_is_not_seen_is_not_changed_and_not_copied(
    database: Database, rows: Rows
) -> None:
    """An entity that says only who reads it; whoever changes its rows sees them by that."""
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all([Leaflet(team="ann", text="hers"), Leaflet(team="bob", text="his")])
    ann = Principal(id=rows.ann.id, permissions=frozenset({"leaflets:ann"}))
    async with database.write(ann) as work:
        changed = update(Leaflet).values(text="seen").returning(Leaflet.team)
        assert (await work.session.scalars(changed)).all() == ["ann"]
        highest = select(func.max(Leaflet.team)).scalar_subquery()
        await work.session.execute(update(Tag).values(label=highest))
        gone = await work.session.execute(delete(Leaflet).returning(Leaflet.team))
        assert gone.all() == [("ann",)]
    async with database.read(None) as work, work.as_system("look"):
        assert (await work.session.scalars(select(Leaflet.text))).all() == ["his"]
        assert await work.session.scalar(select(Tag.label)) == "ann"


async def test_a_change_reads_what_its_caller_sees(database: Database, rows: Rows) -> None:
    """Of another entity, which it does not change."""
    async with database.write(rows.ann) as work:
        title = select(Post.title).scalar_subquery()
        await work.session.execute(update(Agent).values(name=title))
    async with database.read(rows.ann) as work:
        assert await work.session.scalar(select(Agent.name)) == "news"


async def test_an_entity_that_inherits_leaves_none_of_its_table_unguarded(
    database: Database, rows: Rows
) -> None:
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add_all([Pet(owner_id=rows.bob.user_id), Puppy(owner_id=rows.bob.user_id)])
    async with database.write(rows.ann) as work:
        for kind in (Pet, Puppy):
            assert (await work.session.scalars(select(kind))).all() == []
            gone = await work.session.execute(delete(kind).returning(kind.id))
            assert gone.all() == []
            with pytest.raises(UnscopedQuery, match="owner_id"):
                await work.session.execute(update(kind).values(owner_id=rows.ann.user_id))


async def _add_for_bob(work: Work, rows: Rows) -> None:
    work.session.add(Agent(name="planted", owner_id=rows.bob.user_id))


async def _give_away(work: Work, rows: Rows) -> None:
    (await work.session.scalars(select(Agent))).one().owner_id = rows.bob.user_id


async def _change_visible(work: Work, rows: Rows) -> None:
    (await work.session.scalars(select(Post))).one().title = "taken"


async def _take_over_visible(work: Work, rows: Rows) -> None:
    (await work.session.scalars(select(Post))).one().owner_id = rows.ann.user_id


async def _delete_visible(work: Work, rows: Rows) -> None:
    await work.session.delete((await work.session.scalars(select(Post))).one())


@pytest.mark.parametrize(
    "attack", [_add_for_bob, _give_away, _change_visible, _take_over_visible, _delete_visible]
)
async def test_a_flush_refuses_rows_of_somebody_else(
    database: Database, rows: Rows, attack: Callable[[Work, Rows], Awaitable[None]]
) -> None:
    with pytest.raises(Forbidden):
        async with database.write(rows.ann) as work:
            await attack(work, rows)


async def test_nobody_adds_rows_to_another_tenant(database: Database, rows: Rows) -> None:
    member = Principal(id=rows.ann.id, tenant_id=uuid4(), permissions=frozenset({"*"}))
    with pytest.raises(Forbidden):
        async with database.write(member) as work:
            work.session.add(Invoice(number=7, tenant_id=uuid4()))
    async with database.write(member) as work:
        work.session.add(Invoice(number=7, tenant_id=member.tenant_id))


async def test_a_unit_without_a_caller_cannot_add_guarded_rows(
    database: Database, rows: Rows
) -> None:
    with pytest.raises(UnscopedQuery):
        async with database.write(None) as work:
            work.session.add(Agent(name="x", owner_id=rows.ann.user_id))


async def test_the_system_scope_ends_with_its_block_and_is_logged(
    database: Database, rows: Rows
) -> None:
    async with database.read(rows.ann) as work:
        with capture_logs() as logs:
            async with work.as_system("monthly report"):
                assert await work.session.scalar(select(func.count(Agent.id))) == 2
        assert {"event": "system_scope", "reason": "monthly report", "log_level": "info"} in logs
        assert await work.session.scalar(select(func.count(Agent.id))) == 1


async def test_the_system_scope_ends_when_its_block_fails(database: Database, rows: Rows) -> None:
    async with database.read(rows.ann) as work:
        with pytest.raises(NotFound):
            async with work.as_system("fails"):
                raise NotFound
        assert await work.session.scalar(select(func.count(Agent.id))) == 1


@pytest.mark.parametrize("opened", ["read", "write"])
async def test_what_a_system_block_has_read_is_not_seen_after_it(
    database: Database, rows: Rows, opened: str
) -> None:
    async with getattr(database, opened)(rows.ann) as work:
        user = await work.session.get(User, rows.bob.user_id, options=[selectinload(User.agents)])
        assert user.agents == []
        async with work.as_system("count"):
            kept = (await work.session.scalars(select(Agent))).all()
            again = select(User).options(selectinload(User.agents))
            await work.session.execute(again.execution_options(populate_existing=True))
            assert [agent.name for agent in user.agents] == ["his"]
            tags = (await work.session.scalars(select(Tag))).all()
        assert {agent.name for agent in kept} == {"hers", "his"}
        assert await work.session.get(Agent, rows.bob_agent) is None
        assert await work.session.get(Agent, rows.ann_agent) in kept
        assert await work.session.get(Tag, tags[0].id) is tags[0]
        load = select(User).options(selectinload(User.agents)).where(User.id == rows.bob.id)
        assert (await work.session.scalars(load)).one().agents == []


async def test_what_points_to_an_unseen_row_reads_it_anew(database: Database, rows: Rows) -> None:
    async with database.write(None) as work, work.as_system("arrange"):
        work.session.add(Run(agent_id=rows.bob_agent, owner_id=rows.ann.user_id, cost=5))
    statement = select(Run).where(Run.cost == 5).options(selectinload(Run.agent))
    async with database.read(rows.ann) as work:
        async with work.as_system("look"):
            run = (await work.session.scalars(statement)).one()
            assert run.agent.name == "his"
        assert (await work.session.scalars(statement)).one() is run
        assert run.agent is None


async def test_the_error_of_a_system_block_is_the_one_to_tell(
    database: Database, rows: Rows
) -> None:
    """Also with rows that were not written yet and point to what leaves."""
    with pytest.raises(KeyError):  # noqa: PT012 - what fails is the end of the block
        async with database.write(rows.ann) as work, work.as_system("fails"):
            run = Run(agent_id=rows.bob_agent, owner_id=rows.bob.user_id)
            run.agent = await work.session.get_one(Agent, rows.bob_agent)
            work.session.add(run)
            raise KeyError


async def test_what_was_seen_before_a_system_block_stays(database: Database, rows: Rows) -> None:
    async with database.write(rows.ann) as work:
        agent = await work.session.get_one(Agent, rows.ann_agent)
        async with work.as_system("look"):
            run = (await work.session.scalars(select(Run).where(Run.cost == 1))).one()
        agent.name, run.cost = "renamed", 2
    async with database.read(rows.ann) as work:
        assert await work.session.scalar(select(Agent.name)) == "renamed"
        assert await work.session.scalar(select(Run.cost)) == 2


async def test_a_policy_that_only_the_database_knows_lets_go(
    database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = classmethod(lambda cls, _: cls.name.regexp_match("h.*s"))
    monkeypatch.setattr(Agent, "visible_to", asked)
    async with database.read(rows.ann) as work:
        async with work.as_system("look"):
            agents = (await work.session.scalars(select(Agent))).all()
        assert len(agents) == 2
        assert not any(agent in work.session for agent in agents)


async def test_a_change_after_the_system_block_is_refused(database: Database, rows: Rows) -> None:
    async def change() -> None:
        async with database.write(rows.ann) as work:
            async with work.as_system("look"):
                agent = await work.session.get_one(Agent, rows.bob_agent)
                agent.name = "changed in it"
            agent.name = "changed after it"

    with pytest.raises(InvalidRequestError, match="change it in the block"):
        await change()
    async with database.read(rows.bob) as work:
        assert await work.session.scalar(select(Agent.name)) == "his"


async def test_deleted_rows_are_hidden_unless_asked_for(database: Database, rows: Rows) -> None:
    async with database.write(rows.ann) as work:
        agent = (await work.session.scalars(select(Agent))).one()
        agent.deleted_at = agent.created_at
    async with database.read(rows.ann) as work:
        assert (await work.session.scalars(select(Agent.name))).all() == []
        shown = select(Agent.name).execution_options(include_deleted=True)
        assert (await work.session.scalars(shown)).all() == ["hers"]
    async with database.read(None) as work, work.as_system("deleted rows stay hidden here too"):
        assert (await work.session.scalars(select(Agent.name))).all() == ["his"]


async def test_expressions_that_name_no_table_pass(as_ann: Work) -> None:
    statement = select(cast(literal_column("1"), SqlString))
    assert await as_ann.session.scalar(statement) == "1"


async def test_removing_the_filter_shows_everything(
    database: Database, rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The negative control of the whole module: sabotage the predicates and Bob's rows appear."""
    monkeypatch.setattr(scope, "_criteria", lambda *_args, **_named: iter(()))
    async with database.read(rows.ann) as work:
        assert await work.session.scalar(select(func.count(Agent.id))) == 2


HAND_MADE = table("agents", column("name"))
DELETED = delete(Post).returning(Post.id).cte()

ATTACKS: dict[str, Executable] = {
    "a table made by hand": select(HAND_MADE),
    "an update of a table made by hand": update(HAND_MADE).values(name="x"),
    "text in the columns": select(text("name")).select_from(text("agents")),
    "a literal column": select(literal_column("(SELECT max(name) FROM Agents)")),
    "text as a value": update(Tag).values(label=text("(SELECT max(name) FROM agents)")),
    "an update that reads another table": (
        update(Tag).where(Agent.name == "his").values(label=Agent.name)
    ),
    "a delete that reads another table": delete(Tag).where(Tag.label == Agent.name),
    "an update that gives rows away": update(Agent).values(owner_id=uuid4()),
    "an update that gives rows to a tenant": update(Invoice).values({Invoice.tenant_id: uuid4()}),
    "an update that gives rows away in order": (
        update(Agent).ordered_values((Agent.name, "x"), (Agent.owner_id, uuid4()))
    ),
    "an update that grants roles": update(User).values(roles=["admin"]),
    "a hand-made table in capitals": select(table("AGENTS", column("name")).c.name),
    "a quoted one": select(table(quoted_name("AGENTS", quote=True), column("name")).c.name),
    "a prefix": select(Tag.label).prefix_with("(SELECT max(name) FROM agents),"),
    "a suffix": select(Tag.label).suffix_with("UNION ALL SELECT name FROM Agents"),
    "a prefix inside": select(select(Tag.label).prefix_with("agents.name,").subquery()),
    "an operator": select(Tag.label).where(Tag.label.op("= (SELECT name FROM agents) OR 1 =")("1")),
    "an operator before": select(
        UnaryExpression(Tag.label, operator=custom_op("(SELECT max(name) FROM agents) || "))
    ),
    "a hint": select(Tag.label).with_hint(Tag, "JOIN agents ON true"),
    "a hint of the statement": select(Tag.label).with_statement_hint("UNION SELECT 1 FROM agents"),
    "a part of a time": select(extract("1 FROM agents", Tag.created_at)),
    "many rows": insert(Tag).values([{"label": select(TABLE.c.name).scalar_subquery()}]),
    "many rows by place": insert(Tag.__table__).values(
        [(None, select(Agent.name).scalar_subquery())]
    ),
    "a statement of the schema": DDL("DELETE FROM agents"),
    "a delete beside a select": select(Tag.label).add_cte(DELETED),
    "a delete inside of a select": select(Tag.label).where(Tag.id.in_(select(DELETED.c.id))),
    "an update beside a select of its entity": (
        select(Post.title).add_cte(update(Post).values(title="taken").cte())
    ),
    "an update that copies": (
        select(Tag.label).add_cte(
            update(Tag).values(label=select(Agent.name).scalar_subquery()).cte()
        )
    ),
    "an insert beside an update": (
        update(Tag).values(label="x").add_cte(insert(Agent).values(name="planted").cte())
    ),
}


@pytest.mark.parametrize("name", ATTACKS)
async def test_what_an_attack_found_raises(database: Database, rows: Rows, name: str) -> None:
    with pytest.raises(UnscopedQuery):
        async with database.write(rows.ann) as work:
            await work.session.execute(ATTACKS[name])


async def test_an_update_by_a_list_of_ids_raises(database: Database, rows: Rows) -> None:
    changes = [{"id": rows.bob_agent, "name": "taken", "version": 1}]
    with pytest.raises(UnscopedQuery, match="list of ids"):
        async with database.write(rows.ann) as work:
            await work.session.execute(update(Agent), changes)


async def test_parameters_cannot_give_rows_away(database: Database, rows: Rows) -> None:
    with pytest.raises(UnscopedQuery, match="owner_id"):
        async with database.write(rows.ann) as work:
            await work.session.execute(update(Agent), {"owner_id": rows.bob.user_id})


@pytest.mark.parametrize(
    "method", ["bulk_save_objects", "bulk_insert_mappings", "bulk_update_mappings"]
)
async def test_methods_that_skip_the_events_are_refused(
    database: Database, rows: Rows, method: str
) -> None:
    with pytest.raises(UnscopedQuery, match="bulk"):
        async with database.write(rows.ann) as work:
            await work.session.run_sync(lambda session: getattr(session, method)(Agent, []))


async def test_harmless_text_and_sub_queries_still_pass(database: Database, rows: Rows) -> None:
    names = select(Agent.name).scalar_subquery()
    async with database.write(rows.ann) as work:
        await work.session.execute(update(Tag).values(label=names))
        await work.session.execute(update(Agent).values(name=literal_column("name || '!'")))
        await work.session.execute(delete(Run).where(Run.agent_id.in_(select(Agent.id))))
        await work.session.scalars(select(Agent.name.op("||")("?")).prefix_with("ALL"))
        await work.session.execute(select(Agent.id, extract("year", Agent.created_at)))
    async with database.read(None) as work, work.as_system("look"):
        assert await work.session.scalar(select(Tag.label)) == "hers"
        found = (await work.session.scalars(select(Agent.name).order_by(Agent.name))).all()
        assert found == ["hers!", "his"]
        assert (await work.session.scalars(select(Run.cost).order_by(Run.cost))).all() == [10, 100]
