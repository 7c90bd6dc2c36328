"""Base currencies: the currency that documents of all currencies are summed up in, from a day on."""

from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.pricing.currency_rate import CURRENCY_RATES
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.record import RATIO_SCALE, Entity, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Currency, Id, Input, Output

_FROM = "Of documents from this day on, until the day of the next one."
_ONE: sa.ColumnElement[int] = sa.literal_column("1")
COLUMNS = ("base_currency", "base_direct", "base_opposite")
"""What `base_found` gives: the currency, and the rate of either direction, in millionths."""


class BaseCurrency(Entity):
    """What documents are summed up in, from a day on."""

    __tablename__ = "base_currencies"
    __table_args__ = (
        unique("uq_base_currencies_valid_from", "valid_from"),
        *sortable("base_currencies", "valid_from", "created_at"),
    )

    currency: Mapped[str]
    valid_from: Mapped[date] = mapped_column(sa.Date)


class BaseCurrencyCreate(Input):
    """What documents are summed up in, from a day on."""

    id: Id | None = None
    currency: Currency
    valid_from: Annotated[date, Field(description=_FROM)]


class BaseCurrencyView(Output):
    """What documents are summed up in, from a day on."""

    object: Literal["base_currency"]
    currency: Currency
    valid_from: Annotated[date, Field(description=_FROM)]


BASE_CURRENCIES = Resource(
    singular="base_currency",
    plural="base_currencies",
    model=BaseCurrency,
    output=BaseCurrencyView,
    create=BaseCurrencyCreate,
    title="currency",
    filters=(BaseCurrency.currency, BaseCurrency.valid_from),
    sorts=(BaseCurrency.valid_from, BaseCurrency.created_at),
    default_access="read",
)


@dataclass(frozen=True, slots=True)
class Base:
    """A base currency, and what one unit of a document's currency is in it; the rate is None where nobody knows."""

    currency: str
    rate: Fraction | None


def base_found(currency: Any, day: Any) -> Any:
    """A lateral of one row, or none: the base currency of a day, and the latest rates of a currency in it.

    Whoever may read rates: it is the tenant's own figure, and stands on each document.
    """
    table, rates = BASE_CURRENCIES.table, CURRENCY_RATES.table
    base = (
        sa.select(table.c.currency)
        .where(table.c.tenant_id == TENANT, table.c.deleted_at.is_(None), table.c.valid_from <= day)
        .order_by(table.c.valid_from.desc())
        .limit(_ONE)
        .subquery("base")
    )

    def rate(name: str, of: str, into: str) -> Any:
        way = rates.alias(name)
        return (
            sa.select(sa.type_coerce(way.c.rate, sa.BigInteger()).label("rate"))
            .where(
                way.c.tenant_id == TENANT,
                way.c.deleted_at.is_(None),
                way.c[of] == currency,
                way.c[into] == base.c.currency,
                way.c.valid_from <= day,
            )
            .order_by(way.c.valid_from.desc())
            .limit(_ONE)
            .scalar_subquery()
        )

    direct = rate("direct_rates", "base_currency", "quote_currency")
    opposite = rate("opposite_rates", "quote_currency", "base_currency")
    columns = base.c.currency, direct, opposite
    return sa.select(*(column.label(name) for column, name in zip(columns, COLUMNS, strict=True))).lateral("base_found")


def base_of(row: Row, currency: str) -> Base | None:
    """The base currency of a row with these columns; the direct rate goes before the opposite one."""
    base, direct, opposite = (row[name] for name in COLUMNS)
    if base is None:
        return None
    if base == currency:
        return Base(base, Fraction(1))
    if direct is not None:
        return Base(base, Fraction(direct, RATIO_SCALE))
    return Base(base, None if opposite is None else Fraction(RATIO_SCALE, opposite))


async def base_on(ctx: Context, currency: str, day: date) -> Base | None:
    """The base currency of a day with the rate of a currency; None where the tenant has none."""

    def build() -> Statement:
        found = base_found(sa.bindparam("currency", type_=sa.Text()), sa.bindparam("day", type_=sa.Date()))
        return Statement(sa.select(*found.c).select_from(found))

    rows = await ctx.read(ctx.kernel.statement(("base currency",), build), {"currency": currency, "day": day})
    return base_of(rows[0], currency) if rows else None
