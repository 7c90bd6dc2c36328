"""The terms of a document: its account, book, currency, tax profile and place."""

from dataclasses import dataclass
from datetime import date
from typing import Any, cast

import sqlalchemy as sa

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.pricing.basket import Basket
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.tax import Rounding
from crm_api.domains.pricing.tax_profile import TAX_PROFILES
from crm_api.kernel.context import Context, settled
from crm_api.kernel.database import Statement
from crm_api.kernel.problems import invalid
from crm_api.kernel.query import framed
from crm_api.kernel.repository import find


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
        book_currency: of the books that are looked into.
        day: of prices, taxes and rates.
        inclusive: whether prices are gross; None until the books are known.
        profile: None where there is none, so that no taxes are charged.
        country: where it is taxed.
        region: part of it.
    """

    currency: str
    book_currency: str
    day: date
    inclusive: bool | None
    profile: Profile | None
    country: str | None
    region: str | None

    @property
    def list_inclusive(self) -> bool:
        """Whether list prices are gross."""
        return self.profile is not None and self.profile.inclusive

    @property
    def rounding(self) -> Rounding:
        """How taxes are rounded."""
        return "line" if self.profile is None else self.profile.rounding


async def document_of(ctx: Context, basket: Basket) -> Document:
    """The terms of a basket; 422 with a pointer for what is not there, not valid, or missing."""
    account = await _account(ctx, basket.account_id)
    book = await _book(ctx, basket.price_book_id, basket.day)
    profile = await _profile(ctx, basket.tax_profile_id)
    currency = basket.currency or book.get("currency") or account.get("currency")
    country = basket.country or account.get("country")
    if currency is None:
        raise invalid("/currency", "required", "Neither price book nor account has a currency; tell one.")
    if basket.region is not None and country is None:
        raise invalid("/country", "required", "A region is part of a country.")
    inclusive = None if basket.prices is None else basket.prices == "gross"
    if inclusive is None and book:
        inclusive = bool(book["prices_include_tax"])
    book_currency = book.get("currency") or currency
    return Document(currency, book_currency, basket.day, inclusive, profile, country, basket.region)


async def _account(ctx: Context, id_: str | None) -> dict[str, Any]:
    """The account as the caller sees it; empty where none is asked for."""
    if id_ is None:
        return {}
    ctx.require(ACCOUNTS, "read")
    account = await find(ctx, ACCOUNTS, id_)
    if account is None:
        raise invalid("/account_id", "reference_not_found", "There is no such account.")
    if account["is_blocked"]:
        raise invalid("/account_id", "account_blocked", "The account is blocked.")
    return account


async def _book(ctx: Context, id_: str | None, day: date) -> dict[str, Any]:
    """The price book as the caller sees it; empty where none is asked for."""
    if id_ is None:
        return {}
    book = await find(ctx, PRICE_BOOKS, id_)
    if book is None:
        raise invalid("/price_book_id", "reference_not_found", "There is no such price book.")
    first, last = book["valid_from"], book["valid_until"]
    if (first is not None and day < first) or (last is not None and last < day):
        raise invalid("/price_book_id", "not_valid", "The price book does not hold on this day.")
    return book


async def _profile(ctx: Context, id_: str | None) -> Profile | None:
    """The tax profile, or the default one; None where there is neither."""
    shape = ("pricing", "profile", id_ is None)
    _, rows = await settled(ctx, shape, lambda: _one(ctx, default=id_ is None), {"id": id_})
    row = rows[0]
    if row["id"] is None:
        if id_ is not None:
            raise invalid("/tax_profile_id", "reference_not_found", "There is no such tax profile.")
        return None
    return Profile(row["id"], row["exempt"], row["prices_include_tax"], cast("Rounding", row["rounding"]))


def _one(ctx: Context, *, default: bool) -> Statement:
    table = TAX_PROFILES.table
    wanted = table.c.is_default if default else table.c.id == sa.bindparam("id", type_=sa.Uuid())
    names = ("exempt", "prices_include_tax", "rounding")
    rows = (
        sa.select(sa.cast(table.c.id, sa.Text()).label("id"), *(table.c[name] for name in names))
        .where(wanted, *ctx.kernel.policy.gate(ctx.access, TAX_PROFILES, "read", table))
        .limit(sa.literal_column("1"))
    )
    return framed(rows.lateral("page"))
