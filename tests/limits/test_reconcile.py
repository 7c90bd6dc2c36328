"""What processes tell each other of what was used, with a database that may fail."""

import asyncio
from uuid import uuid4

import pytest

from crm_api.domains.limits import limiter
from crm_api.domains.limits.limiter import Gate, Policies
from crm_api.domains.limits.rate import WINDOWS
from crm_api.domains.limits.reconcile import Reconciliation
from crm_api.kernel.context import Principal
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import Problem

POLICIES = Policies(credential=10, tenant=50, window=2, in_flight=5, failures=60)
ACCESS = Access(1, None)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Shared:
    """The function of the database in small: meters by id, on a clock of its own."""

    def __init__(self, clock: Clock) -> None:
        self.clock, self.due, self.away, self.told = clock, {}, False, []

    async def fetch(self, tenant, _statement, values):
        if self.away:
            raise OSError("unreachable")
        assert tenant is None
        now = self.clock() + 5000
        rows = []
        for id_, span, age in zip(values["ids"], values["spans"], values["ages"], strict=True):
            due = min(max(self.due.get(id_, 0), now - age) + span, now + values["most"])
            self.due[id_] = due
            self.told.append((id_, round(span, 6)))
            rows.append({"id": id_, "ahead": due - now})
        return rows


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def shared(clock):
    return Shared(clock)


@pytest.fixture
def principal():
    return Principal(uuid4(), uuid4(), "user", uuid4())


def asks(gate: Gate, principal: Principal, times: int) -> None:
    async def run() -> None:
        for _ in range(times):
            (await gate.admit(principal, ACCESS, None)).leave()

    asyncio.run(run())


def test_both_together_get_what_one_alone_gets(clock, shared, principal):
    gates = [Gate(POLICIES, clock) for _ in range(2)]
    rounds = [Reconciliation(gate, shared) for gate in gates]
    for gate in gates:
        asks(gate, principal, 8)
    clock.now += 0.5
    for one in rounds:
        asyncio.run(one.settle())
    left = [gate.caller(principal).own.standing(clock())[0] for gate in gates]
    assert left[1] == 20 - 16 + 5
    asks(gates[0], principal, 1)
    asyncio.run(rounds[0].settle())
    assert gates[0].caller(principal).own.standing(clock())[0] == left[1] - 1


def test_who_asks_evenly_owes_nothing_however_late_it_is_told(clock, shared, principal):
    gate = Gate(POLICIES, clock)
    one = Reconciliation(gate, shared)
    for second in range(6):
        for _ in range(10):
            clock.now += 0.1
            asks(gate, principal, 1)
        asyncio.run(one.settle())
        assert gate.caller(principal).own.standing(clock())[0] >= 18, second


def test_what_is_given_back_after_it_was_told_is_not_told_again(clock, shared, principal):
    gates = [Gate(POLICIES, clock) for _ in range(2)]
    rounds = [Reconciliation(gate, shared) for gate in gates]
    for gate in gates:
        asks(gate, principal, 2)
    gates[0].charge(principal, 8)
    asyncio.run(rounds[0].settle())
    gates[0].charge(principal, -8)
    asks(gates[0], principal, 10)
    for one in reversed(rounds):
        asyncio.run(one.settle())
    assert gates[0].caller(principal).own.standing(clock())[0] == 20 - 14
    assert shared.due[principal.credential_id] - clock() - 5000 == pytest.approx(1.4)


def test_a_database_that_is_away_loses_nothing_and_limits_go_on(clock, shared, principal):
    gate = Gate(POLICIES, clock)
    one = Reconciliation(gate, shared)
    shared.away = True
    asks(gate, principal, 5)
    with pytest.raises(OSError, match="unreachable"):
        asyncio.run(one.settle())
    asks(gate, principal, 15)
    with pytest.raises(Problem, match="Too many"):
        asks(gate, principal, 1)
    shared.away = False
    asyncio.run(one.settle())
    assert (principal.credential_id, 2.0) in shared.told
    shared.told.clear()
    clock.now += 0.2
    asyncio.run(one.settle())
    assert shared.told == [], "nothing new is told twice"


def test_who_uses_little_is_not_told_of(clock, shared, principal):
    gate = Gate(Policies(1000, 1000, 2, 5, 60), clock)
    one = Reconciliation(gate, shared)
    asks(gate, principal, 39)
    asyncio.run(one.settle())
    assert shared.told == []
    asks(gate, principal, 1)
    asyncio.run(one.settle())
    assert {id_ for id_, _ in shared.told} == {principal.credential_id, principal.tenant_id}


