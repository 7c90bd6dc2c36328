"""The keys that tokens are signed with: ES256, sealed in the database, followed by new ones with an overlap."""

import asyncio
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
import structlog
from joserfc.jwk import ECKey
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.database import Database, Statement
from crm_api.kernel.problems import unavailable
from crm_api.kernel.record import Reference
from crm_api.kernel.sealing import Sealer, SealError

log = structlog.get_logger("crm_api.oauth")
DAYS = 30
"""Until a key is followed by the next."""
ANNOUNCED = timedelta(minutes=10)
"""How long a key is published before it signs: every process has read of it, and no cache has what stood before."""
OVERLAP = timedelta(hours=1)
"""How long a key is published after its successor signs: longer than any token lives."""
FRESH = 30.0
"""Seconds after which a process reads the keys again."""
_BETWEEN = 1.0
_NOBODY = UUID(int=0)
_PURPOSE = "oauth_signing_keys"


class SigningKey(Reference):
    """A key pair of the installation; what is not sealed by its secret is not believed."""

    __tablename__ = "oauth_signing_keys"

    kid: Mapped[str] = mapped_column(primary_key=True)
    sealed: Mapped[bytes]
    created_at: Mapped[datetime]
    signs_from: Mapped[datetime]


def _instant(name: str) -> sa.BindParameter[datetime]:
    return sa.bindparam(name, type_=sa.DateTime(timezone=True))


def _all() -> Statement:
    rows: Any = sa.func.oauth_signing_keys().table_valued("kid", "sealed", "created_at", "signs_from")
    return Statement(sa.select(rows.c.kid, rows.c.sealed, rows.c.created_at, rows.c.signs_from))


_ALL = _all()
_ADD = Statement(
    sa.select(
        sa.func.add_oauth_signing_key(
            sa.bindparam("kid", type_=sa.Text()),
            sa.bindparam("sealed", type_=sa.LargeBinary()),
            _instant("signs_from"),
            _instant("unless_since"),
            sa.bindparam("unread", type_=ARRAY(sa.Text())),
            _instant("forget_before"),
        ).label("added")
    )
)


@dataclass(frozen=True, slots=True)
class _Known:
    key: ECKey
    created_at: datetime
    signs_from: datetime


class SigningKeys:
    """The keys as this process knows them, the newest first; read again every half minute, and for an unknown one."""

    def __init__(self, database: Database, sealer: Sealer) -> None:
        self._database = database
        self._sealer = sealer
        self._known: dict[str, _Known] = {}
        self._unread: set[str] = set()
        self._read_at = -FRESH
        self._lock = asyncio.Lock()

    async def named(self, kid: str) -> ECKey | None:
        """The key of a `kid`, to verify with."""
        if kid not in self._known or self._age > FRESH:
            await self._read(_BETWEEN)
        found = self._known.get(kid)
        return None if found is None else found.key

    async def signing(self) -> ECKey:
        """The key to sign with; the first is made when it is needed."""
        if self._age > FRESH:
            await self._read(FRESH)
        if (found := self._newest()) is None:
            now = datetime.now(UTC)
            await self.add(now, unless_since=now - timedelta(seconds=10))
            if (found := self._newest()) is None:
                raise unavailable("The keys of the installation are sealed under another secret.")
        return found.key

    async def published(self) -> list[dict[str, Any]]:
        """The public keys (RFC 7517), the newest first."""
        await self.signing()
        return [item.key.as_dict(private=False) for item in self._known.values()]

    async def rotate(self) -> bool:
        """Adds a key when the newest is old enough; whether it did."""
        await self._read(0)
        since = datetime.now(UTC) - timedelta(days=DAYS)
        if any(item.created_at > since for item in self._known.values()):
            return False
        signs_from = datetime.now(UTC) + (ANNOUNCED if self._known else timedelta())
        return await self.add(signs_from, unless_since=since)

    async def add(self, signs_from: datetime, *, unless_since: datetime) -> bool:
        """Adds a key, unless one that opens was made after `unless_since`; forgets what nothing is verified with."""
        key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
        key.ensure_kid()
        sealed = self._sealer.seal(_NOBODY, _PURPOSE, orjson.dumps(key.as_dict(private=True)))
        values = {
            "kid": key.kid,
            "sealed": sealed,
            "signs_from": signs_from,
            "unless_since": unless_since,
            "unread": sorted(self._unread),
            "forget_before": datetime.now(UTC) - OVERLAP,
        }
        rows = await self._database.fetch(None, _ADD, values)
        await self._read(0)
        return bool(rows[0]["added"])

    @property
    def _age(self) -> float:
        return time.monotonic() - self._read_at

    def _newest(self) -> _Known | None:
        """The key that signs now; where the clock is behind that of who made them all, the oldest."""
        now, known = datetime.now(UTC), tuple(self._known.values())
        return next((item for item in known if item.signs_from <= now), known[-1] if known else None)

    async def _read(self, older_than: float) -> None:
        async with self._lock:
            if self._age < older_than:
                return
            rows = await self._database.fetch(None, _ALL, {})
            known: dict[str, _Known] = {}
            self._unread.clear()
            for row in sorted(rows, key=lambda row: row["created_at"], reverse=True):
                if (key := self._opened(row)) is not None:
                    known[str(row["kid"])] = _Known(key, row["created_at"], row["signs_from"])
                else:
                    self._unread.add(str(row["kid"]))
            self._known, self._read_at = known, time.monotonic()

    def _opened(self, row: Any) -> ECKey | None:
        if (known := self._known.get(row["kid"])) is not None:
            return known.key
        try:
            image = orjson.loads(self._sealer.unseal(_NOBODY, _PURPOSE, row["sealed"]))
        except SealError as error:
            log.warning("signing_key_not_opened", kid=row["kid"], reason=str(error))
            return None
        key = ECKey.import_key(image)
        return key if key.kid == row["kid"] == key.thumbprint() else None
