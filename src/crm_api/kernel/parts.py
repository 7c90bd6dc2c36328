"""Lists of a record whose items are rows of a resource, too: written by the statement that writes the record."""

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cache
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSON
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.context import new_id
from crm_api.kernel.database import TENANT
from crm_api.kernel.joints import Parts
from crm_api.kernel.ledger import ACTOR, NOW
from crm_api.kernel.problems import INVALID, Fault, Problem
from crm_api.kernel.record import Entity, table_of
from crm_api.kernel.resource import Resource, kind
from crm_api.kernel.schema import money_text, ratio_text

_TEXTS = {"money": money_text, "ratio": ratio_text}
_ONE: Any = sa.literal_column("1")


def items_of(row: Mapping[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """The items of a list as they are kept in a row that was loaded."""
    kept = (row or {}).get(name)
    return orjson.loads(kept) if isinstance(kept, str) else list(kept or ())


def identified(items: Sequence[Mapping[str, Any]], before: Mapping[str, Any] | None, name: str) -> list[dict[str, Any]]:
    """Items with their ids and positions: those that have an id are items of the record already.

    Args:
        items: as they were sent; `id` may be absent or None.
        before: the record as it is, or None.
        name: of the list.

    Raises:
        Problem: 422 for an id that no item of the record has, or that two have.
    """
    known = {item["id"] for item in items_of(before, name)}
    named = [None if item.get("id") is None else str(UUID(item["id"])) for item in items]
    faults, found = [], []
    for i, (item, given) in enumerate(zip(items, named, strict=True)):
        id_ = given or str(new_id())
        if given is not None and id_ not in known:
            faults.append(Fault("unknown_item", "No item of this record has this id.", pointer=f"/{name}/{i}/id"))
        elif id_ in named[:i]:
            faults.append(Fault("unknown_item", "Two items have this id.", pointer=f"/{name}/{i}/id"))
        found.append({**item, "id": id_, "position": i + 1})
    if faults:
        raise Problem(INVALID, faults[0].detail, faults)
    return found


@cache
def _columns(part: Parts) -> dict[str, int]:
    """The columns that an item brings, with the scale of their numbers; the others follow from the record."""
    ours = {"tenant_id", part.column, *Entity.__annotations__} - {"id"}
    types = {str(column.name): column.type for column in table_of(part.model).c}
    return {name: getattr(type_, "scale", 0) for name, type_ in types.items() if name not in ours}


@cache
def _shown(part: Parts) -> tuple[tuple[str, Callable[[int], str] | None], ...]:
    """The fields that the list keeps, with how their scaled numbers are written."""
    columns = table_of(part.model).c
    texts = {name: _TEXTS.get(kind(columns[name])) for name in _columns(part)}
    return tuple((name, texts.get(name)) for name in part.item.model_fields)


def split(part: Parts, items: Sequence[Mapping[str, Any]] | None) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """(the list as it is kept and sent, the rows with scaled numbers) of the items that a build gave."""
    columns, shown = _columns(part), _shown(part)
    listed, rows = [], []
    for item in items or ():
        row: dict[str, Any] = {}
        for name, scale in columns.items():
            value = item.get(name)
            row[name] = int(value * scale) if scale and isinstance(value, Decimal) else value
        listed.append(
            {name: item.get(name) if text is None or row[name] is None else text(row[name]) for name, text in shown}
        )
        rows.append(row)
    return listed, rows


def written_parts(resource: Resource, names: frozenset[str], written: Any, *, new: bool) -> list[Any]:
    """CTEs that write the items of these lists for the row of the CTE `written`; those that are gone are deleted."""
    ctes: list[Any] = []
    for name in sorted(names & resource.parts.keys()):
        part = resource.parts[name]
        table, columns = table_of(part.model), _columns(part)
        rows = sa.bindparam(f"l_{name}", type_=JSON())
        items = (
            sa.func.json_to_recordset(rows)
            .table_valued(*(sa.column(column, table.c[column].type) for column in columns), name=f"new_{name}")
            .render_derived(with_types=True)
        )
        values = {column: items.c[column] for column in columns} | {
            "tenant_id": TENANT,
            part.column: written.c.row_id,
            "version": written.c.row_version,
            **dict.fromkeys(("created_at", "updated_at"), NOW),
            **dict.fromkeys(("created_by", "updated_by"), ACTOR),
        }
        insert: Any = upsert(table).from_select(
            list(values), sa.select(*values.values()).select_from(sa.join(written, items, sa.true()))
        )
        if not new and not part.journal:
            kept = sa.select(items.c.id)
            gone = sa.delete(table).where(
                table.c.tenant_id == TENANT,
                table.c[part.column].in_(sa.select(written.c.row_id)),
                table.c.id.not_in(kept),
            )
            ctes.append(gone.returning(_ONE).cte(f"gone_{name}"))
            content = [column for column in columns if column != "id"]
            stamps = ("version", "updated_at", "updated_by")
            insert = insert.on_conflict_do_update(
                index_elements=["tenant_id", "id"],
                set_={column: insert.excluded[column] for column in (*content, *stamps)},
                where=sa.and_(
                    table.c[part.column] == insert.excluded[part.column],
                    sa.or_(*(table.c[column].is_distinct_from(insert.excluded[column]) for column in content)),
                ),
            )
        ctes.append(insert.returning(_ONE).cte(f"written_{name}"))
    return ctes


def marked_parts(resource: Resource, written: Any, stamp: Any) -> list[Any]:
    """CTEs that delete or restore the items with the record."""
    found = []
    for name, part in sorted(resource.parts.items()):
        if part.journal:
            continue
        table = table_of(part.model)
        of = (table.c.tenant_id == TENANT, table.c[part.column].in_(sa.select(written.c.row_id)))
        found.append(sa.update(table).where(*of).values(deleted_at=stamp).returning(_ONE).cte(f"marked_{name}"))
    return found