def test_the_number_of_callers_remembered_is_bounded(clock, monkeypatch):
    monkeypatch.setattr(limiter, "MOST_REMEMBERED", 10)
    gate = Gate(POLICIES, clock)
    tenant = uuid4()
    people = [Principal(tenant, uuid4(), "user", uuid4()) for _ in range(30)]
    for person in people:
        asks(gate, people[0], 1)
        asks(gate, person, 1)
        clock.now += 1
    for n in range(30):
        gate.failed(f"192.0.2.{n}", f"wrong {n}")
        gate._trust(f"right {n}")
    assert len(gate._callers) == len(gate.failing) == 10
    assert len(gate._right) <= 10
    assert gate.caller(people[0]).key == people[0].credential_id, "who asks often stays"
    assert len(gate._tenants) == 1


def test_who_asks_on_gets_little_and_who_waits_all_of_it(clock, principal, monkeypatch):
    """One asks 25 times a second; ten workers of the other one ask until they are refused, and wait as told."""
    monkeypatch.setattr(limiter, "LATE_SECONDS", 0)  # the clock stands meanwhile
    gate = Gate(POLICIES, clock)
    patient = Principal(principal.tenant_id, uuid4(), "user", uuid4())
    got = dict.fromkeys((principal, patient), 0)

    async def asked(who: Principal) -> int:
        """Seconds that it is told to wait."""
        try:
            (await gate.admit(who, ACCESS, None)).leave()
        except Problem as problem:
            return int(problem.headers["Retry-After"])
        got[who] += 1
        return 0

    async def main() -> None:
        again = [0.0] * 10
        for _ in range(25 * 20):
            clock.now += 1 / 25
            await asked(principal)
            for worker, due in enumerate(again):
                while clock.now >= due and not (wait := await asked(patient)):
                    pass
                if clock.now >= due:
                    again[worker] = clock.now + wait

    asyncio.run(main())
    assert 190 <= got[patient] <= 221, "ten a second and its quota"
    assert got[principal] <= 60, "its quota, and what comes back until it was refused often"


def test_who_asks_on_in_one_process_gets_little_in_the_others_until_it_stops(clock, shared, principal, monkeypatch):
    monkeypatch.setattr(limiter, "LATE_SECONDS", 0)  # the clock stands meanwhile
    gates = [Gate(POLICIES, clock) for _ in range(2)]
    rounds = [Reconciliation(gate, shared) for gate in gates]
    got = []

    async def asked(gate: Gate) -> bool:
        try:
            (await gate.admit(principal, ACCESS, None)).leave()
        except Problem:
            return False
        return True

    async def main() -> None:
        for turn in range(25 * 20):
            clock.now += 1 / 25
            await asked(gates[0])
            if turn % 5 == 0:
                got.append(await asked(gates[1]))
            if turn % 25 == 0:
                for one in rounds:
                    await one.settle()

    asyncio.run(main())
    assert not any(got[-50:]), "five a second, half of what it may, come to nothing beside what is asked there"
    clock.now += WINDOWS * POLICIES.window
    for gate, one in zip(gates, rounds, strict=True):
        asyncio.run(one.settle())
        assert gate.caller(principal).own.standing(clock()) == (20, 0)


def test_a_program_that_asks_on_for_tokens_gets_little(clock, monkeypatch):
    monkeypatch.setattr(limiter, "LATE_SECONDS", 0)  # the clock stands meanwhile
    gate, tenant, key = Gate(POLICIES, clock), uuid4(), uuid4()

    async def main() -> tuple[int, int]:
        got, told = 0, 0
        for _ in range(25 * 20):
            clock.now += 1 / 25
            try:
                await gate.pace(tenant, key, None, 1)
                got += 1
            except Problem as problem:
                told = max(told, int(problem.headers["Retry-After"]))
        return got, told

    got, told = asyncio.run(main())
    assert 20 <= got <= 60
    assert told == WINDOWS * POLICIES.window, "after which all of it is there"


def test_requests_of_one_tenant_are_spaced_out_while_another_is_there(clock, principal):
    gate = Gate(POLICIES, clock)
    other = Principal(uuid4(), uuid4(), "user", uuid4())

    async def admit(who: Principal):
        return await gate.admit(who, ACCESS, None)

    async def main():
        clock.now += 2
        first = await admit(principal)
        clock.now += 2
        assert not (await admit(principal)).crowded, "it is alone"
        assert not (await admit(other)).crowded, "it has none at the same time"
        assert (await admit(principal)).crowded
        clock.now += 2
        assert not (await admit(principal)).crowded, "the other one has gone"
        for _ in range(4):
            first.leave()
        await admit(other)
        assert not (await admit(principal)).crowded, "its others are answered"

    asyncio.run(main())
