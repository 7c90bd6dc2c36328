"""The rows of an import in the database: written by validation, done by applying, undone by reverting."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSON

from crm_api.domains.exchange.importing import NONE, ROW_STATES, ImportRow
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, hidden_keys
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.record import table_of

PROBLEMATIC = ("invalid", "failed", "kept")
"""States of rows that have problems; an index finds these."""
_ROWS = table_of(ImportRow)
_IMPORT = sa.bindparam("import_id", type_=sa.Uuid())
_AFTER, _LIMIT = sa.bindparam("after", type_=sa.BigInteger()), sa.bindparam("limit", type_=sa.BigInteger())
_STATES = sa.bindparam("states", type_=ARRAY(sa.Text()))
_OF = (_ROWS.c.tenant_id == TENANT, _ROWS.c.import_id == _IMPORT)
_ONE: Any = sa.literal_column("1")
_SHOWN = (
    _ROWS.c.row,
    _ROWS.c.state,
    sa.cast(_ROWS.c.object_id, sa.Text()).label("object_id"),
    _ROWS.c.version,
    _ROWS.c.data,
    _ROWS.c.before,
    _ROWS.c.problems,
)
_WRITTEN = ("row", "state", "object_id", "version", "key", "data", "before", "problems")
_DONE = ("row", "state", "object_id", "version", "before", "problems")


def _records(names: Sequence[str]) -> Any:
    columns = [sa.column(name, _ROWS.c[name].type) for name in names]
    records = sa.func.json_to_recordset(sa.bindparam("records", type_=JSON()))
    return records.table_valued(*columns, name="records").render_derived(with_types=True)


def _write() -> Statement:
    records = _records(_WRITTEN)
    rows = sa.select(TENANT, _IMPORT, *records.c)
    insert = sa.insert(_ROWS).from_select(["tenant_id", "import_id", *_WRITTEN], rows)
    return Statement(insert)


def _settle() -> Statement:
    """The rows of a step lie near each other: without saying so the planner reads all rows of the import."""
    records = _records(_DONE)
    changes = {name: records.c[name] for name in _DONE if name != "row"}
    first, last = (sa.bindparam(name, type_=sa.BigInteger()) for name in ("first", "last"))
    near = _ROWS.c.row.between(first, last)
    return Statement(sa.update(_ROWS).where(*_OF, near, _ROWS.c.row == records.c.row).values(**changes))


def _next(*, backwards: bool = False, problematic: bool = False, any_state: bool = False) -> Statement:
    place = _ROWS.c.row < _AFTER if backwards else _ROWS.c.row > _AFTER
    found = sa.select(*_SHOWN).where(*_OF, place)
    if not any_state:
        found = found.where(sa.cast(_ROWS.c.state == sa.any_(_STATES), sa.Boolean))
    if problematic:
        found = found.where(_ROWS.c.problems.is_not(None))
    return Statement(found.order_by(_ROWS.c.row.desc() if backwards else _ROWS.c.row).limit(_LIMIT))


def _clear() -> Statement:
    some = sa.select(_ROWS.c.row).where(*_OF).order_by(_ROWS.c.row).limit(_LIMIT).scalar_subquery()
    return Statement(
        sa.delete(_ROWS).where(*_OF, sa.cast(_ROWS.c.row == sa.any_(sa.func.array(some)), sa.Boolean)).returning(_ONE)
    )


_WRITE, _SETTLE, _CLEAR = _write(), _settle(), _clear()
_FORWARDS, _BACKWARDS = _next(), _next(backwards=True)
_PROBLEMS, _ANY = _next(problematic=True), _next(any_state=True)
_KEYS = Statement(
    sa.select(_ROWS.c.key)
    .where(*_OF, sa.cast(_ROWS.c.key == sa.any_(sa.bindparam("keys", type_=ARRAY(sa.Text()))), sa.Boolean))
    .distinct()
)


_COUNTS = Statement(sa.select(_ROWS.c.state, sa.func.count().label("number")).where(*_OF).group_by(_ROWS.c.state))


async def write(ctx: Context, import_id: str | UUID, records: Sequence[Mapping[str, Any]]) -> None:
    """Keeps what rows of the file mean; each record has every column."""
    if records:
        told = [{name: record.get(name) for name in _WRITTEN} for record in records]
        await ctx.fetch(_WRITE, {"import_id": import_id, "records": told})


async def settle(ctx: Context, import_id: str | UUID, records: Sequence[Mapping[str, Any]]) -> None:
    """Notes what became of rows."""
    if records:
        told = [{name: record.get(name) for name in _DONE} for record in records]
        places = [int(record["row"]) for record in records]
        near = {"first": min(places), "last": max(places)}
        await ctx.fetch(_SETTLE, {"import_id": import_id, "records": told, **near})


async def following(
    ctx: Context, import_id: str | UUID, after: int, limit: int, states: Sequence[str], *, backwards: bool = False
) -> list[Row]:
    """The next rows in some states, in their order or against it."""
    values = {"import_id": import_id, "after": after, "limit": limit, "states": list(states)}
    if states and set(states) <= set(PROBLEMATIC):
        return await ctx.fetch(_PROBLEMS, values)
    if set(states) >= set(ROW_STATES):
        return await ctx.fetch(_ANY, values)
    return await ctx.fetch(_BACKWARDS if backwards else _FORWARDS, values)


async def clear(ctx: Context, import_id: str | UUID, limit: int) -> int:
    """Deletes some rows; how many."""
    return len(await ctx.fetch(_CLEAR, {"import_id": import_id, "limit": limit}))


async def keys(ctx: Context, import_id: str | UUID, wanted: Sequence[str]) -> set[str]:
    """Those of some keys that rows of the file have."""
    if not wanted:
        return set()
    return {row["key"] for row in await ctx.fetch(_KEYS, {"import_id": import_id, "keys": list(wanted)})}


async def counted(ctx: Context, import_id: str | UUID) -> dict[str, int]:
    """How many rows there are in each state, and in all under `rows`."""
    found = {row["state"]: int(row["number"]) for row in await ctx.read(_COUNTS, {"import_id": import_id})}
    return {**NONE, "rows": sum(found.values()), **found}


def told(row: Row, hidden: frozenset[str]) -> dict[str, Any]:
    """A row as it is sent: without fields that are hidden from the reader."""
    data = orjson.loads(row["data"])
    before = orjson.loads(row["before"]) if row["before"] else None
    problems = orjson.loads(row["problems"]) if row["problems"] else []
    found: dict[str, Any] = {
        "object": "import_row",
        "row": row["row"],
        "state": row["state"],
        "id": row["object_id"],
        "values": _seen(data.get("values", {}), hidden),
        "external_ids": {} if "external_ids" in hidden else data.get("external", {}),
        "before": None if before is None else _seen(before.get("before", {}), hidden),
        "problems": [problem for problem in problems if not _about(problem, hidden)] if hidden else problems,
    }
    return found


def _seen(values: Mapping[str, Any], hidden: frozenset[str]) -> dict[str, Any]:
    shown = {name: value for name, value in values.items() if name not in hidden}
    if isinstance(customs := shown.get(CUSTOM), dict) and (closed := hidden_keys(hidden)):
        shown[CUSTOM] = {key: value for key, value in customs.items() if key not in closed}
    return shown


def _about(problem: Mapping[str, Any], hidden: frozenset[str]) -> bool:
    steps = str(problem.get("pointer") or "").split("/")[1:3]
    return bool(hidden.intersection((steps[0] if steps else "", ".".join(steps))))
