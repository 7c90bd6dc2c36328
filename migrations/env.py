"""Runs migrations as the role that owns the schema, with time limits on locks and statements."""

import asyncio

from alembic import context
from sqlalchemy import text
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from crm_api.catalog import CATALOG
from crm_api.kernel.record import Record

assert CATALOG.resources  # all models are imported by the catalog


def ours(obj, name, kind, reflected, compare_to):  # noqa: ARG001 - Alembic names them
    """Trigram indexes belong to `searchable`, the partitions of the feed to `keep_feed`; Alembic knows neither."""
    if kind == "table" and reflected and (name or "").startswith("feed_2"):
        return False
    return not (kind == "index" and reflected and (name or "").endswith("_search_text"))


def configure(connection=None):
    context.configure(
        connection=connection,
        target_metadata=Record.metadata,
        dialect_name=None if connection else "postgresql",
        literal_binds=connection is None,
        transaction_per_migration=True,
        compare_server_default=False,
        include_object=ours,
    )


def run(connection):
    connection.execute(text("SET ROLE crm_owner"))
    connection.execute(text("SET lock_timeout = '500ms'"))
    connection.execute(text("SET statement_timeout = '10min'"))
    connection.commit()
    configure(connection)
    with context.begin_transaction():
        context.run_migrations()


async def online():
    url = context.config.attributes["url"].replace("postgresql://", "postgresql+asyncpg://", 1)
    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(run)
            # The server compares the revision with its own before it serves; it may read it, not write it.
            await connection.execute(text("GRANT SELECT ON alembic_version TO crm_app, crm_migrate"))
            await connection.commit()
    finally:
        await engine.dispose()


if context.is_offline_mode():
    configure()
    with context.begin_transaction():
        context.run_migrations()
else:
    asyncio.run(online())
