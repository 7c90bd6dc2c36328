"""Works out lines and totals of a sales document from what was sent of it."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

import orjson

from crm_api.domains.pricing.amounts import to_step
from crm_api.domains.pricing.basket import Basket, BasketLine
from crm_api.domains.pricing.price import price
from crm_api.domains.pricing.priced import Priced, PricedLine
from crm_api.domains.pricing.quoting import tax_amount
from crm_api.domains.selling.base_totals import agreed, base_totals
from crm_api.domains.selling.explanation import explained
from crm_api.domains.selling.line import LineItem
from crm_api.domains.selling.matching import named_again
from crm_api.kernel.context import Context
from crm_api.kernel.external_sources import EXTERNAL_IDS, contested, without_owned
from crm_api.kernel.joints import Build
from crm_api.kernel.parts import identified, items_of, split
from crm_api.kernel.problems import INVALID, Fault, Problem, invalid
from crm_api.kernel.projection import plain
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Resource

_WHOLE = {"discount_percent": RATIO_SCALE, "discount_amount": MONEY_SCALE, "round_to": MONEY_SCALE}
"""What a document says of its sum, with the scale of the column."""
_TERMS = frozenset({"lines", "account_id", "price_book_id", "tax_profile_id", "shipping_address", *_WHOLE})
_NUMBERS = ("quantity", "unit_price", "discount_percent", "discount_amount", "tax_percent")
_MOST = Decimal(1000)
_SENT = ("id", "kind", "product_id", "description", "unit_id", "tax_class", *_NUMBERS)


def priced(day: str) -> Build:
    """The build of a document; `day` is the column of the day whose prices, taxes and rates it has.

    All lines are priced anew when one of the terms changes; those whose price was given keep it.
    """

    async def run(
        ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
    ) -> dict[str, Any]:
        if values.get("lines", ()) is None:
            values = {**values, **await _of_opportunity(ctx, resource, {**(before or {}), **values})}
        columns = await price_document(ctx, values, before, day)
        await refuse_owned(ctx, resource, columns["lines"], before)
        return columns

    return Build(_TERMS | {day}, run)


async def price_document(
    ctx: Context, values: Mapping[str, Any], before: Mapping[str, Any] | None, day: str, *, keep: bool = False
) -> dict[str, Any]:
    """The columns of a document that follow from its terms.

    With `keep`, a line that is there keeps its unit and price, as long as none is sent for it: they are agreed.

    Raises:
        Problem: 422 with a pointer for each line that cannot be sold so; see `pricing.price`.
    """
    whole = {**(before or {}), **values}
    stored = {item["id"]: item for item in items_of(before, "lines")}
    sent = values["lines"] if "lines" in values else [sent_again(item) for item in stored.values()]
    items = identified(named_again(sent, stored), before, "lines")
    if keep:
        items = [_kept(item, stored.get(item["id"])) for item in items]
    _refuse_nameless(items)
    moved = before is not None and "account_id" in values
    named = {
        name: None if moved and name not in values else whole[name] for name in ("price_book_id", "tax_profile_id")
    }
    address = _address(whole["shipping_address"])
    of_sum = {name: _number(whole.get(name), scale) for name, scale in _WHOLE.items()}
    _refuse_sums(of_sum)
    basket = Basket(
        [_line(item, stored.get(item["id"])) for item in items],
        whole[day],
        str(whole["account_id"]),
        **{name: None if id_ is None else str(id_) for name, id_ in named.items()},
        currency=whole["currency"],
        country=address.get("country"),
        region=address.get("region") if address.get("country") else None,
        prices=whole["prices"],
        discount_percent=of_sum["discount_percent"],
        discount_amount=of_sum["discount_amount"],
    )
    found = await price(ctx, basket, kept=True)
    columns = _columns(items, stored, found, of_sum["round_to"])
    base = agreed(found.base, before) if keep and before is not None else found.base
    columns |= base_totals(base, columns)
    columns["is_approved"] = before is None and bool(values.get("is_approved"))
    if before is None:
        columns |= {"currency": found.currency, "prices": found.prices}
        columns |= {"payment_terms": values["payment_terms"] or found.payment_terms}
    return columns


async def refuse_owned(
    ctx: Context, resource: Resource, lines: Any, before: Mapping[str, Any] | None, *further: str
) -> None:
    """409 `field_owned` for other lines of a record whose source owns them, or one of the further fields they tell.

    Even where the source lets writes of others be ignored: totals without the lines that they are of would be wrong.
    """
    owners = {} if before is None else contested(ctx.access, resource, dict.fromkeys(("lines", *further)))
    if before is None or not owners:
        return
    present = orjson.loads(before[EXTERNAL_IDS])
    theirs = {name: tuple(one for one in sources if one.code in present) for name, sources in owners.items()}
    theirs = {name: sources for name, sources in theirs.items() if sources}
    sides = (split(resource.parts["lines"], lines)[0], items_of(before, "lines"))
    now, then = ([{name: item[name] for name in LineItem.model_fields} for item in side] for side in sides)
    if theirs and now != then:
        await without_owned(ctx, {}, theirs, whole=True)


def sent_again(item: Mapping[str, Any]) -> dict[str, Any]:
    """A line that is kept, as one would send it to get it again: its price only if it was given."""
    numbers = {name: None if item[name] is None else Decimal(item[name]) for name in _NUMBERS}
    line = {name: item[name] for name in _SENT} | numbers
    return line if item["price_source"] == "given" else line | {"unit_price": None}


def as_new(items: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Lines of a document as new ones of another, which know where they come from."""
    return [{**sent_again(item), "id": None, "origin_line_id": item["id"]} for item in items]


