"""A request that waits for what somebody else is writing."""

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg

_WAITING = "SELECT count(*) FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))"
"""How many wait for this very connection."""


def behind(
    admin_url: str, ask: Callable[[], Any], *written: tuple[Any, ...], meanwhile: Callable[[], Any] = lambda: None
) -> Any:
    """What `ask` gives, after it waited for the end of a transaction that wrote statements with their values.

    `meanwhile` is called while it waits.
    """
    with ThreadPoolExecutor(1) as pool, asyncio.Runner() as runner:
        writer = runner.run(asyncpg.connect(admin_url))
        try:
            runner.run(writer.execute("BEGIN"))
            for text, *values in written:
                runner.run(writer.execute(text, *values))
            answer, end = pool.submit(ask), time.monotonic() + 10
            while not runner.run(writer.fetchval(_WAITING)):
                assert not answer.done(), "it did not wait"
                assert time.monotonic() < end
            meanwhile()
            runner.run(writer.execute("COMMIT"))
        finally:
            runner.run(writer.close())
        return answer.result()
