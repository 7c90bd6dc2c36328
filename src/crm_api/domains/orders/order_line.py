"""Order lines: what was ordered, at which price; written with their order, listed and summed up by themselves."""

from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.selling.line import DocumentLine, LineItem, LineView, line_constraints, line_resource
from crm_api.kernel.record import Entity, Ratio
from crm_api.kernel.schema import Id, Quantity


class OrderLine(DocumentLine, Entity):
    """One thing that was ordered."""

    __tablename__ = "order_lines"
    __table_args__ = line_constraints("order_lines", "order_id", "orders")

    order_id: Mapped[UUID]
    shipped_quantity: Mapped[int] = mapped_column(Ratio, server_default="0")
    invoiced_quantity: Mapped[int] = mapped_column(Ratio, server_default="0")


class OrderLineItem(LineItem):
    """One line of an order, within it."""

    shipped_quantity: Quantity
    invoiced_quantity: Quantity


class OrderLineView(LineView):
    """One line of an order, by itself."""

    object: Literal["order_line"]
    order_id: Id
    shipped_quantity: Quantity
    invoiced_quantity: Quantity


ORDER_LINES = line_resource("order", "orders", OrderLine, OrderLineView)
