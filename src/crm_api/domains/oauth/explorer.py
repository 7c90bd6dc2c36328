"""The client of the page at `/docs/try`: each tenant has one, from the first time that somebody calls the API there."""

from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from starlette.requests import Request

from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.client import CODE, OAUTH_CLIENTS, OAuthClient, OAuthClientCreate, public_id
from crm_api.domains.oauth.scopes import IDENTITY_SCOPES, known
from crm_api.domains.sign_in.browser import BrowserSession
from crm_api.domains.sign_in.person import acting
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import create, update
from crm_api.kernel.schema import with_defaults
from crm_api.kernel.unit_of_work import transact

ID = UUID("019aa000-0000-7000-8000-000000000d0c")
RETURN = "/docs/try/return"
"""Where a browser comes back to; scripts of the same origin alone read the code there."""
_CLIENTS = table_of(OAuthClient)
_LOOK_UP = Statement(
    sa.select(_CLIENTS.c.is_active, _CLIENTS.c.deleted_at, _CLIENTS.c.redirect_uris, _CLIENTS.c.scopes).where(
        _CLIENTS.c.tenant_id == TENANT, _CLIENTS.c.id == sa.bindparam("id", type_=sa.Uuid())
    )
)


async def own_client(request: Request, session: BrowserSession) -> str | None:
    """The `client_id` for who is signed in; None when the tenant's administrators switched it off or deleted it.

    It is made when it is not there yet, and brought up to date when the server has another address or more scopes.
    """
    ctx = acting(request, session.tenant_id, session.principal_id, "oauth")
    rows = await ctx.kernel.database.read(session.tenant_id, _LOOK_UP, {"id": ID})
    if rows and (not rows[0]["is_active"] or rows[0]["deleted_at"] is not None):
        return None
    wanted = _wanted(ctx)
    if not rows or any(orjson.loads(rows[0][name]) != value for name, value in wanted.items()):
        await transact(ctx, _keep)
    return public_id(session.tenant_id, ID)


def _wanted(ctx: Context) -> dict[str, list[str]]:
    kernel = ctx.kernel
    scopes = sorted(known(kernel.catalog).difference(IDENTITY_SCOPES))
    return {"redirect_uris": [tokens_of(kernel).issuer + RETURN], "scopes": scopes}


async def _keep(ctx: Context) -> None:
    """Makes or changes it, whoever else is about to."""
    await one_at_a_time(ctx, "explorer")
    wanted: dict[str, Any] = _wanted(ctx)
    if await ctx.fetch(_LOOK_UP, {"id": ID}):
        await update(ctx, OAUTH_CLIENTS, ID, wanted)
        return
    values = {"id": str(ID), "name": "API reference", "client_type": "public", "grant_types": [CODE], **wanted}
    await create(ctx, OAUTH_CLIENTS, with_defaults(OAuthClientCreate, values))
