"""How a list finds its page: which index is walked, and what is gathered first when it is little.

The planner takes each value for the average one, and each custom field; so this decides, by what the index has.
"""

from collections.abc import Callable, Iterator, Sequence
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

FEW, FEW_DECLARED = 2_000, 500
"""Records that are read and sorted rather than met on a walk, by custom and by declared fields."""
TRIED = 3
"""Filters that are tried in turn, until one is found that few records pass."""
Beside = Callable[[Any], Sequence[Any]]
"""Gives the conditions on rows of the index of custom fields that those of all open records fulfil."""
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
    """Ids of records that were gathered, of all there are when `few` holds."""

    ids: Any
    few: tuple[Any, ...]

    def then(self, name: str, rows: Any, most: int = FEW) -> "Hits":
        """What is gathered next, by what was before."""
        array = sa.func.array(rows.where(*self.few).limit(sa.literal_column(str(most + 1))).scalar_subquery())
        hits = sa.select(array.label("ids")).cte(f"hits_{name}")
        ids = sa.cast(sa.select(hits.c.ids).scalar_subquery(), ARRAY(sa.Uuid()))
        return replace(self, ids=ids, few=(*self.few, sa.func.cardinality(ids) <= sa.literal_column(str(most))))


def _gathered(
    catalog: Catalog, resource: Resource, nodes: Sequence[Node], declared: Callable[[Leaf], bool]
) -> Hits | None:
    """Records for which a filter holds, from the index and back along its path: the first with few.

    `declared` says which of the record's own declared fields are worth it.
    """
    telling = [node for node in nodes if isinstance(node, Leaf) and _telling(node, declared)]
    telling.sort(key=lambda leaf: (_cost(end_of(catalog, resource, leaf.hops), leaf), _NARROWING[leaf.op]))
    about: dict[Any, list[Leaf]] = {}
    for leaf in telling:
        about.setdefault((leaf.hops, leaf.field), []).append(leaf)
    found = [
        _back(catalog, resource, leaves[0], _base(end_of(catalog, resource, leaves[0].hops), leaves))
        for leaves in about.values()
    ]
    found += [
        _gathered_of_many(catalog, resource, node) for node in nodes if isinstance(node, Through) and node.op == "any"
    ]
    each = [hits for hits in found if hits is not None][:TRIED]
    if len(each) < 2:
        return each[0] if each else None
    few = [sa.and_(*hits.few) for hits in each]
    return Hits(sa.case(*((one, hits.ids) for one, hits in zip(few, each, strict=True))), (sa.or_(*few),))


def _gathered_of_many(catalog: Catalog, resource: Resource, node: Through) -> Hits | None:
    many = end_of(catalog, resource, node.hops).many[node.relation]
    child = catalog.resources[many.plural]
    inner = node.child.children if isinstance(node.child, Group) and node.child.op == "and" else (node.child,)
    hits = _gathered(catalog, child, inner, lambda _: True)
    if hits is None:
        return None
    other = child.table.alias(f"hit_{node.name}")
    up = other.c[many.column]
    rows = sa.select(up).where(other.c.tenant_id == TENANT, among(other.c.id, hits.ids), up.is_not(None))
    return _back(catalog, resource, node, hits.then(node.name, rows))


def _telling(leaf: Leaf, declared: Callable[[Leaf], bool]) -> bool:
    """Whether records may be gathered by it: by the index, or by what is declared, also at the end of a path."""
    return leaf.op in _NARROWING and (_indexed(leaf) or (leaf.form is None and (bool(leaf.hops) or declared(leaf))))


def _cost(resource: Resource, leaf: Leaf) -> int:
    """What gathering by it takes: the index of custom fields is the cheapest, and without an index all are read."""
    return 0 if _indexed(leaf) else 1 if _orders(resource.table, leaf.field) else 2


def _orders(table: Any, field: str) -> list[list[str]]:
    """Of each index that finds any record by a declared field: the columns by which it has those with one value."""
    whole = ("None", "deleted_at IS NULL", f"{field} IS NOT NULL")
    return [
        index.columns.keys()[2:]
        for index in table.indexes
        if index.columns.keys()[:2] == ["tenant_id", field]
        and str(index.dialect_options["postgresql"]["where"]) in whole
    ]


