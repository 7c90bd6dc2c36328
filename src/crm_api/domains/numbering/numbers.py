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
    sent = {"document": resource.singular, "usual": prefix, "year": f"{day.year:04d}", "month": f"{day.month:02d}"}
    draw = ctx.kernel.statement(("next number", resource.plural), lambda: _draw(resource))
    for _ in range(_TRIES):
        drawn = (await ctx.fetch(draw, sent))[0]
        if not drawn["is_used"]:
            return str(drawn["number"])
    raise Problem(LIMIT_REACHED, "The next thousand numbers are in use; choose another prefix in the number range.")


def _draw(resource: Resource) -> Statement:
    """Counts on in the period of the declared range, or of the usual one, and looks whether the number is in use."""
    document, usual, year, month = (
        sa.bindparam(name, type_=sa.Text()) for name in ("document", "usual", "year", "month")
    )
    one: sa.ColumnElement[int] = sa.literal_column("1")
    declared = (
        sa.select(_RANGES.c.prefix, _RANGES.c.digits, _RANGES.c.is_yearly)
        .where(_RANGES.c.tenant_id == TENANT, _RANGES.c.document == document, _RANGES.c.deleted_at.is_(None))
        .subquery("declared")
    )
    form = (
        sa.select(
            sa.func.coalesce(declared.c.prefix, usual).label("prefix"),
            sa.func.coalesce(declared.c.digits, sa.literal_column("6")).label("digits"),
            sa.case((declared.c.is_yearly, year), else_=sa.literal("", sa.Text())).label("period"),
        )
        .select_from(sa.select(one.label("one")).subquery("one_row").outerjoin(declared, sa.true()))
        .cte("form")
    )
    counted = upsert(_COUNTERS).from_select(
        ["tenant_id", "document", "period", "value"],
        sa.select(sa.cast(TENANT, sa.Uuid()), sa.cast(document, sa.Text()), form.c.period, one),
    )
    drawn = (
        counted.on_conflict_do_update(
            index_elements=["tenant_id", "document", "period"], set_={"value": _COUNTERS.c.value + one}
        )
        .returning(_COUNTERS.c.value)
        .cte("drawn")
    )
    head = sa.func.replace(
        sa.func.replace(form.c.prefix, sa.literal("{year}", sa.Text()), year), sa.literal("{month}", sa.Text()), month
    )
    digits = sa.cast(drawn.c.value, sa.Text())
    width = sa.cast(sa.func.greatest(form.c.digits, sa.func.length(digits)), sa.Integer())
    found = (
        sa.select(sa.func.concat(head, sa.func.lpad(digits, width, sa.literal("0", sa.Text()))).label("number"))
        .select_from(form.join(drawn, sa.true()))
        .subquery("found")
    )
    table = resource.table
    used = sa.exists(sa.select(one).where(table.c.tenant_id == TENANT, table.c.number == found.c.number))
    return Statement(sa.select(found.c.number, used.label("is_used")))
