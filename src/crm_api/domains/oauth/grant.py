"""OAuth grants: what a client was allowed, by whom; the family of all codes and tokens that come of it."""

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.domains.identity.leaving import ends
from crm_api.domains.identity.principal import Principal
from crm_api.domains.oauth.client import CREDENTIALS, OAuthClient, Scopes
from crm_api.domains.sign_in.session import Session
from crm_api.kernel.context import Context, Kernel
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.problems import CONFLICT, Problem
from crm_api.kernel.record import Entity, one_of, reference, sortable, table_of
from crm_api.kernel.repository import load, update
from crm_api.kernel.resource import READS, Action, Resource
from crm_api.kernel.schema import Id, Instant, Output
from crm_api.kernel.unit_of_work import system, transact

KINDS = ("authorization_code", "client_credentials", "device_code")


class OAuthGrant(Entity):
    """What a client was allowed. While its session lives, or without one, until it is revoked.

    The code is good once, until `code_expires_at`. Of the refresh tokens `refresh_hash` is the one that is good, and
    `refresh_family` tells those that were before it. `session_id` is null for access that outlasts the session.
    """

    __tablename__ = "oauth_grants"
    __table_args__ = (
        one_of("kind", KINDS),
        reference("principal_id", "principals"),
        reference("oauth_client_id", "oauth_clients"),
        sa.Index("ix_oauth_grants_oauth_client_id", "tenant_id", "oauth_client_id", "id"),
        *sortable("oauth_grants", "principal_id", "created_at"),
    )

    kind: Mapped[str]
    principal_id: Mapped[UUID]
    oauth_client_id: Mapped[UUID]
    scopes: Mapped[list[Any]]
    session_id: Mapped[UUID | None]
    signed_in_by: Mapped[UUID | None]
    authenticated_at: Mapped[datetime | None]
    methods: Mapped[list[Any]]
    nonce: Mapped[str | None]
    redirect_uri: Mapped[str | None]
    code_challenge: Mapped[str | None]
    code_hash: Mapped[bytes | None]
    code_expires_at: Mapped[datetime | None]
    code_used_at: Mapped[datetime | None]
    refresh_family: Mapped[bytes | None]
    refresh_hash: Mapped[bytes | None]
    refresh_expires_at: Mapped[datetime | None]
    last_used_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]


class OAuthGrantView(Output):
    """What a client was allowed."""

    object: Literal["oauth_grant"]
    kind: Literal["authorization_code", "client_credentials", "device_code"]
    principal_id: Annotated[Id, Field(description="Whom its tokens act as.")]
    oauth_client_id: Id
    scopes: Scopes
    session_id: Annotated[Id | None, Field(description="It ends with this session, if any.")]
    authenticated_at: Annotated[Instant | None, Field(description="When the person had signed in.")]
    last_used_at: Annotated[Instant | None, Field(description="Exact to a minute.")]
    revoked_at: Instant | None


_GRANTS, _CLIENTS = table_of(OAuthGrant), table_of(OAuthClient)
_PEOPLE, _SESSIONS = table_of(Principal).alias("grantee"), table_of(Session).alias("browser")


def live(grants: Any = _GRANTS) -> sa.ColumnElement[bool]:
    """Whether a grant still holds: it, its client, its principal and its session, if it has one."""
    client = sa.exists().where(
        _CLIENTS.c.tenant_id == TENANT,
        _CLIENTS.c.id == grants.c.oauth_client_id,
        _CLIENTS.c.is_active,
        _CLIENTS.c.deleted_at.is_(None),
        sa.or_(
            grants.c.kind != sa.literal(CREDENTIALS, sa.Text()),
            _CLIENTS.c.service_account_id == grants.c.principal_id,
        ),
    )
    person = sa.exists().where(
        _PEOPLE.c.tenant_id == TENANT,
        _PEOPLE.c.id == grants.c.principal_id,
        _PEOPLE.c.is_active,
        _PEOPLE.c.deleted_at.is_(None),
    )
    session = sa.exists().where(
        _SESSIONS.c.tenant_id == TENANT,
        _SESSIONS.c.id == grants.c.session_id,
        _SESSIONS.c.revoked_at.is_(None),
        _SESSIONS.c.expires_at > sa.func.now(),
    )
    return sa.and_(grants.c.revoked_at.is_(None), client, person, sa.or_(grants.c.session_id.is_(None), session))


async def revoke(ctx: Context, resource: Resource, row: Any, body: None) -> dict[str, Any]:
    """Ends a grant with all its tokens, on every process with their next request."""
    del resource, body
    if row["revoked_at"] is not None:
        raise Problem(CONFLICT, "The grant is revoked already.")
    return {"revoked_at": ctx.now}


OAUTH_GRANTS = Resource(
    singular="oauth_grant",
    plural="oauth_grants",
    model=OAuthGrant,
    output=OAuthGrantView,
    title="kind",
    owner=OAuthGrant.principal_id,
    filters=(OAuthGrant.principal_id, OAuthGrant.oauth_client_id, OAuthGrant.kind, OAuthGrant.revoked_at),
    sorts=(OAuthGrant.created_at,),
    operations=READS,
    access_fields=frozenset({"revoked_at"}),
    notices=("granted",),
    actions=(Action("revoke", "End the grant and its tokens", revoke, event="revoked"),),
)


async def end(kernel: Kernel, tenant_id: UUID, grant_id: UUID, request_id: str) -> None:
    """Revokes a grant for what its client did, if it is not revoked yet."""

    async def work(ctx: Context) -> None:
        row = await load(ctx, OAUTH_GRANTS, grant_id, "revoke")
        if row["revoked_at"] is None:
            values, events = {"revoked_at": ctx.now}, ("updated", "revoked")
            await update(ctx, OAUTH_GRANTS, grant_id, values, action="revoke", events=events, by_verb=True)

    ctx = system(kernel, tenant_id, "oauth")
    ctx.request_id = request_id
    await transact(ctx, work, patient=True)


_HELD = Statement(
    sa.select(sa.cast(_GRANTS.c.id, sa.Text()))
    .where(_GRANTS.c.tenant_id == TENANT, _GRANTS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()), live())
    .order_by(_GRANTS.c.id)
)


@ends
async def _of_person(ctx: Context, principal_id: UUID) -> None:
    """Ends the grants of a person that outlast their sessions, and with them every refresh and access token."""
    for row in await ctx.fetch(_HELD, {"principal": principal_id}):
        values, events = {"revoked_at": ctx.now}, ("updated", "revoked")
        await update(ctx, OAUTH_GRANTS, row[0], values, action="revoke", events=events, by_verb=True)
