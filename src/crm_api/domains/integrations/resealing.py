"""Seals anew what endpoints keep secret, when it was sealed under an earlier secret of the installation."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.integrations import rotate_secret, set_headers
from crm_api.domains.integrations.webhook_endpoint import WebhookEndpoint
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.everywhere import due, each
from crm_api.kernel.record import table_of

MOST = 500
"""Endpoints that are looked for at a time."""
_SEALED = {"sealed_headers": set_headers.PURPOSE, "sealed_secrets": rotate_secret.PURPOSE}
_ENDPOINTS = table_of(WebhookEndpoint)
_ID = _ENDPOINTS.c.id == sa.bindparam("id", type_=sa.Uuid())
_READ = Statement(
    sa.select(_ENDPOINTS.c.id, *(_ENDPOINTS.c[name] for name in _SEALED)).where(_ENDPOINTS.c.tenant_id == TENANT, _ID)
)
_RENEW = {
    name: Statement(
        sa.update(_ENDPOINTS)
        .where(
            _ENDPOINTS.c.tenant_id == TENANT, _ID, _ENDPOINTS.c[name] == sa.bindparam("before", type_=sa.LargeBinary())
        )
        .values({name: sa.bindparam("after", type_=sa.LargeBinary())})
    )
    for name in _SEALED
}
_EARLIER = due(
    sa.func.endpoints_sealed_earlier(
        sa.bindparam("heads", type_=ARRAY(sa.LargeBinary())), sa.bindparam("most", type_=sa.BigInteger())
    )
)


async def renew(ctx: Context, target: Row) -> None:
    """Seals anew what of an endpoint an earlier secret has sealed; to the endpoint it is the same.

    Raises:
        SealError: it cannot be opened.
    """
    for name, purpose in _SEALED.items():
        sealed = target[name]
        fresh = sealed and ctx.kernel.sealer.renewed(ctx.principal.tenant_id, purpose, sealed)
        if fresh:
            await ctx.fetch(_RENEW[name], {"id": target["id"], "before": sealed, "after": fresh})


async def renew_all(kernel: Kernel) -> int:
    """Does so for the endpoints of every tenant, silent, paused and deleted ones too; gives how many.

    Without CRM_SECRET_PREVIOUS nothing is looked for, since nothing could be opened.
    """
    renewed = 0
    values: dict[str, Any] = {"heads": kernel.sealer.earlier, "most": MOST}
    while values["heads"] and (rows := await kernel.database.fetch(None, _EARLIER, values)):
        renewed += await each(kernel, rows, "webhooks", _one)
    return renewed


async def _one(ctx: Context, id_: str) -> int:
    for row in await ctx.fetch(_READ, {"id": id_}):
        await renew(ctx, row)
    return 1
