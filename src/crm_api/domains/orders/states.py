"""The states of an order: draft, perhaps waiting for approval, confirmed or on hold, closed or cancelled in the end."""

from crm_api.domains.orders.cancel import CancelRequest, cancel, under_way
from crm_api.domains.orders.confirm import approve, confirm, unsellable
from crm_api.domains.orders.hold import HoldRequest, hold, release
from crm_api.domains.selling.approving import reject, reopen
from crm_api.kernel.lifecycle import Lifecycle, edge

_WAITS = {"pending_approval": "submitted"}
_CHECKED = (unsellable,)
_OPEN = ("draft", "pending_approval", "confirmed", "on_hold")

LIFECYCLE = Lifecycle(
    "state",
    "draft",
    (
        edge(
            "confirm", ("draft",), "confirmed", event="confirmed", run=confirm, otherwise=_WAITS, blocked=(unsellable,)
        ),
        edge(
            "approve",
            ("pending_approval",),
            "confirmed",
            event="confirmed",
            run=approve,
            blocked=_CHECKED,
            internal=True,
        ),
        edge("reject", ("pending_approval",), "draft", event="rejected", run=reject, internal=True),
        edge("reopen", ("pending_approval",), "draft", event="reopened", run=reopen),
        edge("hold", ("confirmed",), "on_hold", event="held", run=hold, body=HoldRequest),
        edge("release", ("on_hold",), "confirmed", event="released", run=release),
        edge("close", ("confirmed",), "closed", event="closed"),
        edge("cancel", _OPEN, "cancelled", event="cancelled", run=cancel, body=CancelRequest, blocked=(under_way,)),
    ),
)
