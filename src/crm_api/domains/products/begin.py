"""Seed: the unit that products are counted in unless a tenant says otherwise."""

from crm_api.domains.products.unit import UNITS
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Seed
from crm_api.kernel.repository import create
from crm_api.kernel.seeds import ever_had


async def _give_unit(ctx: Context) -> bool:
    if await ever_had(ctx, UNITS):
        return False
    await create(ctx, UNITS, {"code": "piece", "name": "Piece", "decimals": 0})
    return True


SEED = Seed("base_unit", _give_unit)
