"""Creates tenants: the row, the roles and records every tenant starts with, and a first administrator with a key."""

import itertools
from dataclasses import dataclass
from datetime import UTC, datetime
from uuid import UUID

import asyncpg

from crm_api.domains.identity.default_roles import ADMINISTRATOR
from crm_api.domains.identity.give_defaults import give_defaults
from crm_api.domains.identity.issue_key import IssueKey, issue_key
from crm_api.domains.sign_in.organisation import handle_of
from crm_api.kernel.context import Context, Kernel, new_id
from crm_api.kernel.repository import create, load
from crm_api.kernel.seeds import sow
from crm_api.kernel.unit_of_work import system, transact


@dataclass(frozen=True)
class NewTenant:
    """What the operator needs to hand over."""

    tenant_id: UUID
    handle: str
    administrator_id: str
    key: str
    roles: dict[str, str]


async def create_tenant(
    kernel: Kernel, migrate_url: str, name: str, email: str, tenant_id: UUID | None = None
) -> NewTenant:
    """Creates a tenant; the row itself needs the role that owns the schema, the rest is done as the server's role."""
    tenant_id = tenant_id or new_id()
    connection = await asyncpg.connect(migrate_url, timeout=10)
    try:
        await connection.execute("SET ROLE crm_owner")
        await connection.execute(
            "INSERT INTO tenants (tenant_id, name, created_at) VALUES ($1, $2, $3)", tenant_id, name, datetime.now(UTC)
        )
        handle = await _handle(connection, tenant_id, handle_of(name))
    finally:
        await connection.close()
    ctx = system(kernel, tenant_id, "cli")
    roles = (await give_defaults(ctx)).roles
    await sow(ctx)
    administrator = await add_user(ctx, {"name": "Administrator", "email": email}, roles[ADMINISTRATOR])
    return NewTenant(tenant_id, handle, administrator, await add_key(ctx, administrator, "first key"), roles)


async def _handle(connection: "asyncpg.Connection[asyncpg.Record]", tenant_id: UUID, plain: str) -> str:
    """The handle that people name the tenant by when they sign in: the plain one, or with the next number."""
    if kept := await connection.fetchval("SELECT handle FROM organisations WHERE tenant_id = $1", tenant_id):
        return str(kept)
    for number in itertools.count(1):
        handle = plain if number == 1 else f"{plain}-{number}"
        added = await connection.fetchval(
            "INSERT INTO organisations (handle, tenant_id) VALUES ($1, $2) "
            "ON CONFLICT (handle) DO NOTHING RETURNING handle",
            handle,
            tenant_id,
        )
        if added is not None:
            return handle
    raise AssertionError


async def add_user(ctx: Context, values: dict[str, object], role: str) -> str:
    """A user's id."""
    catalog = ctx.kernel.catalog
    whole = {
        "is_active": True,
        "title": None,
        "language": None,
        "time_zone": None,
        "manager_id": None,
        "team_id": None,
        **values,
    }
    item = await create(ctx, catalog.resources["users"], whole)
    user = str((item or {})["id"])
    await create(ctx, catalog.resources["role_assignments"], {"principal_id": user, "role_id": role})
    return user


async def add_key(ctx: Context, user: str, name: str) -> str:
    """A key for a user; shown once."""
    users = ctx.kernel.catalog.resources["users"]

    async def work(inner: Context) -> dict[str, object]:
        row = await load(inner, users, user, "issue_key")
        return await issue_key(inner, users, row, IssueKey(name=name))

    return str((await transact(ctx, work))["key"])
