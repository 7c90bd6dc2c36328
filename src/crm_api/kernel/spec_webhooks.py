"""The part of the contract that is spoken by us: one webhook for each type of event."""

from typing import Any

from crm_api.kernel.spec_events import EventKind
from crm_api.kernel.spec_parameters import JSON, parameter
from crm_api.kernel.spec_style import JsonSchema, ref

SIGNATURE_HEADERS: dict[str, tuple[str, JsonSchema]] = {
    "webhook-id": (
        "The event's id, the same over all attempts: a receiver that keeps those it has seen does nothing twice.",
        {"type": "string", "maxLength": 60},
    ),
    "webhook-timestamp": (
        "When this attempt was made, in seconds since 1970; refuse what is more than five minutes away.",
        {"type": "string", "pattern": "^[0-9]{1,12}$", "maxLength": 12},
    ),
    "webhook-signature": (
        (
            "Signatures over `{webhook-id}.{webhook-timestamp}.{body}`, separated by spaces: `v1,` HMAC-SHA256 under a "
            "secret of the endpoint, `v1a,` Ed25519 under a key of `/.well-known/webhooks-jwks.json`. One that is "
            "right is enough."
        ),
        {"type": "string", "maxLength": 600},
    ),
}
"""The headers of Standard Webhooks: what they say, and their schema."""
PARAMETERS: dict[str, dict[str, Any]] = {
    "".join(map(str.title, name.split("-"))): {
        "name": name,
        "in": "header",
        "required": True,
        "description": description,
        "schema": schema,
    }
    for name, (description, schema) in SIGNATURE_HEADERS.items()
}
RESPONSES: dict[str, dict[str, Any]] = {
    "WebhookTaken": {"description": "Taken: the delivery is done. To be sent within 15 seconds; the body is kept."},
    "WebhookGone": {"description": "The receiver is gone: the endpoint is disabled until somebody resumes it."},
    "WebhookRefused": {
        "description": "Not taken, as no answer is: sent again by the schedule, ten times at most. `Retry-After` of up "
        "to an hour makes it later; redirects are not followed."
    },
}
_DESCRIPTION = "Sent to the endpoints that ask for it, as their principal may see the record then."


def webhooks(found: list[EventKind]) -> dict[str, Any]:
    """The `webhooks` section."""
    return {type_: {"post": _operation(kind, type_)} for kind in found for type_ in kind.types}


def summary(kind: EventKind, type_: str) -> str:
    """What happened, in words."""
    return f"{kind.noun.capitalize()}: {type_.partition('.')[2].replace('_', ' ')}"


def _operation(kind: EventKind, type_: str) -> dict[str, Any]:
    shown = {type_: {"$ref": f"#/components/examples/{type_}"}}
    return {
        "operationId": f"receive_{type_.replace('.', '_')}",
        "summary": summary(kind, type_),
        "description": _DESCRIPTION,
        "tags": [kind.tag],
        "security": [],
        "parameters": [parameter(name) for name in PARAMETERS],
        "requestBody": {"required": True, "content": {JSON: {"schema": ref(kind.schema), "examples": shown}}},
        "responses": {
            status: {"$ref": f"#/components/responses/{name}"}
            for status, name in zip(("2XX", "410", "default"), RESPONSES, strict=True)
        },
    }
