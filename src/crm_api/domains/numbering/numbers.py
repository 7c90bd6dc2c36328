"""The next number of a document: drawn in the transaction that issues it, so that no number is lost or given twice."""

from datetime import date

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.numbering.number_range import NumberRange
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import Record, table_of


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


async def next_number(ctx: Context, document: str, day: date, *, prefix: str) -> str:
    """The next number of a kind of document; the range is locked to the end of the transaction, so there are no gaps.

    Args:
        ctx: in a transaction, of which this should be the last step but one.
        document: the singular of its resource.
        day: its date, which says the year.
        prefix: where the tenant has declared no range.
    """
    rows = await ctx.fetch(_FORM, {"document": document})
    form, digits, yearly = (rows[0]["prefix"], rows[0]["digits"], rows[0]["is_yearly"]) if rows else (prefix, 6, False)
    period = str(day.year) if yearly else ""
    drawn = (await ctx.fetch(_DRAW, {"document": document, "period": period}))[0]["value"]
    head = form.replace("{year}", f"{day.year:04d}").replace("{month}", f"{day.month:02d}")
    return f"{head}{drawn:0{digits}d}"
