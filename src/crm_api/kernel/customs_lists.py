"""How a page is found by custom fields: which index is walked, and what is gathered first when it is little.

The planner takes every field for the average one, whichever it is and whatever is asked of it; so this decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.customs import KINDS
from crm_api.kernel.customs_index import VALUES, column, entry
from crm_api.kernel.filters import Group, Leaf, Node
from crm_api.kernel.paging import Key, Ordered
from crm_api.kernel.predicates import OPPOSITE, compared
from crm_api.kernel.record import among

FEW = 2_000
"""Records that are read and sorted rather than met on a walk."""
_NARROWING = {"eq": 0, "in": 1, "gt": 2, "gte": 2, "lt": 2, "lte": 2}
"""Operators that the index answers, the most telling first."""


@dataclass(frozen=True, slots=True)
class Way:
    """One way to the rows of a page, of which just one gives rows.

    Attributes:
        keys: the sort of the rows whose leading key has a value.
        known: what these fulfil.
        blank: what the others fulfil; None where there are none.
    """

    keys: Sequence[Ordered]
    known: Sequence[Any]
    blank: Sequence[Any] | None

    def when(self, *conditions: Any) -> "Way":
        """The same, with conditions of its own."""
        return replace(
            self,
            known=[*conditions, *self.known],
            blank=None if self.blank is None else [*conditions, *self.blank],
        )


def split(tree: Group) -> tuple[list[Leaf], Group]:
    """The comparisons with values that the index of a record's own custom fields has, and what else is asked."""
    own = [node for node in tree.children if _own(node)] if tree.op == "and" else []
    return own, tree if not own else replace(tree, children=tuple(node for node in tree.children if node not in own))  # type: ignore[return-value]


def _own(node: Node) -> bool:
    if not isinstance(node, Leaf) or node.hops or node.form is None:
        return False
    kind, indexed = node.form
    return indexed and bool(KINDS[kind].column)


def pattern(tree: Group, sort: Sequence[Key]) -> tuple[int, ...]:
    """Which of the comparisons and sort keys are about the same field: the SQL depends on it."""
    names = [leaf.field for leaf in split(tree)[0]] + [key.name for key in sort]
    return tuple(map(names.index, names))


def ways(leaves: Sequence[Leaf], sort: Sequence[Key], keys: Sequence[Ordered], table: Any) -> Iterator[Way]:
    """Each way to rows that fulfil the comparisons."""
    lead, telling = keys[0], sorted(
        (leaf for leaf in leaves if leaf.op in _NARROWING and leaf.field != sort[0].name),
        key=lambda leaf: _NARROWING[leaf.op],
    )
    if sort[0].name == "id" and telling and telling[0].op == "eq":
        # its values stand in the index in the order of ids
        first = telling[0]
        alias = VALUES.alias("walked")
        key = replace(lead, column=alias.c.object_id)
        found = [*entry(table.c.id, f"{first.name}_of", alias), _value(first, alias)]
        others = [_asked(leaf, alias.c.object_id) for leaf in leaves if leaf is not first]
        yield Way([key], [*found, *others], None)
        return
    if not telling:
        yield _walk(leaves, sort, keys, table)
        return
    same = [leaf for leaf in telling if leaf.field == telling[0].field]
    others = [leaf for leaf in leaves if leaf not in same]
    alias = VALUES.alias("hit")
    rows = sa.select(alias.c.object_id).where(
        *entry(None, f"{same[0].name}_of", alias), *(_value(leaf, alias) for leaf in same)
    )
    array = sa.func.array(rows.limit(sa.literal_column(str(FEW + 1))).scalar_subquery())
    hits = sa.select(array.label("ids")).cte("hits")
    ids = sa.cast(sa.select(hits.c.ids).scalar_subquery(), ARRAY(sa.Uuid()))
    few = sa.func.cardinality(ids) <= sa.literal_column(str(FEW))
    yield _walk(others, sort, keys, table).when(few, among(table.c.id, ids))
    yield _walk(leaves, sort, keys, table).when(~few)


def _walk(leaves: Sequence[Leaf], sort: Sequence[Key], keys: Sequence[Ordered], table: Any) -> Way:
    lead = keys[0]
    if lead.record is None:
        asked = [_asked(leaf, table.c.id) for leaf in leaves]
        known = [*lead.known, *asked] if lead.nullable else asked
        return Way(keys, known, [*lead.missing, *asked] if lead.nullable else None)
    others = [leaf for leaf in leaves if leaf.field != sort[0].name]
    same = [leaf for leaf in leaves if leaf.field == sort[0].name]
    known = [*(compared(leaf, lead.column) for leaf in same), *(_asked(leaf, lead.record) for leaf in others)]
    blank = None
    if all(leaf.op in OPPOSITE for leaf in same):
        blank = [*lead.missing, *(_asked(leaf, table.c.id) for leaf in others)]
    walked = [replace(key, column=lead.record) if one.name == "id" else key for one, key in zip(sort, keys, strict=True)]
    return Way(walked, [*lead.known, *known], blank)


def _value(leaf: Leaf, alias: Any) -> sa.ColumnElement[bool]:
    kind, _ = leaf.form or ("", False)
    return compared(leaf, column(kind, KINDS[kind].column, alias))


def _asked(leaf: Leaf, record: Any) -> sa.ColumnElement[bool]:
    """Asked row by row: OFFSET 0 keeps the planner from gathering all that have the value."""
    alias = VALUES.alias(f"custom_{leaf.name}")
    opposite = OPPOSITE.get(leaf.op)
    same = leaf if opposite is None else replace(leaf, op=opposite)
    rows = sa.select(sa.literal_column("1")).where(*entry(record, f"{leaf.name}_of", alias), _value(same, alias))
    found = sa.exists(rows.offset(sa.literal_column("0")).correlate(record.table))
    return found if opposite is None else ~found
