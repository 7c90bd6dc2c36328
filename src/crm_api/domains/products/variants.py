"""What a product may be a variant of."""

from collections.abc import Mapping
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import invalid
from crm_api.kernel.repository import check_references
from crm_api.kernel.resource import Resource

_PLACE = "/variant_of_id"


async def one_level(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 when the other product is a variant, is the product itself, or the product has variants."""
    other = values.get("variant_of_id")
    if other is None:
        return
    await check_references(ctx, resource, {"variant_of_id": other})
    own = str(before["id"] if before is not None else values["id"])
    if str(other).lower() == own.lower():
        raise invalid(_PLACE, "itself", "A product is no variant of itself.")
    await one_at_a_time(ctx, "products.variant_of_id")
    statement = ctx.kernel.statement("kin of a product", lambda: _kin(resource))
    (row,) = await ctx.fetch(statement, {"other": other, "own": own})
    if row["is_variant"]:
        raise invalid(_PLACE, "variant_of_variant", "The other product is a variant itself.")
    if row["has_variants"]:
        raise invalid(_PLACE, "has_variants", "The product has variants itself.")


def _kin(resource: Resource) -> Statement:
    table = resource.table
    other, own = sa.bindparam("other", type_=sa.Uuid()), sa.bindparam("own", type_=sa.Uuid())
    one: sa.Select[Any] = sa.select(sa.literal_column("1")).where(table.c.tenant_id == TENANT)
    above = one.where(table.c.id == other, table.c.variant_of_id.is_not(None))
    below = one.where(table.c.variant_of_id == own, table.c.deleted_at.is_(None))
    return Statement(sa.select(above.exists().label("is_variant"), below.exists().label("has_variants")))
