"""SQLAlchemy is the language, asyncpg the executor: compiled statements, a pool that knows tenants, transactions."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import orjson
import sqlalchemy as sa
from asyncpg.pgproto import pgproto
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql.asyncpg import dialect as asyncpg_dialect

from crm_api.kernel.admission import MANY, Floor, Turns
from crm_api.kernel.problems import AccessMoved, Problem, unavailable

TENANT = sa.bindparam("tenant", type_=sa.Uuid())
"""The parameter that binds every tenant table of every statement."""

Row = asyncpg.Record

_DIALECT = asyncpg_dialect(json_serializer=lambda value: orjson.dumps(value, option=orjson.OPT_UTC_Z).decode())  # type: ignore[no-untyped-call]
_MISSING = object()


def bound(ids: Iterable[UUID]) -> list[UUID]:
    """Ids as the driver sends them: its own type is bytes already, the standard library's costs a call for each."""
    return [pgproto.UUID(id_.bytes) for id_ in ids]


class Statement:
    """A compiled shape: SQL text, the order of its parameters and how each is bound."""

    __slots__ = ("_slots", "_template", "sql")

    def __init__(self, clause: sa.ClauseElement) -> None:
        """Compiles a clause and checks that each tenant table in it is bound to the tenant parameter."""
        check_tenant_bound(clause)
        compiled = clause.compile(dialect=_DIALECT)
        processors = compiled._bind_processors  # type: ignore[attr-defined] # noqa: SLF001 - the one place that takes a compiled statement apart
        self.sql: str = compiled.string
        self._template: list[Any] = []
        self._slots: list[tuple[int, str, Any]] = []
        binds = compiled.binds  # type: ignore[attr-defined]
        required = {bind.key: bind.required for bind in binds.values()}
        for position, name in enumerate(compiled.positiontup or ()):  # type: ignore[attr-defined]
            process = None if _plain(binds[name].type) else processors.get(name)
            if required.get(name, False):
                self._template.append(_MISSING)
                self._slots.append((position, name, process))
            else:
                constant = compiled.params[name]
                self._template.append(process(constant) if process else constant)

    def arguments(self, values: Mapping[str, Any]) -> list[Any]:
        """The positional arguments for named values."""
        arguments = self._template.copy()
        for position, name, process in self._slots:
            value = values[name]
            arguments[position] = value if process is None else process(value)
        return arguments


def _plain(type_: Any) -> bool:
    """Whether values go to the driver as they are: SQLAlchemy copies each array, item by item, even for nothing."""
    if not isinstance(type_, ARRAY):
        return False
    return type_.item_type.dialect_impl(_DIALECT).bind_processor(_DIALECT) is None


def check_tenant_bound(clause: sa.ClauseElement) -> None:
    """Refuses a statement that reads or writes a tenant table without `tenant_id = :tenant`.

    Raises:
        ValueError: names the tables; a fault of ours, found when the shape is first compiled.
    """
    used: set[Any] = set()
    bound: set[Any] = set()
    for element in elements(clause):
        if isinstance(element, (sa.Table, sa.Alias)):
            used.add(element)
        elif isinstance(element, sa.BinaryExpression) and _is_tenant(element.right):
            column = element.left
            if isinstance(column, sa.Column) and column.name == "tenant_id":
                bound.add(column.table)
        elif isinstance(element, sa.Insert):
            used.add(element.table)
            bound.add(element.table)  # the policy's WITH CHECK and NOT NULL hold for what is inserted
        elif isinstance(element, (sa.Update, sa.Delete)):
            used.add(element.table)
    targets = {alias.element for alias in used if isinstance(alias, sa.Alias)}
    loose = {str(table.name) for table in used - bound - targets if "tenant_id" in table.c and _base(table) is not None}
    if loose:
        raise ValueError(f"tables without a tenant condition: {sorted(loose)}")


def elements(clause: sa.ClauseElement) -> Iterator[Any]:
    """Each element of a clause once: parts are shared, and a traversal of SQLAlchemy's meets them every time again."""
    seen: dict[int, Any] = {}  # holds what is met, lest the identity of something short-lived be given to another
    waiting: list[Any] = [clause]
    while waiting:
        element = waiting.pop()
        if id(element) in seen:
            continue
        seen[id(element)] = element
        yield element
        if not isinstance(element, _LEAVES):
            waiting.extend(element.get_children())


