"""Connections go round: who gets the next one, and that nobody keeps another from it."""

import asyncio
import random
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import orjson
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from crm_api.kernel import admission
from crm_api.kernel.admission import MANY, Floor, Turns
from crm_api.kernel.context import new_id
from crm_api.kernel.database import Database, Limits, Statement
from crm_api.kernel.problems import Problem
from tests.support.org import Org
from tests.support.problems import problem

SLEEP = Statement(sa.select(sa.func.pg_sleep(sa.bindparam("seconds", type_=sa.Double()))))
BACKEND = Statement(sa.select(sa.func.pg_backend_pid().label("pid")))
FAIL = Statement(sa.select(sa.literal_column("1 / 0")))
ONE, OTHER, THIRD = (new_id() for _ in range(3))
MOST = 3


@given(st.lists(st.tuples(st.sampled_from("wtnl"), st.sampled_from([None, ONE, OTHER, THIRD])), max_size=60))
def test_turns(steps):
    """Compared with a list of all that wait, looked through for who has the right to be next."""
    turns: Turns[int] = Turns(MOST)
    held: Counter = Counter()
    waiting: list[tuple] = []  # of each tenant in the order they came
    since: dict = {}  # when each tenant came, or went behind the others
    for number, (step, tenant) in enumerate(steps):
        if step == "w":
            if all(one != tenant for one, _ in waiting):
                since[tenant] = number
            turns.wait(tenant, number)
            waiting.append((tenant, number))
        elif step == "t":
            assert turns.take(tenant) == (held[tenant] < MOST)
            held[tenant] = min(held[tenant] + 1, MOST)
        elif step == "l" and held[tenant]:
            turns.leave(tenant)
            held[tenant] -= 1
        elif step == "n":
            able = [one for one in waiting if held[one[0]] < MOST]
            wanted = min(able, key=lambda one: (held[one[0]], since[one[0]], one[1]), default=None)
            assert turns.next() == wanted
            if wanted is not None:
                waiting.remove(wanted)
                held[wanted[0]] += 1
                since[wanted[0]] = number
        assert turns.held == +held


def on_pool(database, size: int, work, **limits):
    """Runs work on a pool of its own, which has nothing in use and nobody waiting in the end."""

    async def run():
        pool = Database(database["app"], Limits(size=size, **limits))
        await pool.open()
        try:
            found = await work(pool)
            assert (pool.in_use, pool._turns.held, pool._turns.next()) == (0, {}, None)
            return found
        finally:
            await pool.close()
            assert pool._open == 0

    return asyncio.run(run())


def sleep(pool: Database, tenant, seconds: float) -> asyncio.Task:
    return asyncio.create_task(pool.fetch(tenant, SLEEP, {"seconds": seconds}))


@pytest.mark.parametrize("local_tenant", [False, True])
def test_a_tenant_whose_statements_are_slow_delays_nobody_else(database, local_tenant):
    async def work(pool: Database) -> None:
        slow = [sleep(pool, ONE, 0.4) for _ in range(8)]
        await asyncio.sleep(0.2)
        assert pool.in_use == 4
        for n in range(20):
            await pool.fetch((OTHER, THIRD, None)[n % 3], BACKEND, {})
        await pool.ping()
        assert not any(task.done() for task in slow)
        assert pool._open == 5
        await asyncio.gather(*slow)

    on_pool(database, 4, work, local_tenant=local_tenant, wait_seconds=5)


def test_who_is_alone_has_all_connections_and_others_get_the_next_ones(database):
    async def work(pool: Database) -> list[str]:
        order: list[str] = []

        async def one(name: str, tenant, seconds: float) -> None:
            await pool.fetch(tenant, SLEEP, {"seconds": seconds})
            order.append(name)

        asked = [one(f"one {n}", ONE, 0.2 + n / 10) for n in range(4)]
        running = [asyncio.create_task(ask) for ask in asked]
        await asyncio.sleep(0.05)
        running += [asyncio.create_task(one(f"one {n}", ONE, 0)) for n in range(4, 30)]
        await asyncio.sleep(0.05)
        running += [asyncio.create_task(one(name, tenant, 0.01)) for name, tenant in (("a", OTHER), ("b", THIRD))]
        running += [asyncio.create_task(one(f"{name}2", tenant, 0.01)) for name, tenant in (("a", OTHER), ("b", THIRD))]
        await asyncio.gather(*running)
        return order

    order = on_pool(database, 4, work, wait_seconds=5)
    assert order[:4] == ["a", "b", "a2", "b2"]
    assert len(order) == 34


