"""Audit and outbox rows, written by the statement that writes the row: recorded or not done."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB

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


def entries(written: Any, resource: Resource, before: Any = _EMPTY, after: Any = _EMPTY) -> list[Any]:
    """The CTEs that record what the CTE `written` (row_id, row_version, image) changed.

    Args:
        written: the CTE whose RETURNING they read, so that ids are drawn after the row is locked.
        resource: what was written.
        before: old values of what changed.
        after: new values of what changed.
    """
    kind = sa.literal(resource.singular, sa.Text())
    audit = sa.insert(table_of(AuditEntry)).from_select(
        [
            "tenant_id",
            "id",
            "at",
            "actor_id",
            "credential_id",
            "request_id",
            "object_type",
            "object_id",
            "version",
            "action",
            "before",
            "after",
        ],
        sa.select(
            TENANT,
            sa.bindparam("audit_id", type_=sa.Uuid()),
            NOW,
            ACTOR,
            sa.bindparam("credential", type_=sa.Uuid()),
            sa.bindparam("request_id", type_=sa.Text()),
            kind,
            written.c.row_id,
            written.c.row_version,
            sa.bindparam("action", type_=sa.Text()),
            before,
            after,
        ).select_from(written),
    )
    outbox = sa.insert(table_of(OutboxEvent)).from_select(
        [
            "tenant_id",
            "event_id",
            "at",
            "transaction_id",
            "type",
            "object_type",
            "object_id",
            "version",
            "previous",
            "data",
            "actor_id",
            "origin",
        ],
        sa.select(
            TENANT,
            _EVENTS.c.event_id,
            NOW,
            sa.bindparam("transaction_id", type_=sa.Uuid()),
            _EVENTS.c.type,
            kind,
            written.c.row_id,
            written.c.row_version,
            before,
            written.c.image,
            ACTOR,
            sa.bindparam("origin", type_=JSONB()),
        ).select_from(sa.join(written, _EVENTS, sa.true())),
    )
    return [
        statement.returning(sa.literal_column("1")).cte(name)
        for name, statement in (("audited", audit), ("emitted", outbox))
    ]


def parameters(ctx: Context, resource: Resource, action: str, events: tuple[str, ...]) -> dict[str, Any]:
    """Values for `entries`; `events` are past tenses, the generic one first."""
    ids = [new_id() for _ in events]
    origin = {"request_id": ctx.request_id, "credential_id": ctx.principal.credential_id, "via": ctx.via}
    return {
        "audit_id": ids[0],
        "now": ctx.now,
        "actor": ctx.principal.id,
        "credential": ctx.principal.credential_id,
        "request_id": ctx.request_id,
        "action": action,
        "transaction_id": ctx.transaction_id,
        "e_ids": ids,
        "e_types": [f"{resource.singular}.{event}" for event in events],
        "origin": origin,
    }
