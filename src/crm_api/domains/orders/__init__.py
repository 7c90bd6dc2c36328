"""Orders."""

from crm_api.domains.identity.default_roles import REPRESENTATIVE, sales_roles
from crm_api.domains.orders import sales
from crm_api.domains.orders.order import ORDERS
from crm_api.domains.orders.order_line import ORDER_LINES
from crm_api.domains.orders.states import LIFECYCLE
from crm_api.domains.selling.explanation import explanations
from crm_api.kernel.domain import Domain

_SALES = sales_roles("orders", "order_lines")
_VERBS = tuple((f"orders:{verb}", "own") for verb in (*(edge.verb for edge in LIFECYCLE.offered), "amend", "progress"))

DOMAIN = Domain(
    "orders",
    resources=(ORDERS, ORDER_LINES),
    routers=(sales.router, explanations(ORDERS, ORDER_LINES, "ordered_on")),
    roles={**_SALES, REPRESENTATIVE: (*_SALES[REPRESENTATIVE], *_VERBS)},
)
