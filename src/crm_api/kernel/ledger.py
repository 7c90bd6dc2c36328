"""Audit and outbox rows, written by the statement that writes the row: recorded or not done."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

from crm_api.kernel.coalescing import Emission, Mode
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT
from crm_api.kernel.record import AuditEntry, OutboxEvent, table_of
from crm_api.kernel.resource import Resource

_EVENTS = (
    sa.func.unnest(sa.bindparam("e_ids", type_=ARRAY(sa.Uuid())), sa.bindparam("e_types", type_=ARRAY(sa.Text())))
    .table_valued(sa.column("event_id", sa.Uuid()), sa.column("type", sa.Text()), name="events")
    .render_derived()
)
NOW = sa.bindparam("now", type_=sa.DateTime(timezone=True))
ACTOR = sa.bindparam("actor", type_=sa.Uuid())
_FIRST = sa.bindparam("audit_id", type_=sa.Uuid())
"""The id of the audit row, and of the first event."""
_EMPTY = sa.literal_column("'{}'::jsonb", JSONB())


def image(resource: Resource, row: str) -> sa.ColumnElement[Any]:
    """The row as JSON, without what is never sent."""
    private = [str(name) for name in map(str, resource.table.columns.keys()) if name not in resource.columns]
    whole = sa.func.to_jsonb(sa.literal_column(row))
    return (
        whole.op("-", return_type=JSONB())(sa.literal_column(f"'{{{','.join(private)}}}'::text[]"))
        if private
        else whole
    )


def insert_from(table: sa.Table, columns: dict[str, Any], rows: Any) -> sa.Insert:
    """INSERT ... SELECT, with each column beside its value."""
    return sa.insert(table).from_select(list(columns), sa.select(*columns.values()).select_from(rows))


def _shared(written: Any, resource: Resource) -> dict[str, Any]:
    return {
        "tenant_id": TENANT,
        "at": NOW,
        "actor_id": ACTOR,
        "object_type": sa.literal(resource.singular, sa.Text()),
        "object_id": written.c.row_id,
        "version": written.c.row_version,
    }


def audit_rows(written: Any, resource: Resource, id_: Any, before: Any, after: Any) -> sa.Insert:
    """An audit row for each row of the CTE `written` (row_id, row_version)."""
    columns = {
        "id": id_,
        "credential_id": sa.bindparam("credential", type_=sa.Uuid()),
        "request_id": sa.bindparam("request_id", type_=sa.Text()),
        "action": sa.bindparam("action", type_=sa.Text()),
        "before": before,
        "after": after,
    }
    return insert_from(table_of(AuditEntry), _shared(written, resource) | columns, written)


def outbox_rows(written: Any, resource: Resource, id_: Any, type_: Any, previous: Any, rows: Any) -> sa.Insert:
    """An event for each of `rows`: the CTE `written` (row_id, row_version, image), or a join of it."""
    columns = {
        "event_id": id_,
        "transaction_id": sa.bindparam("transaction_id", type_=sa.Uuid()),
        "type": type_,
        "previous": previous,
        "data": written.c.image,
        "origin": sa.bindparam("origin", type_=JSONB()),
    }
    return insert_from(table_of(OutboxEvent), _shared(written, resource) | columns, rows)


def entries(
    written: Any, resource: Resource, before: Any = _EMPTY, after: Any = _EMPTY, mode: Mode = "apart"
) -> tuple[list[Any], list[Any]]:
    """The CTEs that record what the CTE `written` (row_id, row_version, image) changed.

    Args:
        written: the CTE whose RETURNING they read, so that ids are drawn after the row is locked.
        resource: what was written.
        before: old values of what changed.
        after: new values of what changed.
        mode: how the events join those of the open transaction; audit rows are one for each change in any.

    Returns:
        The CTEs, and what to select last beside the row: the outbox id of the generic event, unless `apart`.
    """
    audit = audit_rows(written, resource, _FIRST, before, after)
    rows = sa.join(written, _EVENTS, sa.true())
    outbox = outbox_rows(written, resource, _EVENTS.c.event_id, _EVENTS.c.type, before, rows)
    ctes = [audit.returning(sa.literal_column("1")).cte("audited")]
    if mode == "first":
        table = table_of(OutboxEvent)
        emitted = outbox.returning(table.c.id, table.c.event_id).cte("emitted")
        generic = sa.select(emitted.c.id).where(emitted.c.event_id == _FIRST)
        return [*ctes, emitted], [generic.scalar_subquery().label("outbox_id")]
    ctes.append(outbox.returning(sa.literal_column("1")).cte("emitted"))
    if mode == "apart":
        return ctes, []
    kind, place = sa.bindparam("kind", type_=sa.Text()), sa.bindparam("place", type_=sa.BigInteger())
    merged = sa.func.coalesce_event(TENANT, place, kind, written.c.row_version, before, written.c.image)
    return ctes, [sa.select(merged).select_from(written).scalar_subquery().label("outbox_id")]


def parameters(ctx: Context, resource: Resource, action: str, emission: Emission) -> dict[str, Any]:
    """Values for `entries`."""
    ids = [new_id() for _ in emission.events] or [new_id()]
    origin = {
        "request_id": ctx.request_id,
        "credential_id": ctx.principal.credential_id,
        "via": ctx.via,
        "actor": ctx.principal.kind,
        "idempotency_key": ctx.idempotency_key,
        **({} if ctx.cause is None else {"cause": dict(ctx.cause)}),
    }
    return {
        "audit_id": ids[0],
        "now": ctx.now,
        "actor": ctx.principal.id,
        "credential": ctx.principal.credential_id,
        "request_id": ctx.request_id,
        "action": action,
        "transaction_id": ctx.transaction_id,
        "e_ids": ids[: len(emission.events)],
        "e_types": [f"{resource.singular}.{event}" for event in emission.events],
        "origin": origin,
        **emission.values,
    }
