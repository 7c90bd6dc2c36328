"""Which taxes hold: for a profile, classes of products, a place and a day; one statement for a document."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.pricing.tax import Rate
from crm_api.domains.pricing.tax_rate import TAX_RATES
from crm_api.domains.pricing.validity import holds_on
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.query import framed
from crm_api.kernel.record import RATIO_SCALE, among


@dataclass(frozen=True, slots=True)
class Dated:
    """A rate of a profile with what says when it is charged; days are both included."""

    tax_class: str
    country: str | None
    region: str | None
    rate: Rate
    position: int
    valid_from: date
    valid_until: date | None


def charged(
    rates: Iterable[Dated], tax_class: str, country: str | None, region: str | None, day: date
) -> tuple[Rate, ...]:
    """The taxes on a class of products in a place on a day, in the order in which they are charged.

    The country's own rates if there are any, else those without a country; of them, those of the region and those of
    the whole country.
    """
    valid = [
        rate
        for rate in rates
        if rate.tax_class == tax_class
        and rate.valid_from <= day
        and (rate.valid_until is None or day <= rate.valid_until)
    ]
    here = [rate for rate in valid if country is not None and rate.country == country]
    held = [rate for rate in here or valid if here or rate.country is None]
    held = [rate for rate in held if rate.region in (None, region)]
    return tuple(rate.rate for rate in sorted(held, key=lambda rate: (rate.position, rate.rate.name)))


async def rates_of(
    ctx: Context, profile_id: str | UUID, tax_classes: Sequence[str], country: str | None, day: date
) -> list[Dated]:
    """The rates of a profile on a day that may be charged on these classes in this country; see `charged`.

    Raises:
        Problem: 403 without `tax_rates:read`.
    """
    ctx.require(TAX_RATES, "read")
    sent = {"profile": profile_id, "classes": list(tax_classes), "country": country, "day": day}
    _, rows = await settled(ctx, ("rates_of",), lambda: _rates_of(ctx), sent)
    return [_dated(row) for row in rows if row["name"] is not None]


def _dated(row: Any) -> Dated:
    rate = Rate(row["name"], Decimal(row["percent"]) / RATIO_SCALE, row["is_compound"])
    place = (row["tax_class"], row["country"], row["region"])
    return Dated(*place, rate, row["position"], row["valid_from"], row["valid_until"])


def _rates_of(ctx: Context) -> Statement:
    table = TAX_RATES.table
    country = sa.bindparam("country", type_=sa.Text())
    names = (
        "tax_class",
        "country",
        "region",
        "name",
        "percent",
        "is_compound",
        "position",
        "valid_from",
        "valid_until",
    )
    rows = sa.select(*(table.c[name] for name in names)).where(
        table.c.tax_profile_id == sa.bindparam("profile", type_=sa.Uuid()),
        among(table.c.tax_class, sa.bindparam("classes", type_=ARRAY(sa.Text()))),
        sa.or_(table.c.country.is_(None), table.c.country == country),
        holds_on(table, sa.bindparam("day", type_=sa.Date())),
        *ctx.kernel.policy.gate(ctx.access, TAX_RATES, "read", table),
    )
    return framed(rows.lateral("page"))
