"""What the database knows about a basket, in one statement: its terms, its products, the best entry for each line."""

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import itemgetter
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.pricing.base_currency import base_found
from crm_api.domains.pricing.basket import Basket
from crm_api.domains.pricing.document_lookup import OF_ACCOUNT, terms_found
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.price_entry import PRICE_ENTRIES
from crm_api.domains.pricing.validity import holds_on
from crm_api.domains.products.product import PRODUCTS
from crm_api.domains.products.product_category import PRODUCT_CATEGORIES
from crm_api.domains.products.unit import UNITS
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import TENANT, Row, Statement, bound
from crm_api.kernel.query import framed
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE, among, readable
from crm_api.kernel.tree import MAX_DEPTH

_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_DAY = sa.bindparam("day", type_=sa.Date())
_PRODUCT = "product_"
_OF_PRODUCT = (
    *("id", "unit_id", "category_id", "sku", "name", "status", "list_price", "cost", "currency", "tax_class"),
    *("conversions", "decimals"),
)
_OF_ENTRY = ("entry_id", "entry_book_id", "depth", "price", "adjustment", "step")
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
        rows = product_rows(ctx, among(PRODUCTS.table.c.id, _IDS)).lateral("page")
        return framed(rows, [readable(column).label(column.name) for column in rows.c])

    _, rows = await settled(ctx, ("pricing", "products"), build, {"ids": bound(ids)})
    return {row["id"]: dict(row) for row in rows if row["id"] is not None}


