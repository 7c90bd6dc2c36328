"""Which columns of a resource a caller gets, and how they become JSON."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from starlette.responses import Response

from crm_api.kernel.customs import CUSTOM, PREFIX, hidden_keys
from crm_api.kernel.policy import Access
from crm_api.kernel.resource import Resource, kind
from crm_api.kernel.schema import instant_text, money_text, ratio_text

_FROM_ROW: dict[str, Callable[[Any], Any]] = {"money": money_text, "ratio": ratio_text, "json": orjson.Fragment}
_ENDS = {"-infinity": "0001-01-01", "infinity": "9999-12-31"}
"""How PostgreSQL writes the days that the driver sends as its infinities."""
_FROM_IMAGE: dict[str, Callable[[Any], Any]] = {
    "money": money_text,
    "ratio": ratio_text,
    "date": lambda text: _ENDS.get(text, text),
    "instant": lambda text: instant_text(datetime.fromisoformat(text)),
}


class Projection:
    """The select list of one resource for one form of access, and the way back from rows to wire objects."""

    __slots__ = ("_access", "_blank", "_closed", "_constant", "_conversions", "_image", "columns", "hidden", "resource")

    def __init__(self, resource: Resource, access: Access, only: Iterable[str] | None = None) -> None:
        """Builds it.

        Args:
            resource: whose columns.
            access: hides fields from the caller.
            only: for sparse rows, the fields asked for; id, object and version are always there.
        """
        wanted = None if only is None else {"id", "version", *only}
        self.resource = resource
        self._access = access
        self.columns = tuple(name for name in resource.columns if wanted is None or name in wanted)
        self.hidden = access.hides(resource.plural)
        kinds = {name: kind(resource.table.c[name]) for name in self.columns}
        self._conversions = [(name, _FROM_ROW[kinds[name]]) for name in self.columns if kinds[name] in _FROM_ROW]
        self._image = [(name, _FROM_IMAGE[kinds[name]]) for name in self.columns if kinds[name] in _FROM_IMAGE]
        self._closed = hidden_keys(self.hidden) if CUSTOM in self.columns else ()
        self._constant: dict[str, Any] = {"object": resource.singular}
        redacted = self.hidden.intersection(self.columns).union(PREFIX + key for key in self._closed)
        if wanted is None or "redacted" in wanted or redacted:
            self._constant["redacted"] = sorted(redacted)
        self._blank = dict.fromkeys(self.columns) | self._constant  # filling a copy is faster than growing a dict

    def select(self, table: Any) -> list[sa.ColumnElement[Any]]:
        """The select list; hidden values never leave the database."""
        return [self._column(table, name).label(name) for name in self.columns]

    def _column(self, table: Any, name: str) -> sa.ColumnElement[Any]:
        column = table.c[name]
        if name in self.hidden:
            return sa.cast(sa.null(), sa.Text() if kind(self.resource.table.c[name]) == "id" else column.type)
        if name == CUSTOM and self._closed:
            keys = sa.literal(list(self._closed), ARRAY(sa.Text()))
            return sa.type_coerce(column.op("-", return_type=JSONB())(keys), JSONB())
        return sa.cast(column, sa.Text()) if isinstance(column.type, sa.Uuid) else sa.type_coerce(column, column.type)

    def render(self, values: Sequence[Any]) -> dict[str, Any]:
        """A wire object from the values of `select`, in its order."""
        item = self._blank.copy()
        item.update(zip(self.columns, values, strict=True))
        if self.resource.mask is not None:
            self.resource.mask(self._access, item)
        for name, convert in self._conversions:
            if (value := item[name]) is not None:
                item[name] = convert(value)
        return item

    def from_image(self, image: Mapping[str, Any]) -> dict[str, Any]:
        """A wire object from `to_jsonb(row)`: stored replies, events, to-many expansions."""
        item = {name: None if name in self.hidden else image.get(name) for name in self.columns}
        for name, convert in self._image:
            if (value := item[name]) is not None:
                item[name] = convert(value)
        if self._closed and (custom := item[CUSTOM]):
            item[CUSTOM] = {key: value for key, value in custom.items() if key not in self._closed}
        item.update(self._constant)
        return item


class Json(Response):
    """A JSON answer, its headers laid out at once."""

    def __init__(self, value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> None:
        self.status_code = status
        self.background = None
        self.body = dumps(value)
        self.raw_headers = [(b"content-length", b"%d" % len(self.body)), (b"content-type", b"application/json")]
        if headers:
            self.raw_headers += [(name.lower().encode(), value.encode("latin-1")) for name, value in headers.items()]


def plain(value: Any) -> Any:
    """What is sent, as plain values: parts that the database gave as JSON are read."""
    return orjson.loads(dumps(value))


def dumps(value: Any) -> bytes:
    """JSON as it is sent: instants in UTC with Z."""
    return orjson.dumps(value, option=orjson.OPT_UTC_Z)
