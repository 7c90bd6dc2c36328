"""Second factors: codes of an authenticator app (TOTP, RFC 6238), each good once, and recovery codes for its loss."""

import base64
import hmac
import secrets
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal
from urllib.parse import quote, urlencode
from uuid import UUID

import sqlalchemy as sa
import structlog
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.identity.role import act_as
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.record import Entity, Record, reference, sortable, table_of, unique
from crm_api.kernel.repository import record
from crm_api.kernel.resource import READS, Resource
from crm_api.kernel.schema import Id, Output
from crm_api.kernel.sealing import SealError

log = structlog.get_logger("crm_api.sign_in")

STEP_SECONDS = 30
DIGITS = 6
WINDOW = 1
"""Steps that a clock may be wrong by, either way."""
RECOVERY_CODES = 10
PURPOSE = "totp"


class SecondFactor(Entity):
    """An authenticator app of a person. `last_step` is the time step of the last code that was used."""

    __tablename__ = "second_factors"
    __table_args__ = (
        reference("principal_id", "principals"),
        unique("uq_second_factors_principal_id", "principal_id"),
        *sortable("second_factors", "principal_id", "created_at"),
    )

    principal_id: Mapped[UUID]
    sealed_secret: Mapped[bytes]
    last_step: Mapped[int]


class RecoveryCode(Record):
    """A code that stands in for the app, once. No resource."""

    __tablename__ = "recovery_codes"
    __table_args__ = (reference("factor_id", "second_factors"),)

    factor_id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[bytes] = mapped_column(primary_key=True)
    used_at: Mapped[datetime | None]


class SecondFactorView(Output):
    """An authenticator app of a person, who enrols it on their account page; to delete it is to reset it."""

    object: Literal["second_factor"]
    principal_id: Id


