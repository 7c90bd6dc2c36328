"""Run as a program: makes a tenant in the database of the environment and prints its keys as JSON."""

import asyncio
import json
import os
import sys

from crm_api.app import build_kernel
from crm_api.domains.identity.default_roles import REPRESENTATIVE
from crm_api.kernel.unit_of_work import system
from crm_api.settings import load_settings
from crm_api.tenants import add_key, add_user, create_tenant


async def main() -> None:
    settings = load_settings()
    kernel = build_kernel(settings, settings.database_url)
    new = await create_tenant(kernel, os.environ["CRM_MIGRATE_URL"], "Faults", "admin@example.com")
    ctx = system(kernel, new.tenant_id, "test")
    rep = await add_user(ctx, {"name": "Rep", "email": "rep@example.com"}, new.roles[REPRESENTATIVE])
    keys = {"admin": new.key, "rep": await add_key(ctx, rep, "rep"), "tenant": str(new.tenant_id)}
    await kernel.database.close()
    sys.stdout.write(json.dumps(keys))


if __name__ == "__main__":
    asyncio.run(main())
