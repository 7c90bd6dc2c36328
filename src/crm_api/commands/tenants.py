"""Tenants and keys for the operator: create, list, suspend and resume tenants, issue and revoke keys."""

import asyncio
from typing import TYPE_CHECKING, Any
from uuid import UUID

import sqlalchemy as sa
from pydantic import TypeAdapter, ValidationError

from crm_api.commands.database import Place, place
from crm_api.domains.identity.api_key import API_KEYS
from crm_api.domains.identity.credentials import parse_key
from crm_api.domains.identity.principal import PRINCIPALS
from crm_api.kernel import repository
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.problems import ConfigurationError
from crm_api.kernel.schema import Email
from crm_api.kernel.unit_of_work import system, transact
from crm_api.tenants import NewTenant, add_key, create_tenant

if TYPE_CHECKING:
    import asyncpg

_PEOPLE, _KEYS = PRINCIPALS.table, API_KEYS.table
_BY_EMAIL = Statement(
    sa.select(sa.cast(_PEOPLE.c.id, sa.Text())).where(
        _PEOPLE.c.tenant_id == TENANT,
        _PEOPLE.c.deleted_at.is_(None),
        sa.func.lower(_PEOPLE.c.email) == sa.bindparam("email", type_=sa.Text()),
    )
)
_LIVE_KEYS = Statement(
    sa.select(sa.cast(_KEYS.c.id, sa.Text()), _KEYS.c.name).where(
        _KEYS.c.tenant_id == TENANT,
        _KEYS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()),
        _KEYS.c.revoked_at.is_(None),
        sa.or_(_KEYS.c.expires_at.is_(None), _KEYS.c.expires_at > NOW),
    )
)
_REVOKE = API_KEYS.verbs["revoke"]


def create(name: str, email: str) -> NewTenant:
    """A new tenant with its first administrator and that one's key."""
    try:
        TypeAdapter(Email).validate_python(email)
    except ValidationError:
        raise ConfigurationError(f"{email!r} is no e-mail address.") from None

    async def work(found: Place) -> NewTenant:
        async with found.kernel() as kernel:
            return await create_tenant(kernel, found.migrate_url, name, email)

    with place() as found:
        return asyncio.run(work(found))


def rows() -> list[dict[str, Any]]:
    """Every tenant, oldest first."""
    with place() as found:
        return asyncio.run(_tenants(found))


def switch(tenant: str, *, active: bool) -> UUID:
    """Suspends a tenant or takes it up again; holds with the next request in every process."""

    async def work(found: Place) -> UUID:
        tenant_id = await find_tenant(found, tenant)
        async with found.owner() as connection:
            await _change(connection, tenant_id, "is_active = $2", active)
        return tenant_id

    with place() as found:
        return asyncio.run(work(found))


def limit(tenant: str, credential: int | None, whole: int | None) -> UUID:
    """Sets the requests each second of each credential of a tenant, and of all together; None for the settings'."""

    async def work(found: Place) -> UUID:
        tenant_id = await find_tenant(found, tenant)
        async with found.owner() as connection:
            await _change(connection, tenant_id, "credential_rate = $2, tenant_rate = $3", credential, whole)
        return tenant_id

    with place() as found:
        return asyncio.run(work(found))


def issue(who: str, tenant: str, name: str) -> str:
    """A new key of a principal, given by e-mail or id."""

    async def work(found: Place) -> str:
        tenant_id = await find_tenant(found, tenant)
        async with found.kernel() as kernel:
            ctx = system(kernel, tenant_id, "cli")
            return await add_key(ctx, await find_principal(ctx, who), name)

    with place() as found:
        return asyncio.run(work(found))


def revoke(key: str, tenant: str | None) -> str:
    """Ends a key, given by its id and tenant or as a whole; gives its id."""

    async def work(found: Place) -> str:
        parsed = parse_key(key)
        if parsed is not None:
            tenant_id, key_id, _ = parsed
        elif tenant is None:
            raise ConfigurationError("Give the tenant with --tenant, or the whole key.")
        else:
            tenant_id, key_id = await find_tenant(found, tenant), _uuid(key, "key id")
        async with found.kernel() as kernel:
            await _revoke(system(kernel, tenant_id, "cli"), str(key_id))
        return str(key_id)

    with place() as found:
        return asyncio.run(work(found))


async def replace_key(ctx: Context, email: str, name: str, *former: str) -> str:
    """A new key of that name; live ones of the same or a former name end with it."""
    principal = await find_principal(ctx, email)
    for row in await ctx.fetch(_LIVE_KEYS, {"principal": principal, "now": ctx.now}):
        if row["name"] in (name, *former):
            await _revoke(ctx, row["id"])
    return await add_key(ctx, principal, name)


async def _revoke(ctx: Context, key_id: str) -> None:
    async def work(inner: Context) -> None:
        row = await repository.load(inner, API_KEYS, key_id, _REVOKE.verb)
        change = await _REVOKE.run(inner, API_KEYS, row, None)
        events = ("updated", str(_REVOKE.event))
        await repository.update(inner, API_KEYS, key_id, change, action=_REVOKE.verb, events=events, by_verb=True)

    await transact(ctx, work)


async def find_principal(ctx: Context, who: str) -> str:
    """The principal of an e-mail or id."""
    if "@" not in who:
        return str(_uuid(who, "principal"))
    found = await ctx.fetch(_BY_EMAIL, {"email": who.lower()})
    if not found:
        raise ConfigurationError(f"No user of this tenant has the e-mail {who}.")
    return str(found[0][0])


async def _change(connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID, what: str, *values: Any) -> None:
    """Changes columns of a tenant that every process must know of with its next request."""
    text = f"UPDATE tenants SET {what}, access_version = access_version + 1 WHERE tenant_id = $1 RETURNING true"  # noqa: S608 - constants
    if not await connection.fetchval(text, tenant_id, *values):
        raise ConfigurationError(f"There is no tenant {tenant_id}; `crm-api tenants list` shows all.")


async def _tenants(found: Place) -> list[dict[str, Any]]:
    async with found.owner() as connection:
        columns = "tenant_id AS id, name, handle, created_at, is_active"
        tables = "tenants LEFT JOIN organisations USING (tenant_id)"
        return [dict(row) for row in await connection.fetch(f"SELECT {columns} FROM {tables} ORDER BY tenant_id")]  # noqa: S608 - constants


async def find_tenant(found: Place, given: str) -> UUID:
    """The tenant of an id or name."""
    try:
        return UUID(given)
    except ValueError:
        pass
    named = [row["id"] for row in await _tenants(found) if row["name"] == given]
    if len(named) != 1:
        raise ConfigurationError(f"{len(named) or 'No'} tenants are named {given!r}; `crm-api tenants list` shows ids.")
    return UUID(str(named[0]))


def _uuid(text: str, noun: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ConfigurationError(f"{text!r} is no {noun}: it is a UUID.") from None
