"""The states of an order: draft, confirmed or on hold, and closed or cancelled in the end."""

from crm_api.domains.orders.cancel import CancelRequest, cancel
from crm_api.domains.orders.confirm import confirm
from crm_api.domains.orders.hold import HoldRequest, hold, release
from crm_api.kernel.lifecycle import Lifecycle, edge

LIFECYCLE = Lifecycle(
    "state",
    "draft",
    (
        edge("confirm", ("draft",), "confirmed", event="confirmed", run=confirm),
        edge("hold", ("confirmed",), "on_hold", event="held", run=hold, body=HoldRequest),
        edge("release", ("on_hold",), "confirmed", event="released", run=release),
        edge("close", ("confirmed",), "closed", event="closed"),
        edge(
            "cancel", ("draft", "confirmed", "on_hold"), "cancelled", event="cancelled", run=cancel, body=CancelRequest
        ),
    ),
)
