"""Loops beside the requests."""

import asyncio

from crm_api.worker.loops import drain, every
from crm_api.worker.upkeep import forget_idempotency_keys


def test_old_idempotency_keys_are_forgotten_and_young_ones_kept(org, database):
    import asyncpg

    def create() -> bool:
        answer = org.rep.post("/v1/accounts", json={"name": "Once"}, headers={"Idempotency-Key": "upkeep"})
        return "idempotency-replayed" in answer.headers

    async def age() -> None:
        connection = await asyncpg.connect(database["admin"])
        await connection.execute(
            "UPDATE idempotency_keys SET created_at = created_at - interval '8 days' WHERE tenant_id = $1",
            org.tenant_id,
        )
        await connection.close()

    assert create() is False
    org.server.run(forget_idempotency_keys(org.server.kernel.database, 7))
    assert create() is True
    asyncio.run(age())
    assert org.server.run(forget_idempotency_keys(org.server.kernel.database, 7)) >= 1
    assert create() is False


def test_a_loop_outlives_an_error():
    rounds = []
    thrice = asyncio.Event()

    async def work() -> None:
        rounds.append(1)
        if len(rounds) == 3:
            thrice.set()
        if len(rounds) == 1:
            raise RuntimeError

    async def main() -> None:
        loop = asyncio.create_task(every(0.01, work))
        await asyncio.wait_for(thrice.wait(), 5)
        loop.cancel()

    asyncio.run(main())
    assert len(rounds) >= 3


def test_a_loop_that_is_woken_while_it_is_cancelled_ends():
    async def work() -> bool:
        return False

    async def main(ticks: int) -> None:
        bell = asyncio.Event()
        loop = asyncio.create_task(drain(work, idle=60, wake=bell))
        await asyncio.sleep(0.01)
        bell.set()
        for _ in range(ticks):
            await asyncio.sleep(0)
        loop.cancel()
        await asyncio.wait([loop], timeout=1)
        assert loop.cancelled(), ticks

    for ticks in range(6):
        asyncio.run(main(ticks))
