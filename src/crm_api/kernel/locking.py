"""One at a time, for what no row stands for and so no row can be locked."""

import sqlalchemy as sa

from crm_api.kernel.context import Context
from crm_api.kernel.database import Statement

_LOCK = Statement(
    sa.select(
        sa.func.pg_advisory_xact_lock(
            sa.func.hashtextextended(sa.bindparam("lock", type_=sa.Text()), sa.literal_column("0"))
        )
    )
)
"""A statement of its own: a statement that waits for the lock still reads as of when it began to wait."""


async def one_at_a_time(ctx: Context, what: str) -> None:
    """Waits for its turn within the tenant, and keeps it to the end of the transaction."""
    await ctx.fetch(_LOCK, {"lock": f"{ctx.principal.tenant_id}:{what}"})
