"""External ids: `ext:{source}:{external_id}` wherever an id goes, and the table that finds a record by one."""

import hashlib
import hmac
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, get_args
from uuid import UUID

import sqlalchemy as sa
from pydantic import BaseModel
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.domain import Catalog
from crm_api.kernel.external_records import ExternalId
from crm_api.kernel.ledger import NOW
from crm_api.kernel.query import framed
from crm_api.kernel.record import table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import external_key

if TYPE_CHECKING:
    from crm_api.kernel.filters import Filters

IDS = table_of(ExternalId)
SOURCE = sa.bindparam("x_source", type_=sa.Text())
EXTERNAL_ID = sa.bindparam("x_external_id", type_=sa.Text())
_KEY = ["tenant_id", "source", "object_type", "external_id"]


def is_external(value: Any) -> bool:
    """Whether a value names a record by an external id."""
    return isinstance(value, str) and value.startswith("ext:")


def kind_of(catalog: Catalog, resource: Resource) -> str:
    """Under which object type the external ids of a resource are kept: one for each table."""
    return catalog.by_table[resource.table.name].singular


async def resolved(
    ctx: Context, resource: Resource, texts: Collection[str], *, deleted: bool = False
) -> dict[str, str]:
    """The id that each external id stands for, in one statement.

    What is unknown, hidden from the caller or another tenant's stands for an id that no record has, so that whatever
    follows answers as it answers for an unknown id.

    Args:
        ctx: the request.
        resource: what kind of record is meant.
        texts: external ids as they are written, `ext:{source}:{external_id}`.
        deleted: look among deleted records; of several that had the id, the last one deleted is meant.
    """
    kind = kind_of(ctx.kernel.catalog, resource)
    keys = {text: key for text in texts if (key := external_key(text)) is not None}
    found: dict[tuple[str, str], str] = {}
    if keys:
        sources, ids = (list(part) for part in zip(*sorted(set(keys.values())), strict=True))
        shape, values = ("external", resource.plural, deleted), {"x_sources": sources, "x_external_ids": ids}
        _, rows = await settled(ctx, shape, lambda: _find(ctx, resource, kind, deleted=deleted), values)
        found = {(row["source"], row["external_id"]): row["object_id"] for row in rows}
    return {text: found.get(keys.get(text, ("", ""))) or _nobody(ctx, kind, text) for text in texts}


def _nobody(ctx: Context, kind: str, text: str) -> str:
    """An id that no record has and nobody can guess; the same each time, since cursors are bound to it."""
    told = f"{ctx.principal.tenant_id}\n{kind}\n{text}".encode()
    return str(UUID(bytes=hmac.new(ctx.kernel.cursor_keys[0], told, hashlib.sha256).digest()[:16], version=4))


def _find(ctx: Context, resource: Resource, kind: str, *, deleted: bool) -> Statement:
    table = resource.table
    gate = ctx.kernel.policy.gate(ctx.access, resource, "delete" if deleted else "read", table, deleted=deleted)
    pairs = sa.func.unnest(*(sa.bindparam(name, type_=ARRAY(sa.Text())) for name in ("x_sources", "x_external_ids")))
    wanted = pairs.table_valued(
        sa.column("source", sa.Text()), sa.column("external_id", sa.Text()), name="wanted"
    ).render_derived()
    same = sa.and_(IDS.c.source == wanted.c.source, IDS.c.external_id == wanted.c.external_id)
    rows = (
        sa.select(IDS.c.source, IDS.c.external_id, sa.cast(table.c.id, sa.Text()).label("object_id"))
        .select_from(wanted.join(IDS, same).join(table, table.c.id == IDS.c.object_id))
        .where(
            IDS.c.tenant_id == TENANT,
            IDS.c.object_type == sa.literal(kind, sa.Text()),
            IDS.c.deleted_at.is_not(None) if deleted else IDS.c.deleted_at.is_(None),
            *gate,
        )
        .order_by(IDS.c.deleted_at)
        .lateral("found")
    )
    return framed(rows)


async def own_id(ctx: Context, resource: Resource, id_: str | UUID, *, deleted: bool = False) -> str | UUID:
    """The id of the record that an id or external id means."""
    if not is_external(id_):
        return id_
    return (await resolved(ctx, resource, [str(id_)], deleted=deleted))[str(id_)]


@dataclass(frozen=True, slots=True)
class To:
    """Says of a reference inside a list or object of a body what it points to: `Annotated[Ref, To("accounts")]`."""

    plural: str


Paths = tuple[tuple[tuple[str, ...], str], ...]
"""Ways from a body to references in it, each with the plural of what it points to."""


@cache
def inner_references(model: type[BaseModel]) -> Paths:
    """The marked references of a schema and of what is inside it; a list is no step of a way."""
    found: list[tuple[tuple[str, ...], str]] = []
    for name, info in model.model_fields.items():
        kinds = tuple(_parts(info.annotation))
        found += [((name,), part.plural) for part in (*info.metadata, *kinds) if isinstance(part, To)]
        inner = [kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)]
        found += [((name, *way), plural) for kind in inner for way, plural in inner_references(kind)]
    return tuple(found)


