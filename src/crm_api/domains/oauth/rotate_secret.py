"""Verb: give a client a new secret, shown once. The earlier one stays good for a grace period."""

import secrets
from datetime import timedelta
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field

from crm_api.domains.identity.credentials import hashes
from crm_api.domains.identity.delegation import for_good, parsed
from crm_api.domains.identity.role import act_as
from crm_api.domains.oauth.scopes import covered
from crm_api.kernel.context import Context
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.repository import update
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Instant, Wire


class RotateClientSecret(Wire):
    """How long the earlier secret stays good beside the new one."""

    grace_hours: Annotated[int, Field(ge=0, le=168)] = 24


class ClientSecret(Wire):
    """The new secret. It is not shown again; a replayed reply leaves it out."""

    object: Literal["oauth_client_secret"]
    client_id: Annotated[str, Field(max_length=43)]
    secret: Annotated[str | None, Field(max_length=60)] = None
    earlier_until: Instant | None


async def rotate_secret(ctx: Context, resource: Resource, row: Any, body: RotateClientSecret) -> dict[str, Any]:
    """Makes the secret; at most two are good at a time."""
    if row["client_type"] == "public":
        raise Problem(CONFLICT, "A public client has no secret.")
    for_good(ctx)
    covered(ctx, parsed(row["scopes"]))
    if row["service_account_id"] is not None:
        await act_as(ctx, UUID(str(row["service_account_id"])))
    secret = f"crm_cs_{secrets.token_urlsafe(32)}"
    until = ctx.now + timedelta(hours=body.grace_hours) if row["hashed_secret"] and body.grace_hours else None
    values = {
        "hashed_secret": hashes(secret)[0],
        "hashed_earlier": row["hashed_secret"] if until else None,
        "earlier_until": until,
        "secret_changed_at": ctx.now,
    }
    events = ("updated", "secret_rotated")
    await update(ctx, resource, row["id"], values, action="rotate_secret", events=events, by_verb=True)
    return {"object": "oauth_client_secret", "client_id": row["client_id"], "secret": secret, "earlier_until": until}


ROTATE_SECRET = Action(
    "rotate_secret",
    "Give the client a new secret, shown once",
    rotate_secret,
    event="secret_rotated",
    body=RotateClientSecret,
    reply=ClientSecret,
    path="secret/rotate",
    private=frozenset({"secret"}),
)
