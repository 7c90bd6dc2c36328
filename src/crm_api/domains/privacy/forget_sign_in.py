"""What an erased user signed in by goes, and they can never do so again: an actor without a name stays."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.identity.api_key import revoke_keys
from crm_api.domains.identity.leaving import sign_out
from crm_api.domains.identity.principal import USERS
from crm_api.domains.oauth.device import GUESSES
from crm_api.domains.sign_in.attempts import ACCOUNT, LETTERS, subjects
from crm_api.domains.sign_in.second_factor import SECOND_FACTORS
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.record import AuditEntry, table_of
from crm_api.kernel.repository import delete

_USERS, _FACTORS, _AUDIT = USERS.table, SECOND_FACTORS.table, table_of(AuditEntry)
_ID = sa.bindparam("id", type_=sa.Uuid())
_ANONYMOUS = Statement(
    sa.update(_USERS)
    .where(_USERS.c.tenant_id == TENANT, _USERS.c.id == _ID, _USERS.c.erased_at.is_(None))
    .values(erased_at=NOW, is_active=sa.false(), email=sa.null())
)
_FACTOR = Statement(
    sa.select(sa.cast(_FACTORS.c.id, sa.Text())).where(
        _FACTORS.c.tenant_id == TENANT, _FACTORS.c.principal_id == _ID, _FACTORS.c.deleted_at.is_(None)
    )
)
_FORGET = Statement(
    sa.select(
        sa.func.forget_credentials(
            TENANT, sa.bindparam("erasure", type_=sa.Uuid()), sa.bindparam("subjects", type_=ARRAY(sa.LargeBinary()))
        )
    )
)
_SESSION = _AUDIT.c.after["session_id"].astext
_SESSIONS = Statement(
    sa.select(_SESSION.label("id")).where(
        _AUDIT.c.tenant_id == TENANT, _AUDIT.c.object_id == _ID, _AUDIT.c.action == sa.literal("sign_in", sa.Text())
    )
)


async def forget_sign_in(ctx: Context, erasure_id: str, user_id: str, email: str | None) -> set[str]:
    """Ends and deletes it, in the transaction of an erasure; gives the sessions there were, also forgotten ones.

    Those are recorded still, with where and by which browser they began.
    """
    id_ = UUID(user_id)
    await sign_out(ctx, id_)
    await revoke_keys(ctx, id_)
    for row in await ctx.fetch(_FACTOR, {"id": id_}):
        await delete(ctx, SECOND_FACTORS, row[0])
    counted = [(ACCOUNT, f"again {id_}"), (ACCOUNT, f"code {id_}"), (GUESSES, str(id_))]
    counted += [(limit, email.lower()) for limit in (ACCOUNT, LETTERS) if email is not None]
    found = [each for limit, of in counted for each in subjects(limit, of)]
    await ctx.fetch(_FORGET, {"erasure": UUID(erasure_id), "subjects": found})
    await ctx.fetch(_ANONYMOUS, {"id": id_, "now": ctx.now})
    return {row["id"] for row in await ctx.fetch(_SESSIONS, {"id": id_}) if row["id"] is not None}
