"""Which rows a collective verb is about, and what the caller may do with each: found in steps, locked, judged."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.collections import page_rows
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.external import is_external, resolved
from crm_api.kernel.external_sources import contested
from crm_api.kernel.filters import Group
from crm_api.kernel.paging import Key
from crm_api.kernel.policy import Met
from crm_api.kernel.predicates import to_sql
from crm_api.kernel.query import Listing, framed
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_OWNERS = sa.bindparam("owners", type_=ARRAY(sa.Uuid()))
_SOURCES = sa.bindparam("sources", type_=ARRAY(sa.Text()))
_AFTER = sa.bindparam("after", type_=sa.Uuid())
_LIMIT = sa.bindparam("limit", type_=sa.BigInteger())
FIRST = UUID(int=0)


@dataclass(frozen=True, slots=True)
class Found:
    """A row that the caller may read.

    Attributes:
        id: its id.
        owner_id: whose it is.
        open: it is in a state that an edge leads out of, or has no states.
        missing: the first action that the caller may not do with it; None when all are permitted.
        owned: another system owns the field `owner_id` of this row.
        parent_id: for a child, the record that it belongs to.
    """

    id: str
    owner_id: str | None
    open: bool
    missing: str | None
    owned: bool
    parent_id: str | None = None


async def next_ids(
    ctx: Context, resource: Resource, tree: Group, values: Mapping[str, Any], after: str | None, most: int
) -> list[str]:
    """The next rows that a filter finds among those the caller may read, in the order of their ids."""
    cursor = None if after is None else [after]
    sort = (Key("id", descending=False),)
    listing = Listing(tree, {**values, "limit": most}, sort, most, cursor=cursor, fields=("id",))
    if after is not None:
        listing.values["c0"] = after
    plan, rows = await page_rows(ctx, resource, listing)
    return [str(plan.key_values(row)[0]) for row in rows if plan.present(row)]


async def count(ctx: Context, resource: Resource, tree: Group, values: Mapping[str, Any]) -> int:
    """How many rows a filter finds among those the caller may read; at most one more than an exact count says."""
    sort = (Key("id", descending=False),)
    listing = Listing(tree, {**values, "limit": 1}, sort, 1, fields=("id",), count="exact")
    _, rows = await page_rows(ctx, resource, listing)
    return int(rows[0]["total"])


async def named(ctx: Context, resource: Resource, texts: Sequence[str]) -> list[str]:
    """The ids that ids and external ids stand for, in their order and in lower case."""
    ids = await resolved(ctx, resource, {text for text in texts if is_external(text)})
    return [ids.get(text, text).lower() for text in texts]


async def judged(
    ctx: Context,
    resource: Resource,
    ids: Sequence[str],
    actions: tuple[str, ...],
    chosen: tuple[Group, Mapping[str, Any]] | None,
    *,
    lock: bool,
) -> dict[str, Found]:
    """Those of some rows that the caller may read and that a filter still finds, each with what is not permitted.

    Args:
        ctx: the request or job.
        resource: of the rows.
        ids: which rows; with `lock` they are locked in the order of their ids.
        actions: what the caller wants to do with each.
        chosen: the filter and its values; None when the rows were named.
        lock: nobody else may change them until the end of the transaction.
    """
    tree, values = chosen if chosen is not None else (Group("and"), {})
    key = ("judged", resource.plural, actions, tree.shape, lock)

    def build() -> Statement:
        table = resource.table
        wanted = among(table.c.id, _IDS)
        narrowed = to_sql(ctx.kernel.policy, ctx.access, resource, tree, table)
        return _compile(ctx, resource, actions, sa.select().where(wanted, narrowed), lock=lock)

    rows = await _run(ctx, resource, key, build, {**values, "ids": list(ids)})
    return {row["id"]: _found(row, actions) for row in rows if row["id"] is not None}


async def children(
    ctx: Context,
    resource: Resource,
    column: str,
    parents: Sequence[tuple[str, str]],
    actions: tuple[str, ...],
    after: str | None,
    most: int,
    *,
    lock: bool,
) -> list[Found]:
    """Rows that belong to some records and have the same owner as theirs, after an id, in the order of ids.

    Args:
        ctx: the job.
        resource: of the rows.
        column: their reference to the records.
        parents: (id, owner) of each record.
        actions: what the caller wants to do with each row.
        after: the id of the last one that was seen.
        most: how many at most.
        lock: as for `judged`.
    """
    key = ("children", resource.plural, column, actions, lock)

    def build() -> Statement:
        table = resource.table
        pairs = sa.func.unnest(_IDS, _OWNERS).table_valued(
            sa.column("parent_id", sa.Uuid()), sa.column("owner_id", sa.Uuid()), name="parents"
        )
        of = pairs.render_derived()
        joined = sa.join(table, of, sa.and_(table.c[column] == of.c.parent_id, table.c.owner_id == of.c.owner_id))
        rows = sa.select(sa.cast(of.c.parent_id, sa.Text()).label("parent_id")).select_from(joined)
        return _compile(ctx, resource, actions, rows.where(table.c.id > _AFTER).limit(_LIMIT), lock=lock)

    values = {
        "ids": [parent for parent, _ in parents],
        "owners": [owner for _, owner in parents],
        "after": after or FIRST,
        "limit": most,
    }
    rows = await _run(ctx, resource, key, build, values)
    return [_found(row, actions) for row in rows if row["id"] is not None]


async def loads(ctx: Context, resource: Resource, owners: Sequence[str]) -> dict[str, int]:
    """How many open rows each owner has, of those the caller may read."""

    def build() -> Statement:
        table = resource.table
        gate = ctx.kernel.policy.gate(ctx.access, resource, "read", table, Met.ALL)
        rows = sa.select(sa.cast(table.c.owner_id, sa.Text()).label("id"), sa.func.count().label("number")).where(
            *gate, among(table.c.owner_id, _IDS), still_open(resource)
        )
        return framed(rows.group_by(table.c.owner_id).lateral("page"))

    rows = await _run(ctx, resource, ("loads", resource.plural), build, {"ids": list(owners)})
    found = {row["id"]: int(row["number"]) for row in rows if row["id"] is not None}
    return {owner: found.get(owner, 0) for owner in owners}


async def _run(ctx: Context, resource: Resource, key: Any, build: Any, values: Mapping[str, Any]) -> list[Row]:
    owners = contested(ctx.access, resource, {"owner_id": None}).get("owner_id", ())
    sources = [source.code for source in owners]
    return (await settled(ctx, key, build, {**values, "sources": sources}, once=True))[1]


def _compile(
    ctx: Context, resource: Resource, actions: tuple[str, ...], rows: sa.Select[Any], *, lock: bool
) -> Statement:
    """Rows under the gate of reading, with whether the caller may do each action."""
    table, policy = resource.table, ctx.kernel.policy
    columns: list[Any] = [
        sa.cast(table.c.id, sa.Text()).label("id"),
        sa.cast(table.c.owner_id if resource.owned else sa.null(), sa.Text()).label("owner_id"),
        still_open(resource).label("is_open"),
        table.c.external_ids.has_any(_SOURCES).label("is_owned"),
    ]
    for i, action in enumerate(actions):
        rule = policy.rows(ctx.access, resource, action, table)
        columns.append((sa.true() if rule is None else rule).label(f"may_{i}"))
    gate = policy.gate(ctx.access, resource, "read", table)
    found = rows.add_columns(*columns).where(*gate).order_by(table.c.id)
    return framed((found.with_for_update(key_share=True, of=table) if lock else found).lateral("page"))


def still_open(resource: Resource) -> sa.ColumnElement[bool]:
    """Whether a row can still move: a state that no edge leads out of is an end."""
    if resource.lifecycle is None:
        return sa.true()
    states = sorted(frozenset[str]().union(*(edge.sources for edge in resource.lifecycle.edges)))
    column = resource.table.c[resource.lifecycle.column]
    return among(column, sa.literal(states, ARRAY(sa.Text())))


def _found(row: Row, actions: tuple[str, ...]) -> Found:
    missing = next((action for i, action in enumerate(actions) if not row[f"may_{i}"]), None)
    parent = row["parent_id"] if "parent_id" in row else None  # noqa: SIM401 - a record of the driver has no default
    return Found(row["id"], row["owner_id"], row["is_open"], missing, row["is_owned"], parent)
