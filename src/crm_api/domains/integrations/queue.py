"""Puts events on their way to endpoints: the one statement that adds deliveries, for all that do."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.integrations.webhook_delivery import WebhookDelivery
from crm_api.kernel.database import TENANT
from crm_api.kernel.ledger import insert_from
from crm_api.kernel.record import table_of

_TABLE = table_of(WebhookDelivery)
EVENT = ("event_id", "event_type", "object_type", "object_id", "seq")
"""What a delivery copies of its event."""
_COLUMNS = ("id", "endpoint_id", *EVENT)


def added(kind: str, after: Any = None) -> Any:
    """An INSERT of deliveries that are due at once.

    Args:
        kind: why they are sent.
        after: a CTE; nothing is added unless it has a row.
    """
    types = {name: _TABLE.c[name].type for name in _COLUMNS}
    arrays = (sa.bindparam(f"d_{name}", type_=ARRAY(type_)) for name, type_ in types.items())
    named = (sa.column(name, type_) for name, type_ in types.items())
    fresh = sa.func.unnest(*arrays).table_valued(*named, name="fresh").render_derived()
    columns = {
        "tenant_id": TENANT,
        **{name: fresh.c[name] for name in _COLUMNS},
        "kind": sa.literal(kind, sa.Text()),
        "state": sa.literal("pending", sa.Text()),
        "created_at": sa.func.now(),
        "due_at": sa.func.now(),
    }
    rows = fresh if after is None else sa.join(after, fresh, sa.true())
    return insert_from(_TABLE, columns, rows).returning(_TABLE.c.id)


def values(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The parameters of `added`; each row has id, endpoint_id and what `EVENT` names."""
    return {f"d_{name}": [row[name] for row in rows] for name in _COLUMNS}
