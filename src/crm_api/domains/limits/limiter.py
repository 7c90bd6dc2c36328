"""Lets requests in or refuses them with 429: by credential, by tenant, by number at once, by wrong credentials."""

import asyncio
import math
import random
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID
from weakref import WeakValueDictionary

from crm_api.domains.identity.addresses import crowd
from crm_api.domains.limits.rate import Meter
from crm_api.kernel.admission import Signed
from crm_api.kernel.context import Principal
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import RATE_LIMITED, Problem
from crm_api.settings import Settings

MOST_REMEMBERED = 20_000
"""Credentials, and addresses, that a process has meters for; the one that asked the longest ago goes first."""
MINUTE = 60
REFUSALS = 10
"""429 answers each second that a caller gets at once. Further ones come late, so that asking on and on costs little."""
PENALTY = 0.25
"""Seconds of a rate that each further one uses: who does not wait gets little, until it slows down."""
LATE_SECONDS = 1.0
MOST_LATE = 1_000
"""Answers of a process that are held back at the same time; with more, connections are closed instead."""

TOGETHER_SECONDS = 1.0
"""How long a process goes on to space out requests after two tenants were there together."""
_MOVED = 1.0
"""Seconds after which a caller who asks is among the last ones again."""


@dataclass(frozen=True, slots=True)
class Policies:
    """The limits of callers for whom nothing else was set.

    Attributes:
        credential: requests each second of one credential.
        tenant: of all credentials of a tenant.
        window: seconds of both that may be used at once.
        in_flight: requests of one credential at the same time, in one process.
        failures: wrong credentials each minute from one address, in one process.
    """

    credential: int
    tenant: int
    window: int
    in_flight: int
    failures: int

    @classmethod
    def of(cls, settings: Settings) -> "Policies":
        """As the operator set them."""
        return cls(
            settings.rate_credential,
            settings.rate_tenant,
            settings.rate_window,
            settings.in_flight,
            settings.rate_failures,
        )


_STATE = b'"credential";r=%d;t=%d, "tenant";r=%d;t=%d, "in_flight";r=%d'
_POLICY = b'"credential";q=%d;w=%d, "tenant";q=%d;w=%d, "in_flight";q=%d;qu="concurrent-requests"'


class Crowd:
    """How many requests of one tenant a process has at the same time."""

    __slots__ = ("__weakref__", "in_flight")

    def __init__(self) -> None:
        self.in_flight = 0


class Caller:
    """One credential, as this process knows it. It is the admission of each of its requests, too.

    `told` are the headers RateLimit-Policy and RateLimit (draft-ietf-httpapi-ratelimit-headers-10, structured fields of
    RFC 9651) as of the latest request.
    `crowded`: others of its tenant came before it, while other tenants are there.
    """

    __slots__ = (
        "at",
        "clock",
        "crowd",
        "crowded",
        "in_flight",
        "key",
        "most",
        "own",
        "policy",
        "rates",
        "refusals",
        "tenant",
        "tenant_id",
        "told",
    )

    def __init__(self, principal: Principal, crowd: Crowd, most: int, clock: Callable[[], float]) -> None:
        self.tenant_id = principal.tenant_id
        self.key = _key(principal)
        self.most = most
        self.clock = clock
        self.crowd = crowd
        self.crowded = False
        self.in_flight = 0
        self.at = 0.0
        self.refusals = Meter(REFUSALS, 1)
        self.rates: tuple[int | None, int | None] | None = None
        self.own = self.tenant = self.refusals  # until rates are set
        self.policy = (b"ratelimit-policy", b"")
        self.told: tuple[tuple[bytes, bytes], ...] = ()

    def take(self, now: float) -> None:
        """Counts a request."""
        self.in_flight += 1
        self.crowd.in_flight += 1
        left, whole = self.own.take(now), self.tenant.take(now)
        more = 1 if left else self.own.standing(now)[1]
        later = 1 if whole else self.tenant.standing(now)[1]
        self.told = (self.policy, (b"ratelimit", _STATE % (left, more, whole, later, self.most - self.in_flight)))

    def refused(self, now: float) -> dict[str, str]:
        """Headers of a refusal."""
        state = _STATE % (*self.own.standing(now), *self.tenant.standing(now), self.most - self.in_flight)
        return {"RateLimit-Policy": self.policy[1].decode(), "RateLimit": state.decode()}

    def leave(self) -> None:
        """One request less at the same time."""
        self.in_flight -= 1
        self.crowd.in_flight -= 1


