"""Takes away what signing in leaves behind: counts, links and sessions that ended long ago."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Statement

_CHUNK, _DAYS = 1_000, 30
_FORGET = Statement(
    sa.select(
        sa.func.forget_sign_ins(
            sa.bindparam("older_than", type_=sa.DateTime(timezone=True)), sa.bindparam("most", type_=sa.BigInteger())
        ).label("gone")
    )
)


async def forget_sign_ins(kernel: Kernel) -> int:
    """Deletes them in every tenant, 30 days after their end; gives how many. Who signed in stays in the audit log."""
    older_than, gone = datetime.now(UTC) - timedelta(days=_DAYS), 0
    while True:
        rows = await kernel.database.fetch(None, _FORGET, {"older_than": older_than, "most": _CHUNK})
        gone += (now := int(rows[0]["gone"]))
        if now < _CHUNK:
            return gone
