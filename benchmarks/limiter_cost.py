"""Processor time of gets on one server whose limiter is taken out and put in again, every fifty requests."""

import asyncio
import statistics
import threading
import time
from collections.abc import Coroutine
from typing import Any

import uvicorn
import uvloop

from benchmarks.abuse import answer
from crm_api.adapters.http import OneWrite
from crm_api.app import create_app
from crm_api.domains.limits.limiter import Gate
from crm_api.kernel.context import Principal
from crm_api.kernel.policy import Access

BATCH, TURNS = 50, 300


class Open(Gate):
    """Lets everybody in, counts nothing and says nothing."""

    told = ()
    crowded = False

    async def admit(self, principal: Principal, access: Access, credential: str | None) -> "Open":  # type: ignore[override]
        """Lets in."""
        del principal, access, credential
        return self

    def leave(self) -> None:
        """Counts nothing."""


def cost(texts: list[bytes]) -> dict[str, list[float]]:
    """Microseconds of the server's thread for each request, by batch, `with` the limiter and `without` it in turns."""
    edge = create_app()
    server = uvicorn.Server(
        uvicorn.Config(edge, port=0, http=OneWrite, log_level="error", access_log=False, proxy_headers=False)
    )
    loops: list[asyncio.AbstractEventLoop] = []

    async def serve() -> None:
        loops.append(asyncio.get_running_loop())
        await server.serve()

    thread = threading.Thread(target=lambda: uvloop.run(serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]

    def there(work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, loops[0]).result(30)

    async def switch(gate: Gate) -> float:
        object.__setattr__(edge.kernel, "limiter", gate)
        return time.thread_time()

    async def ask() -> dict[str, list[float]]:
        kernel: Any = edge.kernel
        gates: dict[str, Gate] = {"with": kernel.limiter, "without": Open(kernel.limiter.policies)}
        found: dict[str, list[float]] = {name: [] for name in gates}
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for turn in range(TURNS * 2):
            name = ("with", "without")[turn % 2]
            before = there(switch(gates[name]))
            for text in texts[turn % 10 : turn % 10 + BATCH]:
                writer.write(text)
                if (status := await answer(reader)) != 200:
                    raise SystemExit(f"a get was answered with {status}")
            after = there(switch(gates[name]))
            if turn >= 20:
                found[name].append((after - before) / BATCH * 1e6)
        there(switch(gates["with"]))
        writer.close()
        return found

    try:
        return asyncio.run(ask())
    finally:
        server.should_exit = True
        thread.join(15)


def summary(found: dict[str, list[float]]) -> dict[str, float]:
    """The lower quartile of each, which the load of others moves least, and the share that the limiter adds."""
    low = {name: statistics.quantiles(times, n=4)[0] for name, times in found.items()}
    return {**low, "share": low["with"] / low["without"] - 1}
