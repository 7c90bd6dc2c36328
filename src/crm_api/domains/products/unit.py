"""Units: in what a product is counted or measured."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.record import Entity, FieldValue, Record, sortable, table_of, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Input, Name, Output

MOST_DECIMALS = 6
UnitCode = Annotated[str, Field(min_length=1, max_length=20)]
Decimals = Annotated[int, Field(ge=0, le=MOST_DECIMALS, description="How many decimals a quantity in it may have.")]


class Unit(Entity):
    """A unit of measure."""

    __tablename__ = "units"
    __table_args__ = (
        unique("uq_units_code", "code"),
        *sortable("units", "code", "name_key", "created_at"),
    )

    code: Mapped[str]
    name: Mapped[str]
    name_key: Mapped[str]
    decimals: Mapped[int]


class UnitCreate(Input):
    """A unit of measure."""

    id: Id | None = None
    code: UnitCode
    name: Name
    decimals: Decimals = 0


class UnitView(Output):
    """A unit of measure."""

    object: Literal["unit"]
    code: UnitCode
    name: Name
    decimals: Decimals


async def _unused(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """409 while a live product is counted in the unit, or says how to convert it."""
    del resource, values
    if before is not None and await ctx.fetch(ctx.kernel.statement("units in use", _used), {"unit": before["id"]}):
        raise Problem(CONFLICT, "Products are counted in this unit or converted from it.")


def _used() -> Statement:
    products, listed = Record.metadata.tables["products"], table_of(FieldValue)
    unit = sa.bindparam("unit", type_=sa.Uuid())
    live: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        products.c.tenant_id == TENANT, products.c.deleted_at.is_(None)
    )
    counted = live.where(products.c.unit_id == unit)
    converted = live.join(listed, listed.c.object_id == products.c.id).where(
        listed.c.tenant_id == TENANT,
        listed.c.field == sa.literal("products.conversions", sa.Text()),
        listed.c.value == sa.cast(unit, sa.Text()),
    )
    return Statement(sa.union_all(counted, converted).limit(sa.literal_column("1")))


UNITS = Resource(
    singular="unit",
    plural="units",
    model=Unit,
    output=UnitView,
    create=UnitCreate,
    keys={"name": Unit.name_key},
    filters=(Unit.code, Unit.name, Unit.decimals, Unit.created_at, Unit.updated_at),
    sorts=(Unit.code, Unit.name, Unit.created_at),
    default_access="read",
    deletable=_unused,
)
