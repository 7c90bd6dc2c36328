"""The terms of a document: its account, book, currency, tax profile and place; and its products beside them."""

from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import sqlalchemy as sa

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.pricing.basket import Basket
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.price_lookup import product_rows
from crm_api.domains.pricing.tax import Rounding
from crm_api.domains.pricing.tax_profile import TAX_PROFILES
from crm_api.domains.pricing.validity import holds_on
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Row, Statement
from crm_api.kernel.problems import invalid
from crm_api.kernel.query import framed

_PRODUCT = "product_"
_OF_ACCOUNT = ("currency", "country", "payment_terms")


@dataclass(frozen=True, slots=True)
class Profile:
    """What is asked of a tax profile."""

    id: str
    exempt: bool
    inclusive: bool
    rounding: Rounding


@dataclass(frozen=True, slots=True)
class Document:
    """The terms that lines are priced in.

    Attributes:
        currency: of all amounts.
        book_id: where prices are looked for first; None for the default book.
        book_currency: of the books that are looked into.
        day: of prices, taxes and rates.
        inclusive: whether prices are gross; None until the books are known.
        profile: None where there is none, so that no taxes are charged.
        country: where it is taxed.
        region: part of it.
        payment_terms: of the account.
    """

    currency: str
    book_id: str | None
    book_currency: str
    day: date
    inclusive: bool | None
    profile: Profile | None
    country: str | None
    region: str | None
    payment_terms: str | None

    @property
    def list_inclusive(self) -> bool:
        """Whether list prices are gross."""
        return self.profile is not None and self.profile.inclusive

    @property
    def rounding(self) -> Rounding:
        """How taxes are rounded."""
        return "line" if self.profile is None else self.profile.rounding


async def document_of(ctx: Context, basket: Basket) -> tuple[Document, dict[str, dict[str, Any]]]:
    """The terms of a basket, and those of its products that the caller may read, by id: one statement for both.

    Raises:
        Problem: 422 with a pointer for what of the terms is not there, not valid, or missing.
    """
    if basket.account_id is not None:
        ctx.require(ACCOUNTS, "read")
    hidden = ctx.access.hides(ACCOUNTS.plural).intersection(_OF_ACCOUNT)
    asked = {
        "account": basket.account_id,
        "book": basket.price_book_id,
        "profile": basket.tax_profile_id,
        "day": basket.day,
        "ids": list(dict.fromkeys(line.product_id for line in basket.lines if line.product_id is not None)),
    }
    shape = ("pricing", "terms", basket.account_id is None, tuple(sorted(hidden)))
    _, rows = await settled(ctx, shape, lambda: _terms(ctx, of_account=basket.account_id is not None), asked)
    row = rows[0]
    _refuse_absent(basket, row)
    told = {name: None if name in hidden else row[name] for name in _OF_ACCOUNT}
    currency = basket.currency or row["book_currency"] or told["currency"]
    country = basket.country or told["country"]
    if currency is None:
        raise invalid("/currency", "required", "Neither price book nor account has a currency; tell one.")
    if basket.region is not None and country is None:
        raise invalid("/country", "required", "A region is part of a country.")
    document = Document(
        currency=currency,
        book_id=row["book_id"],
        book_currency=row["book_currency"] or currency,
        day=basket.day,
        inclusive=row["book_inclusive"] if basket.prices is None else basket.prices == "gross",
        profile=_profile(row),
        country=country,
        region=basket.region,
        payment_terms=told["payment_terms"],
    )
    return document, {row["product_id"]: _product(row) for row in rows if row["product_id"] is not None}


def _product(row: Row) -> dict[str, Any]:
    return {name.removeprefix(_PRODUCT): value for name, value in row.items() if name.startswith(_PRODUCT)}