async def _resettable(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """403 when the person may do more than the caller: without the factor a password alone lets in as them."""
    del resource, values
    if before is not None:
        await act_as(ctx, UUID(str(before["principal_id"])))


SECOND_FACTORS = Resource(
    singular="second_factor",
    plural="second_factors",
    model=SecondFactor,
    output=SecondFactorView,
    title="principal_id",
    owner=SecondFactor.principal_id,
    filters=(SecondFactor.principal_id,),
    sorts=(SecondFactor.created_at,),
    operations=READS | {"delete"},
    deletable=_resettable,
    notices=("enrolled",),
)

_FACTORS, _CODES = table_of(SecondFactor), table_of(RecoveryCode)
_PRINCIPAL = sa.bindparam("principal", type_=sa.Uuid())
_FACTOR = sa.bindparam("factor", type_=sa.Uuid())
_HASH = sa.bindparam("hash", type_=sa.LargeBinary())
_STEP = sa.bindparam("step", type_=sa.BigInteger())
_FIND = Statement(
    sa.select(sa.cast(_FACTORS.c.id, sa.Text()), _FACTORS.c.sealed_secret).where(
        _FACTORS.c.tenant_id == TENANT, _FACTORS.c.principal_id == _PRINCIPAL, _FACTORS.c.deleted_at.is_(None)
    )
)
_INSERT = Statement(
    sa.insert(_FACTORS).values(
        tenant_id=TENANT,
        id=_FACTOR,
        principal_id=_PRINCIPAL,
        sealed_secret=sa.bindparam("sealed", type_=sa.LargeBinary()),
        last_step=_STEP,
        created_at=NOW,
        created_by=_PRINCIPAL,
        updated_at=NOW,
        updated_by=_PRINCIPAL,
    )
)
_ADD_CODE = Statement(sa.insert(_CODES).values(tenant_id=TENANT, factor_id=_FACTOR, hash=_HASH))
_USE_STEP = Statement(
    sa.update(_FACTORS)
    .where(
        _FACTORS.c.tenant_id == TENANT,
        _FACTORS.c.id == _FACTOR,
        _FACTORS.c.deleted_at.is_(None),
        _FACTORS.c.last_step < _STEP,
    )
    .values(last_step=_STEP)
    .returning(sa.literal_column("1"))
)
_USE_CODE = Statement(
    sa.update(_CODES)
    .where(
        _CODES.c.tenant_id == TENANT, _CODES.c.factor_id == _FACTOR, _CODES.c.hash == _HASH, _CODES.c.used_at.is_(None)
    )
    .values(used_at=NOW)
    .returning(sa.literal_column("1"))
)


def code_at(secret: bytes, step: int) -> str:
    """The code of a time step (RFC 4226, 5.3; SHA-1, as authenticator apps have it)."""
    digest = hmac.digest(secret, step.to_bytes(8, "big"), "sha1")
    offset = digest[-1] & 0x0F
    number = int.from_bytes(digest[offset : offset + 4], "big") & 0x7FFF_FFFF
    return str(number % 10**DIGITS).zfill(DIGITS)


def step_of(secret: bytes, code: str, now: float | None = None) -> int | None:
    """The time step that a code is of, if it is one of now; unix seconds."""
    present, found = int(time.time() if now is None else now) // STEP_SECONDS, None
    for step in range(present - WINDOW, present + WINDOW + 1):
        if hmac.compare_digest(code_at(secret, step).encode(), code.encode()):
            found = step
    return found


def new_secret() -> bytes:
    """160 bits, as RFC 4226 recommends."""
    return secrets.token_bytes(20)


def shown(secret: bytes) -> str:
    """A secret as people type it into their app."""
    return base64.b32encode(secret).decode()


def otpauth(secret: bytes, organisation: str, email: str) -> str:
    """A secret as apps read it, from a QR code or a link."""
    label = quote(f"{organisation}:{email}", safe="")
    asked = {"secret": shown(secret), "issuer": organisation, "digits": DIGITS, "period": STEP_SECONDS}
    return f"otpauth://totp/{label}?{urlencode(asked, quote_via=quote)}"


async def factor_of(ctx: Context, principal_id: UUID) -> str | None:
    """The id of a person's second factor."""
    rows = await ctx.fetch(_FIND, {"principal": principal_id})
    return str(rows[0]["id"]) if rows else None


async def enrol(ctx: Context, principal_id: UUID, secret: bytes, code: str) -> list[str] | None:
    """Makes an app the person's second factor, if it gives the right code; gives the recovery codes, shown once."""
    step = step_of(secret, code)
    if step is None:
        return None
    sealed, id_ = ctx.kernel.sealer.seal(ctx.principal.tenant_id, PURPOSE, secret), new_id()
    values = {"factor": id_, "principal": principal_id, "sealed": sealed, "step": step, "now": ctx.now}
    await ctx.fetch(_INSERT, values)
    codes = ["-".join(secrets.token_hex(2) for _ in range(4)) for _ in range(RECOVERY_CODES)]
    for each in codes:
        await ctx.fetch(_ADD_CODE, {"factor": id_, "hash": _hash(secret, each)})
    await record(ctx, SECOND_FACTORS, id_, "enrol", "enrolled", after={"principal_id": str(principal_id)})
    return codes


async def use_code(ctx: Context, principal_id: UUID, given: str) -> bool:
    """Whether a code is one of the person's app now, or a recovery code; it is not good a second time."""
    rows = await ctx.fetch(_FIND, {"principal": principal_id})
    if not rows:
        return False
    tenant_id, code, factor, sealed = ctx.principal.tenant_id, "".join(given.split()), *rows[0]
    try:
        secret = ctx.kernel.sealer.unseal(tenant_id, PURPOSE, sealed)
    except SealError as error:
        log.error("second_factor_unreadable", principal=str(principal_id), reason=str(error))  # noqa: TRY400 - no traceback is needed
        return False
    if len(code) == DIGITS and code.isascii() and code.isdigit():
        step = step_of(secret, code)
        return step is not None and bool(await ctx.fetch(_USE_STEP, {"factor": factor, "step": step}))
    return bool(await ctx.fetch(_USE_CODE, {"factor": factor, "hash": _hash(secret, code), "now": ctx.now}))


def _hash(secret: bytes, code: str) -> bytes:
    """What is kept of a recovery code: keyed by the app's secret, which is sealed, and sealed anew with another key."""
    return hmac.digest(secret, f"recovery {code.lower()}".encode(), "sha256")
