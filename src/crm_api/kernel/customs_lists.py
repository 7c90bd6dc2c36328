"""How a page is found by custom fields: which index is walked, and what is gathered first when it is little.

The planner takes every field for the average one, whichever it is and whatever is asked of it; so this decides.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.customs import KINDS
from crm_api.kernel.customs_hops import Hop, end_of
from crm_api.kernel.customs_index import VALUES, column, entry
from crm_api.kernel.database import TENANT
from crm_api.kernel.domain import Catalog
from crm_api.kernel.filters import Group, Leaf, Node, Through
from crm_api.kernel.paging import Key, Ordered
from crm_api.kernel.predicates import OPPOSITE, compared, leaf_to_sql
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource

FEW, FEW_UNINDEXED = 2_000, 500
"""Records that are read and sorted rather than met on a walk; the second where no index may find them."""
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
        blank = None if self.blank is None else [*conditions, *self.blank]
        return replace(self, known=[*conditions, *self.known], blank=blank)


def _split(tree: Group) -> tuple[list[Leaf], Group]:
    """The comparisons with values that the index of a record's own custom fields has, and what else is asked."""
    if tree.op != "and":
        return [], tree
    own = [node for node in tree.children if isinstance(node, Leaf) and not node.hops and _indexed(node)]
    return own, Group("and", tuple(node for node in tree.children if node not in own))


def _indexed(leaf: Leaf) -> bool:
    kind, indexed = leaf.form or ("long_text", False)
    return indexed and bool(KINDS[kind].column)


def pattern(tree: Group, sort: Sequence[Key]) -> tuple[int, ...]:
    """Which of the comparisons and sort keys are about the same field: the SQL depends on it."""
    names = [*_names(tree), *(((), key.name) for key in sort)]
    return tuple(map(names.index, names))


def _names(node: Node) -> Iterator[tuple[tuple[Hop, ...], str]]:
    if isinstance(node, Leaf):
        yield node.hops, node.field
    else:
        for child in node.children if isinstance(node, Group) else (node.child,):
            yield from _names(child)


@dataclass(frozen=True, slots=True)
class Hits:
    """Ids of records that were gathered, of all there are when `few` holds; they pass the comparisons `proven`."""

    ids: Any
    few: tuple[Any, ...]
    proven: tuple[Leaf, ...]

    def then(self, name: str, rows: Any, most: int = FEW) -> "Hits":
        """What is gathered next, by what was before."""
        array = sa.func.array(rows.where(*self.few).limit(sa.literal_column(str(most + 1))).scalar_subquery())
        hits = sa.select(array.label("ids")).cte(f"hits_{name}")
        ids = sa.cast(sa.select(hits.c.ids).scalar_subquery(), ARRAY(sa.Uuid()))
        return replace(self, ids=ids, few=(*self.few, sa.func.cardinality(ids) <= sa.literal_column(str(most))))


def _gathered(catalog: Catalog, resource: Resource, nodes: Sequence[Node], *, own: bool = False) -> Hits | None:
    """Records for which the most telling of several filters holds, from the index and back along its path."""
    telling = [node for node in nodes if isinstance(node, Leaf) and _telling(node, own=own)]
    if telling:
        first = min(telling, key=lambda leaf: (not _indexed(leaf), _NARROWING[leaf.op]))
        same = [leaf for leaf in telling if (leaf.hops, leaf.field) == (first.hops, first.field)]
        return _back(catalog, resource, first, _base(end_of(catalog, resource, first.hops), first, same))
    for node in nodes:
        if isinstance(node, Through) and node.op == "any":
            many = end_of(catalog, resource, node.hops).many[node.relation]
            child = catalog.resources[many.plural]
            inner = node.child.children if isinstance(node.child, Group) and node.child.op == "and" else (node.child,)
            hits = _gathered(catalog, child, inner, own=True)
            if hits is not None:
                other = child.table.alias(f"hit_{node.name}")
                up = other.c[many.column]
                rows = sa.select(up).where(other.c.tenant_id == TENANT, among(other.c.id, hits.ids), up.is_not(None))
                return _back(catalog, resource, node, hits.then(node.name, rows))
    return None


def _telling(leaf: Leaf, *, own: bool) -> bool:
    """Whether records may be gathered by it: by the index, or at the end of a path by what is declared."""
    return leaf.op in _NARROWING and (_indexed(leaf) or (leaf.form is None and (own or bool(leaf.hops))))


