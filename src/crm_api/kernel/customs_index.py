"""Custom fields in SQL: their values as expressions and conditions, and the index that writes keep."""

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.customs import CUSTOM, KINDS, PREFIX, Custom
from crm_api.kernel.customs_records import CIRCLE, CustomValue
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE, FieldValue, MoneyAmount, Ratio, among, table_of

VALUES = table_of(CustomValue)
_NONE = sa.literal_column("'{}'::jsonb", JSONB())
Form = tuple[str, bool]
"""What SQL about a custom field depends on: its kind, and whether the index is asked."""


class Days(sa.types.TypeDecorator[date]):
    """A day as its number in the proleptic Gregorian calendar, from 1 January of year 1, which is 1."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: date | int | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002
        """Its number; a number is taken as one."""
        return value.toordinal() if isinstance(value, date) else value


class Flag(sa.types.TypeDecorator[bool]):
    """A truth value as 0 or 1."""

    impl = sa.BigInteger
    cache_ok = True

    def process_bind_param(self, value: bool | int | None, dialect: sa.Dialect) -> int | None:  # noqa: ARG002
        """0 or 1."""
        return None if value is None else int(value)


class IdText(sa.types.TypeDecorator[str]):
    """An id as text, in the one form in which it is kept."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        """In lower case."""
        return None if value is None else str(value).lower()


_TYPES: Mapping[str, Any] = {
    "number": sa.BigInteger(),
    "decimal": Ratio(),
    "money": MoneyAmount(),
    "date": Days(),
    "instant": sa.DateTime(timezone=True),
    "boolean": Flag(),
    "reference": IdText(),
}


def type_of(kind: str) -> Any:
    """The type of a kind's values in SQL, as the index keeps them."""
    return _TYPES.get(kind, sa.Text())


def expression(table: Any, kind: str, key: Any) -> Any:
    """The value of the field with a `key` (an expression) in a row, read from `custom`: typed as in the index."""
    text = table.c.custom.op("->>", return_type=sa.Text())(key)
    if kind in ("decimal", "money"):
        scale = sa.literal_column(str(RATIO_SCALE if kind == "decimal" else MONEY_SCALE), sa.Numeric())
        return sa.type_coerce(sa.cast(sa.cast(text, sa.Numeric) * scale, sa.BigInteger), type_of(kind))
    if kind == "date":
        days = sa.cast(text, sa.Date).op("-", return_type=sa.BigInteger())(sa.literal_column("date '0001-01-01'"))
        return sa.type_coerce(sa.cast(days, sa.BigInteger) + sa.literal_column("1"), Days())
    if kind == "boolean":
        return sa.type_coerce(sa.cast(sa.cast(sa.cast(text, sa.Boolean), sa.Integer), sa.BigInteger), Flag())
    return sa.cast(text, type_of(kind)) if kind in ("number", "instant") else sa.type_coerce(text, type_of(kind))


def options(table: Any, key: Any) -> Any:
    """The list of the field with a `key` in a row."""
    return table.c.custom.op("->", return_type=JSONB())(key)


def column(kind: str, column_name: str, alias: Any) -> Any:
    """The typed column of the index that has the values of a kind."""
    return sa.type_coerce(alias.c[column_name], type_of(kind))


def entry(record: Any, name: str, alias: Any) -> list[sa.ColumnElement[bool]]:
    """That a row of the index is of the field in the parameter `name`, and of the record whose id is given."""
    field = alias.c.field_id == sa.bindparam(name, type_=sa.Uuid())
    return [alias.c.tenant_id == TENANT, field, *([] if record is None else [alias.c.object_id == record])]


