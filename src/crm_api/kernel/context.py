"""The one argument of every function: who asks, in which tenant, with which rights, in which transaction."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar, cast
from uuid import UUID

import sqlalchemy as sa
import uuid_utils

from crm_api.kernel.admission import Limiter
from crm_api.kernel.database import TENANT, Database, Link, Row, Statement
from crm_api.kernel.problems import AccessMoved, Problem, unavailable
from crm_api.kernel.record import Tenant, table_of
from crm_api.kernel.sealing import Sealer
from crm_api.kernel.signing import Signer

if TYPE_CHECKING:
    from crm_api.kernel.domain import Catalog
    from crm_api.kernel.policy import Access, Policy
    from crm_api.kernel.resource import Resource


Compiled = TypeVar("Compiled")
WRITTEN = "outbox"
"""The bell that this process has committed events."""


def new_id() -> UUID:
    """A UUIDv7 (RFC 9562): ids sort by creation."""
    return UUID(bytes=uuid_utils.uuid7().bytes)


@dataclass(frozen=True, slots=True)
class Principal:
    """A verified credential. It says who asks, never what they may do.

    `bounded`: it ends, or holds only from some networks.
    """

    tenant_id: UUID
    id: UUID | None
    kind: str
    credential_id: UUID | None = None
    scopes: frozenset[str] | None = None
    bounded: bool = False


class Authenticator(Protocol):
    """What the identity domain gives the kernel."""

    async def authenticate(self, authorization: str | None, address: str) -> Principal:
        """The principal of an Authorization header; raises a 401 problem."""

    async def signed(self, authorization: str | None) -> bool:
        """Whether it holds what only this server can have made, and made lately; nothing is looked up for it."""

    async def access(self, principal: Principal, *, at_least: int = 0, link: Link | None = None) -> "Access":
        """What a principal may do; from memory unless older than version `at_least`. Raises 401 when revoked.

        With `link`, as the transaction that is open on it sees it; that is not remembered.
        """


@dataclass(frozen=True)
class Kernel:
    """What lives as long as the process."""

    database: Database
    catalog: "Catalog"
    policy: "Policy"
    authenticator: Authenticator
    cursor_keys: tuple[bytes, ...]
    sealer: Sealer
    signer: Signer
    limiter: Limiter
    statements: dict[Any, Any] = field(default_factory=dict)
    bells: dict[str, asyncio.Event] = field(default_factory=dict)
    pulses: dict[UUID, Any] = field(default_factory=dict)

    def statement(self, key: Any, build: Callable[[], Compiled]) -> Compiled:
        """The compiled statement of a shape; built at its first use, bounded in number."""
        statement = self.statements.get(key)
        if statement is None:
            if len(self.statements) >= 4000:
                self.statements.clear()
            statement = self.statements[key] = build()
        return cast("Compiled", statement)

    def bell(self, name: str) -> asyncio.Event:
        """What a loop of this process waits for; set by whoever has committed work for it."""
        return self.bells.setdefault(name, asyncio.Event())


@dataclass(slots=True)
class Idempotency:
    """A client's key for this write, already scoped to tenant, credential, method and path."""

    scope: bytes
    fingerprint: bytes


@dataclass(slots=True)
class Net:
    """An object written in the open transaction: what it was `before`, and where its generic event is in the outbox."""

    before: str
    place: int | None = None


@dataclass(slots=True)
class Context:
    """One request or job.

    `link` is set while a transaction is open, `nets` are the objects written in it, `moved` that it changed rights, and
    `rings` the bells that are rung when it is committed. `status` is what a write that knows only by itself whether it
    creates has come to. `cause` is why it writes, beside who asked; events tell it. `ignored` are fields left out of
    it, with the source that owns each.
    """

    kernel: Kernel
    principal: Principal
    access: "Access"
    request_id: str
    now: datetime = field(default_factory=lambda: datetime.now(UTC))
    transaction_id: UUID = field(default_factory=new_id)
    link: Link | None = None
    dry_run: bool = False
    allow_duplicate: bool = False
    via: str = "api"
    cause: Mapping[str, Any] | None = None
    idempotency: Idempotency | None = None
    idempotency_key: str | None = None
    nets: dict[tuple[str, UUID], Net] = field(default_factory=dict)
    moved: bool = False
    status: int | None = None
    ignored: dict[str, str] = field(default_factory=dict)
    rings: set[str] = field(default_factory=set)

    def require(self, resource: "Resource", action: str) -> None:
        """Refuses with 403 unless the credential's scopes and a role both allow the action."""
        self.kernel.policy.require(self.access, self.principal.scopes, resource, action)

    async def fetch(self, statement: Statement, values: dict[str, Any]) -> list[Row]:
        """Runs a statement in the open transaction, else in autocommit."""
        values["tenant"] = self.principal.tenant_id
        if self.link is not None:
            return await self.link.fetch(statement, values)
        return await self.kernel.database.fetch(self.principal.tenant_id, statement, values)

    def ring(self) -> None:
        """Wakes the loops of this process that have work now; when it is committed."""
        while self.rings:
            self.kernel.bell(self.rings.pop()).set()

    async def current(self, version: int | None) -> bool:
        """Whether a statement ran under the rights it was compiled for, going by the access version it returned.

        Raises:
            AccessMoved: rights changed; the request must be read again, since filters may name what is hidden now.
        """
        if version == self.access.version:
            return True
        if version is None:
            raise unavailable("The tenant is gone.")
        if not self.access.unrestricted:
            if self.link is None:  # else when the connection is free: a second one may be had by nobody then
                await self.kernel.authenticator.access(self.principal, at_least=version)
            raise AccessMoved(version)
        self.access = replace(self.access, version=version)
        return False

    async def read(self, statement: Statement, values: dict[str, Any]) -> list[Row]:
        """Like `fetch`, for statements that may safely run twice."""
        values["tenant"] = self.principal.tenant_id
        if self.link is not None:
            return await self.link.fetch(statement, values)
        return await self.kernel.database.read(self.principal.tenant_id, statement, values)


_TRIES = 4
_TENANTS = table_of(Tenant)
_VERSION = Statement(sa.select(_TENANTS.c.access_version).where(_TENANTS.c.tenant_id == TENANT))


async def settled(
    ctx: Context, shape: tuple[Any, ...], build: Callable[[], Compiled], values: dict[str, Any], *, once: bool = False
) -> tuple[Compiled, list[Row]]:
    """Runs the statement of a shape until it ran under the rights it was compiled for; gives its plan, too.

    Args:
        ctx: the request; when the tenant's access version has moved on, the request is read again.
        shape: what the statement depends on, beside the form of the access.
        build: gives a statement, or a plan that has one; the first column of each row is the access version.
        values: of its parameters, beside those of the access.
        once: it may not safely run twice.
    """
    for _ in range(_TRIES):
        plan = ctx.kernel.statement((*shape, ctx.access.shape), build)
        run, bound = ctx.fetch if once else ctx.read, {**ctx.access.values, **values}
        rows = await run(plan if isinstance(plan, Statement) else plan.statement, bound)  # type: ignore[attr-defined]
        if await ctx.current(rows[0][0] if rows else None):
            return plan, rows
    raise unavailable("Permissions are changing; try again.")


async def refuse(ctx: Context, problem: Problem) -> NoReturn:
    """Raises a problem that rests on remembered rights, unless those have changed; then the request is read again."""
    rows = await ctx.read(_VERSION, {})
    await ctx.current(rows[0][0] if rows else None)
    raise problem
