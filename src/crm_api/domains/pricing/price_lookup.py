"""What the database knows about a basket: its products, and the best entry for each line, in one statement each."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from fractions import Fraction
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.price_entry import PRICE_ENTRIES
from crm_api.domains.pricing.validity import holds_on
from crm_api.domains.products.product import PRODUCTS
from crm_api.domains.products.product_category import PRODUCT_CATEGORIES
from crm_api.domains.products.unit import UNITS
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.query import framed
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE, among
from crm_api.kernel.tree import MAX_DEPTH

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_DAY = sa.bindparam("day", type_=sa.Date())
_LAST = str(MAX_DEPTH + 1)
"""Where the default book stands: after each book above the one that was asked for."""


@dataclass(frozen=True, slots=True)
class Book:
    """A book that prices are looked for in, nearest first."""

    id: str
    adjustment: Fraction
    inclusive: bool
    depth: int


@dataclass(frozen=True, slots=True)
class Entry:
    """The best entry for a line: a price, or a share of the list price that is added to it."""

    id: str
    book_id: str
    depth: int
    price: Fraction | None
    adjustment: Fraction | None
    step: Fraction | None


async def products_of(ctx: Context, ids: Sequence[UUID]) -> dict[str, dict[str, Any]]:
    """Products that the caller may read, by id, as they are stored, with the decimals of their base unit."""

    def build() -> Statement:
        return framed(product_rows(ctx).lateral("page"))

    _, rows = await settled(ctx, ("pricing", "products"), build, {"ids": bound(ids)})
    return {row["id"]: dict(row) for row in rows if row["id"] is not None}


def product_rows(ctx: Context) -> sa.Select[*tuple[Any, ...]]:
    """The products of the parameter `ids` that the caller may read, with the decimals of their base unit."""
    table, units = PRODUCTS.table, UNITS.table
    names = ("sku", "name", "status", "list_price", "cost", "currency", "tax_class", "conversions")
    ids = [sa.cast(table.c[name], sa.Text()).label(name) for name in ("id", "unit_id", "category_id")]
    return (
        sa.select(*ids, *(table.c[name] for name in names), units.c.decimals)
        .join(units, sa.and_(units.c.tenant_id == TENANT, units.c.id == table.c.unit_id))
        .where(among(table.c.id, _IDS), *ctx.kernel.policy.gate(ctx.access, PRODUCTS, "read", table))
    )


async def decimals_of(ctx: Context, unit_ids: Sequence[UUID]) -> dict[str, int]:
    """How many decimals a quantity in each of these units has; of units that products of the caller come in."""
    statement = ctx.kernel.statement(("pricing", "units"), _units)
    return {row["id"]: row["decimals"] for row in await ctx.read(statement, {"ids": bound(unit_ids)})}


def _units() -> Statement:
    table = UNITS.table
    return Statement(
        sa.select(sa.cast(table.c.id, sa.Text()).label("id"), table.c.decimals).where(
            table.c.tenant_id == TENANT, among(table.c.id, _IDS)
        )
    )


async def best_entries(
    ctx: Context,
    book_id: str | None,
    currency: str,
    day: date,
    lines: Sequence[tuple[str | None, int, str | None]],
) -> tuple[list[Book], list[Entry | None]]:
    """The books that are looked into, nearest first, and the best entry for each line.

    A book goes before its parent, and the default book of the currency is the last; in a book the product goes before
    its category and that before the ones above it, then the greatest minimum quantity, then the latest beginning.

    Args:
        ctx: the request; only what the caller may read counts.
        book_id: where to begin, if not at the default book.
        currency: whose default book.
        day: on which books and entries hold.
        lines: product, if any, quantity in millionths of its base unit, category.
    """
    sent = {
        "book": book_id,
        "currency": currency,
        "day": day,
        "ids": [line[0] for line in lines],
        "quantities": [line[1] for line in lines],
        "categories": [line[2] for line in lines],
    }
    _, rows = await settled(ctx, ("pricing", "entries"), lambda: _entries(ctx), sent)
    books = [_book(image) for image in orjson.loads(rows[0]["books"] or "[]")]
    found: list[Entry | None] = [None] * len(lines)
    for row in rows:
        if row["entry_id"] is not None:
            found[row["n"] - 1] = _entry(row)
    return sorted(books, key=lambda book: book.depth), found


def _book(image: dict[str, Any]) -> Book:
    adjustment = Fraction(image["adjustment"] or 0, RATIO_SCALE * 100)
    return Book(image["id"], adjustment, image["inclusive"], image["depth"])


def _entry(row: Row) -> Entry:
    price, adjustment, step = row["price"], row["adjustment"], row["step"]
    return Entry(
        row["entry_id"],
        row["book_id"],
        row["depth"],
        None if price is None else Fraction(price, MONEY_SCALE),
        None if adjustment is None else Fraction(adjustment, RATIO_SCALE * 100),
        None if step is None else Fraction(step, MONEY_SCALE),
    )


def _entries(ctx: Context) -> Statement:
    """One row for each line: what it gets, beside all books as JSON."""
    lines = (
        sa.func.unnest(
            _IDS,
            sa.bindparam("quantities", type_=ARRAY(sa.BigInteger())),
            sa.bindparam("categories", type_=ARRAY(sa.Uuid())),
        )
        .table_valued(
            sa.column("product_id", sa.Uuid()),
            sa.column("quantity", sa.BigInteger()),
            sa.column("category_id", sa.Uuid()),
            with_ordinality="n",
            name="lines",
        )
        .render_derived()
    )
    books, kin = _books(ctx), _kin(lines)
    near = [
        _arm(ctx, books, lines, "product"),
        _arm(ctx, books, lines, "category", kin),
    ]
    either = sa.union_all(*near).subquery("either")
    best = (
        sa.select(either)
        .order_by(
            either.c.depth,
            either.c.distance,
            either.c.minimum_quantity.desc(),
            either.c.valid_from.desc().nulls_last(),
            either.c.entry_id.desc(),
        )
        .limit(sa.literal_column("1"))
        .lateral("best")
    )
    image = sa.func.jsonb_build_object(
        *(sa.literal("id", sa.Text()), sa.cast(books.c.id, sa.Text())),
        *(sa.literal("adjustment", sa.Text()), books.c.adjustment_percent),
        *(sa.literal("inclusive", sa.Text()), books.c.prices_include_tax),
        *(sa.literal("depth", sa.Text()), books.c.depth),
    )
    every = sa.cast(sa.select(sa.func.jsonb_agg(image)).select_from(books).scalar_subquery(), sa.Text())
    columns = ("book_id", "depth", "price", "adjustment", "step")
    page = (
        sa.select(
            lines.c.n,
            every.label("books"),
            sa.cast(best.c.entry_id, sa.Text()).label("entry_id"),
            *(sa.cast(best.c[name], sa.Text()).label(name) if name == "book_id" else best.c[name] for name in columns),
        )
        .select_from(lines.outerjoin(best, sa.true()))
        .lateral("page")
    )
    return framed(page)


def _books(ctx: Context) -> Any:
    """The book, those above it, and the default book of the currency, with how far each is away."""
    table = PRICE_BOOKS.table

    def rows(of: Any, depth: Any) -> sa.Select[Any]:
        gate = ctx.kernel.policy.gate(ctx.access, PRICE_BOOKS, "read", of)
        names = ("id", "parent_id", "adjustment_percent", "prices_include_tax")
        return sa.select(*(sa.type_coerce(of.c[name], of.c[name].type).label(name) for name in names), depth).where(
            holds_on(of, _DAY), *gate
        )

    zero: sa.ColumnElement[int] = sa.literal_column("0")
    chain = (
        rows(table, zero.label("depth"))
        .where(table.c.id == sa.bindparam("book", type_=sa.Uuid()))
        .cte("chain", recursive=True)
    )
    above, last = table.alias("above"), table.alias("last_book")
    step = chain.c.depth + sa.literal_column("1")
    chain = chain.union_all(
        rows(above, step).where(above.c.id == chain.c.parent_id, chain.c.depth < sa.literal_column(str(MAX_DEPTH)))
    )
    final: sa.ColumnElement[int] = sa.literal_column(_LAST)
    default = rows(last, final.label("depth")).where(
        last.c.is_default,
        last.c.currency == sa.bindparam("currency", type_=sa.Text()),
        last.c.id.not_in(sa.select(chain.c.id)),
    )
    return sa.union_all(sa.select(chain), default).cte("books")


def _kin(lines: Any) -> Any:
    """Each category of the lines with itself and those above it, and how far each is away."""
    table = PRODUCT_CATEGORIES.table
    one: sa.ColumnElement[int] = sa.literal_column("1")
    own = sa.select(lines.c.category_id.label("of"), lines.c.category_id.label("id"), one.label("distance")).where(
        lines.c.category_id.is_not(None)
    )
    kin = own.distinct().cte("kin", recursive=True)
    return kin.union_all(
        sa.select(kin.c.of, table.c.parent_id, kin.c.distance + sa.literal_column("1")).where(
            table.c.tenant_id == TENANT,
            table.c.id == kin.c.id,
            table.c.parent_id.is_not(None),
            kin.c.distance <= sa.literal_column(str(MAX_DEPTH)),
        )
    )


def _arm(ctx: Context, books: Any, lines: Any, subject: str, kin: Any = None) -> sa.Select[Any]:
    """Entries for the product of a line, or for one of its categories."""
    table = PRICE_ENTRIES.table.alias(f"of_{subject}")
    distance: Any = sa.literal_column("0") if kin is None else kin.c.distance
    rows = (
        sa.select(
            books.c.depth,
            distance.label("distance"),
            table.c.minimum_quantity,
            table.c.valid_from,
            table.c.id.label("entry_id"),
            table.c.price_book_id.label("book_id"),
            table.c.price,
            table.c.adjustment_percent.label("adjustment"),
            table.c.rounding_step.label("step"),
        )
        .join(books, books.c.id == table.c.price_book_id)
        .where(
            table.c.minimum_quantity <= lines.c.quantity,
            holds_on(table, _DAY),
            *ctx.kernel.policy.gate(ctx.access, PRICE_ENTRIES, "read", table),
        )
    )
    if kin is None:
        return rows.where(table.c.product_id == lines.c.product_id).correlate(lines)
    same = sa.and_(kin.c.id == table.c.category_id, kin.c.of == lines.c.category_id)
    return rows.join(kin, same).correlate(lines)
