"""Verb: give an endpoint a new secret, shown once. The earlier ones go on signing for a grace period."""

from datetime import datetime, timedelta
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field

from crm_api.domains.integrations.signing import new_secret
from crm_api.kernel.context import Context
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Instant, Wire, instant_text

PURPOSE = "webhook_secrets"
MOST_LIVE = 5


class RotateSecret(Wire):
    """How long the earlier secrets stay good beside the new one."""

    grace_hours: Annotated[int, Field(ge=0, le=168)] = 24


class WebhookSecret(Wire):
    """The new secret. It is not shown again; a replayed reply leaves it out."""

    object: Literal["webhook_secret"]
    secret: Annotated[str | None, Field(max_length=120)] = None
    earlier_until: Instant | None


def live_secrets(ctx: Context, sealed: bytes | None, now: datetime) -> list[dict[str, Any]]:
    """The secrets of an endpoint that still sign, the newest first."""
    if sealed is None:
        return []
    known: list[dict[str, Any]] = orjson.loads(ctx.kernel.sealer.unseal(ctx.principal.tenant_id, PURPOSE, sealed))
    return [item for item in known if item["until"] is None or datetime.fromisoformat(item["until"]) > now]


async def rotate_secret(ctx: Context, resource: Resource, row: Any, body: RotateSecret) -> dict[str, Any]:
    """Makes the secret; at most five sign at a time."""
    end = ctx.now + timedelta(hours=body.grace_hours)
    earlier = live_secrets(ctx, row["sealed_secrets"], ctx.now) if body.grace_hours else []
    for item in earlier:
        item["until"] = min(item["until"] or instant_text(end), instant_text(end))
    secret = new_secret()
    kept = [{"secret": secret, "until": None}, *earlier][:MOST_LIVE]
    sealed = ctx.kernel.sealer.seal(ctx.principal.tenant_id, PURPOSE, orjson.dumps(kept))
    values = {"sealed_secrets": sealed, "secrets_changed_at": ctx.now}
    events = ("updated", "secret_rotated")
    await update(ctx, resource, row["id"], values, action="rotate_secret", events=events, by_verb=True)
    return {"object": "webhook_secret", "secret": secret, "earlier_until": end if earlier else None}


ROTATE_SECRET = Action(
    "rotate_secret",
    "Give the endpoint a new secret, shown once",
    rotate_secret,
    event="secret_rotated",
    body=RotateSecret,
    reply=WebhookSecret,
    path="secret/rotate",
    private=frozenset({"secret"}),
)
