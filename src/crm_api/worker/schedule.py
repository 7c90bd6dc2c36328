"""Periodic work: each task is done once in its period, by whichever process comes first."""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import sqlalchemy as sa

from crm_api.kernel.context import Kernel
from crm_api.kernel.database import Database, Statement
from crm_api.worker.loops import complain

_TURN = Statement(
    sa.select(
        sa.func.take_turn(
            sa.bindparam("task", type_=sa.Text()),
            sa.bindparam("period", type_=sa.Float()),
        ).label("wait")
    )
)
LONGEST_SLEEP = 60.0
_PATIENCE = 1.0


@dataclass(frozen=True, slots=True)
class Task:
    """Work that is due again and again.

    Attributes:
        name: by which processes agree whose turn it is.
        every: seconds from one turn to the next.
        run: the work, over all tenants; in chunks, since it may be cut off.
        at_most: seconds it may take.
    """

    name: str
    every: float
    run: Callable[[Kernel], Awaitable[object]]
    at_most: float = 60.0


async def follow(kernel: Kernel, task: Task) -> None:
    """Does a task whenever it is due and no other process has taken the turn, until cancelled.

    A round that fails or takes too long is logged; the next one comes after the period, as if it had gone well.
    """
    while True:
        try:
            wait = await turn(kernel.database, task)
            if not wait:
                async with asyncio.timeout(task.at_most):
                    await task.run(kernel)
        except Exception as error:  # noqa: BLE001 - the loop must outlive whatever the database does
            complain(task.name, error)
            wait = _PATIENCE
        await asyncio.sleep(min(wait, LONGEST_SLEEP) + random.uniform(0, 0.1))  # noqa: S311 - spreads the processes


async def turn(database: Database, task: Task) -> float:
    """Takes the turn: 0 when it is this process's, else the seconds until somebody's is due."""
    rows = await database.fetch(None, _TURN, {"task": task.name, "period": task.every})
    return float(rows[0]["wait"])
