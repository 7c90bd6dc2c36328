"""Verb: set the headers that each request to an endpoint carries. Their values are kept encrypted and never shown."""

import re
from typing import Annotated, Any

import orjson
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from crm_api.kernel.context import Context
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Wire

PURPOSE = "webhook_headers"
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")
_VALUE = re.compile(r"[\x21-\x7e]([\x20-\x7e]{0,1998}[\x21-\x7e])?")
_RESERVED = frozenset(
    {
        *("host", "connection", "content-length", "content-type", "content-encoding", "transfer-encoding", "te"),
        *("upgrade", "trailer", "expect", "keep-alive", "proxy-authorization", "proxy-connection", "accept-encoding"),
        *("user-agent", "webhook-id", "webhook-timestamp", "webhook-signature"),
    }
)


def _headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _NAME.fullmatch(name) or name.lower() in _RESERVED:
            raise PydanticCustomError("invalid_header", "A header has a name that may not be set.")
        if not _VALUE.fullmatch(value):
            raise PydanticCustomError("invalid_header", "A header's value is printable ASCII.")
    if len({name.lower() for name in headers}) < len(headers):
        raise PydanticCustomError("invalid_header", "Two headers have the same name.")
    return headers


class SetHeaders(Wire):
    """The headers from now on; those that were set before are gone."""

    headers: Annotated[
        dict[str, Annotated[str, Field(max_length=2000)]],
        Field(max_length=20, examples=[{"Authorization": "Bearer token-of-the-receiver"}]),
        AfterValidator(_headers),
    ]


async def set_headers(ctx: Context, resource: Resource, row: Any, body: SetHeaders) -> dict[str, Any]:
    """Keeps the values encrypted; the record shows their names."""
    del resource, row
    sealed = ctx.kernel.sealer.seal(ctx.principal.tenant_id, PURPOSE, orjson.dumps(body.headers))
    return {"sealed_headers": sealed if body.headers else None, "header_names": sorted(body.headers)}


def headers_of(ctx: Context, sealed: bytes | None) -> dict[str, str]:
    """The headers of an endpoint, decrypted."""
    if sealed is None:
        return {}
    found: dict[str, str] = orjson.loads(ctx.kernel.sealer.unseal(ctx.principal.tenant_id, PURPOSE, sealed))
    return found


SET_HEADERS = Action(
    "set_headers",
    "Set the headers of each request to the endpoint",
    set_headers,
    event="headers_changed",
    body=SetHeaders,
)
