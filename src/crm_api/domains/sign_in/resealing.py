"""Seals anew the secrets of second factors and providers that an earlier secret of the installation has sealed."""

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.sign_in import identity_provider, second_factor
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.everywhere import due, each
from crm_api.kernel.record import table_of

MOST = 500
"""Secrets that are looked for at a time."""
_EARLIER = due(
    sa.func.second_factors_sealed_earlier(
        sa.bindparam("heads", type_=ARRAY(sa.LargeBinary())), sa.bindparam("most", type_=sa.BigInteger())
    )
)


def _statements(table: sa.Table) -> tuple[Statement, Statement]:
    here = (table.c.tenant_id == TENANT, table.c.id == sa.bindparam("id", type_=sa.Uuid()))
    same = table.c.sealed_secret == sa.bindparam("before", type_=sa.LargeBinary())
    change = sa.update(table).where(*here, same).values(sealed_secret=sa.bindparam("after", type_=sa.LargeBinary()))
    return Statement(sa.select(table.c.sealed_secret).where(*here)), Statement(change)


_SEALED = (
    (second_factor.PURPOSE, *_statements(table_of(second_factor.SecondFactor))),
    (identity_provider.PURPOSE, *_statements(identity_provider.PROVIDERS)),
)


async def renew_all(kernel: Kernel) -> int:
    """Seals them by the present secret in every tenant, deleted ones too; gives how many.

    Without CRM_SECRET_PREVIOUS nothing is looked for, since nothing could be opened.
    """
    renewed, heads = 0, kernel.sealer.earlier
    while heads and (rows := await kernel.database.fetch(None, _EARLIER, {"heads": heads, "most": MOST})):
        renewed += await each(kernel, rows, "sign_in", _one)
    return renewed


async def _one(ctx: Context, id_: str) -> int:
    for purpose, read, change in _SEALED:
        for row in await ctx.fetch(read, {"id": id_}):
            sealed = row["sealed_secret"]
            fresh = sealed and ctx.kernel.sealer.renewed(ctx.principal.tenant_id, purpose, sealed)
            if fresh:
                await ctx.fetch(change, {"id": id_, "before": sealed, "after": fresh})
    return 1
