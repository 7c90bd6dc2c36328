"""OAuth clients and signing keys for the operator: register, list and revoke clients, follow a key by the next."""

import asyncio
from datetime import UTC, datetime
from typing import Any

import orjson
import sqlalchemy as sa

from crm_api.commands.database import Place, place
from crm_api.commands.tenants import find_principal, find_tenant
from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.client import CODE, CREDENTIALS, OAUTH_CLIENTS, REFRESH, OAuthClientCreate, read_public_id
from crm_api.domains.oauth.rotate_secret import RotateClientSecret
from crm_api.kernel import repository
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.headers import parse
from crm_api.kernel.problems import ConfigurationError
from crm_api.kernel.schema import with_defaults
from crm_api.kernel.unit_of_work import system, transact

_CLIENTS = OAUTH_CLIENTS.table
_ALL = Statement(
    sa.select(*(_CLIENTS.c[name] for name in ("client_id", "client_type", "name", "is_active")))
    .where(_CLIENTS.c.tenant_id == TENANT, _CLIENTS.c.deleted_at.is_(None))
    .order_by(_CLIENTS.c.id)
)
_ROTATE = OAUTH_CLIENTS.verbs["rotate_secret"]


def create(
    name: str, tenant: str, scopes: list[str], redirect_uris: list[str], account: str | None, *, public: bool
) -> tuple[str, str | None]:
    """(client id, secret if it can keep one) of a new client."""

    async def work(found: Place) -> tuple[str, str | None]:
        async with found.kernel() as kernel:
            ctx = system(kernel, await find_tenant(found, tenant), "cli")
            grants = [CODE, REFRESH] if redirect_uris else []
            grants += [] if account is None else [CREDENTIALS]
            given: dict[str, Any] = {
                "name": name,
                "client_type": "public" if public else "confidential",
                "scopes": scopes,
                "redirect_uris": redirect_uris,
                "grant_types": grants,
                "service_account_id": None if account is None else await find_principal(ctx, account),
            }
            parse(orjson.dumps(given), OAuthClientCreate)

            async def register(inner: Context) -> tuple[str, str | None]:
                values = with_defaults(OAuthClientCreate, given)
                item = await repository.create(inner, OAUTH_CLIENTS, values) or {}
                if public:
                    return str(item["client_id"]), None
                row = await repository.load(inner, OAUTH_CLIENTS, item["id"], _ROTATE.verb)
                secret = await _ROTATE.run(inner, OAUTH_CLIENTS, row, RotateClientSecret())
                return str(item["client_id"]), secret["secret"]

            result: tuple[str, str | None] = await transact(ctx, register)
            return result

    with place() as found:
        return asyncio.run(work(found))


def rows(tenant: str) -> list[dict[str, Any]]:
    """The clients of a tenant, oldest first."""

    async def work(found: Place) -> list[dict[str, Any]]:
        async with found.kernel() as kernel:
            ctx = system(kernel, await find_tenant(found, tenant), "cli")
            return [dict(row) for row in await ctx.fetch(_ALL, {})]

    with place() as found:
        return asyncio.run(work(found))


def revoke(client_id: str) -> str:
    """Switches a client off, with every token it has; gives its name."""
    parsed = read_public_id(client_id)
    if parsed is None:
        raise ConfigurationError(f"{client_id!r} is no client id; `crm-api clients list` shows all.")
    tenant_id, id_ = parsed

    async def work(found: Place) -> str:
        async with found.kernel() as kernel:
            ctx = system(kernel, tenant_id, "cli")
            item = await repository.update(ctx, OAUTH_CLIENTS, id_, {"is_active": False})
            return str(item["name"])

    with place() as found:
        return asyncio.run(work(found))


def rotate_signing_key() -> str:
    """Adds a signing key that signs at once; the earlier ones stay published while their tokens live."""

    async def work(found: Place) -> str:
        async with found.kernel() as kernel:
            keys, now = tokens_of(kernel).keys, datetime.now(UTC)
            await keys.add(now, unless_since=now)
            return str((await keys.signing()).kid)

    with place() as found:
        return asyncio.run(work(found))
