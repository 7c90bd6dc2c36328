"""Signed links: five minutes of one download, for one principal, whose rights are asked for again when it is used."""

import base64
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import orjson
from starlette.requests import Request

from crm_api.kernel.admission import admit
from crm_api.kernel.context import Context, Kernel, Principal
from crm_api.kernel.headers import header
from crm_api.kernel.problems import UNAUTHENTICATED, Problem
from crm_api.kernel.sealing import SealError
from crm_api.kernel.unit_of_work import open_context

SECONDS = 300
LONGEST = 2_000
_PURPOSE = "download"
_NEWEST = 2**62


def link(ctx: Context, request: Request, path: str, *, now: Callable[[], float] = time.time) -> dict[str, Any]:
    """The reply that names a link to `path` for the caller."""
    principal, expires = ctx.principal, int(now()) + SECONDS
    plain = orjson.dumps(
        {
            "path": path,
            "until": expires,
            "id": str(principal.id),
            "kind": principal.kind,
            "credential": str(principal.credential_id),
            "scopes": None if principal.scopes is None else sorted(principal.scopes),
            "address": request.scope["crm.address"] if principal.bounded else None,
        }
    )
    sealed = ctx.kernel.sealer.seal(principal.tenant_id, _PURPOSE, plain)
    token = base64.urlsafe_b64encode(principal.tenant_id.bytes + sealed).rstrip(b"=").decode()
    return {"object": "download_link", "url": f"{path}?token={token}", "expires_in": SECONDS}


async def reader(request: Request, token: str | None) -> Context:
    """The context of a download: by the credential of the request, or by a link for this path.

    Raises:
        Problem: 401 for a link that was altered, has ended, is for another path, or comes with the credential of
            somebody else.
    """
    if token is None:
        return await open_context(request)
    kernel: Kernel = request.scope["crm.kernel"]
    principal = _opened(kernel, request, token)
    if header(request, b"authorization") is not None:
        given = (await open_context(request)).principal
        if (given.tenant_id, given.id) != (principal.tenant_id, principal.id):
            raise _refused()
    access = await kernel.authenticator.access(principal, at_least=_NEWEST)
    request.scope["crm.principal"], request.scope["crm.access"] = principal, access
    await admit(request.scope, principal, access)
    return Context(kernel, principal, access, request.scope["crm.request_id"])


def _opened(kernel: Kernel, request: Request, token: str) -> Principal:
    try:
        raw = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
        if len(token) > LONGEST or base64.urlsafe_b64encode(raw).rstrip(b"=") != token.encode():
            raise _refused()
        tenant_id = UUID(bytes=raw[:16])
        said = orjson.loads(kernel.sealer.unseal(tenant_id, _PURPOSE, raw[16:]))
    except (ValueError, SealError):
        raise _refused() from None
    if said["path"] != request.scope["path"] or said["until"] < time.time():
        raise _refused()
    if said["address"] not in (None, request.scope["crm.address"]):
        raise _refused()
    scopes = None if said["scopes"] is None else frozenset(said["scopes"])
    return Principal(tenant_id, UUID(said["id"]), said["kind"], UUID(said["credential"]), scopes)


def _refused() -> Problem:
    return Problem(UNAUTHENTICATED, "The link is not valid, or not any more; ask for a new one.")
