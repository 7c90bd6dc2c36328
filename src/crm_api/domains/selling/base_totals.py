"""What a sales document comes to in the tenant's base currency, by the rate of the document's day."""

from collections.abc import Mapping
from decimal import Decimal
from fractions import Fraction
from typing import Any

from crm_api.domains.pricing.amounts import in_currency, units
from crm_api.domains.pricing.base_currency import Base, base_on
from crm_api.domains.pricing.items import LARGEST
from crm_api.kernel.context import Context
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE

_SUMS = ("net_total", "gross_total")
_NONE = {"base_currency": None, "exchange_rate": None, **dict.fromkeys(f"base_{name}" for name in _SUMS)}


def base_totals(base: Base | None, sums: Mapping[str, Decimal]) -> dict[str, Any]:
    """The columns of a document with these sums: all null without a base currency, rate and sums without a rate.

    A sum that is too large to be kept is null. The rate that is kept is rounded to millionths, the sums are worked out
    by the exact one.
    """
    if base is None:
        return dict(_NONE)
    if base.rate is None:
        return {**_NONE, "base_currency": base.currency}
    found = {name: in_currency(Fraction(sums[name]) * base.rate, base.currency) for name in _SUMS}
    kept = {f"base_{name}": None if abs(value) >= LARGEST else value for name, value in found.items()}
    return {"base_currency": base.currency, "exchange_rate": units(base.rate, 6), **kept}


def agreed(base: Base | None, before: Mapping[str, Any]) -> Base | None:
    """The base currency and rate that an issued document has: as they were, whatever became of the rates since."""
    currency, rate = before["base_currency"], before["exchange_rate"]
    if not rate:
        return base
    same = base is not None and base.currency == currency and base.rate is not None and units(base.rate, 6) == rate
    return base if same else Base(currency, Fraction(rate, RATIO_SCALE))


async def issued(ctx: Context, row: Mapping[str, Any], day: str) -> dict[str, Any]:
    """The columns of a document that is issued: by the rate that is known now of its day, and from then on as it is."""
    if row["base_currency"] in (None, row["currency"]):
        return {}
    sums = {name: Decimal(row[name]) / MONEY_SCALE for name in _SUMS}
    return base_totals(await base_on(ctx, row["currency"], row[day]), sums)
