"""Prices a basket: for the price API, and for whatever keeps priced lines.

`price(ctx, basket)` reads, it never writes. Prices come from the book, the ones above it, the default book of the
currency, and the list price, in this order; taxes from the tax profile.
"""

from collections.abc import Sequence
from dataclasses import replace
from decimal import Decimal

from crm_api.domains.pricing.amounts import PRICE_DECIMALS, rounded
from crm_api.domains.pricing.basket import Basket
from crm_api.domains.pricing.currency_rate import rates_on
from crm_api.domains.pricing.document import Document, document_of
from crm_api.domains.pricing.finding import Found, Terms, cost, find_price
from crm_api.domains.pricing.items import LARGEST, Item, amounts_wrong, items_of, line_fault, no_price, refuse
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.price_entry import PRICE_ENTRIES
from crm_api.domains.pricing.price_lookup import Book, books_of, entry_of, hidden_terms, look_up, product_of
from crm_api.domains.pricing.priced import Priced, PricedLine
from crm_api.domains.pricing.tax import Line, Rate, taxed
from crm_api.domains.pricing.tax_profile import TAX_PROFILES
from crm_api.domains.pricing.tax_rate import TAX_RATES
from crm_api.domains.pricing.taxes import charged, rates_of
from crm_api.domains.products.product import PRODUCTS
from crm_api.kernel.context import Context
from crm_api.kernel.problems import Fault, Problem, forbidden, invalid
from crm_api.kernel.unit_of_work import as_system

MOST_LINES = 200
"""Of a basket of the price API."""
_READ = (PRODUCTS, PRICE_BOOKS, PRICE_ENTRIES, TAX_PROFILES, TAX_RATES)
_SHOWN = (
    (PRODUCTS, frozenset({"list_price", "currency", "category_id"})),
    (PRICE_BOOKS, PRICE_BOOKS.hideable),
    (PRICE_ENTRIES, PRICE_ENTRIES.hideable),
    (TAX_RATES, TAX_RATES.hideable),
)
"""Fields that a price tells of, so that who may not see one of them is told no price."""


def untold_to(ctx: Context) -> Problem | None:
    """Why the caller is told no price, if so."""
    for resource in _READ:
        if not ctx.access.may(resource.plural, "read"):
            return forbidden(f"{resource.plural}:read")
    for resource, fields in _SHOWN:
        if hidden := sorted(fields & ctx.access.hides(resource.plural)):
            return forbidden(f"field {resource.plural}.{hidden[0]}")
    return None


async def price(ctx: Context, basket: Basket, *, kept: bool = False) -> Priced:
    """The prices, taxes and amounts of a basket, as far as the caller may know them.

    Args:
        ctx: who asks; takes `price_books:quote` and `read` of products, books, entries, tax profiles and tax rates.
        basket: ids in it are ids, not external ids.
        kept: it is for a record that the caller may write, and which tells neither cost nor price by the books. So
            whoever may know no prices gives their own, and both are worked out whoever may see them: what a line gives
            away or earns does not depend on who writes it.

    Raises:
        Problem: 403 without a permission or where a field rule hides what a price tells of; 422 with a pointer into
            `{"lines": [...], "account_id": ...}` for what cannot be priced.
    """
    untold = untold_to(ctx)
    if not kept:
        ctx.require(PRICE_BOOKS, "quote")
        for resource in _READ:
            ctx.access.through(resource)
        if untold is not None:
            raise untold
    reader = ctx if untold is None else _knowing(ctx)
    rows = await look_up(ctx, reader, basket)
    first, rows = rows[0], rows[: len(basket.lines)]
    document = document_of(basket, first, hidden_terms(ctx))
    items = await items_of(ctx, basket.lines, [product_of(row) for row in rows])
    await _tax(ctx, document, items)
    if untold is not None:
        refuse([no_price(i) for i, item in enumerate(items) if item.line.unit_price is None])
    for item, row in zip(items, rows, strict=True):
        item.entry = entry_of(row)
    books = books_of(first)
    told = books if untold is None else []
    if document.inclusive is None:
        document = replace(document, inclusive=told[0].inclusive if told else document.list_inclusive)
    if document.book_id is None and told:
        document = replace(document, book_id=told[0].id)
    hidden = ("cost", "margin") if not kept and "cost" in ctx.access.hides(PRODUCTS.plural) else ()
    return _priced(basket, items, await _terms(reader, document, books, items), hidden)


