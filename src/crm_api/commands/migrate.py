"""Brings the database to a revision, and says what that changed."""

import asyncio

from crm_api import migrate as alembic
from crm_api.commands.database import place, revision


def migrate(to: str, *, down: bool) -> tuple[str | None, str | None]:
    """The revision before and after."""
    with place(migrated=False) as found:
        before = asyncio.run(revision(found.migrate_url))
        (alembic.downgrade if down else alembic.upgrade)(found.migrate_url, to)
        return before, asyncio.run(revision(found.migrate_url))