def _base(resource: Resource, first: Leaf, same: Sequence[Leaf]) -> Hits:
    none = Hits(None, (), tuple(same))
    if _indexed(first):
        alias = VALUES.alias(f"hit_{first.name}")
        values = [*entry(None, f"{first.name}_of", alias), *(_value(leaf, alias) for leaf in same)]
        return none.then(first.name, sa.select(alias.c.object_id).where(*values))
    table = resource.table.alias(f"hit_{first.name}")
    alive = [table.c.deleted_at.is_(None)] if "deleted_at" in table.c else []
    found = [leaf_to_sql(resource, leaf, table) for leaf in same]
    rows = sa.select(table.c.id).where(table.c.tenant_id == TENANT, *alive, *found)
    return none.then(first.name, rows, FEW_UNINDEXED)


def _back(catalog: Catalog, resource: Resource, node: Leaf | Through, hits: Hits) -> Hits | None:
    """From the records at the end of a path to those at its begin; None where a reference has no index."""
    for i, hop in reversed([*enumerate(node.hops)]):
        table = end_of(catalog, resource, node.hops[:i]).table
        rows = hop.referring(table, hits.ids, f"hit_{node.name}_{i}")
        if rows is None:
            return None
        hits = hits.then(f"{node.name}_{i}", rows)
    return hits


def ways(
    catalog: Catalog, resource: Resource, tree: Group, sort: Sequence[Key], keys: Sequence[Ordered], *, narrow: bool
) -> tuple[Group, list[Way]]:
    """(what is left to ask in any way, the ways) to rows that pass a filter; few open rows are found before."""
    if narrow:
        return tree, [_plain(keys)]
    table, (leaves, rest) = resource.table, _split(tree)
    others = [leaf for leaf in leaves if leaf.field != sort[0].name]
    first = next((leaf for leaf in others if leaf.op == "eq"), None)
    if sort[0].name == "id" and first is not None:
        alias = VALUES.alias("walked")  # where it has one value, the index is in the order of ids
        found = [*entry(table.c.id, f"{first.name}_of", alias), _value(first, alias)]
        found += [_asked(leaf, alias.c.object_id) for leaf in leaves if leaf is not first]
        return rest, [Way([replace(keys[0], column=alias.c.object_id)], found, None)]
    hits = _gathered(catalog, resource, [*others, *(rest.children if rest.op == "and" else ())])
    way = _walk(leaves, sort, keys, table)
    if hits is None:
        return rest, [way]
    gathered = _walk([leaf for leaf in leaves if leaf not in hits.proven], sort, keys, table).when(*hits.few)
    record = table.c.id if keys[0].record is None else keys[0].record
    blank = None if gathered.blank is None else [*gathered.blank, among(table.c.id, hits.ids)]
    gathered = replace(gathered, known=[*gathered.known, among(record, hits.ids)], blank=blank)
    return rest, [gathered, way.when(~sa.and_(*hits.few))]


def _plain(keys: Sequence[Ordered], *asked: Any) -> Way:
    """The way along the sort itself."""
    lead = keys[0]
    if lead.nullable:
        return Way(keys, [*lead.known, *asked], [*lead.missing, *asked])
    return Way(keys, asked, None)


def _walk(leaves: Sequence[Leaf], sort: Sequence[Key], keys: Sequence[Ordered], table: Any) -> Way:
    lead = keys[0]
    if lead.record is None:
        return _plain(keys, *(_asked(leaf, table.c.id) for leaf in leaves))
    others = [leaf for leaf in leaves if leaf.field != sort[0].name]
    same = [leaf for leaf in leaves if leaf.field == sort[0].name]
    known = [*(compared(leaf, lead.column) for leaf in same), *(_asked(leaf, lead.record) for leaf in others)]
    blank = None
    if all(leaf.op in OPPOSITE for leaf in same):
        blank = [*lead.missing, *(_asked(leaf, table.c.id) for leaf in others)]
    walked = [
        replace(key, column=lead.record) if one.name == "id" else key for one, key in zip(sort, keys, strict=True)
    ]
    return Way(walked, [*lead.known, *known], blank)


def _value(leaf: Leaf, alias: Any) -> sa.ColumnElement[bool]:
    kind, _ = leaf.form or ("", False)
    return compared(leaf, column(kind, KINDS[kind].column, alias))


def _asked(leaf: Leaf, record: Any) -> sa.ColumnElement[bool]:
    """Asked row by row: OFFSET 0 keeps the planner from gathering all that have the value."""
    alias = VALUES.alias(f"custom_{leaf.name}")
    opposite = OPPOSITE.get(leaf.op)
    same = leaf if opposite is None else replace(leaf, op=opposite)
    rows: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        *entry(record, f"{leaf.name}_of", alias), _value(same, alias)
    )
    found = sa.exists(rows.offset(sa.literal_column("0")).correlate(record.table))
    return found if opposite is None else ~found