def _knowing(ctx: Context) -> Context:
    """The same request with what everybody knows, to find what its caller is not told."""
    return replace(as_system(ctx), principal=replace(ctx.principal, scopes=None))


async def _tax(ctx: Context, document: Document, items: list[Item]) -> None:
    """Gives each line its taxes; 422 where the profile says nothing of a product's tax class."""
    for item in items:
        if item.line.tax_percent:
            item.rates = (Rate("tax", item.line.tax_percent),)
    profile = document.profile
    open_ = [item for item in items if item.line.tax_percent is None]
    if profile is None or profile.exempt or not open_:
        return
    classes = sorted({item.product["tax_class"] for item in open_})
    dated = await rates_of(ctx, profile.id, classes, document.country, document.day)
    by_class = {name: charged(dated, name, document.country, document.region, document.day) for name in classes}
    faults = []
    for i, item in enumerate(items):
        if item.line.tax_percent is not None:
            continue
        item.rates = by_class[item.product["tax_class"]]
        if not item.rates:
            detail = f"The tax profile has no rate for the tax class {item.product['tax_class']} there and then."
            place = "tax_class" if item.line.product_id is None else "product_id"
            faults.append(line_fault(i, place, "no_tax_rate", detail))
    refuse(faults)


async def _terms(ctx: Context, document: Document, books: Sequence[Book], items: Sequence[Item]) -> Terms:
    """The document with its books and the rates of the day for all currencies of the basket."""
    currencies = {item.product["currency"] for item in items} - {None}
    own = document.book_currency
    in_document = await rates_on(ctx, currencies | {own}, document.currency, document.day)
    if own == document.currency:
        return Terms(document, books, in_document, in_document)
    ruled = {item.product["currency"] for item in items if item.entry is not None and item.entry.price is None} - {None}
    return Terms(document, books, in_document, await rates_on(ctx, ruled, own, document.day))


def _priced(basket: Basket, items: Sequence[Item], terms: Terms, hidden: tuple[str, ...]) -> Priced:
    """The document, when all that has to be known is known."""
    document, inclusive = terms.document, bool(terms.document.inclusive)
    found = [find_price(i, item, terms) for i, item in enumerate(items)]
    prices = _prices(items, found, document.currency)
    lines = [
        Line(
            *(item.line.quantity, charge, item.rates, item.line.discount_percent, item.line.discount_amount),
            reducible=item.line.kind != "shipping",
        )
        for item, charge in zip(items, prices, strict=True)
    ]
    off = {"percent": basket.discount_percent, "fixed": basket.discount_amount}
    try:
        totals = taxed(lines, document.currency, inclusive=inclusive, rounding=document.rounding, **off)
    except ValueError as error:  # those of lines were looked at before
        raise invalid("/discount_amount", "invalid_discount", str(error)) from None
    if any(abs(amount) >= LARGEST for amount in (totals.gross, *(line.gross for line in totals.lines))):
        refuse([Fault("too_large", "The amounts are too large.", pointer="/lines")])
    done = [
        PricedLine(item, terms, one, charge, amounts, None if hidden else cost(item, terms))
        for item, one, charge, amounts in zip(items, found, prices, totals.lines, strict=True)
    ]
    return Priced(
        currency=document.currency,
        day=basket.day,
        prices="gross" if inclusive else "net",
        rounding=document.rounding,
        account_id=basket.account_id,
        price_book_id=document.book_id,
        tax_profile_id=None if document.profile is None else document.profile.id,
        country=document.country,
        region=document.region,
        payment_terms=document.payment_terms,
        base=document.base,
        lines=tuple(done),
        totals=totals,
        hidden=hidden,
    )


def _prices(items: Sequence[Item], found: Sequence[Found | None], currency: str) -> list[Decimal]:
    """What one unit of each line is charged at; 422 for each that has no price or an amount that cannot be."""
    faults, prices = [], []
    for i, (item, by_rule) in enumerate(zip(items, found, strict=True)):
        if item.line.unit_price is not None:
            prices.append(item.line.unit_price)
        elif by_rule is not None:
            prices.append(rounded(by_rule.amount, PRICE_DECIMALS))
        else:
            faults.append(no_price(i))
            continue
        faults += amounts_wrong(i, item, prices[-1], currency)
    refuse(faults)
    return prices