def parameters(fields: Mapping[str, Custom], values: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Parameters of `kept` and `dropped`: values that a write sets or clears, of the fields that the index has."""
    rows: list[tuple[Any, ...]] = []
    cleared: list[UUID] = []
    for key, value in values.items():
        field = fields[key]
        if field.filterable and field.kind.column:
            if value is None:
                cleared.append(UUID(field.id))
            else:
                rows.append(_row(field, value))
    names = ("field_id", "text_value", "number_value", "instant_value", "unique_key")
    columns = [list(part) for part in zip(*rows, strict=True)] or [[] for _ in names]
    return {**{f"cf_{name}": column for name, column in zip(names, columns, strict=True)}, "cf_cleared": cleared}


def _row(field: Custom, value: Any) -> tuple[Any, ...]:
    typed = indexed(field.kind.name, value)
    own = {field.kind.column: typed}
    unique = str(typed) if field.unique else None
    return (UUID(field.id), own.get("text_value"), own.get("number_value"), own.get("instant_value"), unique)


def indexed(kind: str, value: Any) -> Any:
    """A value as the index keeps it."""
    if kind in ("decimal", "money"):
        return int(Decimal(value) * (RATIO_SCALE if kind == "decimal" else MONEY_SCALE))
    if kind == "date":
        return date.fromisoformat(value).toordinal()
    if kind == "instant":
        return datetime.fromisoformat(value)
    return int(value) if kind == "boolean" else value


def options_of(fields: Mapping[str, Custom], values: Mapping[str, Any]) -> tuple[list[str], list[tuple[str, str]]]:
    """(ids of the lists that a write sets or clears, their values now) for the index of values one by one."""
    lists = [field for key in values if (field := fields[key]).filterable and field.kind.filter == "values"]
    pairs = sorted({(field.id, option) for field in lists for option in values[field.key] or ()})
    return [field.id for field in lists], pairs


def customs_changed(log: sa.Table, *conditions: Any) -> sa.Select[Any]:
    """Names of the custom fields that differ between `before` and `after` in those rows of a log that pass."""
    sides = (log.c.before, log.c.after)
    old, new = (side.op("->", return_type=JSONB())(sa.literal(CUSTOM, sa.Text())) for side in sides)
    keys = sa.func.jsonb_object_keys(sa.func.coalesce(old, _NONE).op("||", return_type=JSONB())(new))
    changed = keys.table_valued(sa.column("key", sa.Text()), name="keys").render_derived()
    was, is_ = (side.op("->", return_type=JSONB())(changed.c.key) for side in (old, new))
    name = sa.literal(PREFIX, sa.Text()).op("||", return_type=sa.Text())(changed.c.key)
    return (
        sa.select(name.label("name"))
        .select_from(sa.join(log, changed, sa.true()))
        .where(*conditions, was.is_distinct_from(is_))
    )


def _array(name: str, type_: Any) -> Any:
    return sa.bindparam(name, type_=ARRAY(type_))


def kept(written: Any, *, each: bool = False) -> Any:
    """The CTE that puts the values of the parameters into the index, for the row in the CTE `written`.

    With `each` there are several rows; the parameter `cf_object_id` says which one a value is of.
    """
    columns = (
        ("field_id", sa.Uuid()),
        ("text_value", sa.Text()),
        ("number_value", sa.BigInteger()),
        ("instant_value", sa.DateTime(timezone=True)),
        ("unique_key", sa.Text()),
    )
    given = (*columns, *((("object_id", sa.Uuid()),) if each else ()))
    arrays = sa.func.unnest(*(_array(f"cf_{name}", type_) for name, type_ in given))
    rows = arrays.table_valued(*(sa.column(name, type_) for name, type_ in given), name="customs").render_derived()
    mine = rows.c.object_id == written.c.row_id if each else sa.true()
    told = written.c.image.op("->>", return_type=sa.Text())
    circle = [sa.cast(told(sa.literal(name, sa.Text())), sa.Uuid()) for name in CIRCLE]
    names = ["tenant_id", "object_id", *(name for name, _ in columns), *CIRCLE]
    source = sa.select(TENANT, written.c.row_id, *(rows.c[name] for name, _ in columns), *circle)
    insert = upsert(VALUES).from_select(names, source.select_from(sa.join(written, rows, mine)))
    changed = {name: insert.excluded[name] for name in names[3:]}
    insert = insert.on_conflict_do_update(index_elements=[*VALUES.primary_key], set_=changed)
    return insert.returning(sa.literal_column("1")).cte("customs_kept")


def dropped(written: Any) -> Any:
    """The CTE that takes the fields of the parameter `cf_cleared` out of the index, for the row in `written`."""
    return (
        sa.delete(VALUES)
        .where(
            VALUES.c.tenant_id == TENANT,
            VALUES.c.object_id == sa.select(written.c.row_id).scalar_subquery(),
            VALUES.c.field_id == sa.any_(_array("cf_cleared", sa.Uuid())),
        )
        .returning(sa.literal_column("1"))
        .cte("customs_dropped")
    )


def released(written: Any, *, deleted: bool) -> Any:
    """The CTE that frees the unique values of a deleted record, or takes those of a restored one again."""
    key = sa.func.coalesce(VALUES.c.text_value, sa.cast(VALUES.c.number_value, sa.Text()))
    return (
        sa.update(VALUES)
        .where(
            VALUES.c.tenant_id == TENANT,
            VALUES.c.object_id == sa.select(written.c.row_id).scalar_subquery(),
            VALUES.c.field_id == sa.any_(_array("cf_unique", sa.Uuid())),
        )
        .values(unique_key=sa.null() if deleted else key)
        .returning(sa.literal_column("1"))
        .cte("customs_released")
    )


class _Xid8(sa.types.UserDefinedType[str]):
    cache_ok = True

    def get_col_spec(self, **kw: Any) -> str:
        del kw
        return "xid8"


def horizon() -> sa.Select[Any]:
    """The first transaction id that nobody has yet, as text."""
    last = sa.func.pg_snapshot_xmax(sa.func.pg_current_snapshot())
    return sa.select(sa.cast(last, sa.Text()).label("horizon"))


def past_horizon() -> sa.Select[Any]:
    """Whether every transaction before the one of the parameter `horizon` has ended."""
    oldest = sa.func.pg_snapshot_xmin(sa.func.pg_current_snapshot())
    limit = sa.cast(sa.bindparam("horizon", type_=sa.Text()), _Xid8())
    return sa.select(oldest.op(">=", return_type=sa.Boolean())(limit).label("past"))


def same_values(table: sa.Table, most: int) -> sa.Select[Any]:
    """Values of the field `id` in the index that several live records of a table have, with some of the records."""
    value = sa.func.coalesce(VALUES.c.text_value, sa.cast(VALUES.c.number_value, sa.Text()))
    field = sa.bindparam("id", type_=sa.Uuid())
    ids = sa.func.array_agg(VALUES.c.object_id, type_=ARRAY(sa.Uuid()))
    live = (table.c.tenant_id == TENANT, table.c.id == VALUES.c.object_id, table.c.deleted_at.is_(None))
    groups = (
        sa.select(value.label("value"), ids.label("ids"))
        .where(VALUES.c.tenant_id == TENANT, VALUES.c.field_id == field, value.is_not(None), *live)
        .group_by(value)
        .having(sa.func.count() > sa.literal_column("1"))
        .limit(sa.literal_column(str(most)))
        .subquery("groups")
    )
    some: Any = sa.literal_column("ids[1:5]", ARRAY(sa.Uuid()))
    return sa.select(groups.c.value, some.label("ids")).select_from(groups)


def build(table: sa.Table, kind: str, most: int) -> tuple[Statement, ...]:
    """Statements that put the values of some records into the index.

    The first locks the next records behind the id `after` and gives their ids; the others take `ids`, the field `id`,
    its `key`, whether it is `unique`, and `list`, what the index of values one by one calls it.
    """
    ids, key = sa.bindparam("ids", type_=ARRAY(sa.Uuid())), sa.bindparam("key", type_=sa.Text())
    field = sa.bindparam("id", type_=sa.Uuid())
    after = sa.bindparam("after", type_=sa.Uuid())
    some = sa.select(table.c.id).where(table.c.tenant_id == TENANT, table.c.id > after).order_by(table.c.id)
    lock = some.limit(sa.literal_column(str(most))).with_for_update(key_share=True)
    mine = (table.c.tenant_id == TENANT, among(table.c.id, ids))
    one: Any = sa.literal_column("1")
    if KINDS[kind].filter == "values":
        kept_field = sa.bindparam("list", type_=sa.Text())
        lists = table_of(FieldValue)
        option = sa.func.jsonb_array_elements_text(options(table, key)).label("value")
        given = sa.select(table.c.id.label("object_id"), option).where(*mine).subquery("given")
        rows = sa.select(TENANT, kept_field, given.c.value, given.c.object_id).select_from(given)
        fill = upsert(lists).from_select(["tenant_id", "field", "value", "object_id"], rows)
        old = sa.delete(lists).where(
            lists.c.tenant_id == TENANT, lists.c.field == kept_field, among(lists.c.object_id, ids)
        )
        return Statement(lock), Statement(old.returning(one)), Statement(fill.on_conflict_do_nothing().returning(one))
    name = KINDS[kind].column
    value = expression(table, kind, key).label("value")
    circle = [table.c[own] for own in CIRCLE if own in table.c]
    given = sa.select(table.c.id, value, table.c.deleted_at, *circle).where(*mine).subquery("given")
    claimed = sa.and_(sa.bindparam("unique", type_=sa.Boolean()), given.c.deleted_at.is_(None))
    filled = {name: given.c.value, "unique_key": sa.case((claimed, sa.cast(given.c.value, sa.Text())))}
    filled |= {str(own.key): given.c[own.key] for own in circle}
    rows = sa.select(TENANT, field, given.c.id, *filled.values()).where(given.c.value.is_not(None))
    fill = upsert(VALUES).from_select(["tenant_id", "field_id", "object_id", *filled], rows)
    fill = fill.on_conflict_do_update(
        index_elements=[*VALUES.primary_key], set_={own: fill.excluded[own] for own in filled}
    )
    old = sa.delete(VALUES).where(
        VALUES.c.tenant_id == TENANT, VALUES.c.field_id == field, among(VALUES.c.object_id, ids)
    )
    return Statement(lock), Statement(old.returning(one)), Statement(fill.returning(one))
