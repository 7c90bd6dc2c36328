"""Gives every tenant what this version adds to default roles and seeds; part of each migration to the newest."""

import orjson

from crm_api.catalog import CATALOG
from crm_api.commands.database import Place
from crm_api.domains.identity.give_defaults import default_roles, give_defaults
from crm_api.kernel.seeds import seeds, sow
from crm_api.kernel.unit_of_work import system

_LACKING = """
    SELECT t.tenant_id FROM tenants t WHERE EXISTS (
      SELECT 1 FROM unnest($1::text[], $2::text[]) AS wanted (name, grants) WHERE NOT EXISTS (
        SELECT 1 FROM roles r WHERE r.tenant_id = t.tenant_id AND r.default_role = wanted.name
          AND (r.deleted_at IS NOT NULL OR r.default_grants @> wanted.grants::jsonb)))
      OR EXISTS (SELECT 1 FROM unnest($3::text[]) AS seed (name) WHERE NOT EXISTS (
        SELECT 1 FROM tenant_seeds s WHERE s.tenant_id = t.tenant_id AND s.name = seed.name))
    ORDER BY t.tenant_id
"""


async def give(place: Place) -> list[str]:
    """Looks for tenants that lack something as the owner, who sees all of them, and writes as the server's role.

    Returns:
        What there is to tell, a line each.
    """
    wanted = default_roles(CATALOG)
    async with place.owner() as owner:
        grants = [orjson.dumps(each).decode() for each in wanted.values()]
        sown = [seed.name for seed in seeds(CATALOG)]
        tenants = [row["tenant_id"] for row in await owner.fetch(_LACKING, list(wanted), grants, sown)]
    if not tenants:
        return []
    if place.app_url == place.migrate_url:
        left = f"{_number(len(tenants))} without what this version adds to roles and seeds: set CRM_DATABASE_URL to "
        return [left + "the address of the server's role beside CRM_MIGRATE_URL, and run this again."]
    changed, begun, lines = 0, 0, []
    async with place.kernel() as kernel:
        for tenant_id in tenants:
            ctx = system(kernel, tenant_id, "migrate")
            given = await give_defaults(ctx)
            changed += bool(given.changed)
            begun += bool(await sow(ctx))
            lines += [
                f"Tenant {tenant_id} has a role {name!r} of its own, which stays as it is." for name in given.taken
            ]
    told = [f"The default roles of {_number(changed)} got what this version adds."] if changed else []
    told += [f"{_number(begun)} got records to begin with."] if begun else []
    return [*told, *lines]


def _number(tenants: int) -> str:
    return f"{tenants} tenant{'' if tenants == 1 else 's'}"
