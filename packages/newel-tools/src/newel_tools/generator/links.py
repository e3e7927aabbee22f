"""The links between resources: columns that refer to one row, and tables of pairs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from newel_tools.errors import PlanError
from newel_tools.generator.naming import class_name, variable, words
from newel_tools.plan.nouns import singular
from newel_tools.plan.plan import Plan, Relation, Resource

__all__ = ["LinkView", "SetView", "view_links", "view_sets"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """A column that refers to one row of ``target``; ``on_delete`` is what SQL does to it."""

    name: str
    target: str
    target_class: str
    word: str
    optional: bool
    unique: bool
    on_delete: str | None
    column: str

    @property
    def to_users(self) -> bool:
        return self.target == "users"

    @property
    def mapped(self) -> str:
        return "UUID | None" if self.optional else "UUID"

    def line(self, *, unique: bool) -> str:
        """Return the line of the column in the entity."""
        on_delete = f', ondelete="{self.on_delete}"' if self.on_delete else ""
        key = f'ForeignKey("{self.target}.id"{on_delete})'
        default = ", default=None" if self.optional else ""
        flag = "unique" if unique else "index"
        return f"{self.column}: Mapped[{self.mapped}] = mapped_column({key}, {flag}=True{default})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SetView:
    """A link to many rows: ``table`` holds the pairs of ``near`` and ``far``."""

    name: str
    ids: str
    target: str
    target_class: str
    word: str
    var: str
    table: str
    near: str
    far: str
    to_itself: bool


def view_links(plan: Plan, resource: Resource) -> Iterator[LinkView]:
    """Yield the links of ``resource`` to one row each."""
    for relation in resource.relations:
        if relation.kind == "many_to_one":
            name, cls, word = _target(plan, relation)
            yield LinkView(
                name=relation.name,
                target=name,
                target_class=cls,
                word=word,
                optional=relation.optional,
                unique=relation.unique,
                on_delete=_on_delete(plan, resource, relation),
                column=f"{relation.name}_id",
            )


def view_sets(plan: Plan, resource: Resource) -> Iterator[SetView]:
    """Yield the links of ``resource`` to many rows; raises ``PlanError`` for what has no answer."""
    for relation in resource.relations:
        if relation.kind == "many_to_many":
            _refuse_set(plan, resource, relation)
            name, cls, word = _target(plan, relation)
            to_itself = name == resource.name
            one = singular(relation.name)
            yield SetView(
                name=relation.name,
                ids=f"{one}_ids",
                target=name,
                target_class=cls,
                word=word,
                var=variable(name, plan.resource(name).singular),
                table=f"{resource.singular}_{relation.name}",
                near=f"{resource.singular}_id",
                far=f"related_{one}_id" if to_itself else f"{plan.resource(name).singular}_id",
                to_itself=to_itself,
            )


def _refuse_set(plan: Plan, resource: Resource, relation: Relation) -> None:
    where = f"{resource.name}.{relation.name}"
    if relation.target == "users":
        raise PlanError(
            f"{where} links to many users, whom not everybody sees",
            fix=f"make it a resource, such as {resource.singular}_members with user: -> users",
            word=relation.name,
        )
    back = plan.resource(relation.target).relations
    if relation.target != resource.name and any(
        r.target == resource.name and r.kind == "many_to_many" for r in back
    ):
        raise PlanError(
            f"{where} is linked from both sides",
            fix=f"keep it in {resource.name} and remove it from {relation.target}",
            word=relation.name,
        )


def _target(plan: Plan, relation: Relation) -> tuple[str, str, str]:
    """Return the table, the class and the word of what a relation leads to."""
    if relation.target == "users":
        return "users", "User", "user"
    target = plan.resource(relation.target)
    return target.name, class_name(target.singular), words(target.singular)


def _on_delete(plan: Plan, resource: Resource, relation: Relation) -> str | None:
    """Return what happens to rows whose target is deleted.

    What users keep below what users keep goes with it (a post's comments); otherwise the deletion
    is refused while something refers to it (a category's products).
    """
    if relation.optional:
        return "SET NULL"
    if relation.target == "users" or resource.owner is None:
        return None
    return "CASCADE" if plan.resource(relation.target).owner else None
