"""Conversions: in which other units a product comes, and how many of its base unit one of each is."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement, bound
from crm_api.kernel.external import To
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import INVALID, Fault, Problem
from crm_api.kernel.query import framed
from crm_api.kernel.record import RATIO_SCALE, among
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Ref, Wire, ratio_text

MOST = 20
_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))


def _positive(text: str) -> str:
    scaled = int(Decimal(text) * RATIO_SCALE)
    if scaled == 0:
        raise PydanticCustomError("not_positive", "This is greater than zero.")
    return ratio_text(scaled)


FactorText = Annotated[str, Field(pattern=_PATTERN, min_length=1, max_length=19, examples=["12"])]
"""A quantity as it stands inside a JSON column: a text."""
Factor = Annotated[FactorText, AfterValidator(_positive)]


class UnitConversionInput(Wire):
    """How many base units of the product one of another unit is."""

    unit_id: Annotated[Ref, To("units")]
    factor: Factor


class UnitConversion(Wire):
    """How many base units of the product one of another unit is."""

    unit_id: Id
    factor: FactorText


ConversionInputList = Annotated[list[UnitConversionInput], Field(max_length=MOST)]
ConversionList = Annotated[list[UnitConversion], Field(max_length=MOST)]


def stored_conversions(conversions: Any) -> Mapping[str, Any]:
    """Conversions with ids as they are compared."""
    return {"conversions": [{**item, "unit_id": str(item["unit_id"]).lower()} for item in conversions or ()]}


def units_of(conversions: Any) -> list[str]:
    """The units that a product is converted from."""
    return [str(item["unit_id"]).lower() for item in conversions or ()]


async def convertible(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 unless each unit is there, another than the base unit, and told once."""
    del resource
    whole = values if before is None else {**before, **values}
    ids = units_of(items_of(whole, "conversions"))
    base, given = str(whole["unit_id"]).lower(), "conversions" in values
    found = await _live(ctx, ids) if given and ids else frozenset(ids)
    faults = []
    for i, id_ in enumerate(ids):
        pointer = f"/conversions/{i}/unit_id"
        if id_ == base:
            detail = "The base unit of the product is not converted."
            faults.append(Fault("base_unit", detail, pointer=pointer if given else "/unit_id"))
        elif id_ in ids[:i]:
            faults.append(Fault("repeated", "Each unit is told once.", pointer=pointer))
        elif id_ not in found:
            faults.append(Fault("reference_not_found", "There is no such unit.", pointer=pointer))
    if faults:
        raise Problem(INVALID, "Some conversions cannot be.", faults)


async def _live(ctx: Context, ids: list[str]) -> frozenset[str]:
    """Those units that the caller may see."""
    units = ctx.kernel.catalog.resources["units"]
    wanted = {"ids": bound([UUID(id_) for id_ in ids])}
    _, rows = await settled(ctx, ("units among",), lambda: _among(ctx, units), wanted)
    return frozenset(row["id"] for row in rows if row["id"] is not None)


def _among(ctx: Context, units: Resource) -> Statement:
    table = units.table
    gate = ctx.kernel.policy.gate(ctx.access, units, "read", table)
    page = sa.select(table.c.id).where(among(table.c.id, _IDS), *gate).lateral("page")
    return framed(page, [sa.cast(page.c.id, sa.Text()).label("id")])