def _refuse_absent(basket: Basket, row: Row) -> None:
    """422 for what was named and is not there, or does not hold."""
    if basket.account_id is not None and row["account_id"] is None:
        raise invalid("/account_id", "reference_not_found", "There is no such account.")
    if row["is_blocked"]:
        raise invalid("/account_id", "account_blocked", "The account is blocked.")
    if basket.price_book_id is not None and row["book_id"] is None:
        raise invalid("/price_book_id", "reference_not_found", "There is no such price book.")
    if basket.price_book_id is not None and not row["book_holds"]:
        raise invalid("/price_book_id", "not_valid", "The price book does not hold on this day.")
    if basket.tax_profile_id is not None and row["profile_id"] is None:
        raise invalid("/tax_profile_id", "reference_not_found", "There is no such tax profile.")
    if row["account_profile"] and row["profile_id"] is None:
        raise invalid("/tax_profile_id", "reference_not_found", "The tax profile of the account cannot be read.")


def _profile(row: Row) -> Profile | None:
    if row["profile_id"] is None:
        return None
    rounding = cast("Rounding", row["rounding"])
    return Profile(row["profile_id"], row["exempt"], row["profile_inclusive"], rounding)


def _terms(ctx: Context, *, of_account: bool) -> Statement:
    """Account, book and profile as far as the caller may read them, each the named one, else that of the account.

    A book of the account counts where it holds; without a profile, the default one is taken. One row for each product.
    """
    uuid: sa.Uuid[Any] = sa.Uuid()
    one: sa.ColumnElement[int] = sa.literal_column("1")
    account, book, profile = ACCOUNTS.table, PRICE_BOOKS.table, TAX_PROFILES.table
    gate = ctx.kernel.policy.gate
    names = ("is_blocked", *_OF_ACCOUNT, "price_book_id", "tax_profile_id")
    columns = [account.c.id, *(account.c[name] for name in names)]
    if of_account:
        whose: Any = sa.select(*columns).where(
            account.c.id == sa.bindparam("account", type_=uuid), *gate(ctx.access, ACCOUNTS, "read", account)
        )
    else:
        whose = sa.select(*(sa.cast(sa.null(), column.type).label(column.name) for column in columns))
    whose = whose.limit(one).subquery("whose")
    wanted, day = sa.bindparam("book", type_=uuid), sa.bindparam("day", type_=sa.Date())
    found_book = (
        sa.select(book, sa.type_coerce(holds_on(book, day), sa.Boolean()).label("holds"))
        .where(
            sa.or_(
                book.c.id == wanted, sa.and_(wanted.is_(None), book.c.id == whose.c.price_book_id, holds_on(book, day))
            ),
            *gate(ctx.access, PRICE_BOOKS, "read", book),
        )
        .limit(one)
        .lateral("found_book")
    )
    named = sa.func.coalesce(sa.bindparam("profile", type_=uuid), whose.c.tax_profile_id)
    found_profile = (
        sa.select(profile)
        .where(
            sa.or_(profile.c.id == named, sa.and_(named.is_(None), profile.c.is_default)),
            *gate(ctx.access, TAX_PROFILES, "read", profile),
        )
        .limit(one)
        .lateral("found_profile")
    )
    source: Any = sa.select(one.label("one")).subquery("one_row")
    products = product_rows(ctx).subquery("products_of")
    for part in (whose, found_book, found_profile, products):
        source = source.outerjoin(part, sa.true())
    rows = sa.select(
        sa.cast(whose.c.id, sa.Text()).label("account_id"),
        whose.c.is_blocked,
        whose.c.tax_profile_id.is_not(None).label("account_profile"),
        *(whose.c[name] for name in _OF_ACCOUNT),
        sa.cast(found_book.c.id, sa.Text()).label("book_id"),
        found_book.c.currency.label("book_currency"),
        found_book.c.prices_include_tax.label("book_inclusive"),
        found_book.c.holds.label("book_holds"),
        sa.cast(found_profile.c.id, sa.Text()).label("profile_id"),
        found_profile.c.exempt,
        found_profile.c.prices_include_tax.label("profile_inclusive"),
        found_profile.c.rounding,
        *(column.label(f"{_PRODUCT}{column.name}") for column in products.c),
    ).select_from(source)
    return framed(rows.lateral("page"))