async def _of_opportunity(ctx: Context, resource: Resource, document: Mapping[str, Any]) -> dict[str, Any]:
    """The lines of its opportunity as far as the caller sees them, with the terms that they are in.

    Prices are found anew unless they were given.

    Raises:
        Problem: 422 where what was given holds in other terms than those of the document.
    """
    opportunities = ctx.kernel.catalog.target(resource, "opportunity_id")
    if document["opportunity_id"] is None or opportunities is None or opportunities.plural in ctx.access.closed:
        return {"lines": []}
    found = await find(ctx, opportunities, document["opportunity_id"]) or {}
    items = plain(found.get("lines")) or ()
    if not items:
        return {"lines": []}
    theirs = {"currency": found["currency"], "prices": "net"}
    terms = {name: document[name] or theirs[name] for name in theirs}
    if terms != theirs and any(item["price_source"] == "given" or item["discount_amount"] for item in items):
        detail = (
            f"The lines of the opportunity have net prices in {found['currency']}; give lines, or take these terms."
        )
        raise invalid("/lines", "other_terms", detail)
    return {"lines": as_new(items), **terms}


def _kept(item: dict[str, Any], old: Mapping[str, Any] | None) -> dict[str, Any]:
    if old is None or item["unit_price"] is not None or _id(item["product_id"]) != old["product_id"]:
        return item
    if _id(item["unit_id"]) not in (None, old["unit_id"]):
        return item
    return {**item, "unit_id": old["unit_id"], "unit_price": Decimal(old["unit_price"]), "kept": True}


def _number(value: Any, scale: int) -> Decimal | None:
    """A number as it was sent, or as it stands in its column."""
    return Decimal(value) / scale if isinstance(value, int) else value


def _refuse_sums(given: Mapping[str, Decimal | None]) -> None:
    if given["discount_percent"] is not None and given["discount_amount"] is not None:
        raise invalid("/discount_amount", "exactly_one", "A discount is a percentage or an amount.")
    if given["round_to"] is not None and given["round_to"] <= 0:
        raise invalid("/round_to", "not_positive", "This is greater than zero.")


def _id(value: Any) -> str | None:
    return None if value is None else str(value).lower()


def _address(value: Any) -> Mapping[str, Any]:
    found: Mapping[str, Any] | None = orjson.loads(value) if isinstance(value, str) else value
    return found or {}


def _refuse_nameless(items: Sequence[Mapping[str, Any]]) -> None:
    faults = [
        Fault("required", "A line without a product needs a description.", pointer=f"/lines/{i}/description")
        for i, item in enumerate(items)
        if item["product_id"] is None and item["description"] is None
    ]
    if faults:
        raise Problem(INVALID, faults[0].detail, faults)


def _line(item: Mapping[str, Any], old: Mapping[str, Any] | None) -> BasketLine:
    product = _id(item["product_id"])
    return BasketLine(
        product,
        unit_id=_id(item["unit_id"]),
        tax_class=item["tax_class"] or "standard",
        retired=(old is not None and old["product_id"] == product) or item.get("origin_line_id") is not None,
        kind=item["kind"],
        **{name: item[name] for name in _NUMBERS},
    )


def _columns(
    items: Sequence[Mapping[str, Any]],
    stored: Mapping[str, Mapping[str, Any]],
    found: Priced,
    round_to: Decimal | None,
) -> dict[str, Any]:
    lines = [
        _written(item, stored.get(item["id"], {}), line, found.currency)
        for item, line in zip(items, found.lines, strict=True)
    ]
    totals, costs = found.totals, [line["cost"] for line in lines]
    payable = totals.gross if round_to is None else to_step(totals.gross, round_to)
    shipping = (line.amounts.net for line in found.lines if line.line.kind == "shipping")
    return {
        "lines": lines,
        "price_book_id": found.price_book_id,
        "tax_profile_id": found.tax_profile_id,
        "taxes": [tax_amount(tax) for tax in totals.taxes],
        "discount_total": sum((line.amounts.discount + line.amounts.share for line in found.lines), Decimal(0)),
        "shipping_total": sum(shipping, Decimal(0)),
        "net_total": totals.net,
        "tax_total": totals.tax,
        "gross_total": totals.gross,
        "rounding": payable - totals.gross,
        "payable_total": payable,
        "deepest_discount": _deepest(found, [line["found_price"] for line in lines]),
        "known_margin": _known_margin(lines),
        "margin": None if None in costs else totals.net - sum((cost or Decimal(0) for cost in costs), Decimal(0)),
    }


