"""Idempotency-Key: one effect and one reply for any number of tries (draft-ietf-httpapi-idempotency-key-header)."""

import hashlib
from typing import Any
from uuid import UUID

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.context import Context, Idempotency
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import IDEMPOTENCY_IN_FLIGHT, IDEMPOTENCY_MISMATCH, Problem, not_found
from crm_api.kernel.projection import Projection
from crm_api.kernel.record import IdempotencyKey, IdempotencyReply, table_of
from crm_api.kernel.repository import find

_KEYS = table_of(IdempotencyKey)
_REPLIES = table_of(IdempotencyReply)
_SCOPE = sa.bindparam("scope", type_=sa.LargeBinary())
_NOW = sa.bindparam("now", type_=sa.DateTime(timezone=True))

_CLAIM = Statement(
    upsert(_KEYS)
    .values(
        tenant_id=TENANT, scope=_SCOPE, fingerprint=sa.bindparam("fingerprint", type_=sa.LargeBinary()), created_at=_NOW
    )
    .on_conflict_do_nothing()
    .returning(_KEYS.c.created_at)
)
_KEEP = Statement(
    sa.insert(_REPLIES).values(
        tenant_id=TENANT,
        scope=_SCOPE,
        status=sa.bindparam("status", type_=sa.BigInteger()),
        created_at=_NOW,
        object_type=sa.bindparam("object_type", type_=sa.Text()),
        object_id=sa.bindparam("object_id", type_=sa.Uuid()),
        raw=sa.false(),
        image=sa.bindparam("image", type_=JSONB()),
    )
)
_LOOK_UP = Statement(
    sa.select(
        _KEYS.c.fingerprint,
        _REPLIES.c.status,
        _REPLIES.c.object_type,
        sa.cast(_REPLIES.c.object_id, sa.Text()).label("object_id"),
        _REPLIES.c.raw,
        _REPLIES.c.image,
    )
    .select_from(_KEYS.outerjoin(_REPLIES, sa.and_(_REPLIES.c.scope == _KEYS.c.scope, _REPLIES.c.tenant_id == TENANT)))
    .where(_KEYS.c.tenant_id == TENANT, _KEYS.c.scope == _SCOPE)
)


def identify(ctx: Context, key: str, method: str, path: str, body: bytes) -> Idempotency:
    """The key within its scope: tenant (by row security), credential, method and path."""
    scope = hashlib.sha256(
        f"{ctx.principal.credential_id}\n{ctx.principal.id}\n{method}\n{path}\n{key}".encode()
    ).digest()
    return Idempotency(scope, hashlib.sha256(body).digest())


async def claim(ctx: Context) -> bool:
    """Takes the key inside the open transaction; False when it was used before."""
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    values = {"scope": ctx.idempotency.scope, "fingerprint": ctx.idempotency.fingerprint, "now": ctx.now}
    return bool(await ctx.fetch(_CLAIM, values))


async def used(ctx: Context) -> bool:
    """Whether the key was used before."""
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    return bool(await ctx.fetch(_LOOK_UP, {"scope": ctx.idempotency.scope}))


async def keep(ctx: Context, status: int, item: dict[str, Any]) -> None:
    """Stores the reply in the transaction of its effect."""
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    await ctx.fetch(
        _KEEP,
        {
            "scope": ctx.idempotency.scope,
            "status": status,
            "now": ctx.now,
            "image": item,
            "object_type": item.get("object", ""),
            "object_id": item.get("id") or UUID(int=0),
        },
    )


async def replay(ctx: Context) -> tuple[int, dict[str, Any]]:
    """The first request's status and reply, if the caller may still read it.

    Raises:
        Problem: 422 when the key came with another body, 409 when the first request still runs, 404 when the
            record is out of the caller's sight by now.
    """
    assert ctx.idempotency is not None  # noqa: S101 - narrows the type
    rows = await ctx.fetch(_LOOK_UP, {"scope": ctx.idempotency.scope})
    if not rows or rows[0]["status"] is None:
        raise in_flight()
    row = rows[0]
    if row["fingerprint"] != ctx.idempotency.fingerprint:
        raise Problem(IDEMPOTENCY_MISMATCH, "This Idempotency-Key came with another body before.")
    resource = ctx.kernel.catalog.by_type.get(row["object_type"])
    image = orjson.loads(row["image"])
    if resource is None:
        return row["status"], image
    if row["status"] != 204 and await find(ctx, resource, row["object_id"]) is None:
        raise not_found(resource.singular)
    if row["raw"]:
        return row["status"], Projection(resource, ctx.access).from_image(image)
    if hidden := ctx.access.hides(resource.plural).intersection(image):
        image |= dict.fromkeys(hidden) | {"redacted": sorted(hidden)}
    return row["status"], image


def in_flight() -> Problem:
    """409 for the twin of a running request."""
    return Problem(IDEMPOTENCY_IN_FLIGHT, "The first request with this key still runs.", headers={"Retry-After": "1"})
