"""From a credential to a principal, and from a principal to what it may do."""

import hashlib
import hmac
import ipaddress
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Protocol
from uuid import UUID

import orjson
import sqlalchemy as sa
import structlog
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.domains.identity.api_key import ApiKey
from crm_api.domains.identity.credentials import hashes, parse_key
from crm_api.domains.identity.delegation import LEVELS
from crm_api.domains.identity.grants import expand, ruled, untold
from crm_api.domains.identity.principal import Principal as PrincipalRow
from crm_api.domains.identity.role import AccessDefault, Role, RoleAssignment
from crm_api.domains.identity.team import Team, TeamMember
from crm_api.domains.identity.territory import worked_in
from crm_api.kernel.context import Principal
from crm_api.kernel.customs import COLUMNS, customs_of
from crm_api.kernel.customs_records import CustomField
from crm_api.kernel.database import TENANT, Database, Link, Statement
from crm_api.kernel.domain import Catalog
from crm_api.kernel.duplicates_check import DuplicateCheck
from crm_api.kernel.external_records import Source as SourceRow
from crm_api.kernel.external_sources import Source
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import UNAUTHENTICATED, Problem
from crm_api.kernel.record import Tenant, table_of

log = structlog.get_logger("crm_api.identity")
CREDENTIAL_SECONDS = 5.0
ACCESS_SECONDS = 60.0
MOST_REMEMBERED = 20_000

_KEYS, _PEOPLE, _TENANTS = table_of(ApiKey), table_of(PrincipalRow), table_of(Tenant)
_ROLES, _HOLDS, _DEFAULTS = table_of(Role), table_of(RoleAssignment), table_of(AccessDefault)
_TEAMS, _MEMBERS, _SOURCES = table_of(Team), table_of(TeamMember), table_of(SourceRow)
_CHECKS, _CUSTOMS = table_of(DuplicateCheck), table_of(CustomField)
_ID = sa.bindparam("id", type_=sa.Uuid())
_CREDENTIAL = sa.bindparam("credential", type_=sa.Uuid())


@dataclass(frozen=True, slots=True)
class Verified:
    """Who a bearer token speaks for, and until when."""

    principal: Principal
    expires_at: datetime


