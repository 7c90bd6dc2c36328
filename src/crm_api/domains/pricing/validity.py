"""From when and until when something holds: days, both included; without an end it holds on."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid
from crm_api.kernel.resource import Check, Resource


def in_order(first: str, last: str) -> Check:
    """422 for an end before the beginning; the two are columns with days."""

    async def run(
        ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> None:
        del ctx, resource
        row = {**(before or {}), **values}
        if row[first] is not None and row[last] is not None and row[last] < row[first]:
            place = last if values.get(last) is not None else first
            raise invalid(f"/{place}", "not_in_order", "It ends before it begins.")

    return Check(frozenset({first, last}), run)


VALIDITY = in_order("valid_from", "valid_until")


def ends_later() -> sa.CheckConstraint:
    """The constraint of a table with such days."""
    return sa.CheckConstraint("valid_until >= valid_from", name="validity")


def holds_on(table: Any, day: sa.ColumnElement[date]) -> sa.ColumnElement[bool]:
    """Whether a row holds on a day."""
    return sa.and_(
        sa.or_(table.c.valid_from.is_(None), table.c.valid_from <= day),
        sa.or_(table.c.valid_until.is_(None), table.c.valid_until >= day),
    )
