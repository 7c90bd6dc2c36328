"""The AsyncAPI document: the events that are sent to webhooks and in the stream, from the catalogue of the contract."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from crm_api import __version__
from crm_api.kernel.domain import Catalog
from crm_api.kernel.feed import TEST
from crm_api.kernel.spec_events import EventKind, envelopes, examples, kinds
from crm_api.kernel.spec_parameters import JSON
from crm_api.kernel.spec_schemas import collect
from crm_api.kernel.spec_style import REF, JsonSchema, name_of, ref, without
from crm_api.kernel.spec_webhooks import SIGNATURE_HEADERS, summary

_DESCRIPTION = """\
Events of the CRM: pushed to webhook endpoints, or followed as a stream. Both tell the same envelopes, with the same
ids, as the receiver may see their records at that moment. `/v1/changes` gives them by pages; it and everything else is
in the OpenAPI document, `/openapi.json`. Readers must accept members and enumeration values they do not know."""
_HEADERS = "WebhookHeaders"
_QUERY: JsonSchema = {
    "type": "object",
    "description": "Where the stream begins, and which types it tells; both also go by `Last-Event-ID` and wildcards.",
    "properties": {
        "since": {"type": "string", "maxLength": 200, "description": "A cursor, or the id of the last event."},
        "types": {"type": "array", "maxItems": 50, "items": {"type": "string", "maxLength": 100}},
    },
}


def asyncapi(catalog: Catalog) -> dict[str, Any]:
    """Channels, operations and messages as AsyncAPI 3.0.0."""
    records = collect(catalog, ())
    told = kinds(catalog, records)
    types = sorted(type_ for kind in told for type_ in kind.types)
    feed = [kind for kind in told if TEST not in kind.types]
    return {
        "asyncapi": "3.0.0",
        "info": {"title": "CRM events", "version": __version__, "description": _DESCRIPTION},
        "defaultContentType": JSON,
        "servers": {
            "crm": _server("crm.example.com", "The server of the CRM.", "bearer"),
            "receiver": _server("erp.example.com", "Where a webhook endpoint points to.", "signature"),
        },
        "channels": {
            "webhooks": {
                "address": None,
                "title": "Webhooks",
                "description": "The `url` of each webhook endpoint, one request an event.",
                "servers": [{"$ref": "#/servers/receiver"}],
                "messages": {type_: _message(type_) for type_ in types},
            },
            "changes": {
                "address": "/v1/changes/stream",
                "title": "The change feed as a stream",
                "description": "Server-sent events: `id` is a cursor to go on from, `event` a type, `data` the rest.",
                "servers": [{"$ref": "#/servers/crm"}],
                "messages": {kind.object: _message(kind.object) for kind in feed},
            },
        },
        "operations": {
            "send_webhook": {
                "action": "send",
                "channel": {"$ref": "#/channels/webhooks"},
                "summary": "Send an event to a webhook endpoint",
                "description": "At least once. 2xx within 15 seconds takes it, 410 disables the endpoint, anything "
                "else is tried again, ten times in all.",
                "bindings": {"http": {"method": "POST", "bindingVersion": "0.3.0"}},
            },
            "stream_changes": {
                "action": "send",
                "channel": {"$ref": "#/channels/changes"},
                "summary": "Send what happens to who follows the change feed",
                "description": "In the order of the commits, none skipped. A stream ends after five minutes.",
                "bindings": {"http": {"method": "GET", "query": _QUERY, "bindingVersion": "0.3.0"}},
            },
        },
        "components": {
            "messages": dict(sorted(_messages(told, feed).items())),
            "schemas": dict(sorted(_schemas(catalog, told, records).items())),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `crm_…`, as bearer token."},
                "signature": {
                    "type": "httpApiKey",
                    "name": "webhook-signature",
                    "in": "header",
                    "description": SIGNATURE_HEADERS["webhook-signature"][0],
                },
            },
        },
    }


def _server(host: str, description: str, security: str) -> dict[str, Any]:
    return {
        "host": "{host}",
        "protocol": "https",
        "description": description,
        "variables": {"host": {"default": host, "description": "Host, and port where it is not 443."}},
        "security": [{"$ref": f"#/components/securitySchemes/{security}"}],
    }


def _message(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/messages/{name}"}


def _messages(told: Iterable[EventKind], feed: Iterable[EventKind]) -> dict[str, Any]:
    """For webhooks a message of each type, for the stream one of each object: it has no headers."""
    shown = examples(list(told))
    found = {
        type_: {
            "name": type_,
            "title": summary(kind, type_),
            "contentType": JSON,
            "headers": ref(_HEADERS),
            "payload": ref(kind.schema),
            "examples": [{"name": type_, "payload": shown[type_]}],
        }
        for kind in told
        for type_ in kind.types
    }
    for kind in feed:
        found[kind.object] = {
            "name": kind.object,
            "title": f"Events about {kind.noun}",
            "summary": ", ".join(f"`{type_}`" for type_ in kind.types),
            "contentType": JSON,
            "payload": ref(kind.schema),
            "examples": [{"name": kind.types[0], "payload": shown[kind.types[0]]}],
        }
    return found


def _schemas(catalog: Catalog, told: list[EventKind], records: Mapping[str, JsonSchema]) -> dict[str, JsonSchema]:
    """The envelopes and everything that they lead to; records come without what only `expand` brings."""
    known = {**records, **envelopes(told), _HEADERS: _headers()}
    for resource in catalog.resources.values():
        name, brought = name_of(resource.output), (*catalog.to_one(resource), *resource.many)
        known[name] = {**known[name], "properties": without(known[name]["properties"], *brought)}
    found: dict[str, JsonSchema] = {}
    pending = [_HEADERS, *(kind.schema for kind in told)]
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = known[name]
            pending += re.findall(f"{REF}([A-Za-z0-9]+)", str(known[name]))
    return found


def _headers() -> JsonSchema:
    return {
        "type": "object",
        "description": "The headers of Standard Webhooks.",
        "properties": {
            name: {**schema, "description": description} for name, (description, schema) in SIGNATURE_HEADERS.items()
        },
        "required": list(SIGNATURE_HEADERS),
    }
