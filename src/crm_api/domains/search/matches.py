"""Rows of one resource that match a text, under the caller's policy: one statement for each way of finding them."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.search.words import MOST_FUZZY, Query, texts
from crm_api.kernel.collections import narrow
from crm_api.kernel.context import Context, settled
from crm_api.kernel.customs import CUSTOM, PREFIX, fields_of
from crm_api.kernel.customs_search import partly_hidden
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.policy import Met
from crm_api.kernel.projection import Projection, plain
from crm_api.kernel.query import framed, searched_text
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import LAST

NEWEST, NEWEST_ALIKE = 60, 20
"""Of the rows that match, so many are ranked: the newest."""
FIRST = 51
"""Of the rows whose title begins with the text, so many are ranked, in the order of their titles."""
BROAD, BROAD_ALIKE = 2_000, 1_000
"""With more rows found by index than this, rows are looked through from the newest on instead."""
SOME_ALIKE = 300
"""Who sees all gets the most alike of so many rows: none is hidden, so it does not matter which are looked at."""
ALIKE = 0.45
"""Trigram similarity from which words are taken for each other."""

_NEEDLES = sa.bindparam("needles", type_=ARRAY(sa.Text()))
_SIMILAR = sa.bindparam("similar", type_=ARRAY(sa.Text()))
_HELD = sa.literal_column("2", sa.Float())
"""In place of a likeness: the words are there as they were written."""
_SLIPS = [sa.bindparam(f"slips_{number}", type_=ARRAY(sa.Text())) for number in range(MOST_FUZZY)]
_ALL_SLIPS = sa.bindparam("slips", type_=ARRAY(sa.Text()))
_BEGINS = sa.bindparam("begins", type_=sa.Text())
_ENDS = sa.bindparam("ends", type_=sa.Text())


@dataclass(frozen=True, slots=True)
class Match:
    """A row found: its sparse wire object, and how alike its words are (None: it holds them as they were written).

    `customs` are the keys of the custom fields that were looked into.
    """

    resource: Resource
    item: dict[str, Any]
    customs: tuple[str, ...]
    alike: float | None

    @property
    def texts(self) -> Iterator[tuple[str, str]]:
        """The texts that were looked into, each with the name of its field."""
        for name in self.resource.search:
            yield from ((name, text) for text in texts(self.item.get(name)))
        custom = plain(self.item[CUSTOM]) if self.customs else {}
        yield from ((PREFIX + key, custom[key]) for key in self.customs if key in custom)


@dataclass(frozen=True, slots=True)
class _Form:
    """What the statement depends on, beside the access.

    `found`: `index` by the functions of the owner, `open` among the few rows that are open to the caller, `newest` row
    by row. `titled`, `exact`, `fuzzy`: what is looked for.
    """

    found: str
    titled: bool = False
    exact: bool = False
    fuzzy: bool = False


def titled(ctx: Context, resource: Resource) -> bool:
    """Whether the title is in the caller's sight and has an index, so that its beginning is found by it."""
    return resource.title in resource.sortable and resource.title not in ctx.access.hides(resource.plural)


def fields(ctx: Context, resource: Resource) -> tuple[str, ...]:
    """The searched fields that the caller may see."""
    hidden = ctx.access.hides(resource.plural)
    return tuple(name for name in resource.search if name not in hidden)


async def exact(ctx: Context, resource: Resource, text: Query) -> list[Match]:
    """Rows that hold each word of the text, and rows whose title begins with it; of few open rows those alike, too."""
    form = _Form("index", titled=titled(ctx, resource), exact=bool(text.patterns))
    if await narrow(ctx, resource):  # to find the open rows may cost more than to compare them: it is done once
        form = replace(form, found="open", fuzzy=bool(text.longest))
    return await _found(ctx, resource, form, text) if form.titled or form.exact or form.fuzzy else []


async def alike(ctx: Context, resource: Resource, text: Query) -> list[Match]:
    """Rows with a word like each longer word of the text, unless `exact` gave them."""
    return [] if await narrow(ctx, resource) else await _found(ctx, resource, _Form("index", fuzzy=True), text)


async def _found(ctx: Context, resource: Resource, form: _Form, text: Query) -> list[Match]:
    hidden = ctx.access.hides(resource.plural)
    customs = [item for item in fields_of(ctx.access, resource).values() if item.searchable and item.name not in hidden]
    keys = tuple(sorted(item.key for item in customs))
    only = sorted({resource.title, *fields(ctx, resource), *([CUSTOM] if keys else []), "created_at", "updated_at"})
    projection = Projection(resource, ctx.access, only)
    values: dict[str, Any] = {"needles": text.patterns, "similar": text.longest}
    values |= {"begins": text.folded, "ends": text.folded + LAST}
    values |= {f"slips_{number}": slips for number, slips in enumerate(text.slips)}
    values["slips"] = [pattern for slips in text.slips for pattern in slips or ()]

    async def rows_of(form: _Form) -> list[Row]:
        shape = ("matches", resource.plural, form, bool(keys))
        return (await settled(ctx, shape, lambda: _compile(ctx, resource, projection, form), values))[1]

    rows = await rows_of(form)
    if form.found == "index" and rows[0]["hits"] > (BROAD_ALIKE if form.fuzzy else BROAD):
        rows = await rows_of(replace(form, found="newest"))
    return [
        Match(resource, projection.render(row[3:]), keys, row["alike"] if row["alike"] <= 1 else None)
        for row in rows
        if row["alike"] is not None
    ]