def test_who_waits_too_long_is_refused_and_disturbs_nobody(database):
    async def work(pool: Database) -> None:
        slow = [sleep(pool, ONE, 0.6) for _ in range(6)]
        refused = [one for one in await asyncio.gather(*slow, return_exceptions=True) if isinstance(one, Problem)]
        assert [one.kind.status for one in refused] == [503] * 4
        for tenant in (ONE, OTHER):
            await asyncio.gather(*(pool.fetch(tenant, BACKEND, {}) for _ in range(8)))

    on_pool(database, 2, work, wait_seconds=0.3)


@pytest.mark.parametrize("seed", range(3))
def test_cancellations_errors_and_lost_connections_lose_no_room(database, seed):
    draw = random.Random(seed)  # noqa: S311 - repeatable

    async def one(pool: Database) -> None:
        tenant, kind = draw.choice([ONE, ONE, ONE, OTHER, None]), draw.random()
        if kind < 0.2:
            await pool.fetch(tenant, FAIL, {})
        elif kind < 0.3:
            link = await pool._acquire(tenant)
            link.connection.terminate()
            pool._release(link)
        else:
            await pool.fetch(tenant, SLEEP, {"seconds": draw.random() / 100})

    async def work(pool: Database) -> None:
        found: Counter = Counter()
        for _ in range(4):
            tasks = [asyncio.create_task(one(pool)) for _ in range(60)]
            for task in draw.sample(tasks, 25):
                asyncio.get_running_loop().call_later(draw.random() / 10, task.cancel)
            for answer in await asyncio.gather(*tasks, return_exceptions=True):
                found[type(answer)] += 1
            assert pool._open <= 4
        assert found[asyncio.CancelledError] > 10
        assert found[asyncpg.DivisionByZeroError] > 10
        assert found[type(None)] > 30
        assert set(found) <= {type(None), Problem, asyncio.CancelledError, asyncpg.DivisionByZeroError}
        await asyncio.gather(*(pool.fetch(tenant, BACKEND, {}) for tenant in (ONE, OTHER) * 10))

    on_pool(database, 3, work, wait_seconds=0.1)


def test_each_turn_of_the_loop_has_one_answer_of_many_rows(database):
    """So that what is short comes in between. Each keeps the loop for a while, as putting it into words does."""
    many = Statement(sa.select(sa.func.generate_series(1, MANY)))

    async def work(pool: Database) -> list[int]:
        loop, turn, turns = asyncio.get_running_loop(), 0, []

        def tick() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(tick)

        async def long() -> None:
            await pool.fetch(ONE, many, {})
            turns.append(turn)
            time.sleep(0.02)  # noqa: ASYNC251 - it keeps the loop

        tick()
        await asyncio.gather(*(long() for _ in range(12)))
        return turns

    turns = on_pool(database, 4, work, wait_seconds=5)
    assert len(set(turns)) == 12


def busy(seconds: float) -> None:
    """Keeps the loop."""
    time.sleep(seconds)


def words(floor: Floor, tenant, rows: int, render) -> asyncio.Task:
    return asyncio.create_task(floor.words(tenant, range(rows), render, orjson.dumps))


def test_a_long_answer_leaves_the_loop_to_others_for_as_long_as_it_had_it():
    async def run() -> None:
        loop, own, others, between = asyncio.get_running_loop(), 0.0, 0.0, []

        def other() -> None:
            nonlocal others
            busy(0.000_5)
            others += 0.000_5
            loop.call_soon(other)

        def render(row: int) -> dict:
            nonlocal own
            between.append(others)
            busy(0.002)
            own += 0.002
            return {"row": row}

        other()
        found = await words(Floor(), ONE, 30, render)
        assert orjson.dumps(found) == orjson.dumps([{"row": row} for row in range(30)])
        assert others > 0.8 * own * 29 / 30
        assert len(set(between)) == 30, "others came between any two rows"

    asyncio.run(run())


