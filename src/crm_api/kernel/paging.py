"""Sorts and keyset cursors: complete under nulls and inserts, authenticated, without a depth limit."""

import base64
import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from crm_api.kernel.customs import PREFIX, Custom, fields_of
from crm_api.kernel.customs_index import VALUES, column, entry, expression
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import INVALID_CURSOR, Problem, forbidden, invalid_parameter
from crm_api.kernel.resource import Resource, kind

MAX_SORT_KEYS = 3
_MAC = 16


@dataclass(frozen=True, slots=True)
class Key:
    """One sort key; `custom` when it is a custom field."""

    name: str
    descending: bool
    custom: Custom | None = None

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (self.custom.kind.name if self.custom else self.name, self.descending)


@dataclass(frozen=True, slots=True)
class Ordered:
    """A sort key as SQL: its value in a row, and the conditions that a row has one, or none.

    `blank` stands for the value where there is none, `record` the id of the record where the value stands in the index.
    """

    column: Any
    nullable: bool
    descending: bool
    known: Sequence[Any]
    missing: Sequence[Any]
    blank: Any
    record: Any = None


def parse_sort(resource: Resource, access: Access, text: str | None) -> tuple[Key, ...]:
    """`-created_at,name` to keys, with id as the last; the default is newest first."""
    if not text:
        return (Key("id", descending=True),)
    keys = [_key(resource, access, part.removeprefix("-"), part.startswith("-")) for part in text.split(",")]
    if len(keys) > MAX_SORT_KEYS or len({key.name for key in keys}) < len(keys):
        raise invalid_parameter("sort", "invalid_sort", f"At most {MAX_SORT_KEYS} different keys.")
    if "id" in (names := [key.name for key in keys]):
        return tuple(keys[: names.index("id") + 1])
    return (*keys, Key("id", keys[-1].descending))


def _key(resource: Resource, access: Access, name: str, descending: bool) -> Key:
    custom = fields_of(access, resource).get(name.removeprefix(PREFIX)) if name.startswith(PREFIX) else None
    if name not in resource.sortable and (custom is None or not custom.sortable):
        detail = f"{name!r} cannot be sorted by; one of {', '.join(resource.sortable)}."
        raise invalid_parameter("sort", "unknown_sort", detail)
    if name in access.hides(resource.plural):
        raise forbidden(f"field {resource.plural}.{name}")
    if custom is not None and not custom.indexed:
        raise invalid_parameter("sort", "index_building", f"The index of {name!r} is being built; try again later.")
    return Key(name, descending, custom)


def sort_parameters(keys: Sequence[Key], *, narrow: bool) -> dict[str, Any]:
    """Which custom fields the sort is by: the first is walked in the index, others, or all, are read from the rows."""
    fields = {i: key.custom for i, key in enumerate(keys) if key.custom is not None}
    return {f"sort{i}": custom.key if i or narrow else custom.place for i, custom in fields.items()}


def encode(secrets: Sequence[bytes], binding: bytes, values: Sequence[Any]) -> str:
    """An opaque cursor for the row with these sort values, made by the first secret, for one query of one caller."""
    payload = orjson.dumps(values)
    mac = _mac(secrets[0], binding, payload)
    return base64.urlsafe_b64encode(mac + payload).rstrip(b"=").decode()


def decode(secrets: Sequence[bytes], binding: bytes, cursor: str, resource: Resource, keys: Sequence[Key]) -> list[Any]:
    """The sort values of a cursor.

    Raises:
        Problem: 400, for anything but a cursor of this query and caller.
    """
    parsers: dict[str, Any] = {"instant": datetime.fromisoformat, "date": _day}
    kinds = [key.custom.kind.name if key.custom else kind(resource.sortable[key.name]) for key in keys]
    return [
        value if value is None else parsers.get(kind_, lambda value: value)(value)
        for kind_, value in zip(kinds, opened(secrets, binding, cursor), strict=True)
    ]


