"""Counts attempts to get in, in the database so that all processes see them; after some, the next one has to wait.

An attempt is counted before it is looked at, so that many at once are not more than as many in a row. The delay
doubles and has an end: nobody is locked out for good by somebody else's guesses.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.identity.addresses import crowd
from crm_api.domains.identity.credentials import hashes
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.record import Record, table_of


@dataclass(frozen=True, slots=True)
class Limit:
    """How many attempts in a row are free, and the first and longest delay in seconds; `forget` resets the count."""

    kind: str
    free: int
    first: float
    longest: float
    forget: timedelta


ACCOUNT = Limit("account", free=5, first=15, longest=900, forget=timedelta(hours=24))
"""Of one account, by whatever addresses; a browser that has signed in to it before is counted by itself."""
ADDRESS = Limit("address", free=50, first=15, longest=900, forget=timedelta(hours=1))
"""Of one address, or network of one, at whatever accounts: an office has one address."""
LETTERS = Limit("letters", free=3, first=600, longest=3600, forget=timedelta(hours=24))
"""Letters that one account is sent."""


class SignInAttempt(Record):
    """How many attempts in a row something has made; `subject` is a keyed hash of what is counted."""

    __tablename__ = "sign_in_attempts"
    __table_args__ = (sa.Index("ix_sign_in_attempts_last_at", "last_at"),)

    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[bytes] = mapped_column(primary_key=True)
    failures: Mapped[int]
    last_at: Mapped[datetime]
    blocked_until: Mapped[datetime | None]


_TABLE = table_of(SignInAttempt)
_INSTANT, _SECONDS = sa.DateTime(timezone=True), sa.Float()
_AT = sa.bindparam("at", type_=_INSTANT)
_KIND, _SUBJECT = sa.bindparam("kind", type_=sa.Text()), sa.bindparam("subject", type_=sa.LargeBinary())
_HERE = (_TABLE.c.tenant_id == TENANT, _TABLE.c.kind == _KIND, _TABLE.c.subject == _SUBJECT)


def _count() -> Statement:
    count = sa.case(
        (_TABLE.c.last_at < sa.bindparam("forget", type_=_INSTANT), sa.literal_column("1")),
        else_=_TABLE.c.failures + sa.literal_column("1"),
    )
    free = sa.bindparam("free", type_=sa.BigInteger())
    exponent = sa.func.least(sa.cast(count - free, sa.Float()), sa.literal_column("30"))
    doubled = sa.bindparam("first", type_=_SECONDS) * sa.func.power(sa.literal_column("2::float"), exponent)
    delay = sa.func.least(sa.bindparam("longest", type_=_SECONDS), doubled)
    second = sa.literal_column("interval '1 second'", sa.Interval())
    return Statement(
        upsert(_TABLE)
        .values(tenant_id=TENANT, kind=_KIND, subject=_SUBJECT, failures=sa.literal_column("1"), last_at=_AT)
        .on_conflict_do_update(
            index_elements=["tenant_id", "kind", "subject"],
            set_={
                "failures": count,
                "last_at": _AT,
                "blocked_until": sa.case((count >= free, _AT + delay * second), else_=sa.null()),
            },
            where=sa.or_(_TABLE.c.blocked_until.is_(None), _TABLE.c.blocked_until <= _AT),
        )
        .returning(_TABLE.c.failures)
    )


_BEGIN = _count()
_RESET = Statement(sa.update(_TABLE).where(*_HERE).values(failures=sa.literal_column("0"), blocked_until=sa.null()))
_TAKE_BACK = Statement(
    sa.update(_TABLE)
    .where(*_HERE, _TABLE.c.failures > sa.literal_column("0"))
    .values(failures=_TABLE.c.failures - sa.literal_column("1"), blocked_until=sa.null())
)


def _subject(limit: Limit, of: str) -> bytes:
    return hashes(f"{limit.kind} {crowd(of) if limit is ADDRESS else of}")[0]


def subjects(limit: Limit, of: str) -> tuple[bytes, ...]:
    """What attempts of an account or person are kept under, by any pepper of the server."""
    return hashes(f"{limit.kind} {of}")


async def begin(kernel: Kernel, tenant_id: UUID, limit: Limit, of: str) -> int | None:
    """Counts an attempt; gives how many it is in a row, None when it comes too early and must be refused."""
    now = datetime.now(UTC)
    values = {"kind": limit.kind, "subject": _subject(limit, of), "at": now, "forget": now - limit.forget}
    values |= {"free": limit.free, "first": limit.first, "longest": limit.longest}
    rows = await kernel.database.fetch(tenant_id, _BEGIN, values)
    return int(rows[0]["failures"]) if rows else None


async def reset(kernel: Kernel, tenant_id: UUID, limit: Limit, of: str) -> None:
    """Forgets the attempts, after one that was right."""
    await kernel.database.fetch(tenant_id, _RESET, {"kind": limit.kind, "subject": _subject(limit, of)})


async def take_back(kernel: Kernel, tenant_id: UUID, limit: Limit, of: str) -> None:
    """Counts an attempt that was right as none; those that were wrong stay."""
    await kernel.database.fetch(tenant_id, _TAKE_BACK, {"kind": limit.kind, "subject": _subject(limit, of)})
