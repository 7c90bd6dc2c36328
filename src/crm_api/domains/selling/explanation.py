"""How the price of a line came about, as it was when the line was priced: kept with it, told to who may know prices."""

from datetime import date
from decimal import Decimal
from typing import Annotated, Any, Literal

import orjson
import sqlalchemy as sa
from fastapi import APIRouter
from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.pricing.amounts import units
from crm_api.domains.pricing.basket import Step
from crm_api.domains.pricing.last_sale import last_sales
from crm_api.domains.pricing.price import untold_to
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.priced import PricedLine
from crm_api.domains.pricing.quoting import LastSale, PriceStep, sale_of, step_of
from crm_api.domains.selling.line import PriceSource
from crm_api.kernel.collections import path_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.headers import query
from crm_api.kernel.projection import Json
from crm_api.kernel.record import MONEY_SCALE, RATIO_SCALE
from crm_api.kernel.repository import get
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Id, Money, Wire, money_text
from crm_api.kernel.unit_of_work import permitted

_LAST = "What the account paid before, up to the day of the document, in orders that the caller sees."
_STEPS = "How the price by books and list price came about, and what was given in its place; null if it was not kept."


class PriceExplanation(Wire):
    """How the price of a line came about."""

    object: Literal["price_explanation"]
    line_id: Id
    document_id: Id
    price_source: PriceSource
    price_book_id: Id | None
    price_entry_id: Id | None
    unit_price: Money
    found_price: Annotated[Money | None, Field(description="By books and list price, whatever was given.")]
    steps: Annotated[Annotated[list[PriceStep], Field(max_length=200)] | None, Field(description=_STEPS)]
    last_sale: Annotated[LastSale | None, Field(description=_LAST)]
    is_approved: Annotated[bool, Field(description="Of the document; its approvals say by whom.")]
    origin_line_id: Annotated[Id | None, Field(description="The line of the document before; it has its own.")]


_PATH = {
    "name": "id",
    "in": "path",
    "required": True,
    "description": "The line.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 300},
}


def explained(line: PricedLine) -> list[list[Any]]:
    """What a line keeps: [kind, price in ten-thousandths, book, entry, percent in millionths] for each step."""
    steps: list[list[Any]] = []
    for kind, amount, told in line.found.steps if line.found is not None else ():
        percent = told.get("percent")
        more = told.get("price_book_id"), told.get("price_entry_id"), None if percent is None else units(percent, 6)
        steps.append([kind, units(amount, 4), *(more if told else ())])
    if line.line.unit_price is not None:
        steps.append(["override", units(line.unit_price, 4)])
    return steps


def _step(kept: list[Any]) -> dict[str, Any]:
    kind, price, book, entry, percent = [*kept, None, None, None][:5]
    share = None if percent is None else Decimal(percent) / RATIO_SCALE
    return step_of(Step(kind, Decimal(price) / MONEY_SCALE, book, entry, share))


def explanations(document: Resource, lines: Resource, day: str) -> APIRouter:
    """`GET /v1/order_lines/{id}/explanation`, of the lines of a document that has its day in this column."""
    router = APIRouter()
    noun, column = lines.singular, f"{document.singular}_id"

    def build() -> Statement:
        table = lines.table
        which = table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid())
        told = sa.cast(table.c.explanation, sa.Text()).label("explanation")
        return Statement(sa.select(told, sa.type_coerce(table.c.found_price, sa.BigInteger())).where(*which))

    async def endpoint(request: Request) -> Response:
        ctx = await permitted(request, lines, "read")
        query(request, ())
        ctx.require(PRICE_BOOKS, "quote")
        if (untold := untold_to(ctx)) is not None:
            raise untold
        line = await get(ctx, lines, path_id(request, lines))
        whole = await get(ctx, document, line[column])
        (kept,) = await ctx.read(ctx.kernel.statement(("explanation", lines.plural), build), {"id": line["id"]})
        product, sold = line["product_id"], None
        if product is not None:
            until = date.fromisoformat(str(whole[day]))
            sold = await last_sales(ctx, whole["account_id"], [product], until=until, beside=whole["id"])
        steps = None if kept["explanation"] is None else [_step(step) for step in orjson.loads(kept["explanation"])]
        same = ("price_source", "price_book_id", "price_entry_id", "unit_price", "origin_line_id")
        return Json(
            {
                "object": "price_explanation",
                "line_id": line["id"],
                "document_id": whole["id"],
                **{name: line[name] for name in same},
                "found_price": None if kept["found_price"] is None else money_text(kept["found_price"]),
                "steps": steps,
                "last_sale": sale_of((sold or {}).get(str(product))),
                "is_approved": whole["is_approved"],
            }
        )

    endpoint.__doc__ = (
        f"What the line kept when it was priced, and what the account had paid before. Needs the permissions "
        f"`{lines.plural}:read`, `{document.plural}:read` and `price_books:quote`, and `read` of what prices tell of: "
        f"products, price books and entries, tax profiles and rates."
    )
    router.add_api_route(
        f"/v1/{lines.plural}/{{id}}/explanation",
        endpoint,
        methods=["GET"],
        name=f"get_{noun}_explanation",
        operation_id=f"get_{noun}_explanation",
        summary=f"How the price of {'an' if noun[0] in 'aeiou' else 'a'} {noun.replace('_', ' ')} came about",
        response_model=PriceExplanation,
        responses={403: {}, 404: {}, 422: {}},
        openapi_extra={"parameters": [_PATH]},
    )
    return router