def _compile(ctx: Context, resource: Resource, projection: Projection, form: _Form) -> Statement:
    policy, access = ctx.kernel.policy, ctx.access
    gate = policy.gate(access, resource, "read", resource.table, Met.OPEN if form.found == "open" else Met.SET)
    source: Any = resource.table
    if form.found == "open":
        # OFFSET 0 keeps the planner from walking the index of an order instead
        source, gate = sa.select(source).where(*gate).offset(sa.literal_column("0")).cte("open"), []
    text = searched_text(resource, access, source)
    branches, hits = [], sa.literal_column("0", sa.BigInteger())
    if form.titled:
        key = source.c[resource.sortable[resource.title].key]
        first = sa.select(_HELD.label("alike"), *projection.select(source))
        begins = first.where(*gate, key >= _BEGINS, key < _ENDS)
        branches.append(begins.order_by(key, source.c.id).limit(sa.literal_column(str(FIRST))))
    for fuzzy in (*[False] * form.exact, *[True] * form.fuzzy):
        similar, condition = _condition(text, source, fuzzy=fuzzy)
        if form.found == "newest":  # CASE hides what is asked, which the planner takes for rare
            condition = sa.case((condition, sa.true()), else_=sa.false())
        conditions = [*gate, condition]
        if form.found == "index":
            found, hits = _by_index(ctx, resource, fuzzy=fuzzy)
            conditions.append(among(source.c.id, found))
        columns = [similar.label("alike"), *projection.select(source)]
        rows = sa.select(*columns, source.c.created_at.label("at"), source.c.id.label("key")).where(*conditions)
        if form.found == "index":  # the same
            rows = rows.offset(sa.literal_column("0"))
        matching = rows.subquery("alike" if fuzzy else "matching")
        newest = sa.select(*[matching.c[column.name] for column in columns])
        newest = newest.order_by(matching.c.at.desc(), matching.c.key.desc())
        branches.append(newest.limit(sa.literal_column(str(NEWEST_ALIKE if fuzzy else NEWEST))))
    page = (branches[0] if len(branches) == 1 else sa.union_all(*branches)).subquery("page")
    return framed(page, [hits.label("hits"), *page.c])


def _condition(text: Any, source: Any, *, fuzzy: bool) -> tuple[Any, sa.ColumnElement[bool]]:
    """(how alike, whether that is enough) of the text that the caller may see."""
    if not fuzzy:
        return _HELD, sa.cast(text.like(sa.all_(_NEEDLES)), sa.Boolean)
    words = sa.func.unnest(_SIMILAR).table_valued(sa.column("word", sa.Text()), name="words").render_derived()
    least = sa.select(sa.func.min(sa.func.word_similarity(words.c.word, text))).select_from(words).correlate(source)
    similar = sa.cast(least.scalar_subquery(), sa.Float())
    enough = similar >= sa.literal_column(str(ALIKE))
    held = [sa.or_(slip.is_(None), sa.cast(text.like(sa.any_(slip)), sa.Boolean)) for slip in _SLIPS]
    # to compare takes ten times as long as to look for a part of the word
    return similar, sa.case((sa.and_(*held), enough), else_=sa.false())


def _by_index(ctx: Context, resource: Resource, *, fuzzy: bool) -> tuple[Any, Any]:
    """(ids, number) of rows that the owner's function finds, whoever may see them."""
    search = getattr(sa.func, f"{'resemble' if fuzzy else 'seek'}_{resource.table.name}")
    most = newest = (BROAD_ALIKE if fuzzy else BROAD) + 1
    if _all_open(ctx, resource):
        most, newest = (SOME_ALIKE, NEWEST_ALIKE) if fuzzy else (most, NEWEST)
    asked: tuple[Any, ...] = (_SIMILAR, _ALL_SLIPS, sa.literal_column(str(ALIKE))) if fuzzy else (_NEEDLES,)
    found = search(TENANT, *asked, sa.literal_column(str(most)), sa.literal_column(str(newest)))
    found = found.table_valued(sa.column("id", sa.Uuid()), sa.column("hits", sa.BigInteger()), name="found")
    numbers = sa.select(
        sa.func.array_agg(found.c.id).label("ids"), sa.func.coalesce(sa.func.max(found.c.hits), 0).label("hits")
    ).cte("hits")
    ids = sa.cast(sa.select(numbers.c.ids).scalar_subquery(), ARRAY(sa.Uuid()))
    return ids, sa.select(numbers.c.hits).scalar_subquery()


def _all_open(ctx: Context, resource: Resource) -> bool:
    """Whether the caller sees each row and text that the function looks at, so that it may choose the newest."""
    rows = ctx.kernel.policy.rows(ctx.access, resource, "read", resource.table)
    return rows is None and not resource.fixed and not partly_hidden(resource, ctx.access)