_LEAVES = (sa.ColumnClause, sa.BindParameter)
"""Most elements by far, without any part that could be a table."""


def _base(table: Any) -> sa.Table | None:
    while isinstance(table, sa.Alias):
        table = table.element
    return table if isinstance(table, sa.Table) else None


def _is_tenant(element: Any) -> bool:
    return isinstance(element, sa.BindParameter) and element.key == "tenant"


@dataclass(eq=False, slots=True)
class Link:
    """One connection of the pool, with what the server side of it remembers."""

    connection: "asyncpg.Connection[Row]"
    tenant: UUID | None = None
    holder: UUID | None = None
    prepared: dict[str, Any] = field(default_factory=dict)
    count: int = 0
    broken: bool = False

    async def fetch(self, statement: Statement, values: Mapping[str, Any]) -> list[Row]:
        """Runs a statement, prepared once on this connection."""
        prepared = self.prepared.get(statement.sql)
        if prepared is None:
            if len(self.prepared) >= _MOST_PREPARED:
                self.prepared.clear()  # the driver closes what nothing refers to
            self.count += 1
            prepared = await self.connection.prepare(statement.sql, name=f"s{self.count}")
            self.prepared[statement.sql] = prepared
        rows: list[Row] = await prepared.fetch(*statement.arguments(values))
        return rows

    async def execute(self, sql: str) -> None:
        """Runs a literal command without parameters."""
        await self.connection.execute(sql)

    def note(self, error: BaseException) -> None:
        """Decides after an error whether the connection may be used again."""
        state = getattr(error, "sqlstate", None) or ""
        kept = isinstance(error, asyncpg.PostgresError) and (state[:2] in _KEPT or state == "57014")
        client_side = isinstance(error, (asyncpg.DataError, KeyError, Problem, AccessMoved))
        if not (kept or client_side):
            self.broken = True


