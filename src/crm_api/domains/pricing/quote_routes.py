"""`POST /v1/prices/quote`: what a basket costs, without keeping it."""

from collections.abc import Iterable
from datetime import UTC, datetime

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.approvals.asking import allowed_discount
from crm_api.domains.pricing.basket import Basket, BasketLine
from crm_api.domains.pricing.last_sale import last_sales
from crm_api.domains.pricing.price import price
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.quoting import PriceQuote, PriceQuoteRequest, quote_of
from crm_api.kernel.context import Context
from crm_api.kernel.external import is_external, resolved
from crm_api.kernel.headers import parse, query, read_body
from crm_api.kernel.projection import Json
from crm_api.kernel.spec_routes import takes
from crm_api.kernel.unit_of_work import permitted

router = APIRouter()


@router.post(
    "/v1/prices/quote",
    name="quote_prices",
    operation_id="quote_prices",
    summary="Price a basket",
    response_model=PriceQuote,
    responses={403: {}, 413: {}, 415: {}, 422: {}},
)
@takes(
    PriceQuoteRequest,
    currency="EUR",
    country="DE",
    lines=[{"product_id": "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55", "quantity": "2", "discount_percent": "5"}],
)
async def quote_prices(request: Request) -> Response:
    """By line the book, entry and steps of the price, taxes, margin, and what the account paid last; nothing is kept.

    Takes `read` of products, price books and entries, tax profiles and rates, too, and of currency rates where there is
    something to convert. Cost and margin are null where a field rule hides the cost of products.
    """
    ctx = await permitted(request, PRICE_BOOKS, "quote")
    query(request, ())
    body = parse(await read_body(request), PriceQuoteRequest)
    basket = await _basket(ctx, body)
    priced = await price(ctx, basket)
    products = [line.product_id for line in basket.lines if line.product_id is not None]
    sold = {} if basket.account_id is None else await last_sales(ctx, basket.account_id, products)
    allowed = await allowed_discount(ctx, "order", basket.account_id)
    return Json(quote_of(priced, sold, allowed))


async def _basket(ctx: Context, body: PriceQuoteRequest) -> Basket:
    """The body with ids in place of external ids."""
    products = await _ids(ctx, "products", (line.product_id for line in body.lines))
    units = await _ids(ctx, "units", (line.unit_id for line in body.lines))
    (account_id,) = await _ids(ctx, "accounts", [body.account_id])
    (price_book_id,) = await _ids(ctx, "price_books", [body.price_book_id])
    (tax_profile_id,) = await _ids(ctx, "tax_profiles", [body.tax_profile_id])
    lines = [
        BasketLine(
            product or line.product_id,
            line.quantity,
            unit,
            line.discount_percent,
            line.discount_amount,
            line.unit_price,
        )
        for line, product, unit in zip(body.lines, products, units, strict=True)
    ]
    return Basket(
        lines,
        body.day or datetime.now(UTC).date(),
        account_id,
        price_book_id,
        body.currency,
        tax_profile_id,
        body.country,
        body.region,
        body.prices,
        body.discount_percent,
        body.discount_amount,
    )


async def _ids(ctx: Context, plural: str, given: Iterable[str | None]) -> list[str | None]:
    """Ids in lower case; one statement for all external ids of a resource, none without any."""
    texts = list(given)
    external = {text for text in texts if text is not None and is_external(text)}
    found: dict[str, str] = {}
    if external:
        found = await resolved(ctx, ctx.kernel.catalog.resources[plural], external)
    return [None if text is None else found.get(text, text).lower() for text in texts]
