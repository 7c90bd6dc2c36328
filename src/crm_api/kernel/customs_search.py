"""Custom fields in the searched text of records: a piece after those of declared fields, with a part for each field.

A part begins with a mark of its field, so that it is replaced, or left out for who does not see it, by itself.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.customs import Custom, customizable, hidden_keys
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.policy import Access
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import SEPARATOR, fold

_BEGIN, _END = "\x1e", "\x1d"
"""Spaces to `fold`, so that neither is in folded text, nor in what is looked for."""
_PRIVATE = 0xE000
TEXT, GONE = "s_custom", "s_gone"
"""Parameters: parts to add, and a pattern of those that they replace."""


def part(key: str, value: str | None) -> str:
    """What the text of a record has of a field; nothing where there is no value."""
    return "" if value is None else _mark(key) + fold(value)


def pattern(keys: Iterable[str]) -> str:
    """A regular expression of the parts of fields."""
    return f"({'|'.join(map(_mark, keys))})[^{_BEGIN}]*"


def _mark(key: str) -> str:
    return _BEGIN + "".join(chr(_PRIVATE + ord(letter)) for letter in key) + _END


def parameters(fields: Mapping[str, Custom], values: Mapping[str, Any]) -> dict[str, str]:
    """Parameters of a write, for values that a write sets or clears; none when none is searched."""
    keys = sorted(key for key in values if fields[key].searchable)
    return {TEXT: "".join(part(key, values[key]) for key in keys), GONE: pattern(keys)} if keys else {}


def partly_hidden(resource: Resource, access: Access) -> bool:
    """Whether searched text may have something in it that the caller does not see."""
    hidden = access.hides(resource.plural)
    return bool(hidden.intersection(resource.search) or hidden_keys(hidden))


def pieces(
    resource: Resource, table: Any, *, replacing: bool = False, hidden: frozenset[str] = frozenset()
) -> list[Any]:
    """The piece of the custom fields of a row; none where records take no custom fields.

    Args:
        resource: of the row.
        table: that has it.
        replacing: with the parts of the parameters in place of those that it has.
        hidden: fields of which it is to have no part.
    """
    if not customizable(resource):
        return []
    keys = hidden_keys(hidden)
    if replacing:
        return [_replaced(resource, table, sa.bindparam(TEXT, type_=sa.Text()))]
    own = _piece(table, len(resource.search))
    return [_or_none(_less(own, sa.literal(pattern(keys), sa.Text())) if keys else own)]


def _piece(table: Any, number: int) -> Any:
    """A piece of the text of a row, counted from 0; that of custom fields comes last."""
    return sa.func.split_part(
        table.c.search_text, sa.literal(SEPARATOR, sa.Text()), sa.literal_column(str(number + 1)), type_=sa.Text()
    )


def _less(text: Any, gone: Any) -> Any:
    return sa.func.regexp_replace(text, gone, sa.literal_column("''"), sa.literal_column("'g'"), type_=sa.Text())


def _replaced(resource: Resource, table: Any, parts: Any) -> Any:
    kept = _less(_piece(table, len(resource.search)), sa.bindparam(GONE, type_=sa.Text()))
    return _or_none(kept.op("||", return_type=sa.Text())(parts))


def _or_none(text: Any) -> Any:
    """Null where there is no text, so that `concat_ws` leaves out the separator, too."""
    return sa.func.nullif(text, sa.literal_column("''"), type_=sa.Text())


def build(resource: Resource) -> tuple[Statement, Statement]:
    """Statements for the records `ids`: one reads the values of the field `key`, the other writes their parts.

    The second takes `texts` beside `ids`, a part or nothing for each, and the pattern of the parameter `s_gone`.
    """
    table = resource.table
    ids = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
    value = table.c.custom.op("->>", return_type=sa.Text())(sa.bindparam("key", type_=sa.Text()))
    read = sa.select(table.c.id, value.label("value")).where(table.c.tenant_id == TENANT, among(table.c.id, ids))
    arrays = sa.func.unnest(ids, sa.bindparam("texts", type_=ARRAY(sa.Text())))
    given = arrays.table_valued(sa.column("row_id", sa.Uuid()), sa.column("part", sa.Text()), name="given")
    rows = given.render_derived()
    declared = [_piece(table, number) for number in range(len(resource.search))]
    own = _replaced(resource, table, rows.c.part)
    text = sa.func.concat_ws(sa.literal(SEPARATOR, sa.Text()), *declared, own)
    mine = (table.c.tenant_id == TENANT, table.c.id == rows.c.row_id, table.c.search_text.is_distinct_from(text))
    one: Any = sa.literal_column("1")
    return Statement(read), Statement(sa.update(table).where(*mine).values(search_text=text).returning(one))
