"""What is done again and again: keys are followed by new ones, what ended long ago is forgotten."""

from datetime import UTC, datetime, timedelta

import sqlalchemy as sa

from crm_api.domains.oauth.access_token import tokens_of
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Statement

DAYS = 90
"""That a grant is kept after its end, and a consent remembered."""
_CHUNK = 1_000
_FORGET = Statement(
    sa.select(
        sa.func.forget_oauth(
            sa.bindparam("older_than", type_=sa.DateTime(timezone=True)), sa.bindparam("most", type_=sa.BigInteger())
        ).label("gone")
    )
)


async def rotate_signing_keys(kernel: Kernel) -> bool:
    """Adds a signing key when the newest is old enough."""
    return await tokens_of(kernel).keys.rotate()


async def forget_oauth(kernel: Kernel) -> None:
    """Deletes grants and codes of devices that ended long ago, in every tenant."""
    older_than = datetime.now(UTC) - timedelta(days=DAYS)
    while True:
        rows = await kernel.database.fetch(None, _FORGET, {"older_than": older_than, "most": _CHUNK})
        if int(rows[0]["gone"]) < _CHUNK:
            return
