"""Where the database is: the one in CRM_DATABASE_URL, or an embedded one that is started for the command."""

import asyncio
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

import asyncpg

from crm_api import migrate
from crm_api.bootstrap import bootstrap, check_server_role, on_database
from crm_api.kernel.problems import ConfigurationError
from crm_api.settings import Settings, load_settings

if TYPE_CHECKING:  # nothing that a server needs before its processes start
    from crm_api.kernel.context import Kernel

DATABASE = "crm"


@dataclass(frozen=True)
class Place:
    """A database: its address for the server's role and for the role that migrates."""

    settings: Settings
    app_url: str
    migrate_url: str
    embedded: bool

    @asynccontextmanager
    async def owner(self) -> AsyncIterator["asyncpg.Connection[asyncpg.Record]"]:
        """A connection as the role that owns the tables: it sees every tenant, and only it may add one."""
        connection = await asyncpg.connect(self.migrate_url, timeout=10)
        try:
            await connection.execute("SET ROLE crm_owner")
            yield connection
        finally:
            await connection.close()

    @asynccontextmanager
    async def kernel(self) -> AsyncIterator["Kernel"]:
        """A kernel on it, for commands that write through the repository."""
        from crm_api.app import build_kernel

        kernel = build_kernel(self.settings, self.app_url)
        try:
            yield kernel
        finally:
            await kernel.database.close()


@contextmanager
def place(*, migrated: bool = True) -> Iterator[Place]:
    """The database of this command; an embedded one is started, prepared and stopped again.

    Args:
        migrated: an embedded database is brought to the newest revision first.

    Raises:
        ConfigurationError: no address in production.
    """
    settings = load_settings()
    signal.signal(signal.SIGTERM, _leave)  # without it the process would die and leave PostgreSQL running
    if settings.database_url is not None:
        yield Place(settings, settings.database_url, settings.migrate_url or settings.database_url, embedded=False)
        return
    if settings.environment == "production":
        raise ConfigurationError("CRM_DATABASE_URL is required in production; the embedded PostgreSQL is for trying.")
    from crm_api.adapters import embedded

    settings.master_secret()  # made before the data whose keys depend on it
    folder = settings.data_dir / "postgres"
    try:
        admin = embedded.start(folder)
        if asyncio.run(_missing(admin)):
            asyncio.run(bootstrap(admin, DATABASE))
        app, owner = (on_database(admin, DATABASE, role) for role in ("crm_app", "crm_migrate"))
        found = Place(settings, app, owner, embedded=True)
        if migrated and asyncio.run(pending(app)):
            from crm_api.commands.default_roles import give

            migrate.upgrade(owner)
            asyncio.run(give(found))
        yield found
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_IGN)  # impatience must not interrupt the last step
        embedded.stop(folder)


def _leave(number: int, frame: FrameType | None) -> None:
    del number, frame
    raise SystemExit(0)


async def _missing(admin: str) -> bool:
    connection = await asyncpg.connect(admin, timeout=10)
    try:
        return not await connection.fetchval("SELECT 1 FROM pg_database WHERE datname = $1", DATABASE)
    finally:
        await connection.close()


async def revision(url: str) -> str | None:
    """The revision a database is at; None before the first migration."""
    connection = await asyncpg.connect(url, timeout=10)
    try:
        if not await connection.fetchval("SELECT to_regclass('public.alembic_version') IS NOT NULL"):
            return None
        found: str | None = await connection.fetchval("SELECT version_num FROM public.alembic_version")
        return found
    finally:
        await connection.close()


async def pending(url: str) -> list[str]:
    """Revisions that this program has and the database lacks; none when the database is ahead, as in a rollout."""
    at, known = await revision(url), migrate.revisions()
    if at is not None and at not in known:
        return []
    return known[known.index(at) + 1 :] if at else known


async def check(database: Place) -> None:
    """Refuses to work on a database that lacks migrations, or as a role that is too powerful for production.

    Raises:
        ConfigurationError: says which.
    """
    if database.settings.environment == "production":
        await check_server_role(database.app_url)
    if missing := await pending(database.app_url):
        if len(missing) == len(migrate.revisions()):
            raise ConfigurationError(
                "The database has no tables of ours: if its name in CRM_DATABASE_URL is right, run `crm-api migrate`, "
                f"which brings it to {missing[-1]}: all migrations are pending."
            )
        raise ConfigurationError(
            f"{len(missing)} migration{'s are' if len(missing) > 1 else ' is'} pending "
            f"({', '.join(missing)}): run `crm-api migrate` as the role that migrates, then serve."
        )
