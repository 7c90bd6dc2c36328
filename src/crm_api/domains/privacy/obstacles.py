"""What keeps the data of a person from being erased, and what an erasure leaves as it is."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.orders.order import ORDERS
from crm_api.domains.privacy.erasure import ERASURE_BLOCKED
from crm_api.domains.privacy.legal_hold import LEGAL_HOLDS
from crm_api.domains.quotes.quote import QUOTES
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.problems import Fault, Problem
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

OPEN: Mapping[Resource, tuple[str, ...]] = {
    ORDERS: ("draft", "pending_approval", "confirmed", "on_hold"),
    QUOTES: ("draft", "pending_approval", "approved", "sent"),
}
"""Documents under way: they need whom they are for. In any other state they are issued, and stay as they are."""
MOST = 20
Person = Mapping[str, list[str]]
_CONTACTS, _LEADS = (sa.bindparam(name, type_=ARRAY(sa.Uuid())) for name in ("contacts", "leads"))
_HOLDS = LEGAL_HOLDS.table


def _documents(resource: Resource) -> Statement:
    table = resource.table
    rows = sa.select(sa.cast(table.c.id, sa.Text()).label("id"), table.c.state).where(
        table.c.tenant_id == TENANT, table.c.deleted_at.is_(None), among(table.c.contact_id, _CONTACTS)
    )
    return Statement(rows.order_by(table.c.id))


_DOCUMENTS = {resource: _documents(resource) for resource in OPEN}
_HELD = Statement(
    sa.select(sa.cast(_HOLDS.c.id, sa.Text()).label("id"))
    .where(
        _HOLDS.c.tenant_id == TENANT,
        _HOLDS.c.deleted_at.is_(None),
        sa.or_(among(_HOLDS.c.contact_id, _CONTACTS), among(_HOLDS.c.lead_id, _LEADS)),
    )
    .order_by(_HOLDS.c.id)
)


def parameters(person: Person) -> dict[str, Any]:
    """Values of `contacts` and `leads`."""
    return {
        "contacts": bound([UUID(id_) for id_ in person["contact_id"]]),
        "leads": bound([UUID(id_) for id_ in person["lead_id"]]),
    }


async def obstacles(ctx: Context, person: Person) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Why the person cannot be erased now, and how many issued documents of each resource name them."""
    values = parameters(person)
    found = []
    if held := await ctx.fetch(_HELD, values):
        found.append(_obstacle("legal_hold", LEGAL_HOLDS, held, "A legal hold stands; lift it first."))
    kept = {}
    for resource, states in OPEN.items():
        rows = await ctx.fetch(_DOCUMENTS[resource], parameters(person))
        under_way = [row for row in rows if row["state"] in states]
        if under_way:
            detail = f"There are {resource.plural} under way; close or cancel them first."
            found.append(_obstacle("open_documents", resource, under_way, detail))
        if issued := len(rows) - len(under_way):
            kept[resource.plural] = issued
    return found, kept


def _obstacle(code: str, resource: Resource, rows: list[Row], detail: str) -> dict[str, Any]:
    ids = [row["id"] for row in rows[:MOST]]
    return {"code": code, "detail": detail, "resource": resource.plural, "count": len(rows), "ids": ids}


def blocked(found: list[dict[str, Any]]) -> Problem:
    """409 that lists the obstacles."""
    faults = [Fault(item["code"], item["detail"], pointer="") for item in found]
    return Problem(ERASURE_BLOCKED, "The law may require that the data is kept.", faults, extra={"obstacles": found})