def test_a_long_answer_waits_for_nobody_who_has_nothing_to_do():
    async def run() -> None:
        turns = 0

        def tick() -> None:
            nonlocal turns
            turns += 1
            loop.call_soon(tick)

        loop = asyncio.get_running_loop()
        tick()
        await words(Floor(), ONE, 20, lambda _: busy(0.002))
        assert turns < 20 * 8

    asyncio.run(run())


def test_long_answers_of_one_tenant_and_of_another_have_slices_in_turns():
    async def run() -> list:
        floor, order = Floor(), []

        def render(tenant):
            def one(row: int) -> None:
                busy(0.000_5)
                order.append(tenant)

            return one

        many = [words(floor, ONE, 20, render(ONE)) for _ in range(6)]
        await asyncio.sleep(0.005)
        await words(floor, OTHER, 10, render(OTHER))
        gone = words(floor, THIRD, 10, render(THIRD))
        await asyncio.sleep(0)
        gone.cancel()
        await asyncio.gather(*many)
        return order

    order = asyncio.run(run())
    first = order.index(OTHER)
    last = len(order) - order[::-1].index(OTHER)
    assert order.count(ONE) == 120
    assert order[first:last].count(ONE) <= 12


def test_our_own_code_gets_a_list_however_long_it_takes():
    async def main():
        return await Floor().words(ONE, range(5), lambda n: busy(2 * admission.SLICE) or n)

    assert asyncio.run(main()) == [0, 1, 2, 3, 4]


def test_a_page_in_slices_is_the_same_page(server, shared_org, monkeypatch):
    for n in range(30):
        shared_org.rep.make("accounts", name=f"Sliced {n}")
    asked = {"limit": 30, "expand": "owner,contacts", "sort": "-created_at", "count": "exact"}
    whole = shared_org.rep.get("/v1/accounts", params=asked).json()
    monkeypatch.setattr(admission, "SLICE", 0)
    given = []
    monkeypatch.setattr(
        Floor, "turn", lambda floor, tenant, turn=Floor.turn: given.append(tenant) or turn(floor, tenant)
    )
    assert shared_org.rep.get("/v1/accounts", params=asked).json() == whole
    assert len(given) >= 30
    assert set(given) == {shared_org.tenant_id}


def test_a_tenant_that_holds_the_pool_is_waited_for_by_no_other(server, shared_org, sql):
    """All its connections wait for a lock, and as many requests again for them."""
    account, other = shared_org.rep.make("accounts", name="Held"), Org.create(server)
    size = server.settings.pool_size
    assert other.rep.get("/v1/accounts").status_code == 200
    sql("BEGIN")
    try:
        sql("SELECT FROM accounts WHERE id = $1 FOR UPDATE", account["id"])
        with ThreadPoolExecutor(2 * size) as pool:
            path = f"/v1/accounts/{account['id']}"
            held = [pool.submit(shared_org.rep.patch, path, json={"name": f"{n}"}) for n in range(2 * size)]
            deadline = time.monotonic() + 5
            while server.kernel.database.in_use < size:
                assert time.monotonic() < deadline
                time.sleep(0.005)
            assert [other.rep.get("/v1/accounts").status_code for _ in range(5)] == [200] * 5
            assert not any(one.done() for one in held)
            for one in held:
                problem(one.result(), 409, code="locked")
    finally:
        sql("ROLLBACK")


def test_connections_that_wait_for_a_lock_give_up_one_by_one(database):
    """Those that begin to wait together do not end together, and none waits longer than is set."""
    lock = Statement(sa.select(sa.func.current_setting("lock_timeout").label("most"), sa.func.pg_sleep(0.2)))

    async def work(pool: Database) -> list[int]:
        rows = await asyncio.gather(*(pool.fetch((ONE, OTHER)[n % 2], lock, {}) for n in range(10)))
        return sorted(int(row[0]["most"].removesuffix("ms")) for row in rows)

    waits = on_pool(database, 8, work, lock=400)
    assert len(set(waits)) == 10
    assert 300 <= waits[0] <= waits[-1] <= 400
