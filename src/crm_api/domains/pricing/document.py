"""The terms of a document: its account, book, currency, tax profile and place."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import date
from typing import cast

from crm_api.domains.pricing.base_currency import Base, base_of
from crm_api.domains.pricing.basket import Basket
from crm_api.domains.pricing.document_lookup import OF_ACCOUNT
from crm_api.domains.pricing.tax import Rounding
from crm_api.kernel.database import Row
from crm_api.kernel.problems import invalid


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
        base: what the tenant sums up in, with the rate of the currency.
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
    base: Base | None

    @property
    def list_inclusive(self) -> bool:
        """Whether list prices are gross."""
        return self.profile is not None and self.profile.inclusive

    @property
    def rounding(self) -> Rounding:
        """How taxes are rounded."""
        return "line" if self.profile is None else self.profile.rounding


def document_of(basket: Basket, row: Row, hidden: Collection[str]) -> Document:
    """The terms of a basket, by what was found of them; `hidden` are the fields of the account that are not told.

    Raises:
        Problem: 422 with a pointer for what of the terms is not there, not valid, or missing.
    """
    _refuse_absent(basket, row)
    told = {name: None if name in hidden else row[name] for name in OF_ACCOUNT}
    currency = basket.currency or row["book_currency"] or told["currency"]
    country = basket.country or told["country"]
    if currency is None:
        raise invalid("/currency", "required", "Neither price book nor account has a currency; tell one.")
    if basket.region is not None and country is None:
        raise invalid("/country", "required", "A region is part of a country.")
    return Document(
        currency=currency,
        book_id=row["book_id"],
        book_currency=row["book_currency"] or currency,
        day=basket.day,
        inclusive=row["book_inclusive"] if basket.prices is None else basket.prices == "gross",
        profile=_profile(row),
        country=country,
        region=basket.region,
        payment_terms=told["payment_terms"],
        base=base_of(row, currency),
    )


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
