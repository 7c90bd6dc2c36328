"""Who signs in: looked up by e-mail or id, with all that decides how; and the context of what they do."""

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import insert
from starlette.requests import Request

from crm_api import settings as process
from crm_api.domains.identity.leaving import ends
from crm_api.domains.identity.principal import USERS
from crm_api.domains.identity.principal import Principal as PrincipalRow
from crm_api.domains.identity.role import Role, RoleAssignment
from crm_api.domains.identity.tickets import Ticket
from crm_api.domains.sign_in.browser import signed_in
from crm_api.domains.sign_in.password import Password
from crm_api.domains.sign_in.second_factor import SecondFactor
from crm_api.domains.sign_in.second_factor_rule import SecondFactorRule
from crm_api.domains.sign_in.session import SESSIONS, Session
from crm_api.kernel import writing
from crm_api.kernel.coalescing import Emission
from crm_api.kernel.context import Context, Kernel, Principal, new_id
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW, parameters
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import FORBIDDEN, Problem
from crm_api.kernel.record import Tenant, table_of
from crm_api.kernel.repository import record, update
from crm_api.kernel.unit_of_work import transact

_PEOPLE, _TENANTS, _SESSIONS = table_of(PrincipalRow), table_of(Tenant), table_of(Session)
_PASSWORDS, _FACTORS, _RULES = table_of(Password), table_of(SecondFactor), table_of(SecondFactorRule)
_HOLDS, _ROLES = table_of(RoleAssignment), table_of(Role)


@dataclass(frozen=True, slots=True)
class Person:
    """An active user of an active tenant. `must_have_factor`: a rule of the organisation says so."""

    tenant_id: UUID
    id: UUID
    name: str
    email: str
    language: str | None
    organisation: str
    hash: str | None
    changed_at: datetime | None
    factor_id: str | None
    must_have_factor: bool

    @property
    def known(self) -> tuple[str, str, str]:
        """What everybody knows of them, and no password is made from."""
        return self.name, self.email, self.organisation


def _look_up(condition: sa.ColumnElement[bool]) -> Statement:
    held: sa.Select[Any] = (
        sa.select(sa.literal_column("1"))
        .select_from(sa.join(_HOLDS, _ROLES, _ROLES.c.id == _HOLDS.c.role_id))
        .where(
            _HOLDS.c.tenant_id == TENANT,
            _ROLES.c.tenant_id == TENANT,
            _HOLDS.c.principal_id == _PEOPLE.c.id,
            _HOLDS.c.role_id == _RULES.c.role_id,
            _HOLDS.c.deleted_at.is_(None),
            _ROLES.c.deleted_at.is_(None),
        )
    )
    ruled: sa.Select[Any] = sa.select(sa.literal_column("1")).where(
        _RULES.c.tenant_id == TENANT,
        _RULES.c.deleted_at.is_(None),
        sa.or_(_RULES.c.role_id.is_(None), sa.exists(held.correlate(_PEOPLE, _RULES))),
    )
    mine = sa.and_(_PASSWORDS.c.tenant_id == TENANT, _PASSWORDS.c.principal_id == _PEOPLE.c.id)
    factor = sa.and_(
        _FACTORS.c.tenant_id == TENANT, _FACTORS.c.principal_id == _PEOPLE.c.id, _FACTORS.c.deleted_at.is_(None)
    )
    return Statement(
        sa.select(
            sa.cast(_PEOPLE.c.id, sa.Text()).label("id"),
            *(_PEOPLE.c[name] for name in ("name", "email", "language")),
            _TENANTS.c.name.label("organisation"),
            _PASSWORDS.c.hash,
            _PASSWORDS.c.changed_at,
            sa.cast(_FACTORS.c.id, sa.Text()).label("factor_id"),
            sa.exists(ruled.correlate(_PEOPLE)).label("must_have_factor"),
        )
        .select_from(
            sa.join(_PEOPLE, _TENANTS, sa.true())
            .join(_PASSWORDS, mine, isouter=True)
            .join(_FACTORS, factor, isouter=True)
        )
        .where(
            _PEOPLE.c.tenant_id == TENANT,
            _TENANTS.c.tenant_id == TENANT,
            _TENANTS.c.is_active,
            _PEOPLE.c.kind == sa.literal_column("'user'"),
            _PEOPLE.c.is_active,
            _PEOPLE.c.deleted_at.is_(None),
            condition,
        )
    )


