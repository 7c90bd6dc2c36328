"""The index of multi-valued fields in the statements that write a row: e-mails, phones, tags, several choices."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.database import TENANT
from crm_api.kernel.record import FieldValue, table_of


def _pairs() -> Any:
    fields, values = (sa.bindparam(name, type_=ARRAY(sa.Text())) for name in ("x_fields", "x_values"))
    columns = (sa.column("field", sa.Text()), sa.column("value", sa.Text()))
    return sa.func.unnest(fields, values).table_valued(*columns, name="pairs").render_derived()


def index_values(written: Any) -> Any:
    """The CTE that adds the values of the parameters `x_fields` and `x_values` of the row in the CTE `written`."""
    pairs = _pairs()
    rows = sa.select(TENANT, pairs.c.field, pairs.c.value, written.c.row_id)
    insert = upsert(table_of(FieldValue)).from_select(
        ["tenant_id", "field", "value", "object_id"],
        rows.select_from(sa.join(written, pairs, sa.true())),
    )
    return insert.on_conflict_do_nothing().returning(sa.literal_column("1")).cte("indexed")


def unindex_values(written: Any) -> Any:
    """The CTE that takes out what the lists in the parameter `x_lists` have no more."""
    table, pairs = table_of(FieldValue), _pairs()
    kept = sa.exists(
        sa.select(sa.literal_column("1"))
        .select_from(pairs)
        .where(pairs.c.field == table.c.field, pairs.c.value == table.c.value)
        .correlate(table)
    )
    return (
        sa.delete(table)
        .where(
            table.c.tenant_id == TENANT,
            table.c.object_id == sa.select(written.c.row_id).scalar_subquery(),
            sa.cast(table.c.field == sa.any_(sa.bindparam("x_lists", type_=ARRAY(sa.Text()))), sa.Boolean),
            ~kept,
        )
        .returning(sa.literal_column("1"))
        .cte("unindexed")
    )
