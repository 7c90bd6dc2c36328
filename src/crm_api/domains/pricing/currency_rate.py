"""Currency rates: what one unit of a currency is in another, from a day on."""

from collections.abc import Collection, Mapping
from datetime import date
from decimal import Decimal
from fractions import Fraction
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.dialects.postgresql import ARRAY, distinct_on
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.problems import INVALID, Fault, Problem, invalid
from crm_api.kernel.query import framed
from crm_api.kernel.record import RATIO_SCALE, Entity, Ratio, among, sortable, unique
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Currency, Id, Input, Output, PositiveQuantity


class CurrencyRate(Entity):
    """A dated rate between two currencies."""

    __tablename__ = "currency_rates"
    __table_args__ = (
        sa.CheckConstraint("rate > 0", name="rate"),
        sa.CheckConstraint("base_currency <> quote_currency", name="currencies"),
        unique("uq_currency_rates_pair", "base_currency", "quote_currency", "valid_from"),
        *sortable("currency_rates", "quote_currency", "valid_from", "created_at"),
    )

    base_currency: Mapped[str]
    quote_currency: Mapped[str]
    rate: Mapped[Decimal] = mapped_column(Ratio)
    valid_from: Mapped[date] = mapped_column(sa.Date)


_RATE = "What one unit of the base currency is in the quote currency."
_FROM = "It holds from this day until the day of the next one."


class CurrencyRateCreate(Input):
    """A dated rate between two currencies."""

    id: Id | None = None
    base_currency: Currency
    quote_currency: Annotated[Currency, Field(examples=["CHF"])]
    rate: Annotated[PositiveQuantity, Field(description=_RATE)]
    valid_from: Annotated[date, Field(description=_FROM)]


class CurrencyRateView(Output):
    """A dated rate between two currencies."""

    object: Literal["currency_rate"]
    base_currency: Currency
    quote_currency: Currency
    rate: Annotated[PositiveQuantity, Field(description=_RATE)]
    valid_from: Annotated[date, Field(description=_FROM)]


async def _two(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 for a rate of a currency in itself."""
    del ctx, resource
    row = {**(before or {}), **values}
    if row["base_currency"] == row["quote_currency"]:
        place = "/quote_currency" if "quote_currency" in values else "/base_currency"
        raise invalid(place, "same_currency", "A rate is between two currencies.")


CURRENCY_RATES = Resource(
    singular="currency_rate",
    plural="currency_rates",
    model=CurrencyRate,
    output=CurrencyRateView,
    create=CurrencyRateCreate,
    title="base_currency",
    filters=(CurrencyRate.base_currency, CurrencyRate.quote_currency, CurrencyRate.valid_from),
    sorts=(CurrencyRate.valid_from, CurrencyRate.created_at),
    default_access="read",
    checks=(Check(frozenset({"base_currency", "quote_currency"}), _two),),
)


async def rates_on(ctx: Context, bases: Collection[str], quote: str, day: date) -> dict[str, Fraction]:
    """What one unit of each currency is in another: by the latest rate on or before a day that the caller may read.

    The rate of the pair as it is asked for goes before that of the opposite pair, which is turned over exactly. A
    currency without a rate in either direction is left out.

    Raises:
        Problem: 403 without `currency_rates:read`, if there is anything to convert.
    """
    found = {quote: Fraction(1)}
    wanted = sorted(set(bases) - {quote})
    if wanted:
        ctx.require(CURRENCY_RATES, "read")
        _, rows = await settled(
            ctx, ("rates_on",), lambda: _rates_on(ctx), {"bases": wanted, "quote": quote, "day": day}
        )
        for row in rows:
            if row["other"] is not None:
                rate = Fraction(row["rate"], RATIO_SCALE)
                found[row["other"]] = rate if row["direct"] else 1 / rate
    return found


async def rate_on(ctx: Context, base: str, quote: str, day: date, pointer: str) -> Fraction:
    """What one unit of a currency is in another on a day; see `rates_on`.

    Raises:
        Problem: 422 `no_currency_rate` at `pointer`.
    """
    found = await rates_on(ctx, {base}, quote, day)
    if base not in found:
        raise Problem(INVALID, "A currency has no rate.", [no_rate(base, quote, day, pointer)])
    return found[base]


def no_rate(base: str, quote: str, day: date, pointer: str | None = None) -> Fault:
    """Says that a currency has no rate."""
    return Fault("no_currency_rate", f"There is no rate from {base} to {quote} on or before {day}.", pointer=pointer)


def _rates_on(ctx: Context) -> Statement:
    table = CURRENCY_RATES.table
    quote, bases = sa.bindparam("quote", type_=sa.Text()), sa.bindparam("bases", type_=ARRAY(sa.Text()))

    def way(other: Any, own: Any, *, direct: bool) -> sa.Select[Any]:
        told: sa.ColumnElement[bool] = sa.true() if direct else sa.false()
        return (
            sa.select(other.label("other"), told.label("direct"), table.c.rate, table.c.valid_from)
            .where(
                own == quote,
                among(other, bases),
                table.c.valid_from <= sa.bindparam("day", type_=sa.Date()),
                *ctx.kernel.policy.gate(ctx.access, CURRENCY_RATES, "read", table),
            )
            .ext(distinct_on(other))
            .order_by(other, table.c.valid_from.desc())
        )

    ways = sa.union_all(
        sa.select(way(table.c.base_currency, table.c.quote_currency, direct=True).subquery("straight")),
        sa.select(way(table.c.quote_currency, table.c.base_currency, direct=False).subquery("opposite")),
    ).subquery("ways")
    rows = sa.select(ways).ext(distinct_on(ways.c.other)).order_by(ways.c.other, ways.c.direct.desc())
    return framed(rows.lateral("page"))