def _written(item: Mapping[str, Any], old: Mapping[str, Any], line: PricedLine, currency: str) -> dict[str, Any]:
    product, amounts = line.product or {}, line.amounts
    source, book, entry = ("list", None, None)
    if item.get("kept"):
        source, book, entry = (old[name] for name in ("price_source", "price_book_id", "price_entry_id"))
    elif line.line.unit_price is not None:
        source = "given"
    elif line.price_entry_id is not None:
        source, book, entry = "book", line.price_book_id, line.price_entry_id
    return {
        "id": item["id"],
        "position": item["position"],
        "kind": item["kind"],
        "product_id": product.get("id"),
        "sku": product.get("sku"),
        "description": item["description"] or product.get("name"),
        "quantity": line.line.quantity,
        "unit_id": line.unit_id,
        "unit_price": line.unit_price,
        "price_source": source,
        "price_book_id": book,
        "price_entry_id": entry,
        "found_price": _found_price(item, old, line),
        "explanation": old["explanation"] if item.get("kept") else explained(line),
        "discount_percent": line.line.discount_percent,
        "discount_amount": line.line.discount_amount,
        "discount": amounts.discount,
        "document_discount": amounts.share,
        "tax_class": item["tax_class"],
        "tax_percent": line.line.tax_percent,
        "taxes": [tax_amount(tax) for tax in amounts.taxes],
        "net_amount": amounts.net,
        "tax_amount": amounts.tax,
        "gross_amount": amounts.gross,
        "cost": _cost(line),
        "currency": currency,
        "origin_line_id": item.get("origin_line_id") or old.get("origin_line_id"),
    }


def _cost(line: PricedLine) -> Decimal | None:
    """What a line costs us, None where nobody knows.

    A credit and what is added for nothing cost nothing more, and shipping what the account pays for it.
    """
    if line.product is None and line.line.kind == "shipping":
        return line.amounts.net
    return Decimal(0) if line.product is None and line.unit_price <= 0 else line.cost


def _found_price(item: Mapping[str, Any], old: Mapping[str, Any], line: PricedLine) -> Decimal | None:
    """What one unit costs by the books: as when it was agreed on, unless it is for less than that now."""
    if not item.get("kept") or line.line.quantity < Decimal(old["quantity"]):
        return line.found_price
    return _number(old["found_price"], MONEY_SCALE)


def _known_margin(lines: Sequence[Mapping[str, Any]]) -> Decimal | None:
    """What the lines whose cost is known earn, in percent of what they come to; at least -1,000.

    None where that says nothing: products without a cost, and what is none, with no other product beside them.
    """
    known = [line for line in lines if line["cost"] is not None]
    if len(known) < len(lines) and not any(line["product_id"] for line in known):
        return None
    whole = sum((line["net_amount"] for line in known), Decimal(0))
    earned = whole - sum((line["cost"] for line in known), Decimal(0))
    if whole <= 0:
        return None if earned >= 0 else -_MOST
    return max(-_MOST, 100 * earned / whole)


def _deepest(found: Priced, by_books: Sequence[Decimal | None]) -> Decimal:
    """How many percent of the price by the books are given away at most, by a line or, with credits, by the whole.

    A line gives away its discount, and what its own price is below that of the books. At most 1,000 percent.
    """
    full = [
        line.line.quantity * max(price or Decimal(0), line.unit_price)
        for line, price in zip(found.lines, by_books, strict=True)
    ]
    charged = [line.amounts.gross if found.prices == "gross" else line.amounts.net for line in found.lines]
    asked = [Decimal(0) if price < 0 else price for price in full]  # a credit is given away as a whole
    pairs = [*zip(asked, charged, strict=True), (sum(asked, Decimal(0)), sum(charged, Decimal(0)))]
    if pairs[-1][0] == 0 > pairs[-1][1]:  # nothing but credits
        return _MOST
    return min(_MOST, max((_share(*pair) for pair in pairs), default=Decimal(0)))


def _share(full: Decimal, charged: Decimal) -> Decimal:
    if full > 0:
        return max(Decimal(0), 100 * (full - charged) / full)
    return Decimal(0)
