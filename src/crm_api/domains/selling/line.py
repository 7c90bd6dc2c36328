"""The lines of a sales document: what is sold, at which price and tax."""

from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.pricing.basket import LineKind
from crm_api.domains.pricing.quoting import TaxAmount
from crm_api.domains.products.percent import Percent
from crm_api.kernel.external import To
from crm_api.kernel.policy import through
from crm_api.kernel.record import MoneyAmount, Ratio, one_of, reference, sortable, sparse
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Code, Currency, Id, Line, Money, Output, PositiveQuantity, Quantity, Ref, Wire

MOST_LINES = 1000
SOURCES = ("book", "list", "given")
KINDS = ("item", "shipping")
Kind = Annotated[LineKind, Field(description="Shipping is sent with nothing, and a discount on the whole spares it.")]
PriceSource = Annotated[
    Literal["book", "list", "given"],
    Field(description="Whether the price is of a price book, the list price, or was given."),
]
_DISCOUNT = "Off the amount of the line, in percent."
_DISCOUNT_SUM = "The same as a sum; one of both."
_SHARE = "What it bears of the discount on the whole document, in the terms of its price."
_TAX_PERCENT = "In place of the taxes of the tax profile."
_TAX_CLASS = "Which taxes of the tax profile, of a line without a product: `standard` unless given."
_UNIT = "The base unit of the product, unless given."
_UNIT_PRICE = "Of one unit, net or gross as the document says; by price books and list price, unless given."
Position = Annotated[int, Field(ge=1, le=100_000)]
Sku = Annotated[str, Field(max_length=64)]
Taxes = Annotated[list[TaxAmount], Field(max_length=1000)]


class DocumentLine:
    """The columns of a line; what it was found to cost and costs us is kept and not told."""

    position: Mapped[int]
    kind: Mapped[str] = mapped_column(server_default="item")
    product_id: Mapped[UUID | None]
    sku: Mapped[str | None]
    description: Mapped[str]
    quantity: Mapped[int] = mapped_column(Ratio)
    unit_id: Mapped[UUID | None]
    unit_price: Mapped[int] = mapped_column(MoneyAmount)
    price_source: Mapped[str]
    price_book_id: Mapped[UUID | None]
    price_entry_id: Mapped[UUID | None]
    found_price: Mapped[int | None] = mapped_column(MoneyAmount)
    explanation: Mapped[list[Any] | None]
    discount_percent: Mapped[int | None] = mapped_column(Ratio)
    discount_amount: Mapped[int | None] = mapped_column(MoneyAmount)
    discount: Mapped[int] = mapped_column(MoneyAmount)
    document_discount: Mapped[int] = mapped_column(MoneyAmount, server_default="0")
    tax_class: Mapped[str | None]
    tax_percent: Mapped[int | None] = mapped_column(Ratio)
    taxes: Mapped[list[Any]]
    net_amount: Mapped[int] = mapped_column(MoneyAmount)
    tax_amount: Mapped[int] = mapped_column(MoneyAmount)
    gross_amount: Mapped[int] = mapped_column(MoneyAmount)
    cost: Mapped[int | None] = mapped_column(MoneyAmount)
    currency: Mapped[str]
    origin_line_id: Mapped[UUID | None]


def line_constraints(table: str, document: str, documents: str) -> tuple[Any, ...]:
    """Keys and indexes of the lines of a document: `line_constraints("order_lines", "order_id", "orders")`."""
    return (
        reference(document, documents),
        reference("product_id", "products"),
        reference("unit_id", "units"),
        one_of("price_source", SOURCES),
        one_of("kind", KINDS),
        *sortable(table, document),
        sparse(table, "product_id"),
        sparse(table, "unit_id"),
    )


class LineInput(Wire):
    """One thing to sell: a product, or what the description says."""

    id: Annotated[Id | None, Field(description="Of a line of the document; without it, the line is a new one.")] = None
    kind: Kind = "item"
    product_id: Annotated[Ref, To("products")] | None = None
    description: Annotated[Line | None, Field(description="The product's name unless given.")] = None
    quantity: PositiveQuantity = Decimal(1)
    unit_id: Annotated[Annotated[Ref, To("units")] | None, Field(description=_UNIT)] = None
    unit_price: Annotated[Money | None, Field(description=_UNIT_PRICE)] = None
    discount_percent: Annotated[Percent | None, Field(description=_DISCOUNT)] = None
    discount_amount: Annotated[Money | None, Field(description=_DISCOUNT_SUM)] = None
    tax_class: Annotated[Code | None, Field(description=_TAX_CLASS)] = None
    tax_percent: Annotated[Percent | None, Field(description=_TAX_PERCENT)] = None


class LineItem(Wire):
    """One line of a document, within it."""

    id: Id
    position: Position
    kind: Kind
    product_id: Id | None
    sku: Sku | None
    description: Line
    quantity: Quantity
    unit_id: Id | None
    unit_price: Money
    price_source: PriceSource
    price_book_id: Id | None
    price_entry_id: Id | None
    discount_percent: Annotated[Percent | None, Field(description=_DISCOUNT)]
    discount_amount: Annotated[Money | None, Field(description=_DISCOUNT_SUM)]
    discount: Annotated[Money, Field(description="Off the line, in the terms of its price.")]
    document_discount: Annotated[Money, Field(description=_SHARE)]
    tax_class: Code | None
    tax_percent: Annotated[Percent | None, Field(description=_TAX_PERCENT)]
    taxes: Taxes
    net_amount: Money
    tax_amount: Money
    gross_amount: Money
    origin_line_id: Annotated[Id | None, Field(description="The line of the document before, that this one came from.")]


class LineView(Output):
    """One line of a document, by itself."""

    position: Position
    kind: Kind
    product_id: Id | None
    sku: Sku | None
    description: Line
    quantity: Quantity
    unit_id: Id | None
    unit_price: Money
    price_source: PriceSource
    price_book_id: Id | None
    price_entry_id: Id | None
    discount_percent: Percent | None
    discount_amount: Money | None
    discount: Money
    document_discount: Money
    tax_class: Code | None
    tax_percent: Percent | None
    taxes: Taxes
    net_amount: Money
    tax_amount: Money
    gross_amount: Money
    currency: Currency
    origin_line_id: Id | None


def line_resource(document: str, documents: str, model: type[Any], output: type[LineView]) -> Resource:
    """The lines of a document as a resource: written with it, listed and summed up by themselves.

    `line_resource("order", "orders", OrderLine, OrderLineView)` is `/v1/order_lines`.
    """
    column = f"{document}_id"
    return Resource(
        singular=f"{document}_line",
        plural=f"{document}_lines",
        model=model,
        output=output,
        title="description",
        rows=(through(column, documents),),
        in_whole=True,
        operations=READS,
        within={column: "lines"},
        filters=(
            getattr(model, column),
            model.kind,
            model.product_id,
            model.sku,
            model.quantity,
            model.price_source,
            model.net_amount,
            model.currency,
            model.origin_line_id,
            model.created_at,
        ),
    )
