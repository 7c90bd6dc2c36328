"""Tells the other processes what busy callers used here, and learns what they used there; beside requests."""

from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.limits.limiter import Gate
from crm_api.domains.limits.rate import WINDOWS, Meter
from crm_api.kernel.database import Database, Statement

SECONDS = 1.0
"""Between two rounds."""
BUSY = 0.02
"""Part of its quota that a caller uses before others are told; less is nobody's business, unless nothing is left."""
_CHUNK = 1_000

_SHARE = Statement(
    sa.select(sa.column("id", sa.Uuid()), sa.column("ahead", sa.Double())).select_from(
        sa.func.share_limit_usage(
            sa.bindparam("tenants", type_=ARRAY(sa.Uuid())),
            sa.bindparam("ids", type_=ARRAY(sa.Uuid())),
            sa.bindparam("spans", type_=ARRAY(sa.Double())),
            sa.bindparam("ages", type_=ARRAY(sa.Double())),
            sa.bindparam("most", type_=sa.Double()),
        ).table_valued("id", "ahead")
    )
)


class Reconciliation:
    """The rounds of one process. A round that fails leaves what it had to tell for the next."""

    def __init__(self, gate: Gate, database: Database) -> None:
        self._gate = gate
        self._database = database
        self._last = gate.clock()

    async def settle(self) -> None:
        """One round: a statement for up to a thousand busy meters, or none."""
        now = self._gate.clock()
        meters = self._busy(now)
        for start in range(0, len(meters), _CHUNK):
            await self._tell(now, meters[start : start + _CHUNK])
        self._last = now

    def _busy(self, now: float) -> list[tuple[UUID, UUID, Meter]]:
        found: dict[Meter, tuple[UUID, UUID, Meter]] = {}
        for tenant_id, id_, meter in self._gate.meters(self._last):
            if meter.due <= now:
                meter.used = 0  # all of it has come back
            elif meter.used >= max(BUSY * meter.quota, 1) or (meter.used >= 0 and meter.wait(now) > 0):
                found[meter] = tenant_id, id_, meter
        return list(found.values())

    async def _tell(self, now: float, meters: list[tuple[UUID, UUID, Meter]]) -> None:
        told = [meter.used for *_, meter in meters]
        rows = await self._database.fetch(
            None,
            _SHARE,
            {
                "tenants": [tenant for tenant, *_ in meters],
                "ids": [id_ for _, id_, _ in meters],
                "spans": [used * meter.interval for used, (*_, meter) in zip(told, meters, strict=True)],
                "ages": [now - meter.since for *_, meter in meters],
                "most": float(WINDOWS * self._gate.policies.window),
            },
        )
        ahead = {row["id"]: row["ahead"] for row in rows}
        for used, (_, id_, meter) in zip(told, meters, strict=True):
            meter.used -= used
            meter.since = now
            meter.due = max(meter.due, now + ahead[id_] + meter.used * meter.interval)
