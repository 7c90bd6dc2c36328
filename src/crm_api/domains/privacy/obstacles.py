"""What keeps the data of a person from being erased, and what an erasure leaves as it is."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.orders.order import ORDERS
from crm_api.domains.privacy.erasure import ERASURE_BLOCKED
from crm_api.domains.privacy.legal_hold import LEGAL_HOLDS
from crm_api.domains.privacy.person import SUBJECTS
from crm_api.domains.privacy.user_obstacles import obstacle, of_user
from crm_api.domains.quotes.quote import QUOTES
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement, bound
from crm_api.kernel.problems import Fault, Problem
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

OPEN: Mapping[Resource, tuple[str, ...]] = {
    ORDERS: ("draft", "pending_approval", "confirmed", "on_hold"),
    QUOTES: ("draft", "pending_approval", "approved", "sent"),
}
"""Documents under way: they need whom they are for. In any other state they are issued, and stay as they are."""
Person = Mapping[str, list[str]]
_CONTACTS = sa.bindparam("contacts", type_=ARRAY(sa.Uuid()))
_HOLDS = LEGAL_HOLDS.table


def ids_of(column: str) -> sa.BindParameter[Any]:
    """The parameter with the ids of a person's records, by the reference to them."""
    return sa.bindparam(f"{column.removesuffix('_id')}s", type_=ARRAY(sa.Uuid()))


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
        sa.or_(*(among(_HOLDS.c[column], ids_of(column)) for column in SUBJECTS)),
    )
    .order_by(_HOLDS.c.id)
)


def parameters(person: Person) -> dict[str, Any]:
    """Values of the parameters of `ids_of`."""
    return {ids_of(column).key: bound([UUID(id_) for id_ in ids]) for column, ids in person.items()}


async def obstacles(ctx: Context, person: Person) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Why the person cannot be erased now, and how many issued documents of each resource name them."""
    values = parameters(person)
    found = []
    if held := await ctx.fetch(_HELD, dict(values)):
        found.append(obstacle("legal_hold", LEGAL_HOLDS, held, "A legal hold stands; lift it first."))
    kept = {}
    for resource, states in OPEN.items():
        rows = await ctx.fetch(_DOCUMENTS[resource], {"contacts": values["contacts"]})
        under_way = [row for row in rows if row["state"] in states]
        if under_way:
            detail = f"There are {resource.plural} under way; close or cancel them first."
            found.append(obstacle("open_documents", resource, under_way, detail))
        if issued := len(rows) - len(under_way):
            kept[resource.plural] = issued
    for id_ in person["principal_id"]:
        found += await of_user(ctx, id_)
    return found, kept


def blocked(found: list[dict[str, Any]]) -> Problem:
    """409 that lists the obstacles."""
    faults = [Fault(item["code"], item["detail"], pointer="") for item in found]
    return Problem(ERASURE_BLOCKED, "The law may require that the data is kept.", faults, extra={"obstacles": found})
