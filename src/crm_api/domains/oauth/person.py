"""Who somebody is, as OpenID Connect tells it: claims of ID tokens, and `/oauth/userinfo`."""

from collections.abc import Collection
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.identity.principal import Principal
from crm_api.domains.oauth.contract import UserInfo
from crm_api.domains.oauth.requests import answer
from crm_api.domains.sign_in.password import Password
from crm_api.kernel.context import Kernel
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.problems import FORBIDDEN, Problem, not_found
from crm_api.kernel.record import table_of
from crm_api.kernel.spec_security import tells
from crm_api.kernel.unit_of_work import open_context

router = APIRouter()
_PEOPLE, _PASSWORDS = table_of(Principal), table_of(Password)
_PERSON = Statement(
    sa.select(
        *(_PEOPLE.c[name] for name in ("name", "email", "language", "time_zone", "updated_at")),
        _PASSWORDS.c.proven_email,
    )
    .select_from(
        sa.join(
            _PEOPLE,
            _PASSWORDS,
            sa.and_(_PASSWORDS.c.tenant_id == TENANT, _PASSWORDS.c.principal_id == _PEOPLE.c.id),
            isouter=True,
        )
    )
    .where(_PEOPLE.c.tenant_id == TENANT, _PEOPLE.c.id == sa.bindparam("id", type_=sa.Uuid()))
)


async def person(kernel: Kernel, tenant_id: UUID, id_: UUID) -> Row:
    """A principal's row."""
    rows = await kernel.database.read(tenant_id, _PERSON, {"id": id_})
    if not rows:
        raise not_found("person")
    return rows[0]


def identity_claims(row: Row, scopes: Collection[str]) -> dict[str, Any]:
    """The standard claims that scopes ask for (OpenID Connect Core 1.0, 5.1 and 5.4)."""
    claims: dict[str, Any] = {}
    if "profile" in scopes:
        claims |= {"name": row["name"], "locale": row["language"], "zoneinfo": row["time_zone"]}
        claims["updated_at"] = int(row["updated_at"].timestamp())
    if "email" in scopes and row["email"] is not None:
        claims |= {"email": row["email"], "email_verified": row["email"] == row["proven_email"]}
    return {name: value for name, value in claims.items() if value is not None}


@tells(UserInfo, known=True)
async def userinfo(request: Request) -> Response:
    """Who an access token with the scope `openid` acts as."""
    ctx = await open_context(request)
    scopes = ctx.principal.scopes or frozenset()
    if "openid" not in scopes or ctx.principal.id is None:
        told = {"WWW-Authenticate": 'Bearer realm="crm", error="insufficient_scope", scope="openid"'}
        needs = "This needs an access token with the scope openid."
        raise Problem(FORBIDDEN, needs, headers=told, extra={"permission": "openid"})
    row = await person(ctx.kernel, ctx.principal.tenant_id, ctx.principal.id)
    return answer({"sub": str(ctx.principal.id), **identity_claims(row, scopes)})


router.add_api_route(
    "/oauth/userinfo", userinfo, methods=["GET", "POST"], operation_id="get_user_info", summary="Who a token acts as"
)