_BY_EMAIL = _look_up(sa.func.lower(_PEOPLE.c.email) == sa.bindparam("email", type_=sa.Text()))
_BY_ID = _look_up(_PEOPLE.c.id == sa.bindparam("id", type_=sa.Uuid()))
_NEW = ("id", "principal_id", "secret_hash", "methods", "address", "user_agent", "expires_at")
_START = Statement(
    insert(_SESSIONS).values(
        tenant_id=TENANT,
        created_at=NOW,
        updated_at=NOW,
        last_seen_at=NOW,
        created_by=sa.bindparam("principal_id", type_=sa.Uuid()),
        updated_by=sa.bindparam("principal_id", type_=sa.Uuid()),
        created_via=sa.literal_column("'sign_in'"),
        **{name: sa.bindparam(name, type_=_SESSIONS.c[name].type) for name in _NEW},
    )
)
_OPEN = Statement(
    sa.select(sa.cast(_SESSIONS.c.id, sa.Text()))
    .where(
        _SESSIONS.c.tenant_id == TENANT,
        _SESSIONS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()),
        _SESSIONS.c.revoked_at.is_(None),
        _SESSIONS.c.expires_at > NOW,
    )
    .order_by(_SESSIONS.c.id)
)


_STILL = Statement(
    sa.select(_PASSWORDS.c.changed_at)
    .where(_PASSWORDS.c.tenant_id == TENANT, _PASSWORDS.c.principal_id == sa.bindparam("principal", type_=sa.Uuid()))
    .with_for_update(read=True)
)
"""Waits for who is changing the password, and keeps others from it until there is a session, which they end then."""


def _person(tenant_id: UUID, rows: list[Any]) -> Person | None:
    if len(rows) != 1:  # none, or two whose addresses differ in case alone
        return None
    return Person(tenant_id, UUID(rows[0]["id"]), **{name: value for name, value in rows[0].items() if name != "id"})


async def find_by_email(kernel: Kernel, tenant_id: UUID, email: str) -> Person | None:
    """The person of an e-mail address, in whatever case."""
    return _person(tenant_id, await kernel.database.read(tenant_id, _BY_EMAIL, {"email": email.strip().lower()}))


async def find_by_id(kernel: Kernel, tenant_id: UUID, id_: UUID) -> Person | None:
    """The person of an id."""
    return _person(tenant_id, await kernel.database.read(tenant_id, _BY_ID, {"id": id_}))


def acting(request: Request, tenant_id: UUID, principal_id: UUID, via: str = "sign_in") -> Context:
    """The context of what somebody does to what is their own, with a browser or by a client."""
    access = Access(0, principal_id, "user", unrestricted=True)
    principal = Principal(tenant_id, principal_id, "user")
    return Context(request.scope["crm.kernel"], principal, access, request.scope["crm.request_id"], via=via)


async def note(ctx: Context, person: Person, action: str, **after: Any) -> None:
    """An audit entry on a person, without an event: guesses are many, and no integration is to hear of each."""
    statement = ctx.kernel.statement(("record", USERS.plural), lambda: writing.compile_record(USERS))
    values = parameters(ctx, USERS, action, Emission("apart", ()))
    await ctx.fetch(statement, {**values, "id": person.id, "before": {}, "after": after})


async def start_session(request: Request, person: Person, methods: tuple[str, ...]) -> Ticket:
    """A new session, whose ticket is the cookie; the one that the browser had is ended, whosever it was.

    Raises:
        Problem: 403 when the password is another since the person was looked up by it.
    """
    ctx = acting(request, person.tenant_id, person.id)
    ticket, former = Ticket(person.tenant_id, new_id()), await signed_in(request)
    values = {
        "id": ticket.id,
        "principal_id": person.id,
        "secret_hash": ticket.hash,
        "methods": list(methods),
        "address": request.scope["crm.address"][:64],
        "user_agent": "".join(c for c in request.headers.get("user-agent", "") if c.isprintable())[:200] or "-",
        "expires_at": ctx.now + timedelta(hours=process.load_settings().session_hours),
        "now": ctx.now,
    }

    async def work(inner: Context) -> None:
        if "pwd" in methods:
            now = [row["changed_at"] for row in await inner.fetch(_STILL, {"principal": person.id})]
            if now != ([] if person.changed_at is None else [person.changed_at]):
                raise Problem(FORBIDDEN, "The password was changed meanwhile.")
        await inner.fetch(_START, values)
        await record(inner, SESSIONS, ticket.id, "sign_in", "started", after={"methods": list(methods)})
        await note(inner, person, "sign_in", session_id=str(ticket.id), methods=list(methods))

    await transact(ctx, work)
    if former is not None:
        theirs = acting(request, former.tenant_id, former.principal_id)
        await transact(theirs, lambda inner: end_sessions(inner, former.principal_id, only=former.session_id))
    return ticket


async def end_sessions(ctx: Context, principal_id: UUID, *, but: UUID | None = None, only: UUID | None = None) -> None:
    """Ends sessions of a person, in the open transaction: all, all but one, or only one."""
    for row in await ctx.fetch(_OPEN, {"principal": principal_id, "now": ctx.now}):
        if row["id"] != str(but) and (only is None or row["id"] == str(only)):
            change, events = {"revoked_at": ctx.now}, ("updated", "revoked")
            await update(ctx, SESSIONS, row["id"], change, action="revoke", events=events, by_verb=True)


@ends
async def _sessions(ctx: Context, principal_id: UUID) -> None:
    await end_sessions(ctx, principal_id)