_MOST_PREPARED = 600
_LOST = (
    *(asyncpg.InterfaceError, asyncpg.InternalClientError, asyncpg.PostgresConnectionError),
    *(asyncpg.AdminShutdownError, OSError),
)
_KEPT = ("22", "23", "40", "42", "53", "54", "55")
_PING = Statement(sa.select(sa.literal_column("1")))
_SET_TENANT = "SELECT set_config('crm.tenant', $1, false)"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the pool and of what runs on it; times in milliseconds unless said otherwise.

    `size` is how many connections one tenant may hold at once. A quarter more are opened while it does and others ask.
    """

    size: int = 8
    wait_seconds: float = 2.0
    statement: int = 5000
    lock: int = 500
    transaction: int = 15_000
    idle_in_transaction: int = 10_000
    local_tenant: bool = False


class Database:
    """The pool. Hands out connections whose tenant context is right; nothing else sets it."""

    def __init__(self, url: str, limits: Limits | None = None) -> None:
        self._url = url
        self.limits = limits or Limits()
        self._idle: list[Link] = []
        self._open = 0
        self._turns: Turns[asyncio.Future[Link | None]] = Turns(self.limits.size)
        self._most = self.limits.size + -(-self.limits.size // 4)
        self.floor = Floor()
        self._closed = False

    async def open(self) -> None:
        """Connects once, so that a wrong address or role is known at start."""
        self._release(await self._acquire(None))

    async def ping(self) -> None:
        """One round trip, for the readiness probe."""
        await self.fetch(None, _PING, {})

    async def close(self) -> None:
        """Closes idle connections; those in use close when they come back."""
        self._closed = True
        while self._idle:
            link = self._idle.pop()
            self._open -= 1
            with suppress(asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError):
                await link.connection.close(timeout=2)

    @property
    def in_use(self) -> int:
        """Connections handed out now."""
        return self._open - len(self._idle)

    async def fetch(self, tenant: UUID | None, statement: Statement, values: dict[str, Any]) -> list[Row]:
        """Runs one statement in autocommit for a tenant: one round trip when the connection knows the tenant."""
        if self.limits.local_tenant and tenant is not None:
            async with self.transaction(tenant) as link:
                values["tenant"] = tenant
                return await link.fetch(statement, values)
        values["tenant"] = tenant
        link = await self._acquire(tenant)
        try:
            rows = await link.fetch(statement, values)
        except BaseException as error:
            link.note(error)
            raise
        finally:
            self._release(link)
        return rows if len(rows) < MANY else await self.floor.many(tenant, rows)

    async def read(self, tenant: UUID, statement: Statement, values: dict[str, Any]) -> list[Row]:
        """`fetch` for statements without effect: repeated once when the connection turns out to be lost."""
        try:
            return await self.fetch(tenant, statement, values)
        except _LOST:
            return await self.fetch(tenant, statement, values)

    @asynccontextmanager
    async def transaction(self, tenant: UUID, *, keep: bool = True) -> AsyncIterator[Link]:
        """A transaction for a tenant; rolled back after an error, or always with `keep=False`."""
        link = await self._acquire(tenant)
        try:
            await link.execute("BEGIN")
            if self.limits.local_tenant:
                await link.execute(f"SET LOCAL crm.tenant = '{UUID(str(tenant))}'")
            try:
                yield link
            except BaseException as error:
                link.note(error)
                if not link.broken:
                    await link.execute("ROLLBACK")
                raise
            await link.execute("COMMIT" if keep else "ROLLBACK")
        except BaseException as error:
            link.note(error)
            raise
        finally:
            self._release(link)

    async def _acquire(self, tenant: UUID | None) -> Link:
        free = (self._idle or self._open < self._most) and self._turns.take(tenant)
        link = self._free(tenant) if free else await self._wait(tenant)
        if link is None:
            link = await self._connect(tenant)
        link.holder = tenant
        if tenant is not None and link.tenant != tenant and not self.limits.local_tenant:
            try:
                await link.connection.execute(_SET_TENANT, str(tenant))
            except BaseException:
                link.broken = True
                self._release(link)
                raise
            link.tenant = tenant
        return link

    def _free(self, tenant: UUID | None) -> Link | None:
        """An idle connection, of the same tenant if there is one; None to open another, whose room is taken by this."""
        while self._idle:
            position = len(self._idle) - 1
            for index in range(position, -1, -1):
                if self._idle[index].tenant == tenant:
                    position = index
                    break
            link = self._idle.pop(position)
            if not link.connection.is_closed():
                return link
            self._open -= 1
        self._open += 1
        return None

    async def _wait(self, tenant: UUID | None) -> Link | None:
        waiter: asyncio.Future[Link | None] = asyncio.get_running_loop().create_future()
        self._turns.wait(tenant, waiter)
        try:
            async with asyncio.timeout(self.limits.wait_seconds):  # `wait_for` of Python 3.11 may lose a cancellation
                return await waiter
        except (TimeoutError, asyncio.CancelledError) as error:
            if waiter.done() and not waiter.cancelled():  # it was handed over in the moment the waiting ended
                self._give(tenant, waiter.result())
            if isinstance(error, TimeoutError):
                raise unavailable("All database connections are in use.") from None
            raise

    async def _connect(self, tenant: UUID | None) -> Link:
        limits = self.limits
        try:
            if self._closed:
                raise unavailable("The server is stopping.")
            connection = await asyncpg.connect(
                self._url,
                timeout=5,
                command_timeout=limits.transaction / 1000,
                statement_cache_size=0,
                server_settings={
                    "application_name": "crm-api",
                    "statement_timeout": str(limits.statement),
                    # those who wait for the same row do not all give up, and be answered, in the same moment
                    "lock_timeout": str(limits.lock - limits.lock * (self._open % self._most) // (4 * self._most)),
                    "idle_in_transaction_session_timeout": str(limits.idle_in_transaction),
                    "transaction_timeout": str(limits.transaction),
                    "plan_cache_mode": "force_generic_plan",
                    "max_parallel_workers_per_gather": "0",
                    "work_mem": "16MB",  # with 4 the bitmap of an aggregate over a million rows is lossy
                    "jit": "off",
                    "timezone": "UTC",
                },
            )
        except BaseException:
            self._give(tenant, None)
            raise
        return Link(connection)

    def _release(self, link: Link) -> None:
        lost = link.broken or self._closed or link.connection.is_closed()
        if lost:
            link.connection.terminate()
        self._give(link.holder, None if lost else link)

    def _give(self, holder: UUID | None, link: Link | None) -> None:
        """Hands a connection that somebody held, or the room for one, to whoever is next."""
        self._turns.leave(holder)
        while (following := self._turns.next()) is not None:
            tenant, waiter = following
            if not waiter.done():
                waiter.set_result(link)
                return
            self._turns.leave(tenant)
        if link is None:
            self._open -= 1
        else:
            self._idle.append(link)
