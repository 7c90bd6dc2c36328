"""Refuses a new record that may mean the same as one there is, where the tenant wants it so."""

from collections.abc import Mapping
from typing import Any

from sqlalchemy.orm import Mapped

from crm_api.kernel.context import Context
from crm_api.kernel.duplicates_search import candidates
from crm_api.kernel.problems import CATALOGUE, Kind, Problem
from crm_api.kernel.record import Entity, one_of, sortable, unique
from crm_api.kernel.resource import Resource

DUPLICATE_SUSPECTED = CATALOGUE["duplicate_suspected"] = Kind(
    "duplicate_suspected", 409, "A record that is there may mean the same"
)
MOST_TOLD = 5


class DuplicateCheck(Entity):
    """What a tenant wants to be done with a new record of a resource that may mean the same as another."""

    __tablename__ = "duplicate_checks"
    __table_args__ = (
        one_of("on_create", ("allow", "refuse")),
        unique("uq_duplicate_checks_resource", "resource"),
        *sortable("duplicate_checks", "created_at"),
    )

    resource: Mapped[str]
    on_create: Mapped[str]
    score: Mapped[int]


async def refuse_suspected(ctx: Context, resource: Resource, row: Mapping[str, Any]) -> None:
    """409 with candidates that the caller may see; records hidden from the caller refuse nothing."""
    floor = ctx.access.suspecting.get(resource.plural)
    if floor is None or ctx.allow_duplicate or resource.duplicates is None or resource.plural in ctx.access.closed:
        return
    found = await candidates(ctx, resource, row, most=MOST_TOLD, floor=floor)
    if found:
        told = [{"id": item["record"]["id"], "score": item["score"], "rules": item["rules"]} for item in found]
        detail = "It may mean the same as a record that is there; send allow_duplicate=true to create it all the same."
        raise Problem(DUPLICATE_SUSPECTED, detail, extra={"candidates": told})
