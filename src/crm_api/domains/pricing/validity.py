"""From when and until when something holds: days, both included; without an end it holds on."""

from collections.abc import Mapping
from datetime import date
from typing import Any

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid
from crm_api.kernel.resource import Check, Resource


async def _in_order(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for an end before the beginning."""
    del ctx, resource
    row = {**(before or {}), **values}
    first, last = row["valid_from"], row["valid_until"]
    if first is not None and last is not None and last < first:
        place = "/valid_until" if values.get("valid_until") is not None else "/valid_from"
        raise invalid(place, "not_in_order", "It ends before it begins.")


VALIDITY = Check(frozenset({"valid_from", "valid_until"}), _in_order)


def ends_later() -> sa.CheckConstraint:
    """The constraint of a table with such days."""
    return sa.CheckConstraint("valid_until >= valid_from", name="validity")


def holds_on(table: Any, day: sa.ColumnElement[date]) -> sa.ColumnElement[bool]:
    """Whether a row holds on a day."""
    return sa.and_(
        sa.or_(table.c.valid_from.is_(None), table.c.valid_from <= day),
        sa.or_(table.c.valid_until.is_(None), table.c.valid_until >= day),
    )