def _parts(annotation: Any) -> Iterator[Any]:
    yield annotation
    for part in get_args(annotation):
        yield from _parts(part)


def _externals(value: Any, way: tuple[str, ...]) -> Iterator[str]:
    """The external ids that a way leads to."""
    if isinstance(value, list):
        for item in value:
            yield from _externals(item, way)
    elif way and isinstance(value, Mapping):
        yield from _externals(value.get(way[0]), way[1:])
    elif not way and is_external(value):
        yield value


def _replaced(value: Any, way: tuple[str, ...], ids: Mapping[str, str]) -> Any:
    """A copy of a value, with ids in place of what a way leads to."""
    if isinstance(value, list):
        return [_replaced(item, way, ids) for item in value]
    if way and isinstance(value, Mapping) and way[0] in value:
        return {**value, way[0]: _replaced(value[way[0]], way[1:], ids)}
    return ids.get(value, value) if not way and isinstance(value, str) else value


async def referred(ctx: Context, resource: Resource, values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Values of a body, with ids in place of external ids in each reference, also inside lists and objects."""
    given: dict[str, set[str]] = {}
    columns = {}
    for name in resource.references:
        value = values.get(name)
        if is_external(value) and (target := ctx.kernel.catalog.target(resource, name)) is not None:
            columns[name] = target.plural
            given.setdefault(target.plural, set()).add(str(value))
    inner = inner_references(resource.create) if resource.create else ()
    for way, plural in inner:
        if texts := set(_externals(values, way)):
            given.setdefault(plural, set()).update(texts)
    if not given:
        return values
    ids = {}
    for plural, texts in given.items():
        target = ctx.kernel.catalog.resources[plural]
        if target is not resource:
            ctx.access.through(target)
        ids[plural] = await resolved(ctx, target, texts)
    found = {**values, **{name: ids[plural][str(values[name])] for name, plural in columns.items()}}
    for way, plural in inner:
        found = _replaced(found, way, ids.get(plural, {}))
    return found


async def settle(ctx: Context, filters: "Filters") -> None:
    """Puts ids in place of external ids in the values of a filter."""
    for plural in sorted({target.plural for target in filters.external.values()}):
        target = ctx.kernel.catalog.resources[plural]
        names = [name for name, other in filters.external.items() if other.plural == plural]
        if target is not filters.resource:
            ctx.access.through(target)
        texts = {text for name in names for text in _listed(filters.values[name]) if is_external(text)}
        ids = await resolved(ctx, target, texts)
        for name in names:
            value = filters.values[name]
            filters.values[name] = (
                [ids.get(item, item) for item in value] if isinstance(value, list) else ids.get(value, value)
            )


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def key_parameters(key: tuple[str, str] | None) -> dict[str, str]:
    """The parameters of `claim` and of look-ups by one external id."""
    return {} if key is None else {"x_source": key[0], "x_external_id": key[1]}


def claim(kind: str, guarded: Any) -> Any:
    """The CTE that takes an external id for the row in the CTE `guarded`; without a row when another has it."""
    rows = sa.select(TENANT, SOURCE, sa.literal(kind, sa.Text()), EXTERNAL_ID, guarded.c.id).select_from(guarded)
    insert = upsert(IDS).from_select([*_KEY, "object_id"], rows)
    return (
        insert.on_conflict_do_nothing(index_elements=_KEY, index_where=IDS.c.deleted_at.is_(None))
        .returning(sa.literal_column("1").label("one"))
        .cte("claimed")
    )


def settled_links(kind: str, table: Any) -> sa.ColumnElement[bool]:
    """A condition that the statement sees every external id of a row.

    A link that is committed while the statement waits for the row is in the row it then finds, but not in its snapshot
    of the table: it must run again, or `release` would leave that external id behind. So it must when a row with
    external ids was changed meanwhile, since one may have been taken from it and given back.
    """
    before = table.alias("before")
    version = sa.select(before.c.version).where(before.c.tenant_id == TENANT, before.c.id == table.c.id)
    pairs = sa.func.jsonb_object_agg(IDS.c.source, IDS.c.external_id)
    known = sa.select(sa.func.coalesce(pairs, sa.literal_column("'{}'::jsonb"))).where(
        IDS.c.tenant_id == TENANT, IDS.c.object_type == sa.literal(kind, sa.Text()), IDS.c.object_id == table.c.id
    )
    none: Any = sa.literal_column("'{}'::jsonb")
    return sa.and_(
        sa.cast(table.c.external_ids == known.correlate(table).scalar_subquery(), sa.Boolean),
        sa.or_(table.c.external_ids == none, table.c.version == version.correlate(table).scalar_subquery()),
    )


def release(kind: str, written: Any, *, deleted: bool) -> Any:
    """The CTE that frees the external ids of a deleted row, or takes those of a restored one again."""
    own = sa.select(written.c.row_id).scalar_subquery()
    rows = sa.update(IDS).where(
        IDS.c.tenant_id == TENANT, IDS.c.object_type == sa.literal(kind, sa.Text()), IDS.c.object_id == own
    )
    return rows.values(deleted_at=NOW if deleted else sa.null()).returning(sa.literal_column("1")).cte("released")
