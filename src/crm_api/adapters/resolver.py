"""Resolves names beside the event loop, in threads of its own: a slow name server holds up nothing else."""

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor

from crm_api.adapters.addresses import Address

Resolve = Callable[[str], Awaitable[list[Address]]]
"""A name to its addresses. Raises OSError when there is none."""

_THREADS = 64


class SystemResolver:
    """The system's resolver. Requests for a name that is being resolved share the answer."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="crm-resolve")
        self._asked: dict[str, asyncio.Future[list[Address]]] = {}

    async def __call__(self, host: str) -> list[Address]:
        """The addresses, in the system's order."""
        running = self._asked.get(host)
        if running is None:
            running = asyncio.get_running_loop().run_in_executor(self._threads, _resolve, host)
            self._asked[host] = running
            running.add_done_callback(lambda future: self._forget(host, future))
        return await asyncio.shield(running)

    def _forget(self, host: str, future: asyncio.Future[list[Address]]) -> None:
        del self._asked[host]
        if not future.cancelled():
            future.exception()  # everybody who asked may be gone

    def close(self) -> None:
        """Lets go of the threads; those that still wait for an answer end with it."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _resolve(host: str) -> list[Address]:
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return list(dict.fromkeys(ipaddress.ip_address(entry[4][0]) for entry in found))
