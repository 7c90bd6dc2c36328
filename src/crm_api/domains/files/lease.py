"""Leases: bytes in the store belong to a lease until a record claims them, and are deleted when it ends.

A lease is committed before its bytes are put, so a crash at any moment leaves nothing that is not deleted later.
"""

import secrets
from datetime import datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.adapters.storage import Storage, StoreError
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import unavailable
from crm_api.kernel.record import Record, table_of
from crm_api.kernel.unit_of_work import system, transact

_TENANTS = 100
_KEYS = 20
_PAUSE = timedelta(hours=1)
"""Until bytes that cannot be deleted are tried again."""


class StorageLease(Record):
    """Bytes in the store that no record has."""

    __tablename__ = "storage_leases"
    __table_args__ = (sa.Index("ix_storage_leases_expires_at", "expires_at"),)

    storage_key: Mapped[str] = mapped_column(primary_key=True)
    expires_at: Mapped[datetime]


_LEASES = table_of(StorageLease)
_KEY = sa.bindparam("storage_key", type_=sa.Text())
_TAKE = Statement(
    sa.insert(_LEASES).values(
        tenant_id=TENANT, storage_key=_KEY, expires_at=sa.bindparam("until", type_=sa.DateTime(timezone=True))
    )
)
_UNTIL = upsert(_LEASES).values(
    tenant_id=TENANT, storage_key=_KEY, expires_at=sa.bindparam("until", type_=sa.DateTime(timezone=True))
)
_GIVE_UP = Statement(
    _UNTIL.on_conflict_do_update(
        index_elements=["tenant_id", "storage_key"], set_={"expires_at": _UNTIL.excluded.expires_at}
    ).returning(_LEASES.c.storage_key)
)
_MINE = (_LEASES.c.tenant_id == TENANT, _LEASES.c.storage_key == _KEY)
_END = Statement(sa.delete(_LEASES).where(*_MINE).returning(_LEASES.c.storage_key))
_LATER = Statement(
    sa.update(_LEASES)
    .where(*_MINE)
    .values(expires_at=sa.func.now() + sa.bindparam("pause", type_=sa.Interval()))
    .returning(_LEASES.c.storage_key)
)
_OVER = Statement(
    sa.select(_LEASES.c.storage_key)
    .where(_LEASES.c.tenant_id == TENANT, _LEASES.c.expires_at <= sa.func.now())
    .order_by(_LEASES.c.expires_at)
    .limit(sa.literal_column(str(_KEYS)))
    .with_for_update(skip_locked=True)
)
_EXPIRED = Statement(
    sa.select(
        sa.cast(sa.func.tenants_with_expired_leases(sa.bindparam("most", type_=sa.BigInteger())), sa.Text()).label("id")
    )
)


async def lease(ctx: Context, time: timedelta) -> str:
    """A new key, for bytes that are deleted after `time` unless a record has claimed them."""
    key = f"{ctx.principal.tenant_id}/{secrets.token_hex(16)}"
    await ctx.fetch(_TAKE, {"storage_key": key, "until": ctx.now + time})
    return key


async def claim(ctx: Context, key: str) -> None:
    """Ends a lease in the open transaction, because a record has its bytes from now on."""
    if not await ctx.fetch(_END, {"storage_key": key}):
        raise unavailable("Storing took too long; try again.")


async def give_up(ctx: Context, key: str, time: timedelta) -> None:
    """Has bytes that a record had, or that are still on their way, deleted after `time`."""
    await ctx.fetch(_GIVE_UP, {"storage_key": key, "until": ctx.now + time})


async def delete_expired(kernel: Kernel, storage: Storage) -> int:
    """Deletes bytes whose lease has ended, in every tenant; gives how many.

    A lease is locked while its bytes go, so nobody claims what is not there any more.
    """
    gone = 0

    async def some(ctx: Context) -> int:
        rows = await ctx.fetch(_OVER, {})
        for row in rows:
            try:
                await storage.delete(row["storage_key"])
            except StoreError:  # others are not to wait for it
                await ctx.fetch(_LATER, {"storage_key": row["storage_key"], "pause": _PAUSE})
            else:
                await ctx.fetch(_END, {"storage_key": row["storage_key"]})
        return len(rows)

    while True:
        now = 0
        for row in await kernel.database.fetch(None, _EXPIRED, {"most": _TENANTS}):
            now += await transact(system(kernel, UUID(row["id"]), "schedule"), some)
        gone += now
        if not now:
            return gone