def product_rows(ctx: Context, which: sa.ColumnElement[bool]) -> sa.Select[*tuple[Any, ...]]:
    """Products that the caller may read, with the decimals of their base unit."""
    table, units = PRODUCTS.table, UNITS.table
    names = [name for name in _OF_PRODUCT if name != "decimals"]
    return (
        sa.select(*(table.c[name] for name in names), units.c.decimals)
        .join(units, sa.and_(units.c.tenant_id == TENANT, units.c.id == table.c.unit_id))
        .where(which, *ctx.kernel.policy.gate(ctx.access, PRODUCTS, "read", table))
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


async def look_up(ctx: Context, reader: Context, basket: Basket) -> list[Row]:
    """One row for each line in their order, or a single one: the terms, its product and best entry, beside all books.

    A book goes before its parent, and the default book of the currency is the last; in a book the product goes before
    its category and that before the ones above it, then the greatest minimum quantity, then the latest beginning.

    Args:
        ctx: the request; only what the caller may read counts.
        reader: the same; of books that are looked into and of entries, what this one may read counts.
        basket: its currency, if any, says which default book is the last.
    """
    hidden = hidden_terms(ctx)
    converted = any(line.unit_id is not None for line in basket.lines)
    sent = {
        "account": basket.account_id,
        "book": basket.price_book_id,
        "profile": basket.tax_profile_id,
        "day": basket.day,
        "currency": basket.currency,
        "ids": [line.product_id for line in basket.lines],
        "quantities": [int(line.quantity * RATIO_SCALE) for line in basket.lines],
        **({"units": [line.unit_id for line in basket.lines]} if converted else {}),
    }
    of_account = basket.account_id is not None
    shape = ("prices", reader is ctx, of_account, "currency" in hidden, converted)
    _, rows = await settled(
        ctx,
        shape,
        lambda: _prices(ctx, reader, of_account=of_account, told="currency" not in hidden, converted=converted),
        sent,
    )
    return sorted(rows, key=itemgetter("n"))


def hidden_terms(ctx: Context) -> frozenset[str]:
    """What of an account the caller is not told, so that it is no term either."""
    return frozenset(ctx.access.hides(ACCOUNTS.plural).intersection(OF_ACCOUNT))


def books_of(row: Row) -> list[Book]:
    """The books that are looked into, nearest first, of any row."""
    return sorted(map(_book, orjson.loads(row["books"] or "[]")), key=lambda book: book.depth)


def product_of(row: Row) -> dict[str, Any] | None:
    """The product of a line, as it is stored, with the decimals of its base unit; None where there is none."""
    return None if row["product_id"] is None else {name: row[f"{_PRODUCT}{name}"] for name in _OF_PRODUCT}


def entry_of(row: Row) -> Entry | None:
    """The best entry for a line."""
    if row["entry_id"] is None:
        return None
    price, adjustment, step = row["price"], row["adjustment"], row["step"]
    return Entry(
        row["entry_id"],
        row["entry_book_id"],
        row["depth"],
        None if price is None else Fraction(price, MONEY_SCALE),
        None if adjustment is None else Fraction(adjustment, RATIO_SCALE * 100),
        None if step is None else Fraction(step, MONEY_SCALE),
    )


def _book(image: dict[str, Any]) -> Book:
    adjustment = Fraction(image["adjustment"] or 0, RATIO_SCALE * 100)
    return Book(image["id"], adjustment, image["inclusive"], image["depth"])


def _prices(ctx: Context, reader: Context, *, of_account: bool, told: bool, converted: bool) -> Statement:
    terms = terms_found(ctx, of_account=of_account)
    sold = _sold(ctx, converted=converted)
    currency = [sa.bindparam("currency", type_=sa.Text()), *([terms.c.currency] if told else [])]
    books, kin = _books(reader, terms, sa.func.coalesce(terms.c.book_currency, *currency)), _kin(sold)
    either = sa.union_all(_arm(reader, books, sold, "product"), _arm(reader, books, sold, "category", kin))
    near = either.subquery("either")
    best = (
        sa.select(near)
        .order_by(
            near.c.depth,
            near.c.distance,
            near.c.minimum_quantity.desc(),
            near.c.valid_from.desc().nulls_last(),
            near.c.entry_id.desc(),
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
    whole = sa.func.coalesce(currency[0], terms.c.book_currency, *currency[1:])
    base = base_found(whole, _DAY)
    columns = [*terms.c, *sold.c, *(best.c[name] for name in _OF_ENTRY), *base.c]
    page = sa.select(*(readable(column).label(column.name) for column in columns), every.label("books"))
    source = terms.outerjoin(base, sa.true()).outerjoin(sold, sa.true()).outerjoin(best, sa.true())
    return framed(page.select_from(source).lateral("page"))


def _sold(ctx: Context, *, converted: bool) -> Any:
    """The lines with their products, if any, and how many of the base unit each is of, in millionths."""
    names = ["product_id", "quantity", *(["unit_id"] if converted else [])]
    types: dict[str, Any] = {"product_id": sa.Uuid(), "quantity": sa.BigInteger(), "unit_id": sa.Uuid()}
    sent = [_IDS, sa.bindparam("quantities", type_=ARRAY(sa.BigInteger()))]
    if converted:
        sent.append(sa.bindparam("units", type_=ARRAY(sa.Uuid())))
    lines = (
        sa.func.unnest(*sent)
        .table_valued(*(sa.column(name, types[name]) for name in names), with_ordinality="n", name="lines")
        .render_derived()
    )
    product = product_rows(ctx, PRODUCTS.table.c.id == lines.c.product_id).lateral("product")
    base: Any = lines.c.quantity
    if converted:
        every = sa.func.jsonb_array_elements(product.c.conversions).table_valued("value", name="every")
        factor = sa.cast(every.c.value.op("->>")(sa.literal("factor", sa.Text())), sa.Numeric())
        same = every.c.value.op("->>")(sa.literal("unit_id", sa.Text())) == sa.cast(lines.c.unit_id, sa.Text())
        base = sa.func.coalesce(sa.select(sa.func.trunc(base * factor)).where(same).scalar_subquery(), base)
    return (
        sa.select(lines.c.n, base.label("base"), *(column.label(f"{_PRODUCT}{column.name}") for column in product.c))
        .select_from(lines.outerjoin(product, sa.true()))
        .cte("sold")
    )


def _books(ctx: Context, terms: Any, currency: sa.ColumnElement[str]) -> Any:
    """The book of the terms, those above it, and the default book of a currency, with how far each is away."""
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
        .where(table.c.id == sa.select(terms.c.book_id).scalar_subquery())
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
        last.c.currency == sa.select(currency).scalar_subquery(),
        last.c.id.not_in(sa.select(chain.c.id)),
    )
    return sa.union_all(sa.select(chain), default).cte("books")


def _kin(sold: Any) -> Any:
    """Each category of the products with itself and those above it, and how far each is away."""
    table = PRODUCT_CATEGORIES.table
    one: sa.ColumnElement[int] = sa.literal_column("1")
    category = sold.c.product_category_id
    own = sa.select(category.label("of"), category.label("id"), one.label("distance")).where(category.is_not(None))
    kin = own.distinct().cte("kin", recursive=True)
    return kin.union_all(
        sa.select(kin.c.of, table.c.parent_id, kin.c.distance + sa.literal_column("1")).where(
            table.c.tenant_id == TENANT,
            table.c.id == kin.c.id,
            table.c.parent_id.is_not(None),
            kin.c.distance <= sa.literal_column(str(MAX_DEPTH)),
        )
    )


def _arm(ctx: Context, books: Any, sold: Any, subject: str, kin: Any = None) -> sa.Select[Any]:
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
            table.c.price_book_id.label("entry_book_id"),
            table.c.price,
            table.c.adjustment_percent.label("adjustment"),
            table.c.rounding_step.label("step"),
        )
        .join(books, books.c.id == table.c.price_book_id)
        .where(
            table.c.minimum_quantity <= sold.c.base,
            holds_on(table, _DAY),
            *ctx.kernel.policy.gate(ctx.access, PRICE_ENTRIES, "read", table),
        )
    )
    if kin is None:
        return rows.where(table.c.product_id == sold.c.product_id).correlate(sold)
    same = sa.and_(kin.c.id == table.c.category_id, kin.c.of == sold.c.product_category_id)
    return rows.join(kin, same).correlate(sold)
