"""Tax rates: what a profile charges on a class of products, where, and from when until when."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.pricing.validity import VALIDITY, ends_later
from crm_api.domains.products.percent import Percent
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.problems import CONFLICT, Fault, Problem
from crm_api.kernel.record import Entity, Ratio, reference, sortable
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Code, Country, Id, Input, Name, Output, Ref

_CLASS = Annotated[Code, Field(description="The products that it is charged on, by their `tax_class`.")]
_COUNTRY = Annotated[Country | None, Field(description="Without one it holds in countries that have no rates here.")]
Region = Annotated[str, Field(pattern="^[A-Z0-9]{1,3}$", min_length=1, max_length=3, examples=["QC"])]
"""A part of a country, as ISO 3166-2 writes it after the hyphen."""
_REGION = Annotated[
    Region | None, Field(description="Charged in this part of the country only; without one, in all of it.")
]
_COMPOUND = Annotated[bool, Field(description="Charged on the net amount and on the taxes before it.")]
Position = Annotated[int, Field(ge=0, le=1000, description="The order in which taxes are charged.")]
_UNTIL = Annotated[date | None, Field(description="The last day that it holds.")]


class TaxRate(Entity):
    """A tax on a class of products."""

    __tablename__ = "tax_rates"
    __table_args__ = (
        reference("tax_profile_id", "tax_profiles"),
        sa.CheckConstraint("percent BETWEEN 0 AND 100000000", name="percent"),
        sa.CheckConstraint("country IS NOT NULL OR region IS NULL", name="region"),
        ends_later(),
        sa.Index("ix_tax_rates_class", "tenant_id", "tax_profile_id", "tax_class", "valid_from"),
        *sortable("tax_rates", "name_key", "valid_from", "created_at"),
    )

    tax_profile_id: Mapped[UUID]
    tax_class: Mapped[str]
    country: Mapped[str | None]
    region: Mapped[str | None]
    name: Mapped[str]
    name_key: Mapped[str]
    percent: Mapped[Decimal] = mapped_column(Ratio)
    is_compound: Mapped[bool]
    position: Mapped[int]
    valid_from: Mapped[date] = mapped_column(sa.Date)
    valid_until: Mapped[date | None] = mapped_column(sa.Date)


class TaxRateCreate(Input):
    """A tax on a class of products. Several may hold at once, if their names differ."""

    id: Id | None = None
    tax_profile_id: Ref
    tax_class: _CLASS = "standard"
    country: _COUNTRY = None
    region: _REGION = None
    name: Name
    percent: Percent
    is_compound: _COMPOUND = False
    position: Position = 0
    valid_from: date
    valid_until: _UNTIL = None


class TaxRateView(Output):
    """A tax on a class of products."""

    object: Literal["tax_rate"]
    tax_profile_id: Id
    tax_class: _CLASS
    country: _COUNTRY
    region: _REGION
    name: Name
    percent: Percent
    is_compound: _COMPOUND
    position: Position
    valid_from: date
    valid_until: _UNTIL


_SAME = ("tax_profile_id", "tax_class", "country", "region", "name_key")


async def _apart(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """409 for a second rate of the same name that holds on the same days in the same place."""
    del resource
    row = {**(before or {}), **values}
    if row["region"] is not None and row["country"] is None:
        fault = Fault("country_missing", "A region is part of a country.", pointer="/country")
        raise Problem(CONFLICT, fault.detail, [fault])
    await one_at_a_time(ctx, f"tax_rates.{row['tax_profile_id']}")
    statement = ctx.kernel.statement(("tax_rates", "overlapping"), _overlapping)
    sent = {name: row[name] for name in (*_SAME, "valid_from", "valid_until")} | {"own": row["id"]}
    if await ctx.fetch(statement, sent):
        detail = "Another rate of this name holds on some of these days; end that one first."
        raise Problem(CONFLICT, detail, [Fault("overlaps", detail, pointer="/valid_from")])


def _overlapping() -> Statement:
    table = TAX_RATES.table
    last = sa.bindparam("valid_until", type_=sa.Date())
    same = [table.c[name].is_not_distinct_from(sa.bindparam(name, type_=table.c[name].type)) for name in _SAME]
    return Statement(
        sa.select(table.c.id)
        .where(
            table.c.tenant_id == TENANT,
            table.c.deleted_at.is_(None),
            table.c.id != sa.bindparam("own", type_=sa.Uuid()),
            *same,
            sa.or_(table.c.valid_until.is_(None), table.c.valid_until >= sa.bindparam("valid_from", type_=sa.Date())),
            sa.or_(last.is_(None), table.c.valid_from <= last),
        )
        .limit(sa.literal_column("1"))
    )


TAX_RATES = Resource(
    singular="tax_rate",
    plural="tax_rates",
    model=TaxRate,
    output=TaxRateView,
    create=TaxRateCreate,
    keys={"name": TaxRate.name_key},
    filters=(
        TaxRate.tax_profile_id,
        TaxRate.tax_class,
        TaxRate.country,
        TaxRate.region,
        TaxRate.name,
        TaxRate.valid_from,
        TaxRate.valid_until,
    ),
    sorts=(TaxRate.name, TaxRate.valid_from, TaxRate.created_at),
    default_access="read",
    checks=(
        VALIDITY,
        Check(
            frozenset({*_SAME, "name", "valid_from", "valid_until", "deleted_at"}),
            _apart,
            cleared=frozenset({"valid_until", "country", "region"}),
        ),
    ),
    within={"tax_profile_id": "rates"},
)
