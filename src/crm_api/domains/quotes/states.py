"""The states of a quote, from a draft to what the account says of it."""

from crm_api.domains.quotes.moving import ReasonRequest, accept, approve, cancel, decline, send
from crm_api.domains.quotes.revise import revise
from crm_api.kernel.lifecycle import Lifecycle, edge

LIFECYCLE = Lifecycle(
    "state",
    "draft",
    (
        edge("submit", ("draft",), "approved", event="approved", run=approve),
        edge("reopen", ("approved",), "draft", event="reopened"),
        edge("send", ("draft", "approved"), "sent", event="sent", run=send),
        edge("accept", ("sent",), "accepted", event="accepted", run=accept),
        edge("decline", ("sent",), "rejected", event="declined", run=decline, body=ReasonRequest),
        edge("expire", ("sent",), "expired", event="expired"),
        edge("revise", ("approved", "sent", "rejected", "expired"), "superseded", event="superseded", run=revise),
        edge("cancel", ("draft", "approved", "sent"), "cancelled", event="cancelled", run=cancel, body=ReasonRequest),
    ),
)
