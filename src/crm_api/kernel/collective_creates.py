"""Writes many new rows by one statement, with an audit row and an event of each: all of them, or none."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects.postgresql import ARRAY, JSON, JSONB

from crm_api.kernel import customs_search
from crm_api.kernel.collective_writes import recorded, write
from crm_api.kernel.context import Context
from crm_api.kernel.customs import fields_of
from crm_api.kernel.customs_index import kept
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external import IDS, kind_of
from crm_api.kernel.external_sources import EXTERNAL_IDS
from crm_api.kernel.ledger import insert_from
from crm_api.kernel.policy import access_version
from crm_api.kernel.record import FieldValue, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import row_parameters
from crm_api.kernel.schema import SEPARATOR
from crm_api.kernel.writing import New, exists, facts

_EMPTY = sa.literal_column("'{}'::jsonb", JSONB())
_ONE: Any = sa.literal_column("1")
_DIALECT = postgresql.dialect()  # type: ignore[no-untyped-call]
_ROWS = sa.bindparam("rows", type_=JSON())


def collectable(resource: Resource) -> bool:
    """Whether new rows may be written together: not those that change what the caller may do with the next one."""
    return "create" in resource.operations and not resource.access_fields and not resource.parts


async def insert_all(
    ctx: Context, resource: Resource, rows: Sequence[Mapping[str, Any]], cause: Mapping[str, Any]
) -> bool:
    """Writes rows that `repository.drafted` made; whether all were permitted and all their references lead somewhere.

    If not, some may be written, so the transaction must not be committed.

    Args:
        ctx: a job in a transaction.
        resource: of the rows.
        rows: every column of each; those that have the same ones, and belong to the caller or to others, go together.
        cause: `kind` and what else says why, kept in the origin of the event.

    Raises:
        PostgresError: a constraint refuses one of them.
    """
    groups: dict[Any, list[tuple[New, Mapping[str, Any]]]] = {}
    for row in rows:
        form = New.of(ctx, resource, row, row_parameters(resource, row, fields_of(ctx.access, resource)))
        groups.setdefault((form.columns, form.own, form.reached), []).append((form, row))
    for some in groups.values():
        form = _joined([form for form, _ in some])
        statement = ctx.kernel.statement(
            ("insert_all", resource.plural, ctx.access.shape, form), partial(_compile, ctx, resource, form)
        )
        values = _parameters(ctx, resource, [row for _, row in some])
        written = await write(ctx, resource, statement, "created", cause, values, "create")
        if len(written) != len(some):
            return False
    return True


def _joined(forms: Sequence[New]) -> New:
    """One form for rows that differ in what they refer to."""
    references = frozenset[str]().union(*(form.references for form in forms))
    return replace(forms[0], references=references, valued=True, indexed=any(form.indexed for form in forms))


def _parameters(ctx: Context, resource: Resource, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    scaled = {
        str(column.name): column.type for column in resource.table.c if isinstance(column.type, sa.types.TypeDecorator)
    }
    told: list[dict[str, Any]] = []
    index: dict[str, list[Any]] = {"x_ids": [], "x_fields": [], "x_values": []}
    named: dict[str, list[Any]] = {"n_ids": [], "n_sources": [], "n_texts": []}
    fields = fields_of(ctx.access, resource)
    customs: dict[str, list[Any]] = {}
    for row in rows:
        bound = row_parameters(resource, row, fields)
        whole = dict(row)
        for name, type_ in scaled.items():
            whole[name] = type_.process_bind_param(whole.get(name), _DIALECT)
        if resource.search:
            pieces = [bound.get(f"s_{i}", "") for i in range(len(resource.search))]
            pieces += [bound[customs_search.TEXT]] if customs_search.TEXT in bound else []
            whole["search_text"] = SEPARATOR.join(pieces)
        told.append(whole)
        index["x_ids"] += [row["id"]] * len(bound["x_fields"])
        index["x_fields"] += bound["x_fields"]
        index["x_values"] += bound["x_values"]
        for name, column in {**bound, "cf_object_id": [row["id"]] * len(bound.get("cf_field_id", ()))}.items():
            if name.startswith("cf_"):
                customs.setdefault(name, []).extend(column)
        for source, text in (row.get(EXTERNAL_IDS) or {}).items():
            for name, value in zip(named, (row["id"], source, text), strict=True):
                named[name].append(value)
    return {**ctx.access.values, **index, **named, **customs, "rows": told}


def _compile(ctx: Context, resource: Resource, form: New) -> Statement:
    """Guard, rows, external ids, index values, audit and outbox in one statement; gives the ids."""
    table = resource.table
    names = [*sorted(form.columns), *(["search_text"] if resource.search else [])]
    records = (
        sa.func.json_to_recordset(_ROWS)
        .table_valued(*(sa.column(name, table.c[name].type) for name in names), name="records")
        .render_derived(with_types=True)
    )
    new = sa.select(TENANT.label("tenant_id"), *records.c).subquery(f"new_{table.name}")
    conditions = [access_version()]
    if not form.own:
        rule = ctx.kernel.policy.rows(ctx.access, resource, "create", new, reached=form.reached)
        conditions += [] if rule is None else [rule]
    for name in sorted(form.references):
        if (found := exists(ctx, resource, name, new.c[name])) is not None:
            conditions.append(sa.or_(new.c[name].is_(None), found))
    insert = sa.insert(table).from_select(["tenant_id", *names], sa.select(*new.c).where(*conditions))
    written = insert.returning(*facts(resource)).cte("written")
    beside = [_indexed(written), _named(ctx, resource, written)]
    if form.indexed:
        beside.append(kept(written, each=True))
    return recorded(written, resource, _EMPTY, written.c.image, beside=beside)


def _indexed(written: Any) -> Any:
    pairs = _unnested(x_ids=sa.Uuid(), x_fields=sa.Text(), x_values=sa.Text())
    columns = {"tenant_id": TENANT, "field": pairs.c.x_fields, "value": pairs.c.x_values, "object_id": written.c.row_id}
    joined = sa.join(written, pairs, written.c.row_id == pairs.c.x_ids)
    return insert_from(table_of(FieldValue), columns, joined).returning(_ONE).cte("indexed")


def _named(ctx: Context, resource: Resource, written: Any) -> Any:
    """Takes the external ids of the rows; when another record has one, the statement fails."""
    pairs = _unnested(n_ids=sa.Uuid(), n_sources=sa.Text(), n_texts=sa.Text())
    columns = {
        "tenant_id": TENANT,
        "source": pairs.c.n_sources,
        "object_type": sa.literal(kind_of(ctx.kernel.catalog, resource), sa.Text()),
        "external_id": pairs.c.n_texts,
        "object_id": written.c.row_id,
    }
    joined = sa.join(written, pairs, written.c.row_id == pairs.c.n_ids)
    return insert_from(IDS, columns, joined).returning(_ONE).cte("named")


def _unnested(**columns: Any) -> Any:
    binds = [sa.bindparam(name, type_=ARRAY(type_)) for name, type_ in columns.items()]
    described = [sa.column(name, type_) for name, type_ in columns.items()]
    return sa.func.unnest(*binds).table_valued(*described, name="pairs").render_derived()