def opened(secrets: Sequence[bytes], binding: bytes, cursor: str) -> list[Any]:
    """The values that `encode` put into a cursor, under any of the secrets.

    Raises:
        Problem: 400, for anything but a cursor of ours with this binding.
    """
    wrong = Problem(INVALID_CURSOR, "Start again without a cursor.")
    try:
        data = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
    except ValueError:
        raise wrong from None
    if base64.urlsafe_b64encode(data).rstrip(b"=") != cursor.encode():
        raise wrong  # another spelling of the same bytes
    mac, payload = data[:_MAC], data[_MAC:]
    if not any(hmac.compare_digest(mac, _mac(secret, binding, payload)) for secret in secrets):
        raise wrong
    return list(orjson.loads(payload))


def _mac(secret: bytes, binding: bytes, payload: bytes) -> bytes:
    return hmac.new(secret, binding + b"\x00" + payload, hashlib.sha256).digest()[:_MAC]


def _day(value: Any) -> Any:
    return date.fromisoformat(value) if isinstance(value, str) else value  # of a custom field it is a number


def ordered(resource: Resource, keys: Sequence[Key], table: Any, *, narrow: bool) -> list[Ordered]:
    """The keys of a sort in rows of what is read."""
    return [_ordered(resource, i, key, table, narrow=narrow) for i, key in enumerate(keys)]


def _ordered(resource: Resource, i: int, key: Key, table: Any, *, narrow: bool) -> Ordered:
    if key.custom is None:
        declared = resource.sortable[key.name]
        own = table.c[declared.key]
        return Ordered(own, declared.nullable, key.descending, [own.is_not(None)], [own.is_(None)], own)
    kind_, name = key.custom.kind, f"sort{i}"
    if i or narrow:
        read = expression(table, kind_.name, sa.bindparam(name, type_=sa.Text()))
        return Ordered(read, True, key.descending, [read.is_not(None)], [read.is_(None)], read)
    alias, other = VALUES.alias("sorted"), VALUES.alias("unsorted")
    value: sa.Select[Any] = sa.select(sa.literal_column("1")).where(*entry(table.c.id, name, other))
    lacks = ~sa.exists(value.offset(sa.literal_column("0")).correlate(table))
    found = column(kind_.name, kind_.column, alias)
    known = [*entry(table.c.id, name, alias), found.is_not(None)]
    return Ordered(found, True, key.descending, known, [lacks], sa.cast(sa.null(), found.type), alias.c.object_id)


def order(keys: Sequence[Ordered]) -> list[Any]:
    """ORDER BY with nulls last; plain where the column has none, so that an index serves it."""
    found = []
    for key in keys:
        direction = key.column.desc() if key.descending else key.column.asc()
        found.append(direction.nulls_last() if key.descending and key.nullable else direction)
    return found


def after(keys: Sequence[Ordered], nulls: Sequence[bool], first: int = 0) -> sa.ColumnElement[bool]:
    """Rows behind the cursor whose values are the parameters c0, c1, ...

    Args:
        keys: the sort.
        nulls: which cursor values are null.
        first: number of the first key to compare (1 inside the segment where the leading key is null).
    """
    columns = [key.column for key in keys]
    values = [sa.bindparam(f"c{i}", type_=column.type) for i, column in enumerate(columns)]
    indices = range(first, len(keys))
    plain = all(not keys[i].nullable or i == 0 for i in indices) and not any(nulls[i] for i in indices)
    if plain and len({keys[i].descending for i in indices}) == 1:
        left, right = sa.tuple_(*(columns[i] for i in indices)), sa.tuple_(*(values[i] for i in indices))
        comparison: sa.ColumnElement[bool] = left < right if keys[first].descending else left > right
        return comparison
    options: list[sa.ColumnElement[bool]] = []
    equal: list[sa.ColumnElement[bool]] = []
    for i in indices:
        if not nulls[i]:
            beyond = columns[i] < values[i] if keys[i].descending else columns[i] > values[i]
            behind = sa.or_(beyond, columns[i].is_(None)) if keys[i].nullable and i > 0 else beyond
            options.append(sa.and_(*equal, behind))
        equal.append(columns[i].is_(None) if nulls[i] else columns[i] == values[i])
    condition = sa.or_(sa.false(), *options)
    if not nulls[first] and not (first and keys[first].nullable):  # those without a value come after it
        bound = columns[first] <= values[first] if keys[first].descending else columns[first] >= values[first]
        condition = sa.and_(bound, condition)
    return condition
