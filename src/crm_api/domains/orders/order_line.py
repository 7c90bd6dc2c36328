"""Order lines: what was ordered, at which price; written with their order, listed and summed up by themselves."""

from typing import Literal
from uuid import UUID

from sqlalchemy.orm import Mapped

from crm_api.domains.selling.line import DocumentLine, LineView, line_constraints
from crm_api.kernel.policy import through
from crm_api.kernel.record import Entity
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Id


class OrderLine(DocumentLine, Entity):
    """One thing that was ordered."""

    __tablename__ = "order_lines"
    __table_args__ = line_constraints("order_lines", "order_id", "orders")

    order_id: Mapped[UUID]


class OrderLineView(LineView):
    """One line of an order, by itself."""

    object: Literal["order_line"]
    order_id: Id


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
        OrderLine.price_source,
        OrderLine.net_amount,
        OrderLine.currency,
        OrderLine.origin_line_id,
        OrderLine.created_at,
    ),
)
