"""Verb of the operator: give a tenant's default roles what the domains want them to have, each permission once."""

from dataclasses import dataclass, field

import sqlalchemy as sa

from crm_api.domains.identity.delegation import parsed
from crm_api.domains.identity.role import ROLES
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.domain import Catalog
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.repository import create, update
from crm_api.kernel.schema import fold
from crm_api.kernel.unit_of_work import transact

Grants = list[dict[str, str]]

_DEFAULTS = Statement(
    sa.select(
        sa.cast(ROLES.table.c.id, sa.Text()),
        *(ROLES.table.c[name] for name in ("default_role", "default_grants", "permissions", "deleted_at")),
    )
    .where(ROLES.table.c.tenant_id == TENANT, ROLES.table.c.default_role.is_not(None))
    .order_by(ROLES.table.c.id)
    .with_for_update(key_share=True)
)
"""All are locked before the first is changed: who changes a role holds it before he moves the access version."""
_NAMED = Statement(
    sa.select(sa.literal_column("1")).where(
        ROLES.table.c.tenant_id == TENANT,
        ROLES.table.c.deleted_at.is_(None),
        ROLES.table.c.name_key == sa.bindparam("name", type_=sa.Text()),
    )
)


@dataclass
class Given:
    """What became of a tenant's default roles.

    Attributes:
        roles: default role -> id of the live role made from it.
        changed: names of those that were made or got permissions.
        taken: names that the tenant uses for a role of its own, which was left alone.
    """

    roles: dict[str, str] = field(default_factory=dict)
    changed: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)


def default_roles(catalog: Catalog) -> dict[str, Grants]:
    """Role name to its permissions, from all domains; actions that a resource lacks are left out."""
    found: dict[str, Grants] = {}
    known = set(catalog.permissions)
    for domain in catalog.domains:
        for role, grants in domain.roles.items():
            kept = [{"permission": name, "reach": reach} for name, reach in grants if "*" in name or name in known]
            found.setdefault(role, []).extend(kept)
    return found


async def give_defaults(ctx: Context) -> Given:
    """Makes default roles that the tenant never had, and adds to the others what they were never given.

    What was given is kept with the role, so what an administrator took away stays away; so does a role he deleted.
    """

    async def work(inner: Context) -> Given:
        await one_at_a_time(inner, "default roles")
        rows = await inner.fetch(_DEFAULTS, {})
        given = Given()
        for name, wanted in default_roles(inner.kernel.catalog).items():
            made = [row for row in rows if row["default_role"] == name]
            live = [row for row in made if row["deleted_at"] is None]
            if live:
                await _add(inner, given, live[0], wanted)
            elif not made:
                await _make(inner, given, name, wanted)
        return given

    result: Given = await transact(ctx, work)
    return result


async def _make(ctx: Context, given: Given, name: str, wanted: Grants) -> None:
    if await ctx.fetch(_NAMED, {"name": fold(name)}):
        given.taken.append(name)
        return
    values = {"name": name, "description": None, "permissions": wanted, "field_rules": []}
    item = await create(ctx, ROLES, {**values, "default_role": name, "default_grants": wanted})
    given.roles[name] = str((item or {})["id"])
    given.changed.append(name)


async def _add(ctx: Context, given: Given, row: Row, wanted: Grants) -> None:
    given.roles[row["default_role"]] = row["id"]
    had, holds = parsed(row["default_grants"]), parsed(row["permissions"])
    new = [grant for grant in wanted if grant not in had]
    if not new:
        return
    values = {"default_grants": had + new, "permissions": holds + [grant for grant in new if grant not in holds]}
    await update(ctx, ROLES, row["id"], values)
    given.changed.append(row["default_role"])
