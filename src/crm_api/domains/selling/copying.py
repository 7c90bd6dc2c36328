"""What a sales document takes over from another one."""

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from typing import Any

import orjson

from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.selling.opportunity import of_caller
from crm_api.domains.selling.pricing import as_new
from crm_api.kernel.context import Context
from crm_api.kernel.parts import items_of
from crm_api.kernel.problems import Problem
from crm_api.kernel.repository import create, find
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import with_defaults

_TERMS = (
    *("account_id", "contact_id", "opportunity_id", "client_reference", "currency", "prices", "price_book_id"),
    *("tax_profile_id", "payment_terms", "billing_address", "shipping_address", "note", "tags", "owner_id", "team_id"),
    *("discount_percent", "discount_amount", "round_to"),
)
_JSON = frozenset({"billing_address", "shipping_address", "tags"})


def terms_of(ctx: Context, resource: Resource, row: Mapping[str, Any]) -> dict[str, Any]:
    """The terms of a loaded document, without what is hidden from the caller: in another one they would see it."""
    hidden = ctx.access.hides(resource.plural)
    found = {name: orjson.loads(row[name]) if name in _JSON and row[name] is not None else row[name] for name in _TERMS}
    return {name: value for name, value in found.items() if name not in hidden}


def lines_of(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Its lines as new ones, which know where they come from; prices are found anew unless they were given."""
    return as_new(items_of(row, "lines"))


def lines_at_price(row: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The same at the prices that they have."""
    prices = [Decimal(item["unit_price"]) for item in items_of(row, "lines")]
    return [{**line, "unit_price": price} for line, price in zip(lines_of(row), prices, strict=True)]


async def book_on(ctx: Context, id_: Any, day: date) -> str | None:
    """The price book, if the caller sees it and it holds on the day."""
    book = None if id_ is None else await find(ctx, PRICE_BOOKS, id_)
    if book is None:
        return None
    first, last = (book[name] or day for name in ("valid_from", "valid_until"))
    return str(id_) if first <= day <= last else None


async def _opportunity(ctx: Context, resource: Resource, given: Mapping[str, Any]) -> str | None:
    """The opportunity that it goes on with, unless that went to another account."""
    id_ = given.get("opportunity_id")
    found = None if id_ is None else await of_caller(ctx, resource, id_)
    gone = found is not None and found["account_id"] != str(given["account_id"]).lower()
    return None if id_ is None or gone else str(id_)


async def make(ctx: Context, resource: Resource, given: Mapping[str, Any]) -> dict[str, Any]:
    """Creates a document from these values, with the caller's right to create one."""
    ctx.require(resource, "create")
    given = {**given, "opportunity_id": await _opportunity(ctx, resource, given)}
    assert resource.create is not None  # noqa: S101 - of documents
    try:
        made = await create(ctx, resource, with_defaults(resource.create, given), given=(), complete=False)
    except Problem as problem:
        for fault in problem.errors:  # they are of the new document, and not of the body
            fault.detail, fault.pointer = f"{fault.pointer}: {fault.detail}" if fault.pointer else fault.detail, None
        raise
    assert made is not None  # noqa: S101 - no key is taken by it
    return made
