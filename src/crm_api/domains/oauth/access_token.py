"""Access tokens: signed JSON (RFC 9068) that a request is verified by without a look at the client."""

import hashlib
import secrets
import time
from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import sqlalchemy as sa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jws import extract_compact
from joserfc.jwt import JWTClaimsRegistry

from crm_api.domains.identity.access import Bearer, Verified
from crm_api.domains.oauth.grant import OAuthGrant, live
from crm_api.domains.oauth.signing_keys import SigningKeys
from crm_api.kernel.context import Kernel, Principal
from crm_api.kernel.database import TENANT, Database, Statement
from crm_api.kernel.problems import unavailable
from crm_api.kernel.record import table_of

SECONDS = 600
"""How long an access token is good."""
LEEWAY = 5
"""Seconds by which clocks of processes may differ."""
LONGEST = 8_192
ALGORITHM = "ES256"
TYPE = "at+jwt"
_REMEMBERED_SECONDS = 60.0
_MOST_REMEMBERED = 20_000
_HEADER = {"alg", "kid", "typ"}

_GRANTS = table_of(OAuthGrant)
_ID = sa.bindparam("id", type_=sa.Uuid())
_LIVE = Statement(
    sa.select(sa.cast(_GRANTS.c.principal_id, sa.Text()), _GRANTS.c.kind).where(
        _GRANTS.c.tenant_id == TENANT, _GRANTS.c.id == _ID, live()
    )
)


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token of ours says, verified: who acts (`subject`), for which client, by which grant, with which scopes.

    `audience` is the resource it is for; `client_id` is the public one.
    """

    tenant_id: UUID
    grant_id: UUID
    subject: UUID
    client_id: str
    scopes: frozenset[str]
    expires_at: datetime
    everything: dict[str, Any]


class AccessTokens(Bearer):
    """Makes and verifies the tokens of an installation, which is `issuer` and audience at once."""

    prefix = "eyJ"
    used = Statement(
        sa.update(_GRANTS)
        .where(_GRANTS.c.tenant_id == TENANT, _GRANTS.c.id == _ID)
        .values(last_used_at=sa.bindparam("at", type_=sa.DateTime(timezone=True)))
    )

    def __init__(self, database: Database, keys: SigningKeys, issuer: str | None) -> None:
        self._database = database
        self._issuer = issuer
        self._claims: dict[bytes, tuple[Claims, float]] = {}
        self.keys = keys

    @property
    def issuer(self) -> str:
        """The address of the installation; a problem when it does not know it."""
        if self._issuer is None:
            raise unavailable("CRM_PUBLIC_URL is not set: the server does not know its own address.")
        return self._issuer

    @property
    def challenge(self) -> str:
        """Where the metadata of the API is (RFC 9728, 5.1)."""
        return f'resource_metadata="{self._issuer or ""}/.well-known/oauth-protected-resource"'

    def held(self, credential: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """Whether a credential is a grant that still holds."""
        return sa.exists().where(_GRANTS.c.tenant_id == TENANT, _GRANTS.c.id == credential, live())

    async def sign(self, claims: dict[str, Any], type_: str, seconds: int = SECONDS) -> str:
        """A token with these claims, our name and its times."""
        key, now = await self.keys.signing(), int(time.time())
        whole = {"iss": self.issuer, "iat": now, "exp": now + seconds, **claims}
        header = {"alg": ALGORITHM, "kid": str(key.kid), "typ": type_}
        return jwt.encode(header, whole, key, [ALGORITHM])

    async def issue(
        self, tenant_id: UUID, grant_id: UUID, subject: UUID, client_id: str, scopes: Collection[str], **more: Any
    ) -> str:
        """An access token of a grant."""
        claims = {
            "sub": str(subject),
            "aud": self.issuer,
            "client_id": client_id,
            "scope": " ".join(sorted(scopes)),
            "tenant": str(tenant_id),
            "grant": str(grant_id),
            "jti": secrets.token_urlsafe(16),
            **{name: value for name, value in more.items() if value is not None},
        }
        return await self.sign(claims, TYPE)

    async def verify(self, token: str) -> Verified | None:
        """Who acts by a token, when it and its grant are good; None for any other text."""
        claims = await self.claims(token)
        if claims is None:
            return None
        rows = await self._database.read(claims.tenant_id, _LIVE, {"id": claims.grant_id})
        if not rows or UUID(rows[0][0]) != claims.subject:
            return None
        kind = "service" if rows[0]["kind"] == "client_credentials" else "user"
        principal = Principal(claims.tenant_id, claims.subject, kind, claims.grant_id, claims.scopes)
        return Verified(principal, claims.expires_at)

    async def signed(self, token: str) -> bool:
        """Whether a token is ours and has not expired."""
        return await self.claims(token) is not None

    async def claims(self, token: str) -> Claims | None:
        """What a token of ours says; signatures are remembered for a minute, by the token's hash."""
        if self._issuer is None or len(token) > LONGEST:
            return None
        key = hashlib.sha256(token.encode()).digest()
        known = self._claims.get(key)
        if known is None or known[1] < time.monotonic():
            found = await self._verified(token)
            if found is None:
                return None
            if len(self._claims) >= _MOST_REMEMBERED:
                self._claims.clear()
            known = self._claims[key] = (found, time.monotonic() + _REMEMBERED_SECONDS)
        return known[0] if known[0].expires_at > datetime.now(UTC) else None

    async def _verified(self, token: str) -> Claims | None:
        try:
            header = extract_compact(token.encode()).headers()
            if set(header) != _HEADER or header["typ"] != TYPE or header["alg"] != ALGORITHM:
                return None
            key = await self.keys.named(str(header["kid"]))
            if key is None:
                return None
            said = jwt.decode(token, key, [ALGORITHM]).claims
            JWTClaimsRegistry(
                leeway=LEEWAY,
                iss={"essential": True, "value": self.issuer},
                exp={"essential": True},
                iat={"essential": True},
                sub={"essential": True},
                jti={"essential": True},
            ).validate(said)
            if said.get("aud") != self.issuer:
                return None
            ends = datetime.fromtimestamp(int(said["exp"]) + LEEWAY, UTC)
            return Claims(
                UUID(said["tenant"]),
                UUID(said["grant"]),
                UUID(said["sub"]),
                str(said["client_id"]),
                frozenset(str(said["scope"]).split()),
                min(ends, datetime.now(UTC) + timedelta(seconds=SECONDS + LEEWAY)),
                said,
            )
        except (JoseError, KeyError, TypeError, ValueError, OverflowError):
            return None


def tokens_of(kernel: Kernel) -> AccessTokens:
    """The tokens of a process."""
    bearers = cast("Any", kernel.authenticator).bearers
    return next(bearer for bearer in bearers if isinstance(bearer, AccessTokens))