@dataclass(slots=True)
class Paced:
    """What is counted by itself, for which no principal asks: a client of OAuth. `at`: its latest request."""

    tenant_id: UUID
    key: UUID
    meter: Meter
    refusals: Meter
    at: float = 0.0


class Gate:
    """The limiter of a process. All of it is arithmetic in memory; `crm_api.domains.limits.reconcile` does the rest."""

    def __init__(self, policies: Policies, clock: Callable[[], float] = time.monotonic) -> None:
        self.policies = policies
        self.clock = clock
        self._callers: OrderedDict[int, Caller] = OrderedDict()
        """By the number of the id, whose hash is at hand."""
        self._tenants: WeakValueDictionary[UUID, Meter] = WeakValueDictionary()
        self._crowds: WeakValueDictionary[UUID, Crowd] = WeakValueDictionary()
        self._latest: Crowd | None = None
        self._together = -math.inf
        """When a request came of another tenant than the one before it."""
        self.failing: OrderedDict[str, tuple[Meter, Meter]] = OrderedDict()
        """Address -> its wrong credentials, and how often it was refused for them."""
        self._right: set[int] = set()
        self._wrong: set[int] = set()
        self._paced: OrderedDict[UUID, Paced] = OrderedDict()
        self._late = 0

    async def admit(self, principal: Principal, access: Access, credential: str | None) -> Caller:
        """Counts a request, or refuses it with 429."""
        now = self.clock()
        caller = self._callers.get(_key(principal).int)
        if caller is None or caller.rates is not access.rates:
            caller = self._known(principal, access)
            self._trust(credential)
        own, whole = caller.own, caller.tenant
        if caller.at < now - _MOVED:
            self._callers.move_to_end(caller.key.int)
        caller.at = now
        if caller.in_flight >= caller.most or own.due - now > own.full or whole.due - now > whole.full:
            await self._refuse(caller, now)
        if caller.crowd is not self._latest:
            self._latest, self._together = caller.crowd, now
        caller.crowded = caller.crowd.in_flight > 0 and now - self._together < TOGETHER_SECONDS
        caller.take(now)
        return caller

    def charge(self, principal: Principal, cost: int) -> None:
        """Counts more for a request that was let in, beyond what is left too: later requests wait for it.

        Less than nothing gives back what was counted too much.
        """
        if cost and (caller := self._callers.get(_key(principal).int)) is not None:
            now = self.clock()
            caller.own.take(now, cost)
            caller.tenant.take(now, cost)

    def held(self, principal: Principal) -> None:
        """Counts more for a request that waited for a lock, or ran, as long as any may: as one that is refused late."""
        if (caller := self._callers.get(_key(principal).int)) is not None:
            caller.own.take(self.clock(), PENALTY / caller.own.interval)

    def caller(self, principal: Principal) -> Caller:
        """What is known of somebody who was let in."""
        return self._callers[_key(principal).int]

    async def pace(self, tenant_id: UUID, key: UUID, rate: int | None, times: int) -> None:
        """Counts a request under a key of its own, or refuses it with 429 beyond `times` the rate of a credential."""
        now = self.clock()
        quota = (rate or self.policies.credential) * times * self.policies.window
        paced = self._paced.get(key)
        if paced is None or paced.meter.quota != quota:
            paced = Paced(tenant_id, key, Meter(quota, self.policies.window), Meter(REFUSALS, 1))
            self._paced[key] = paced
            if len(self._paced) > MOST_REMEMBERED:
                self._paced.popitem(last=False)
        self._paced.move_to_end(key)
        paced.at = now
        if paced.meter.wait(now) > 0:
            least, headers = await self._hold(paced.refusals, now, paced.meter)
            wait = max(paced.meter.wait(self.clock()), least)
            raise _refused("Too many requests", wait, ["credential"], headers)
        paced.meter.take(now)

    def since(self, second: float) -> Iterator[Caller]:
        """Who asked since then, the last first."""
        for caller in reversed(self._callers.values()):
            if caller.at < second - _MOVED:
                return
            yield caller

    def meters(self, second: float) -> Iterator[tuple[UUID, UUID, Meter]]:
        """Tenant, id and meter of all that was counted since then."""
        for caller in self.since(second):
            yield caller.tenant_id, caller.key, caller.own
            yield caller.tenant_id, caller.tenant_id, caller.tenant
        for paced in reversed(self._paced.values()):
            if paced.at < second - _MOVED:
                break
            yield paced.tenant_id, paced.key, paced.meter

    def _known(self, principal: Principal, access: Access) -> Caller:
        key = _key(principal).int
        caller = self._callers.get(key)
        if caller is None:
            crowd = self._crowds.setdefault(principal.tenant_id, Crowd())
            caller = self._callers[key] = Caller(principal, crowd, self.policies.in_flight, self.clock)
            if len(self._callers) > MOST_REMEMBERED:
                self._callers.popitem(last=False)
        window = self.policies.window
        credential = access.rates[0] or self.policies.credential
        whole = access.rates[1] or self.policies.tenant
        tenant = self._tenants.get(principal.tenant_id)
        if tenant is None or tenant.quota != whole * window:
            tenant = self._tenants[principal.tenant_id] = Meter(whole * window, window)
        if caller.rates is None or caller.own.quota != credential * window:
            caller.own = Meter(credential * window, window)
        caller.rates, caller.tenant = access.rates, tenant
        policy = _POLICY % (caller.own.quota, window, tenant.quota, window, caller.most)
        caller.policy = (b"ratelimit-policy", policy)
        return caller

    async def _refuse(self, caller: Caller, now: float) -> NoReturn:
        meters = {"credential": caller.own, "tenant": caller.tenant}
        violated = [name for name, meter in meters.items() if meter.wait(now) > 0] or ["in_flight"]
        least, headers = await self._hold(caller.refusals, now, caller.own)
        now = self.clock()
        headers |= caller.refused(now)
        wait = max(meter.wait(now) for meter in meters.values())
        raise _refused("Too many requests", max(wait, least), violated, headers)

    async def _hold(self, refusals: Meter, now: float, meter: Meter | None = None) -> tuple[float, dict[str, str]]:
        """Waits before a refusal that is one of many, which uses some of the meter, so that others learn it.

        It counts twice among refusals: while many are late, hardly any comes at once. Gives the least seconds to tell,
        after which the whole quota is there if nothing else comes; and headers.
        """
        if refusals.wait(now) <= 0:
            refusals.take(now)
            return 0.0, {}
        least = 0.0
        refusals.take(now, 2)
        if meter is not None:
            meter.take(now, PENALTY / meter.interval)
            least = meter.most
        if self._late >= MOST_LATE:
            return least, {"Connection": "close"}
        self._late += 1
        try:
            spread = random.uniform(0.5, 1.5)  # noqa: S311 - who was refused together does not come back together
            await asyncio.sleep(LATE_SECONDS * spread)
        finally:
            self._late -= 1
        return least, {}

    def _trust(self, credential: str | None) -> None:
        """Remembers that a credential is right, by its hash: whoever meets another of the same has no more by it."""
        if credential is None:  # a signed link was
            return
        if len(self._right) >= MOST_REMEMBERED:
            self._right.clear()
        self._right.add(hash(credential))

    async def knock(self, address: str, credential: str | None, signed: Signed | None = None) -> None:
        """Refuses an address that brought too many wrong credentials, unless this one was right before.

        Or is `signed`, so that it was not guessed, and was not wrong before, as one is that was ended.
        """
        failing, place = self.failing.get(crowd(address)), hash(credential)
        if failing is None or place in self._right:
            return
        failures, refusals = failing
        now = self.clock()
        if failures.wait(now) > 0 and (place in self._wrong or signed is None or not await signed(credential)):
            _, headers = await self._hold(refusals, now)
            raise _refused("Too many wrong credentials", failures.wait(self.clock()), ["failures"], headers)

    def failed(self, address: str, credential: str | None) -> None:
        """Counts a wrong credential."""
        self._right.discard(hash(credential))
        if len(self._wrong) >= MOST_REMEMBERED:
            self._wrong.clear()
        self._wrong.add(hash(credential))
        address = crowd(address)
        failing = self.failing.get(address)
        if failing is None:
            failing = self.failing[address] = Meter(self.policies.failures, MINUTE), Meter(REFUSALS, 1)
            if len(self.failing) > MOST_REMEMBERED:
                self.failing.popitem(last=False)
        self.failing.move_to_end(address)
        failing[0].take(self.clock())


def _key(principal: Principal) -> UUID:
    return principal.credential_id or principal.id or principal.tenant_id


def _refused(what: str, wait: float, violated: list[str], headers: dict[str, str]) -> Problem:
    seconds = max(1, math.ceil(wait))
    return Problem(
        RATE_LIMITED,
        f"{what}; try again in {seconds} s.",
        headers={"Retry-After": str(seconds), **headers},
        extra={"violated_policies": violated},
    )