class Bearer(Protocol):
    """Bearer tokens of another kind than API keys, which a later domain knows; `credential_id` is a row of its own.

    Attributes:
        prefix: what they begin with, and no others.
        challenge: what `WWW-Authenticate` tells of where to get one, `name="value"`.
        used: notes when (`at`) the credential of an `id` was last used.
    """

    prefix: str
    used: Statement

    @property
    def challenge(self) -> str:
        """See above."""

    def held(self, credential: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
        """Whether an id is that of such a credential, and it is still good."""

    async def verify(self, token: str) -> Verified | None:
        """Who speaks by a token, as of now; None when it is not good."""

    async def signed(self, token: str) -> bool:
        """Whether a token was made here and has not expired, whatever became of it since."""


def _live(key: Any) -> sa.ColumnElement[bool]:
    return sa.and_(key.c.revoked_at.is_(None), sa.or_(key.c.expires_at.is_(None), key.c.expires_at > sa.func.now()))


_LOOK_UP = Statement(
    sa.select(
        _KEYS.c.secret_hash,
        _KEYS.c.scopes,
        _KEYS.c.allowed_networks,
        _KEYS.c.expires_at,
        _KEYS.c.principal_id,
        _PEOPLE.c.kind,
    )
    .select_from(sa.join(_KEYS, _PEOPLE, _PEOPLE.c.id == _KEYS.c.principal_id))
    .where(_KEYS.c.tenant_id == TENANT, _PEOPLE.c.tenant_id == TENANT, _KEYS.c.id == _ID, _live(_KEYS))
)


def _access_statement(bearers: tuple[Bearer, ...]) -> Statement:
    tree = sa.select(_PEOPLE.c.id).where(_PEOPLE.c.tenant_id == TENANT, _PEOPLE.c.id == _ID).cte("tree", recursive=True)
    report = _PEOPLE.alias("report")
    tree = tree.union(sa.select(report.c.id).where(report.c.tenant_id == TENANT, report.c.manager_id == tree.c.id))
    teams = (
        sa.select(_MEMBERS.c.team_id)
        .select_from(sa.join(_MEMBERS, _TEAMS, _TEAMS.c.id == _MEMBERS.c.team_id))
        .where(
            _MEMBERS.c.tenant_id == TENANT,
            _TEAMS.c.tenant_id == TENANT,
            _MEMBERS.c.principal_id == _ID,
            _MEMBERS.c.deleted_at.is_(None),
            _TEAMS.c.deleted_at.is_(None),
        )
    )
    roles = (
        sa.select(
            sa.func.jsonb_agg(
                sa.func.jsonb_build_object(
                    "id",
                    _ROLES.c.id,
                    "name",
                    _ROLES.c.name,
                    "permissions",
                    _ROLES.c.permissions,
                    "field_rules",
                    _ROLES.c.field_rules,
                )
            )
        )
        .select_from(sa.join(_HOLDS, _ROLES, _ROLES.c.id == _HOLDS.c.role_id))
        .where(
            _HOLDS.c.tenant_id == TENANT,
            _ROLES.c.tenant_id == TENANT,
            _HOLDS.c.principal_id == _ID,
            _HOLDS.c.deleted_at.is_(None),
            _ROLES.c.deleted_at.is_(None),
        )
    )
    defaults = sa.select(sa.func.jsonb_object_agg(_DEFAULTS.c.resource, _DEFAULTS.c.level)).where(
        _DEFAULTS.c.tenant_id == TENANT, _DEFAULTS.c.deleted_at.is_(None)
    )
    sources = sa.select(
        sa.func.jsonb_agg(
            sa.func.jsonb_build_object(
                *("code", _SOURCES.c.code, "account", _SOURCES.c.service_account_id),
                *("owned", _SOURCES.c.owned_fields, "on_conflict", _SOURCES.c.on_conflict),
            )
        )
    ).where(_SOURCES.c.tenant_id == TENANT, _SOURCES.c.deleted_at.is_(None))
    checks = sa.select(sa.func.jsonb_object_agg(_CHECKS.c.resource, _CHECKS.c.score)).where(
        _CHECKS.c.tenant_id == TENANT,
        _CHECKS.c.deleted_at.is_(None),
        _CHECKS.c.on_create == sa.literal("refuse", sa.Text()),
    )
    told = [part for name in COLUMNS for part in (name, _CUSTOMS.c[name])]
    customs = sa.select(sa.func.jsonb_agg(sa.func.jsonb_build_object(*told))).where(
        _CUSTOMS.c.tenant_id == TENANT, _CUSTOMS.c.deleted_at.is_(None)
    )
    held = sa.select(sa.literal(1)).where(_KEYS.c.tenant_id == TENANT, _KEYS.c.id == _CREDENTIAL, _live(_KEYS))
    return Statement(
        sa.select(
            _TENANTS.c.access_version,
            _TENANTS.c.credential_rate,
            _TENANTS.c.tenant_rate,
            _PEOPLE.c.kind,
            _PEOPLE.c.name,
            _PEOPLE.c.team_id,
            sa.func.array(sa.select(tree.c.id).scalar_subquery(), type_=ARRAY(sa.Uuid())).label("subordinates"),
            sa.func.array(teams.scalar_subquery(), type_=ARRAY(sa.Uuid())).label("teams"),
            sa.func.array(worked_in(_ID).scalar_subquery(), type_=ARRAY(sa.Uuid())).label("territories"),
            roles.scalar_subquery().label("roles"),
            defaults.scalar_subquery().label("defaults"),
            sources.scalar_subquery().label("sources"),
            checks.scalar_subquery().label("checks"),
            customs.scalar_subquery().label("customs"),
        )
        .select_from(sa.join(_TENANTS, _PEOPLE, sa.true()))
        .where(
            _TENANTS.c.tenant_id == TENANT,
            _TENANTS.c.is_active,
            _PEOPLE.c.tenant_id == TENANT,
            _PEOPLE.c.id == _ID,
            _PEOPLE.c.is_active,
            _PEOPLE.c.deleted_at.is_(None),
            sa.or_(_CREDENTIAL.is_(None), sa.exists(held), *(bearer.held(_CREDENTIAL) for bearer in bearers)),
        )
    )


_USED = Statement(
    sa.update(_KEYS)
    .where(_KEYS.c.tenant_id == TENANT, _KEYS.c.id == _ID)
    .values(last_used_at=sa.bindparam("at", type_=sa.DateTime(timezone=True)))
)
_HASHED = Statement(
    sa.update(_KEYS)
    .where(
        _KEYS.c.tenant_id == TENANT,
        _KEYS.c.id == _ID,
        _KEYS.c.secret_hash == sa.bindparam("before", type_=sa.LargeBinary()),
    )
    .values(secret_hash=sa.bindparam("after", type_=sa.LargeBinary()))
)


@dataclass(frozen=True, slots=True)
class _Remembered:
    principal: Principal
    networks: tuple[Any, ...]
    expires_at: datetime | None
    until: float
    used: Statement = _USED


@dataclass
class Identity:
    """Authenticates and remembers: credentials for seconds, rights by access version."""

    database: Database
    catalog: Catalog
    bearers: tuple[Bearer, ...] = ()
    _credentials: dict[bytes, _Remembered] = field(default_factory=dict)
    _access: dict[tuple[UUID, UUID | None, UUID | None], tuple[Access, float]] = field(default_factory=dict)
    _used: dict[tuple[UUID, UUID], tuple[Statement, datetime]] = field(default_factory=dict)
    _hashed: dict[tuple[UUID, UUID], tuple[bytes, bytes]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Compiles what asks for rights, which depends on the kinds of credentials."""
        self._statement = _access_statement(self.bearers)

    async def authenticate(self, authorization: str | None, address: str) -> Principal:
        """The principal of a bearer token.

        Raises:
            Problem: 401, always with the same text, so that nothing can be learned by trying.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise self._refused("Send an API key or an access token: Authorization: Bearer ...")
        place = hashlib.sha256(token.encode()).digest()
        known = self._credentials.get(place)
        if known is None or known.until < time.monotonic():
            self._credentials.pop(place, None)
            known = await self._look_up(token)
            if len(self._credentials) >= MOST_REMEMBERED:
                self._credentials.clear()
            self._credentials[place] = known
        if known.expires_at is not None and known.expires_at <= datetime.now(UTC):
            raise self._refused()
        if known.networks and not any(ipaddress.ip_address(address) in network for network in known.networks):
            raise self._refused()
        principal = known.principal
        if principal.credential_id is not None:
            self._used[principal.tenant_id, principal.credential_id] = known.used, datetime.now(UTC)
        return principal

    async def signed(self, authorization: str | None) -> bool:
        """Whether it is a token that nobody can have guessed; an API key is looked up to know."""
        token = (authorization or "").partition(" ")[2]
        return any([await bearer.signed(token) for bearer in self.bearers if token.startswith(bearer.prefix)])

    async def _look_up(self, token: str) -> _Remembered:
        until = time.monotonic() + CREDENTIAL_SECONDS
        for bearer in self.bearers:
            if token.startswith(bearer.prefix):
                if (verified := await bearer.verify(token)) is None:
                    raise self._refused()
                return _Remembered(verified.principal, (), verified.expires_at, until, bearer.used)
        if (parsed := parse_key(token)) is None:
            raise self._refused()
        tenant_id, key_id, secret = parsed
        rows = await self.database.read(tenant_id, _LOOK_UP, {"id": key_id})
        given = hashes(secret)
        kept = bytes(rows[0]["secret_hash"]) if rows else b""
        if not any(hmac.compare_digest(kept, each) for each in given):
            raise self._refused()
        row = rows[0]
        if kept != given[0]:
            self._hashed[tenant_id, key_id] = kept, given[0]
        scopes = orjson.loads(row["scopes"]) if row["scopes"] else None
        networks = tuple(ipaddress.ip_network(text) for text in orjson.loads(row["allowed_networks"]))
        principal = Principal(
            tenant_id,
            UUID(str(row["principal_id"])),
            "user" if row["kind"] == "user" else "service",
            key_id,
            None if scopes is None else frozenset(scopes),
            bounded=bool(networks) or row["expires_at"] is not None,
        )
        return _Remembered(principal, networks, row["expires_at"], until)

    async def access(self, principal: Principal, *, at_least: int = 0, link: Link | None = None) -> Access:
        """Rights of a principal; read again when they are older than asked for, or than a minute.

        With `link` they are those of its open transaction, which nobody else has yet.
        """
        key = (principal.tenant_id, principal.id, principal.credential_id)
        known = self._access.get(key)
        values = {"id": principal.id, "credential": principal.credential_id}
        if link is not None:
            rows = await link.fetch(self._statement, {**values, "tenant": principal.tenant_id})
            if not rows:
                raise self._refused()
            return _compile(self.catalog, principal, rows[0])
        if known is not None and known[0].version >= at_least and known[1] > time.monotonic():
            return known[0]
        rows = await self.database.read(principal.tenant_id, self._statement, values)
        if not rows:
            self._access.pop(key, None)
            raise self._refused()
        if len(self._access) >= MOST_REMEMBERED:
            self._access.clear()
        access = _compile(self.catalog, principal, rows[0])
        self._access[key] = (access, time.monotonic() + ACCESS_SECONDS)
        return access

    def _refused(self, detail: str | None = None) -> Problem:
        """401 (RFC 6750, 3); `detail` when nothing was sent, else always the same."""
        told = [
            'realm="crm"',
            *(() if detail else ('error="invalid_token"',)),
            *(item.challenge for item in self.bearers),
        ]
        headers = {"WWW-Authenticate": f"Bearer {', '.join(told)}"}
        return Problem(UNAUTHENTICATED, detail or "The credential is not valid.", headers=headers)

    async def flush(self) -> None:
        """Writes when keys were last used, and the hashes under the present pepper of those that had another."""
        used, self._used = self._used, {}
        for (tenant_id, id_), (statement, at) in used.items():
            await self.database.fetch(tenant_id, statement, {"id": id_, "at": at})
        hashed, self._hashed = self._hashed, {}
        for (tenant_id, key_id), (before, after) in hashed.items():
            await self.database.fetch(tenant_id, _HASHED, {"id": key_id, "before": before, "after": after})


def _source(item: Any) -> Source:
    owned: dict[str, set[str]] = {}
    for place in item["owned"]:
        owned.setdefault(place["resource"], set()).add(place["field"])
    fields = {plural: frozenset(names) for plural, names in owned.items()}
    account = item["account"] and UUID(item["account"])
    return Source(item["code"], account, fields, ignores=item["on_conflict"] == "ignore")


def _compile(catalog: Catalog, principal: Principal, row: Any) -> Access:
    roles = orjson.loads(row["roles"]) if row["roles"] else []
    defaults = orjson.loads(row["defaults"]) if row["defaults"] else {}
    reach: dict[tuple[str, str], set[str]] = {}
    for role in roles:
        for grant in role["permissions"]:
            for resource, action in expand(catalog, grant["permission"]):
                reach.setdefault((resource, action), set()).add(grant["reach"])
    for name, declared in catalog.resources.items():
        level = defaults.get(name, declared.default_access)
        for action in LEVELS.get(level or "", ()):
            reach.setdefault((name, action), set())
    hidden = ruled(catalog, roles, ("hidden",))
    if shut := untold(catalog, hidden):
        reach = {key: found for key, found in reach.items() if key[0] not in shut}
    scopes = principal.scopes
    closed = frozenset(
        name
        for name, resource in catalog.resources.items()
        if scopes is not None and not {f"{resource.domain}:read", f"{resource.domain}:admin"} & scopes
    )
    return Access(
        closed=closed,
        whole_types=frozenset(
            resource.singular
            for name, resource in catalog.resources.items()
            if name not in closed
            and (name, "read") in reach
            and ("all" in reach[name, "read"] or defaults.get(name, resource.default_access) in LEVELS)
        ),
        version=row["access_version"],
        rates=(row["credential_rate"], row["tenant_rate"]),
        principal_id=principal.id,
        kind=principal.kind,
        reach={key: frozenset(value) for key, value in reach.items()},
        hidden=hidden,
        hidden_types={catalog.resources[name].singular: fields for name, fields in hidden.items()},
        read_only=ruled(catalog, roles, ("hidden", "read_only")),
        defaults=defaults,
        sources={item["code"]: _source(item) for item in orjson.loads(row["sources"] or "[]")},
        suspecting=orjson.loads(row["checks"] or "{}"),
        customs=customs_of(row["customs"]),
        subordinates=tuple(UUID(str(value)) for value in row["subordinates"]),
        teams=tuple(UUID(str(value)) for value in row["teams"]),
        territories=tuple(UUID(str(value)) for value in row["territories"]),
        primary_team=row["team_id"] and UUID(str(row["team_id"])),
        name=row["name"],
        roles=tuple(role["name"] for role in roles),
        role_ids=tuple(role["id"] for role in roles),
    )
