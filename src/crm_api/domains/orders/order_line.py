"""Order lines: what was ordered, at which price; written with their order, listed and summed up by themselves."""

from decimal import Decimal
from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.external import To
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity, MoneyAmount, Ratio, reference, sortable, sparse
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Id, Line, Money, Output, PositiveQuantity, Quantity, Ref, Wire

Percent = Annotated[Quantity, Field(le=100)]
TaxPercent = Annotated[Quantity, Field(le=1000)]
_Position = Annotated[int, Field(ge=1, le=100_000)]


class OrderLine(Entity):
    """One thing that was ordered."""

    __tablename__ = "order_lines"
    __table_args__ = (
        reference("order_id", "orders"),
        reference("product_id", "products"),
        *sortable("order_lines", "order_id"),
        sparse("order_lines", "product_id"),
    )

    order_id: Mapped[UUID]
    position: Mapped[int]
    product_id: Mapped[UUID | None]
    sku: Mapped[str | None]
    description: Mapped[str]
    quantity: Mapped[int] = mapped_column(Ratio)
    list_price: Mapped[int | None] = mapped_column(MoneyAmount)
    unit_price: Mapped[int] = mapped_column(MoneyAmount)
    discount_percent: Mapped[int] = mapped_column(Ratio)
    tax_percent: Mapped[int] = mapped_column(Ratio)
    net_amount: Mapped[int] = mapped_column(MoneyAmount)
    tax_amount: Mapped[int] = mapped_column(MoneyAmount)
    gross_amount: Mapped[int] = mapped_column(MoneyAmount)
    currency: Mapped[str]


class OrderLineInput(Wire):
    """One thing to order: a product, or what the description says."""

    id: Annotated[Id | None, Field(description="Of a line of the order; without it, the line is a new one.")] = None
    product_id: Annotated[Ref, To("products")] | None = None
    description: Annotated[Line | None, Field(description="The product's name unless given.")] = None
    quantity: PositiveQuantity = Decimal(1)
    unit_price: Annotated[Money | None, Field(description="The product's list price unless given.")] = None
    discount_percent: Percent = Decimal(0)
    tax_percent: TaxPercent = Decimal(0)


class OrderLineItem(Wire):
    """One line of an order, within it."""

    id: Id
    position: _Position
    product_id: Id | None
    sku: Annotated[str, Field(max_length=64)] | None
    description: Line
    quantity: Quantity
    unit_price: Money
    discount_percent: Quantity
    tax_percent: Quantity
    net_amount: Money
    tax_amount: Money
    gross_amount: Money


class OrderLineView(Output):
    """One line of an order, by itself."""

    object: Literal["order_line"]
    order_id: Id
    position: _Position
    product_id: Id | None
    sku: Annotated[str, Field(max_length=64)] | None
    description: Line
    quantity: Quantity
    unit_price: Money
    discount_percent: Quantity
    tax_percent: Quantity
    net_amount: Money
    tax_amount: Money
    gross_amount: Money
    currency: Annotated[str, Field(max_length=3)]


ORDER_LINES = Resource(
    singular="order_line",
    plural="order_lines",
    model=OrderLine,
    output=OrderLineView,
    title="description",
    rows=(through("order_id", "orders"),),
    in_whole=True,
    operations=READS,
    within={"order_id": "lines"},
    filters=(
        OrderLine.order_id,
        OrderLine.product_id,
        OrderLine.sku,
        OrderLine.quantity,
        OrderLine.net_amount,
        OrderLine.currency,
        OrderLine.created_at,
    ),
)
