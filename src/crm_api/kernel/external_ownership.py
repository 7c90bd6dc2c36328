"""Which fields of a write are not the caller's: asked only when the write found that some are."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.external_sources import EXTERNAL_IDS, Source
from crm_api.kernel.projection import plain
from crm_api.kernel.resource import Resource
from crm_api.kernel.row import row_parameters
from crm_api.kernel.writing import differs

Owners = dict[str, tuple[Source, ...]]


async def owned_changes(
    ctx: Context, resource: Resource, item: Mapping[str, Any], values: Mapping[str, Any], owners: Owners
) -> Owners:
    """The fields that a write would change and that sources of the record own; to send the present value is no change.

    Args:
        ctx: the request.
        resource: what is written.
        item: the record as it is sent.
        values: columns that the write sets.
        owners: by field, the sources that own it, whether or not they know the record.
    """
    present = plain(item[EXTERNAL_IDS])
    found = {name: tuple(source for source in sources if source.code in present) for name, sources in owners.items()}
    found = {name: sources for name, sources in found.items() if sources}
    if not found:
        return {}
    rows = await ctx.read(_differences(resource, sorted(found)), {**row_parameters(resource, values), "id": item["id"]})
    return {name: sources for name, sources in found.items() if rows and rows[0][name]}


def _differences(resource: Resource, names: list[str]) -> Statement:
    """Whether each of these columns of a row differs from the parameters of an update."""
    table = resource.table
    columns: list[Any] = [differs(resource, name).label(name) for name in names]
    return Statement(
        sa.select(*columns).where(table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid()))
    )
