"""The states of a quote, from a draft to what the account says of it."""

from crm_api.domains.quotes.moving import (
    ReasonRequest,
    accept,
    approve,
    cancel,
    decline,
    empty,
    outdated,
    send,
    submit,
    unapproved,
)
from crm_api.domains.quotes.revise import revise
from crm_api.domains.selling.approving import reject, reopen
from crm_api.kernel.lifecycle import Lifecycle, edge

_WAITS = {"pending_approval": "submitted"}
_SEEN = ("approved", "sent", "rejected", "expired")
_OPEN = ("draft", "pending_approval", "approved", "sent")

LIFECYCLE = Lifecycle(
    "state",
    "draft",
    (
        edge("submit", ("draft",), "approved", event="approved", run=submit, otherwise=_WAITS, blocked=(empty,)),
        edge("approve", ("pending_approval",), "approved", event="approved", run=approve, internal=True),
        edge("reject", ("pending_approval",), "draft", event="rejected", run=reject, internal=True),
        edge("reopen", ("pending_approval", "approved"), "draft", event="reopened", run=reopen),
        edge("send", ("draft", "approved"), "sent", event="sent", run=send, blocked=(empty, outdated, unapproved)),
        edge("accept", ("sent",), "accepted", event="accepted", run=accept, blocked=(outdated,)),
        edge("decline", ("sent",), "rejected", event="declined", run=decline, body=ReasonRequest),
        edge("expire", ("sent",), "expired", event="expired"),
        edge("revise", _SEEN, "superseded", event="superseded", run=revise),
        edge("cancel", _OPEN, "cancelled", event="cancelled", run=cancel, body=ReasonRequest),
    ),
)
