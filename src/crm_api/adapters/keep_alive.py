"""Connections that wait for another request: a bounded number, for a bounded time."""

import asyncio
from collections import OrderedDict

from crm_api.adapters.http_exchange import Exchange

MAX_IDLE = 256
IDLE_SECONDS = 30.0
AGE_SECONDS = 300.0
"""After so long a connection is not used again, so that a changed name is noticed."""

Origin = tuple[bool, str, int]


class Waiting:
    """The idle connections of one client, by what requests of one connection share."""

    def __init__(self) -> None:
        self._known: OrderedDict[Exchange, tuple[Origin, asyncio.TimerHandle]] = OrderedDict()
        self._of: dict[Origin, list[Exchange]] = {}

    def __len__(self) -> int:
        return len(self._known)

    def take(self, origin: Origin) -> Exchange | None:
        """The connection that was used last, if one waits."""
        while waiting := self._of.get(origin):
            exchange = waiting[-1]
            self._forget(exchange)
            if exchange.reusable and not exchange.closed:
                return exchange
            exchange.abort()
        return None

    def give(self, origin: Origin, exchange: Exchange) -> None:
        """Keeps a connection, or closes it. When there are too many, the one that waits longest goes."""
        loop = asyncio.get_running_loop()
        if not exchange.reusable or loop.time() - exchange.born > AGE_SECONDS:
            exchange.abort()
            return
        if len(self._known) >= MAX_IDLE:
            self._drop(next(iter(self._known)))
        self._known[exchange] = origin, loop.call_later(IDLE_SECONDS, self._drop, exchange)
        self._of.setdefault(origin, []).append(exchange)
        exchange.on_close = self._forget

    def close(self) -> None:
        """Closes all."""
        for exchange in list(self._known):
            self._drop(exchange)

    def _drop(self, exchange: Exchange) -> None:
        self._forget(exchange)
        exchange.abort()

    def _forget(self, exchange: Exchange) -> None:
        if (known := self._known.pop(exchange, None)) is None:
            return
        origin, timer = known
        timer.cancel()
        exchange.on_close = None
        self._of[origin].remove(exchange)
        if not self._of[origin]:
            del self._of[origin]
