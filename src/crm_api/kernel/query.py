"""Get, list, search and count as one statement each; built once per shape."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.context import Kernel
from crm_api.kernel.customs_expand import Path
from crm_api.kernel.customs_search import partly_hidden
from crm_api.kernel.customs_search import pieces as customs_pieces
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.filters import Group
from crm_api.kernel.history_rows import in_order, parts_as_of, rows_as_of
from crm_api.kernel.paging import Key, Ordered, after, order, ordered
from crm_api.kernel.policy import Access, Met
from crm_api.kernel.predicates import to_sql
from crm_api.kernel.projection import Projection
from crm_api.kernel.record import Tenant, among, readable, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import SEPARATOR
from crm_api.kernel.ways import Way, pattern, ways

BROAD = 10_000
COUNT_LIMITS = {"estimate": 1_000, "exact": 10_000}
MANY = 25
_ID = sa.bindparam("id", type_=sa.Uuid())
_LIMIT = sa.bindparam("limit", type_=sa.BigInteger())
_NEEDLES = sa.bindparam("needles", type_=ARRAY(sa.Text()))


@dataclass(slots=True)
class Listing:
    """What a list or search request asks for, checked and typed."""

    filter: Group
    values: dict[str, Any]
    sort: tuple[Key, ...]
    limit: int = 50
    cursor: list[Any] | None = None
    expand: tuple[Path, ...] = ()
    fields: tuple[str, ...] | None = None
    count: str = "none"
    needles: list[str] = field(default_factory=list)
    indexed: bool = True
    narrow: bool = False
    as_of: bool = False

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        nulls = None if self.cursor is None else tuple(value is None for value in self.cursor)
        sort = tuple(key.shape for key in self.sort)
        shown = (sort, nulls, self.expand, self.fields, self.count)
        same = pattern(self.filter, self.sort)
        return (self.filter.shape, same, *shown, bool(self.needles), self.indexed, self.narrow, self.as_of)


@dataclass(slots=True)
class _Expansion:
    """How one expanded path is read back; a reference stands before the columns of what it leads to."""

    path: Path
    target: Resource
    projection: Projection
    start: int


@dataclass(slots=True)
class Plan:
    """A compiled statement and how its rows are read."""

    statement: Statement
    projection: Projection
    start: int
    keys: int
    expansions: list[_Expansion]
    width: int = field(init=False)

    def __post_init__(self) -> None:
        self.width = len(self.projection.columns)

    def present(self, row: Row) -> bool:
        """Whether the row is one, and not just the frame that carries version and count."""
        return row[self.start] is not None

    def item(self, row: Row) -> dict[str, Any]:
        """The wire object of a row, with its expansions."""
        item = self.projection.render(row[self.start : self.start + self.width])
        for expansion in self.expansions:
            parent = item
            for before in expansion.path[:-1]:
                parent = parent.get(before.name) or {}
            if parent and "redacted" in parent and parent["redacted"] is True:
                continue
            step = expansion.path[-1]
            if step.many:
                item[step.name] = _children(expansion, row[expansion.start])
            elif parent:
                parent[step.name] = None if parent[step.column] is None else _related(expansion, row)
        return item

    def records(self, item: dict[str, Any]) -> int:
        """Records in a wire object: itself, and what is expanded."""
        if not self.expansions:
            return 1
        return 1 + sum(len(item[one.path[0].name]["data"]) if one.path[0].many else 1 for one in self.expansions)

    def key_values(self, row: Row) -> list[Any]:
        """The sort values of a row, for the cursor."""
        end = self.start + self.width
        return list(row[end : end + self.keys])


def _related(expansion: _Expansion, row: Row) -> dict[str, Any] | None:
    reference, *values = row[expansion.start : expansion.start + 1 + len(expansion.projection.columns)]
    if reference is None:
        return None
    if values[expansion.projection.columns.index("id")] is None:
        return {"id": reference, "object": expansion.target.singular, "redacted": True}
    return expansion.projection.render(values)


def _children(expansion: _Expansion, text: str | None) -> dict[str, Any]:
    images = orjson.loads(text) if text else []
    return {"data": [expansion.projection.from_image(image) for image in images[:MANY]], "has_more": len(images) > MANY}


def frame() -> Any:
    """The outer side of each read: the access version comes back even with no row."""
    tenants = table_of(Tenant)
    return sa.select(tenants.c.access_version).where(tenants.c.tenant_id == TENANT).subquery("frame")


def framed(rows: Any, columns: Any = None) -> Statement:
    """The access version beside columns of each row, all of them unless told; without rows, beside nulls."""
    outer = frame()
    chosen = rows.c if columns is None else columns
    return Statement(sa.select(outer.c.access_version, *chosen).select_from(outer.outerjoin(rows, sa.true())))


def compile_get(
    kernel: Kernel,
    access: Access,
    resource: Resource,
    expand: tuple[Path, ...],
    action: str = "read",
    *,
    as_of: bool = False,
) -> Plan:
    """One row by id, under the gate for `action`."""
    source: Any = rows_as_of(kernel.policy, access, resource) if as_of else resource.table
    gate = [] if as_of else kernel.policy.gate(access, resource, action, source)
    projection = Projection(resource, access)
    page = sa.select(*projection.select(source)).where(source.c.id == _ID, *gate)
    return _finish(kernel, access, projection, page, expand, [], keys=0)


def compile_load(
    kernel: Kernel, access: Access, resource: Resource, action: str, *, deleted: bool, lock: bool
) -> Statement:
    """The raw row by id for a verb, under the gate for `action`; ids as text."""
    table = resource.table
    gate = kernel.policy.gate(access, resource, action, table, deleted=deleted)
    rows = sa.select(table).where(table.c.id == _ID, *gate)
    page = (rows.with_for_update(key_share=True) if lock else rows).lateral("page")
    return framed(page, [readable(column).label(column.name) for column in page.c])


def compile_list(kernel: Kernel, access: Access, resource: Resource, listing: Listing) -> Plan:
    """A page of rows, under the gate, with count and expansions."""
    projection = Projection(resource, access, listing.fields)
    sources, counting = _sources(kernel, access, resource, listing)
    found: list[Any] = []
    extra: list[Any] = []
    if listing.needles:
        found, extra = _matching(resource, access, listing, sources[0][0])

    def asked(tree: Group, source: Any, gate: list[Any], met: Met = Met.WALK) -> list[Any]:
        return [*gate, to_sql(kernel.policy, access, resource, tree, source, met), *found]

    if listing.count != "none":
        some = sa.select(sa.literal(1)).select_from(counting[0]).where(*asked(listing.filter, *counting))
        counted = some.limit(COUNT_LIMITS[listing.count] + 1).subquery("counted")
        extra.append(sa.select(sa.func.count()).select_from(counted).scalar_subquery().label("total"))
    beside, narrow = partial(kernel.policy.beside, access, resource), listing.narrow or listing.as_of
    pages: list[Any] = []
    for source, gate in sources:
        keys = ordered(resource, listing.sort, source, narrow=narrow)
        rest, each = ways(kernel.catalog, resource, listing.filter, listing.sort, keys, beside, narrow=narrow)
        columns, condition = projection.select(source), asked(rest, source, gate)
        pages += [_page(listing, way, keys, columns, condition) for way in each]
    page: Any = pages[0] if len(pages) == 1 else sa.union_all(*pages)
    if len(sources) > 1:
        page = in_order(page, keys, _LIMIT)
    return _finish(kernel, access, projection, page, listing.expand, extra, keys=len(listing.sort))


def _sources(
    kernel: Kernel, access: Access, resource: Resource, listing: Listing
) -> tuple[list[Any], tuple[Any, list[Any], Met]]:
    """Rows to page through, with what is still to be asked of them; and those to count, with how they are met."""
    met = Met.OPEN if listing.narrow else Met.WALK
    if listing.as_of:
        parts = parts_as_of(kernel.policy, access, resource, met)
        was = sa.union_all(*parts).subquery("was")
        return [(was, [])] if listing.narrow else [(part.subquery(), []) for part in parts], (was, [], Met.WALK)
    table, policy = resource.table, kernel.policy
    gate = policy.gate(access, resource, "read", table, met)
    if not listing.narrow:
        return [(table, gate)], (table, policy.gate(access, resource, "read", table, Met.SET), Met.SET)
    # Few rows are open: find those first (OFFSET 0 keeps the planner from walking a sort index instead).
    source = sa.select(table).where(*gate).offset(sa.literal_column("0")).subquery("open")
    return [(source, [])], (source, [], Met.OPEN)


def _matching(
    resource: Resource, access: Access, listing: Listing, source: Any
) -> tuple[list[sa.ColumnElement[bool]], list[Any]]:
    text = searched_text(resource, access, source)
    exact = sa.cast(text.like(sa.all_(_NEEDLES)), sa.Boolean)
    if not listing.indexed:
        # The text is known to match widely. CASE hides the pattern, which the planner takes for rare, and lets it walk
        # the sort index until the page is full, rather than read and sort every row.
        return [sa.case((exact, sa.true()), else_=sa.false())], []
    hits = sa.select(sa.func.array(sa.select(_search(resource)).scalar_subquery()).label("ids")).cte("hits")
    ids = sa.cast(sa.select(hits.c.ids).scalar_subquery(), ARRAY(sa.Uuid()))
    conditions: list[sa.ColumnElement[bool]] = [among(source.c.id, ids)]
    if partly_hidden(resource, access):
        conditions.append(exact)
    return conditions, [sa.func.cardinality(ids).label("hits")]


def _search(resource: Resource) -> Any:
    return getattr(sa.func, f"search_{resource.table.name}")(TENANT, _NEEDLES, sa.literal_column(str(BROAD + 1)))


def searched_text(resource: Resource, access: Access, table: Any) -> Any:
    """The folded text that `q` looks into, without the pieces that are hidden from the caller."""
    hidden = access.hides(resource.plural)
    if not partly_hidden(resource, access):
        return table.c.search_text
    pieces = [
        sa.func.split_part(table.c.search_text, sa.literal(SEPARATOR, sa.Text()), sa.literal(i + 1, sa.Integer()))
        for i, name in enumerate(resource.search)
        if name not in hidden
    ]
    pieces += customs_pieces(resource, table, hidden=hidden)
    return sa.func.concat_ws(sa.literal(SEPARATOR, sa.Text()), *pieces) if pieces else sa.literal("", sa.Text())


def _page(listing: Listing, way: Way, own: list[Ordered], columns: list[Any], condition: list[Any]) -> Any:
    keys, lead = way.keys, way.keys[0]
    nulls = None if listing.cursor is None else [value is None for value in listing.cursor]

    def rows(first: Any, others: Sequence[Ordered], conditions: Sequence[Any]) -> Any:
        shown = [readable(key).label(f"k{i}") for i, key in enumerate([first, *(key.column for key in others)])]
        return sa.select(*columns, *shown).where(*condition, *conditions)

    known = rows(lead.column, keys[1:], way.known)
    if nulls is not None and not nulls[0]:
        known = known.where(after(keys, nulls))
    if not lead.nullable:
        return known.order_by(*order(keys)).limit(_LIMIT)
    leading = lead.column.desc() if lead.descending else lead.column.asc()
    first = known.order_by(leading, *order(keys[1:])).limit(_LIMIT)
    if way.blank is None:
        return first
    rest = rows(lead.blank, own[1:], way.blank)
    if nulls is not None and nulls[0]:
        return rest.where(after(own, nulls, first=1)).order_by(*order(own[1:])).limit(_LIMIT)
    second = rest.order_by(*order(own[1:])).limit(_LIMIT)
    return sa.union_all(first, second).limit(_LIMIT)


def _finish(
    kernel: Kernel,
    access: Access,
    projection: Projection,
    page: Any,
    expand: tuple[Path, ...],
    extra: list[Any],
    *,
    keys: int,
) -> Plan:
    outer = frame()
    start = 1 + len(extra)
    if not expand:
        rows = page.lateral("page")
        chosen = [rows.c[name] for name in (*projection.columns, *(f"k{i}" for i in range(keys)))]
        statement = sa.select(outer.c.access_version, *extra, *chosen).select_from(outer.outerjoin(rows, sa.true()))
        return Plan(Statement(statement), projection, start, keys, [])
    numbered = page.subquery("numbered")
    rows = sa.select(numbered, sa.func.row_number().over().label("n")).lateral("page")
    chosen = [rows.c[name] for name in (*projection.columns, *(f"k{i}" for i in range(keys)))]
    joined: Any = outer.outerjoin(rows, sa.true())
    expansions: list[_Expansion] = []
    tables: dict[Path, Any] = {(): rows}
    for path in sorted({whole[: i + 1] for whole in expand for i in range(len(whole))}, key=lambda it: (len(it), it)):
        step, position, name = path[-1], start + len(chosen), f"x{len(expansions)}"
        target = kernel.catalog.resources[step.target]
        if step.many:
            column, expansion = _many(kernel, access, path, rows, position)
            chosen.append(column)
        else:
            reference = step.reference(tables[path[:-1]])
            alias = target.table.alias(f"to_{name}")
            expansion = _Expansion(path, target, Projection(target, access), position)
            gate = kernel.policy.gate(access, target, "read", alias)
            # Looked up for each row: the planner expects a page of a tenth of all rows, and would read the whole table.
            one = (
                sa.select(*expansion.projection.select(alias))
                .where(alias.c.id == sa.cast(reference, sa.Uuid()), *gate)
                .offset(sa.literal_column("0"))
                .lateral(name)
            )
            joined = joined.outerjoin(one, sa.true())
            chosen.append(sa.cast(reference, sa.Text()).label(name))
            chosen += [one.c[item].label(f"{name}_{item}") for item in expansion.projection.columns]
            tables[path] = one
        expansions.append(expansion)
    statement = sa.select(outer.c.access_version, *extra, *chosen).select_from(joined).order_by(rows.c.n)
    return Plan(Statement(statement), projection, start, keys, expansions)


def _many(kernel: Kernel, access: Access, path: Path, rows: Any, position: int) -> tuple[Any, _Expansion]:
    step = path[-1]
    child = kernel.catalog.resources[step.target]
    projection = Projection(child, access)
    alias = child.table.alias(f"many_{step.name}")
    gate = kernel.policy.gate(access, child, "read", alias)
    some = (
        sa.select(*projection.select(alias))
        .where(alias.c[step.column] == sa.cast(rows.c.id, sa.Uuid()), *gate)
        .order_by(alias.c.id)
        .limit(MANY + 1)
        .correlate(rows)
        .subquery(f"some_{step.name}")
    )
    image = sa.func.jsonb_agg(sa.func.to_jsonb(sa.literal_column(f'"some_{step.name}"')))
    column = sa.select(image).select_from(some).scalar_subquery().label(f"many_{step.name}")
    return column, _Expansion(path, child, projection, position)


def compile_breadth(kernel: Kernel, access: Access, resource: Resource, most: int, *, reached: bool) -> Statement:
    """How many rows are open to the caller, up to `most`; with `reached`, not through shares or other records."""
    table = resource.table
    gate = kernel.policy.gate(access, resource, "read", table, Met.OPEN, reached=reached)
    some = sa.select(sa.literal(1)).select_from(table).where(*gate).limit(sa.literal_column(str(most))).subquery("some")
    return Statement(sa.select(sa.func.count()).select_from(some))
