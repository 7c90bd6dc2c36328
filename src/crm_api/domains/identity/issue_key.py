"""Verb: give a principal an API key. The key is shown once; only a keyed hash of its secret is kept."""

import ipaddress
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError

from crm_api.domains.identity.api_key import ApiKey, live_keys
from crm_api.domains.identity.credentials import new_key
from crm_api.domains.identity.delegation import for_good
from crm_api.domains.identity.role import act_as
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.problems import LIMIT_REACHED, Problem, forbidden, invalid
from crm_api.kernel.record import table_of
from crm_api.kernel.repository import record
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Id, Instant, Name, Wire

LIVE_KEYS = 2


def _network(value: str) -> str:
    try:
        return str(ipaddress.ip_network(value))
    except ValueError:
        raise PydanticCustomError("invalid_network", "This is not an address range such as 192.0.2.0/24.") from None


Scope = Annotated[str, Field(pattern="^[a-z_]+:(read|write|delete|admin)$", max_length=80, examples=["accounts:read"])]
Network = Annotated[str, Field(max_length=49), AfterValidator(_network)]


class IssueKey(Wire):
    """What the key may do at most, from where, and until when."""

    name: Name
    scopes: Annotated[list[Scope], Field(max_length=100)] | None = None
    expires_at: Instant | None = None
    allowed_networks: Annotated[list[Network], Field(max_length=50)] = []


class IssuedKey(Wire):
    """The key. It is not shown again; a replayed reply leaves it out."""

    id: Id
    object: Literal["api_key"]
    name: Name
    key: Annotated[str | None, Field(max_length=200)] = None


_KEYS = table_of(ApiKey)
_COLUMNS = ("id", "principal_id", "name", "secret_hash", "scopes", "allowed_networks", "expires_at", "created_by")
_INSERT = Statement(
    sa.insert(_KEYS).values(
        tenant_id=TENANT,
        created_at=NOW,
        updated_at=NOW,
        updated_by=sa.bindparam("created_by", type_=sa.Uuid()),
        **{name: sa.bindparam(name, type_=_KEYS.c[name].type) for name in _COLUMNS},
    )
)


async def issue_key(ctx: Context, resource: Resource, row: Any, body: IssueKey) -> dict[str, Any]:
    """Makes the key; at most two are live, so that one can replace the other without a gap.

    Raises:
        Problem: 409 when two keys are live, 422 for an end in the past or a scope of no domain, 403 for a scope that
            the caller's own credential lacks, or a principal who may do more than the caller.
    """
    known = {domain.name for domain in ctx.kernel.catalog.domains if domain.resources}
    for i, scope in enumerate(body.scopes or ()):
        if scope.partition(":")[0] not in known:
            raise invalid(f"/scopes/{i}", "unknown_scope", f"A scope is of one of {', '.join(sorted(known))}.")
    if body.expires_at is not None and body.expires_at <= ctx.now:
        raise invalid("/expires_at", "in_the_past", "The end must be in the future.")
    for_good(ctx)
    if ctx.principal.scopes is not None:
        domains = {scope.removesuffix(":admin") for scope in ctx.principal.scopes if scope.endswith(":admin")}
        beyond = [
            scope
            for scope in body.scopes or ("any",)
            if scope not in ctx.principal.scopes and scope.partition(":")[0] not in domains
        ]
        if beyond:
            raise forbidden(f"scope {beyond[0]}")
    await act_as(ctx, UUID(str(row["id"])))
    if len(await live_keys(ctx, UUID(str(row["id"])))) >= LIVE_KEYS:
        raise Problem(LIMIT_REACHED, f"At most {LIVE_KEYS} keys of a principal are live; revoke one first.")
    key_id = new_id()
    key, secret_hash = new_key(ctx.principal.tenant_id, key_id)
    await ctx.fetch(
        _INSERT,
        {
            **body.model_dump(),
            "id": key_id,
            "principal_id": row["id"],
            "secret_hash": secret_hash,
            "created_by": ctx.principal.id,
            "now": ctx.now,
        },
    )
    await record(
        ctx, resource, row["id"], "issue_key", "key_issued", after={"api_key_id": str(key_id), "name": body.name}
    )
    return {"id": str(key_id), "object": "api_key", "name": body.name, "key": key}


ISSUE_KEY = Action(
    "issue_key",
    "Give the principal an API key, shown once",
    issue_key,
    event="key_issued",
    body=IssueKey,
    reply=IssuedKey,
    status=201,
    private=frozenset({"key"}),
)