def _alone(leaf: Leaf, table: Any, lead: str | None) -> bool:
    """Whether an index finds records by one value of a declared field, and none has them in the order of the sort."""
    orders = _orders(table, leaf.field)
    return leaf.op in ("eq", "in") and bool(orders) and not any(order[:1] == [lead] for order in orders)


def _base(resource: Resource, same: Sequence[Leaf]) -> Hits:
    none, first = Hits(None, ()), same[0]
    if _indexed(first):
        alias = VALUES.alias(f"hit_{first.name}")
        values = [*entry(None, f"{first.name}_of", alias), *(_value(leaf, alias) for leaf in same)]
        return none.then(first.name, sa.select(alias.c.object_id).where(*values))
    table = resource.table.alias(f"hit_{first.name}")
    alive = [table.c.deleted_at.is_(None)] if "deleted_at" in table.c else []
    found = [leaf_to_sql(resource, leaf, table) for leaf in same]
    rows = sa.select(table.c.id).where(table.c.tenant_id == TENANT, *alive, *found)
    return none.then(first.name, rows, FEW_DECLARED)


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
    catalog: Catalog,
    resource: Resource,
    tree: Group,
    sort: Sequence[Key],
    keys: Sequence[Ordered],
    beside: Beside,
    *,
    narrow: bool,
) -> tuple[Group, list[Way]]:
    """(what is left to ask in any way, the ways) to rows that pass a filter; few open rows are found before."""
    if narrow:
        return tree, [_plain(keys)]
    asked = tree.children if tree.op == "and" else ()
    own = [node for node in asked if isinstance(node, Leaf) and not node.hops and _indexed(node)]
    first = next((leaf for leaf in own if leaf.op == "eq"), None)
    if sort[0].name == "id" and first is not None:
        rest, way = _without(tree, [first]), _alike(first, keys[0], beside)
    else:
        same = [leaf for leaf in own if leaf.field == sort[0].name]
        rest, way = _without(tree, same), _walk(same, sort, keys, beside)
    table, lead = resource.table, None if sort[0].custom is not None else keys[0].column.key
    others = rest.children if rest.op == "and" else ()
    hits = _gathered(catalog, resource, others, lambda leaf: _alone(leaf, table, lead))
    if hits is None:
        return rest, [way]
    blank = None if way.blank is None else [*way.blank, among(table.c.id, hits.ids)]
    gathered = replace(way, known=[*way.known, among(way.keys[-1].column, hits.ids)], blank=blank)
    return rest, [gathered.when(*hits.few), way.when(~sa.and_(*hits.few))]


def _without(tree: Group, leaves: Sequence[Leaf]) -> Group:
    return replace(tree, children=tuple(node for node in tree.children if node not in leaves)) if leaves else tree


def _plain(keys: Sequence[Ordered]) -> Way:
    """The way along the sort itself."""
    lead = keys[0]
    return Way(keys, lead.known, lead.missing) if lead.nullable else Way(keys, [], None)


def _alike(leaf: Leaf, key: Ordered, beside: Beside) -> Way:
    """The way along the records with one value, which the index has in the order of ids."""
    alias = VALUES.alias("walked")
    found = [*entry(key.column, f"{leaf.name}_of", alias), _value(leaf, alias), *beside(alias)]
    return Way([replace(key, column=alias.c.object_id)], found, None)


def _walk(same: Sequence[Leaf], sort: Sequence[Key], keys: Sequence[Ordered], beside: Beside) -> Way:
    """The way along the index of what is sorted by, of which the filter may ask a part."""
    lead = keys[0]
    if lead.record is None:
        return _plain(keys)
    walked = [
        replace(key, column=lead.record) if one.name == "id" else key for one, key in zip(sort, keys, strict=True)
    ]
    known = [*lead.known, *(compared(leaf, lead.column) for leaf in same), *beside(lead.record.table)]
    return Way(walked, known, lead.missing if all(leaf.op in OPPOSITE for leaf in same) else None)


def _value(leaf: Leaf, alias: Any) -> sa.ColumnElement[bool]:
    kind, _ = leaf.form or ("", False)
    return compared(leaf, column(kind, KINDS[kind].column, alias))
