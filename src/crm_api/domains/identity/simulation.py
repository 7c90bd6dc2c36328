"""Who would gain and lose what: two ways to be permitted, compared by permission, by field and by record."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.sql import visitors

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.policy import Access, Met
from crm_api.kernel.query import framed
from crm_api.kernel.resource import Resource

MOST_COUNTED = 10_000
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_SAMPLES = sa.bindparam("samples", type_=sa.BigInteger())
_BEFORE, _AFTER = "before_", "after_"
"""What the parameters of the one and the other are called by, instead of `p_`."""


def told(access: Access) -> tuple[Any, ...]:
    """All that decides what a principal may do and see; equal for two ways to be permitted that come to the same."""
    return (
        access.reach,
        access.hidden,
        access.read_only,
        access.defaults,
        frozenset(access.subordinates),
        frozenset(access.teams),
        frozenset(access.territories),
        frozenset(access.role_ids),
    )


def permissions_beyond(more: Access, less: Access) -> list[dict[str, Any]]:
    """What one may do that the other may not, each with the reaches that are new."""
    found = []
    for (plural, action), reach in sorted(more.reach.items()):
        known = less.reach.get((plural, action))
        if known is None or reach - known:
            found.append({"permission": f"{plural}:{action}", "reach": sorted(reach - (known or frozenset()))})
    return found


def fields_between(before: Access, after: Access) -> list[dict[str, Any]]:
    """The fields that are hidden or read-only for one and not so for the other."""
    names = {
        (plural, name)
        for access in (before, after)
        for rules in (access.hidden, access.read_only)
        for plural, fields in rules.items()
        for name in fields
    }
    states = [(place, _state(before, *place), _state(after, *place)) for place in sorted(names)]
    return [
        {"resource": plural, "field": name, "before": then, "after": now}
        for (plural, name), then, now in states
        if then != now
    ]


def _state(access: Access, plural: str, name: str) -> str:
    if name in access.hides(plural):
        return "hidden"
    return "read_only" if name in access.read_only.get(plural, frozenset()) else "open"


@dataclass(frozen=True, slots=True)
class Comparison:
    """How records are counted that are open to one and not to the other.

    Attributes:
        gained: those that the later one opens.
        lost: those that the earlier one opened.
        same: the conditions of both read alike.
        names: parameters that these have.
    """

    gained: Statement
    lost: Statement
    same: bool
    names: frozenset[str]

    def unchanged(self, before: Access, after: Access) -> bool:
        """Whether the two open the same records, whatever records there are."""
        return self.same and all(_set(before.values[name]) == _set(after.values[name]) for name in self.names)


def _set(value: Any) -> Any:
    return frozenset(map(str, value)) if isinstance(value, list) else value


async def compare(
    ctx: Context, resource: Resource, action: str, before: Access, after: Access, samples: int
) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """How many records the caller may read that are open to one and not the other, both ways; None for none."""
    shape = ("compared", resource.plural, action, before.shape, after.shape)
    plan = ctx.kernel.statement((*shape, ctx.access.shape), partial(_compile, ctx, resource, action, before, after))
    if plan.unchanged(before, after):
        return None
    values = {**_named(before, _BEFORE), **_named(after, _AFTER), "samples": samples}
    gained = await _counted(ctx, resource, (*shape, "gained"), plan.gained, values)
    lost = await _counted(ctx, resource, (*shape, "lost"), plan.lost, values)
    return (gained, lost) if gained["value"] or lost["value"] else None


def _named(access: Access, prefix: str) -> dict[str, Any]:
    return {prefix + name: value for name, value in access.values.items()}


async def _counted(
    ctx: Context, resource: Resource, shape: Any, statement: Statement, values: Mapping[str, Any]
) -> dict[str, Any]:
    _, rows = await settled(ctx, shape, lambda: statement, dict(values))
    number = int(rows[0]["number"])
    found = [
        {"object": resource.singular, "id": row["id"], "name": row["title"]} for row in rows if row["id"] is not None
    ]
    counted = {"value": min(number, MOST_COUNTED), "relation": "gte" if number > MOST_COUNTED else "eq"}
    return {**counted, "samples": found}


def _compile(ctx: Context, resource: Resource, action: str, before: Access, after: Access) -> Comparison:
    table, policy = resource.table, ctx.kernel.policy
    sides = [sa.and_(sa.true(), *policy.gate(access, resource, action, table, Met.ALL)) for access in (before, after)]
    texts = [str(side.compile(dialect=_DIALECT)) for side in sides]
    then, now = (_renamed(side, prefix) for side, prefix in zip(sides, (_BEFORE, _AFTER), strict=True))
    mine = policy.gate(ctx.access, resource, "read", table, Met.ALL)
    return Comparison(
        gained=_counting(ctx, resource, [*mine, now, then.is_not(sa.true())]),
        lost=_counting(ctx, resource, [*mine, then, now.is_not(sa.true())]),
        same=texts[0] == texts[1],
        names=frozenset().union(*(_parameters(side) for side in sides)),
    )


def _parameters(condition: sa.ColumnElement[bool]) -> set[str]:
    every = (element.key for element in visitors.iterate(condition) if isinstance(element, sa.BindParameter))
    return {key for key in every if key.startswith("p_")}


def _renamed(condition: sa.ColumnElement[bool], prefix: str) -> Any:
    """The same condition with parameters of another name, so that two of them stand in one statement."""

    def other(element: Any, **_: Any) -> Any:
        if isinstance(element, sa.BindParameter) and element.key.startswith("p_"):
            return sa.bindparam(prefix + element.key, type_=element.type)
        return element if isinstance(element, sa.Alias) else None  # a copy of it would not be what its columns are of

    return visitors.replacement_traverse(condition, {}, other)


def _counting(ctx: Context, resource: Resource, conditions: list[Any]) -> Statement:
    """How many rows, up to one more than are counted, beside the first of them."""
    table = resource.table
    hidden = resource.title in ctx.access.hides(resource.plural)
    title = sa.null() if hidden or resource.title == "id" else table.c[resource.title]
    found = (
        sa.select(table.c.id, sa.cast(title, sa.Text()).label("title"))
        .where(*conditions)
        .limit(sa.literal_column(str(MOST_COUNTED + 1)))
        .cte("found")
    )
    number = sa.select(sa.func.count().label("number")).select_from(found).subquery("counted")
    some = (
        sa.select(sa.cast(found.c.id, sa.Text()).label("id"), found.c.title)
        .order_by(found.c.id)
        .limit(_SAMPLES)
        .subquery("some")
    )
    rows = sa.select(number.c.number, some.c.id, some.c.title).select_from(sa.outerjoin(number, some, sa.true()))
    return framed(rows.lateral("page"))


def nothing(access: Access | None, principal: UUID) -> Access:
    """What a principal may do who cannot sign in."""
    return access or Access(0, principal)
