"""Brings the database to a revision, and says what that changed."""

import asyncio

from crm_api import migrate as alembic
from crm_api.commands.database import place, revision


def migrate(to: str, *, down: bool) -> tuple[str | None, str | None, list[str]]:
    """The revision before and after, and what else there is to tell."""
    with place(migrated=False) as found:
        before = asyncio.run(revision(found.migrate_url))
        (alembic.downgrade if down else alembic.upgrade)(found.migrate_url, to)
        after, lines = asyncio.run(revision(found.migrate_url)), []
        if after == alembic.revisions()[-1]:
            from crm_api.commands.default_roles import give

            lines = asyncio.run(give(found))
        return before, after, lines
