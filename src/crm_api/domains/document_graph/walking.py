"""The statements of the graph: the documents around one, and where their lines came from."""

from collections.abc import Sequence
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.document_graph.links import DOCUMENTS, LINES, Link, links, readable
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.query import framed
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

MOST_NODES = 200
MOST_LINES = 1_000
_TITLES = {"lead": ("company", "last_name"), "opportunity": ("name",), "quote": ("number",), "order": ("number",)}
_COUNTED = {"quote": "revision"}


async def around(ctx: Context, resource: Resource, id_: str) -> list[Row]:
    """The documents around one that the caller sees, itself first, nearest first; one more than are told.

    From document to document it goes only through those that the caller sees, by references that they see.
    """
    ways = links(ctx)
    shape = ("document graph", tuple((way.holder.plural, way.column) for way in ways))
    given = {"object": resource.singular, "id": id_}
    _, rows = await settled(ctx, shape, lambda: _walk(ctx, ways), given)
    return [row for row in rows if row["object"] is not None]


def _walk(ctx: Context, ways: Sequence[Link]) -> Statement:
    given = sa.bindparam("object", type_=sa.Text()), sa.bindparam("id", type_=sa.Uuid())
    start = sa.select(given[0].label("object"), given[1].label("id"))
    reached = start.cte("reached", recursive=True)
    if ways:
        steps = sa.union_all(*(step for i, way in enumerate(ways) for step in _steps(ctx, way, reached, i)))
        near = steps.lateral("near")
        reached = reached.union(sa.select(near.c.object, near.c.id).select_from(reached.join(near, sa.true())))
    # A recursive query gives what it finds as it finds it, step by step, and ends with the limit.
    some = sa.select(reached).limit(sa.literal_column(str(MOST_NODES + 1))).subquery("some")
    told = sa.union_all(*(_told(ctx, item, ways, some) for item in DOCUMENTS)).lateral("told")
    return framed(sa.select(*told.c).select_from(some.join(told, sa.true())).lateral("page"))


def _steps(ctx: Context, way: Link, reached: Any, number: int) -> list[Any]:
    """From the holder to what it refers to, and back."""

    def gate(resource: Resource, table: Any) -> list[sa.ColumnElement[bool]]:
        return ctx.kernel.policy.gate(ctx.access, resource, "read", table)

    def found(resource: Resource, table: Any, *conditions: Any) -> Any:
        columns = sa.literal(resource.singular, sa.Text()).label("object"), table.c.id.label("id")
        return sa.select(*columns).where(*conditions).correlate(reached)

    holder, target = (item.table.alias(f"{name}_{number}") for item, name in ((way.holder, "h"), (way.target, "t")))
    back = way.holder.table.alias(f"b_{number}")
    there = (
        reached.c.object == sa.literal(way.holder.singular, sa.Text()),
        holder.c.tenant_id == TENANT,
        holder.c.id == reached.c.id,
        target.c.id == holder.c[way.column],
    )
    here = reached.c.object == sa.literal(way.target.singular, sa.Text()), back.c[way.column] == reached.c.id
    return [
        found(way.target, target, *there, *gate(way.target, target)),
        found(way.holder, back, *here, *gate(way.holder, back)),
    ]


def _told(ctx: Context, resource: Resource, ways: Sequence[Link], some: Any) -> Any:
    """What is told of each document, and what it refers to."""
    table, hidden = resource.table.alias(f"told_{resource.plural}"), ctx.access.hides(resource.plural)
    titles = [table.c[name] for name in _TITLES[resource.singular] if name not in hidden]
    assert resource.lifecycle is not None  # noqa: S101 - of documents
    counted = _COUNTED.get(resource.singular)
    refers = {way.kind: table.c[way.column] for way in ways if way.holder is resource}
    return (
        sa.select(
            some.c.object,
            sa.cast(some.c.id, sa.Text()).label("id"),
            sa.cast(sa.func.coalesce(*titles) if titles else sa.null(), sa.Text()).label("title"),
            sa.cast(table.c[counted] if counted else sa.null(), sa.BigInteger()).label("revision"),
            table.c[resource.lifecycle.column].label("state"),
            table.c.created_at,
            table.c.version,
            *(
                sa.cast(refers.get(kind, sa.null()), sa.Text()).label(kind)
                for kind in ("converted", "quoted", "revised", "ordered")
            ),
        )
        .where(
            some.c.object == sa.literal(resource.singular, sa.Text()),
            table.c.tenant_id == TENANT,
            table.c.id == some.c.id,
        )
        .correlate(some)
    )


async def origins(ctx: Context, documents: Sequence[Row]) -> list[Row]:
    """Lines of these documents beside the lines of these documents that they came from; one more than are told."""
    kinds = {item.singular for item in DOCUMENTS if LINES.get(item.singular) in readable(ctx, LINES.values())}
    ids = {kind: [UUID(row["id"]) for row in documents if row["object"] == kind] for kind in LINES}
    pairs = tuple((old, new) for old, new in _PAIRS if {old, new} <= kinds and ids[old] and ids[new])
    if not pairs:
        return []
    values = {f"of_{kind}": bound(found) for kind, found in ids.items() if any(kind in pair for pair in pairs)}
    _, rows = await settled(ctx, ("document graph lines", pairs), lambda: _origins(ctx, pairs), values)
    return [row for row in rows if row["from_line_id"] is not None]


_PAIRS = (("opportunity", "quote"), ("quote", "quote"), ("opportunity", "order"), ("quote", "order"))


def _origins(ctx: Context, pairs: Sequence[tuple[str, str]]) -> Statement:
    rows = sa.union_all(*(_pair(ctx, old, new) for old, new in pairs)).subquery("pairs")
    order = rows.c.to_id, rows.c.position, rows.c.to_line_id
    few = sa.select(rows).order_by(*order).limit(sa.literal_column(str(MOST_LINES + 1)))
    return framed(few.lateral("page"))


def _pair(ctx: Context, old: str, new: str) -> Any:
    before, after = LINES[old].table.alias(f"before_{old}_{new}"), LINES[new].table.alias(f"after_{old}_{new}")
    ends = (("from", LINES[old], before, old), ("to", LINES[new], after, new))
    columns = [
        column
        for name, _, table, kind in ends
        for column in (
            sa.cast(table.c[f"{kind}_id"], sa.Text()).label(f"{name}_id"),
            sa.cast(table.c.id, sa.Text()).label(f"{name}_line_id"),
            table.c.quantity.label(f"{name}_quantity"),
        )
    ]
    gates = [
        condition
        for _, resource, table, kind in ends
        for condition in (
            *ctx.kernel.policy.gate(ctx.access, resource, "read", table),
            among(table.c[f"{kind}_id"], sa.bindparam(f"of_{kind}", type_=ARRAY(sa.Uuid()))),
        )
    ]
    return (
        sa.select(*columns, after.c.position, after.c.description)
        .select_from(before.join(after, after.c.origin_line_id == before.c.id))
        .where(*gates)
    )
