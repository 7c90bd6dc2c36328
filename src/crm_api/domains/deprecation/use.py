"""Counts the uses of what is deprecated: in memory, kept for each credential when they are flushed."""

from datetime import UTC, datetime
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Principal
from crm_api.kernel.database import TENANT, Database, Row, Statement
from crm_api.kernel.record import Record, table_of

MOST = 10_000
"""Counters that a process holds until the next flush; uses beyond them are not counted."""


class DeprecationUse(Record):
    """How often a credential used something deprecated, by its name in the declaration."""

    __tablename__ = "deprecation_uses"

    credential_id: Mapped[UUID] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    uses: Mapped[int]
    last_used_at: Mapped[datetime]


_TABLE = table_of(DeprecationUse)
_CREDENTIAL = sa.bindparam("credential", type_=sa.Uuid())
_ADDED = insert(_TABLE).values(
    tenant_id=TENANT,
    credential_id=_CREDENTIAL,
    name=sa.bindparam("name", type_=sa.Text()),
    uses=sa.bindparam("uses", type_=sa.BigInteger()),
    last_used_at=sa.bindparam("at", type_=sa.DateTime(timezone=True)),
)
_KEEP = Statement(
    _ADDED.on_conflict_do_update(
        index_elements=[_TABLE.c.tenant_id, _TABLE.c.credential_id, _TABLE.c.name],
        set_={
            "uses": _TABLE.c.uses + _ADDED.excluded.uses,
            "last_used_at": sa.func.greatest(_TABLE.c.last_used_at, _ADDED.excluded.last_used_at),
        },
    )
)
_READ = Statement(
    sa.select(_TABLE.c.name, _TABLE.c.uses, _TABLE.c.last_used_at).where(
        _TABLE.c.tenant_id == TENANT, _TABLE.c.credential_id == _CREDENTIAL
    )
)


class Uses:
    """The counters of this process."""

    def __init__(self) -> None:
        self._counted: dict[tuple[UUID, UUID, str], tuple[int, datetime]] = {}

    def note(self, principal: Principal, name: str) -> None:
        """Counts one use; of a principal without a credential none."""
        if principal.credential_id is None:
            return
        key = (principal.tenant_id, principal.credential_id, name)
        if key in self._counted or len(self._counted) < MOST:
            self._counted[key] = (self._counted.get(key, (0, None))[0] + 1, datetime.now(UTC))

    async def flush(self, database: Database) -> None:
        """Adds what was counted since the last time to what is kept; what cannot be written now is counted later."""
        for key in list(self._counted):
            tenant, credential, name = key
            uses, at = self._counted.pop(key)
            try:
                await database.fetch(tenant, _KEEP, {"credential": credential, "name": name, "uses": uses, "at": at})
            except BaseException:
                more, later = self._counted.get(key, (0, at))
                self._counted[key] = (uses + more, later)
                raise


USES = Uses()


async def used(database: Database, principal: Principal) -> list[Row]:
    """What a credential used, with `name`, `uses`, `last_used_at`."""
    return await database.read(principal.tenant_id, _READ, {"credential": principal.credential_id})
