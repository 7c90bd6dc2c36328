"""The next number of a document: drawn in the transaction that issues it, so that no number is lost or given twice."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.numbering.number_range import NumberRange
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import LIMIT_REACHED, Problem
from crm_api.kernel.record import Record, table_of
from crm_api.kernel.resource import Resource


class NumberCounter(Record):
    """The last number given of a range; `period` is the year, or empty where numbers never begin anew."""

    __tablename__ = "number_counters"

    document: Mapped[str] = mapped_column(primary_key=True)
    period: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


_RANGES, _COUNTERS = table_of(NumberRange), table_of(NumberCounter)
_DOCUMENT = sa.bindparam("document", type_=sa.Text())
_FORM = Statement(
    sa.select(_RANGES.c.prefix, _RANGES.c.digits, _RANGES.c.is_yearly).where(
        _RANGES.c.tenant_id == TENANT, _RANGES.c.document == _DOCUMENT, _RANGES.c.deleted_at.is_(None)
    )
)
_INSERT = upsert(_COUNTERS).values(
    tenant_id=TENANT,
    document=_DOCUMENT,
    period=sa.bindparam("period", type_=sa.Text()),
    value=sa.literal_column("1"),
)
_DRAW = Statement(
    _INSERT.on_conflict_do_update(
        index_elements=["tenant_id", "document", "period"], set_={"value": _COUNTERS.c.value + sa.literal_column("1")}
    ).returning(_COUNTERS.c.value)
)


_TRIES = 1000
"""Numbers in a row that may be in use because they were given by hand."""


async def next_number(ctx: Context, resource: Resource, day: date, *, prefix: str) -> str:
    """The next number of a kind of document; the range is locked to the end of the transaction, so there are no gaps.

    Args:
        ctx: in a transaction, of which this should be the last step but one.
        resource: of the document; its column `number` says which are in use.
        day: its date, which says the year.
        prefix: where the tenant has declared no range.

    Raises:
        Problem: 409 when the next thousand numbers are in use.
    """
    rows = await ctx.fetch(_FORM, {"document": resource.singular})
    form, digits, yearly = (rows[0]["prefix"], rows[0]["digits"], rows[0]["is_yearly"]) if rows else (prefix, 6, False)
    head = form.replace("{year}", f"{day.year:04d}").replace("{month}", f"{day.month:02d}")
    used = ctx.kernel.statement(("number in use", resource.plural), lambda: _used(resource))
    for _ in range(_TRIES):
        drawn = await ctx.fetch(_DRAW, {"document": resource.singular, "period": str(day.year) if yearly else ""})
        number = f"{head}{drawn[0]['value']:0{digits}d}"
        if not await ctx.fetch(used, {"number": number}):
            return number
    raise Problem(LIMIT_REACHED, "The next thousand numbers are in use; choose another prefix in the number range.")


def _used(resource: Resource) -> Statement:
    table = resource.table
    number = table.c.number == sa.bindparam("number", type_=sa.Text())
    return Statement(sa.select(sa.literal_column("1")).where(table.c.tenant_id == TENANT, number))
