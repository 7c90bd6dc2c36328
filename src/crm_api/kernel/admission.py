"""Who may come in, and when: the limits domain, where every request passes it, and turns for what is scarce."""

import asyncio
import os
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar
from uuid import UUID

import orjson
from starlette.requests import Request
from starlette.types import Scope

from crm_api.kernel.headers import values
from crm_api.kernel.problems import Problem

if TYPE_CHECKING:
    from crm_api.kernel.context import Kernel, Principal
    from crm_api.kernel.policy import Access

Signed = Callable[[str | None], Awaitable[bool]]

Item = TypeVar("Item")
Row = TypeVar("Row")
Rows = TypeVar("Rows")


class Turns(Generic[Item]):
    """Who waits for what is scarce. Next is the tenant that holds the least, of several the one that waits the longest.

    A tenant that waits for more goes behind the others each time. `held` is how much each tenant has, of those that
    have any; none gets more than `most`. Our own work is of no tenant and takes its turns like one.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.held: dict[UUID | None, int] = {}
        self._waiting: dict[UUID | None, deque[Item]] = {}

    def wait(self, tenant: UUID | None, item: Item) -> None:
        """Puts something at the end of what its tenant waits for."""
        self._waiting.setdefault(tenant, deque()).append(item)

    def next(self) -> tuple[UUID | None, Item] | None:
        """Takes out what is next; its tenant holds one more from now on."""
        if not self._waiting:
            return None
        tenant = min(self._waiting, key=lambda one: self.held.get(one, 0))
        if not self.take(tenant):
            return None
        queue = self._waiting.pop(tenant)
        item = queue.popleft()
        if queue:
            self._waiting[tenant] = queue
        return tenant, item

    def take(self, tenant: UUID | None) -> bool:
        """Whether a tenant may hold one more, which it does then."""
        held = self.held.get(tenant, 0)
        if held >= self.most:
            return False
        self.held[tenant] = held + 1
        return True

    def leave(self, tenant: UUID | None) -> None:
        """A tenant holds one less."""
        held = self.held[tenant] - 1
        if held:
            self.held[tenant] = held
        else:
            del self.held[tenant]


MANY = 25
"""Rows that take long enough to put into words for others to notice."""
SLICE = 0.000_25
"""Seconds after which who puts rows into words lets others come in between."""
_QUIET = 0.000_05
"""A turn of the loop that takes no longer had nothing for others to do."""


class Floor:
    """Where many rows are put into words: by one request in a turn of the loop, tenants in turns, others in between.

    After each slice others have the loop until they have nothing to do, or had it for as long as the slice took.
    """

    def __init__(self) -> None:
        self._turns: Turns[asyncio.Future[None]] = Turns(1)
        self._taken = False
        self._began = 0.0

    async def turn(self, tenant: UUID | None) -> float:
        """Waits for a slice, which lasts until the caller waits again. Gives the `perf_counter` when it should."""
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[None] = loop.create_future()
        self._turns.wait(tenant, waiter)
        if not self._taken:
            self._taken = True
            loop.call_soon(self._give, loop)
        await waiter
        self._began = time.perf_counter()
        return self._began + SLICE

    async def many(self, tenant: UUID | None, rows: Rows) -> Rows:
        """Gives many rows to who asked for them, when it is their turn."""
        await self.turn(tenant)
        return rows

    async def words(
        self,
        tenant: UUID | None,
        rows: Iterable[Row],
        render: Callable[[Row], Any],
        pack: Callable[[list[Any]], bytes] | None = None,
    ) -> Any:
        """Rows as the list of what they are rendered to; with `pack`, as a fragment of JSON when it is a long one."""
        packed: list[bytes] = []
        some: list[Any] = []
        until = time.perf_counter() + SLICE
        for row in rows:
            if some and time.perf_counter() > until:
                if pack is not None:
                    packed.append(pack(some)[1:-1])
                    some = []
                until = await self.turn(tenant)
            some.append(render(row))
        if pack is None or not packed:
            return some
        return orjson.Fragment(b"[%b]" % b",".join([*packed, pack(some)[1:-1]]))

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        while (following := self._turns.next()) is not None:
            tenant, waiter = following
            self._turns.leave(tenant)
            if not waiter.done():
                self._began = time.perf_counter()
                waiter.set_result(None)
                loop.call_soon(self._end, loop)  # behind the slice, in the same turn
                return
        self._taken = False

    def _end(self, loop: asyncio.AbstractEventLoop) -> None:
        os.sched_yield()  # what others asked of PostgreSQL may wait for this very processor
        now = time.perf_counter()
        loop.call_soon(self._wait, loop, now, now + (now - self._began))

    def _wait(self, loop: asyncio.AbstractEventLoop, since: float, until: float) -> None:
        now = time.perf_counter()
        if now - since < _QUIET or now >= until:
            self._give(loop)
        else:
            loop.call_soon(self._wait, loop, now, until)


class Admission(Protocol):
    """A request that was let in; `told` are headers for its answer that say how much more may be asked.

    `crowded`: its tenant has others at the same time, and is not the only one there.
    """

    told: tuple[tuple[bytes, bytes], ...]
    crowded: bool

    def leave(self) -> None:
        """It has been answered."""


class Limiter(Protocol):
    """How much a caller may ask at once and in a time; `failing` are addresses that brought wrong credentials."""

    @property
    def failing(self) -> Mapping[str, Any]: ...  # noqa: D102 - said above

    async def knock(self, address: str, credential: str | None, signed: Signed | None = None) -> None:
        """Before a credential is looked up, if it is not `signed`: refuses with 429 who has brought many wrong ones."""

    def failed(self, address: str, credential: str | None) -> None:
        """Counts a wrong credential."""

    async def admit(self, principal: "Principal", access: "Access", credential: str | None) -> Admission:
        """Counts a request of a right credential, or refuses it with 429."""

    def charge(self, principal: "Principal", cost: int) -> None:
        """Counts more for a request that was let in, or gives some of it back; never refuses."""

    def held(self, principal: "Principal") -> None:
        """Counts more for a request that had a connection for long and got nothing."""

    async def pace(self, tenant_id: UUID, key: UUID, rate: int | None, times: int) -> None:
        """Counts a request that no principal makes, by itself, or refuses it with 429.

        It is `times` the rate of a credential of the tenant that may come; None is that of everybody.
        """


async def enter(request: Request) -> tuple["Principal", "Access"]:
    """Who asks and what they may do, once their limits let them in; raises 401 and 429."""
    scope = request.scope
    kernel: Kernel = scope["crm.kernel"]
    address = scope["crm.address"]
    given = values(request, b"authorization")
    token = given[0] if len(given) == 1 else None
    if kernel.limiter.failing:
        await kernel.limiter.knock(address, token, kernel.authenticator.signed)
    try:
        scope["crm.principal"] = principal = await kernel.authenticator.authenticate(token, address)
        scope["crm.access"] = access = await kernel.authenticator.access(principal)
    except Problem as problem:
        if problem.kind.status == 401:
            kernel.limiter.failed(address, token)
        raise
    await admit(scope, principal, access, token)
    return principal, access


async def admit(scope: Scope, principal: "Principal", access: "Access", credential: str | None = None) -> None:
    """Lets a request in, once, however often it is run; raises 429."""
    if not scope["crm.leave"]:
        admission = await scope["crm.kernel"].limiter.admit(principal, access, credential)
        scope["crm.leave"].append(admission.leave)
        scope["crm.headers"] += admission.told
        if admission.crowded:
            await scope["crm.kernel"].database.floor.turn(principal.tenant_id)
