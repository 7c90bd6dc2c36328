"""`python -m benchmarks.abuse KIND PORT ACCOUNT KEY...`: abuses the server as one tenant, until it is ended."""

import asyncio
import json
import os
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator

CONNECTIONS, PACE = 16, 40.0
"""Connections of each credential, and requests each second of each of them, where no answer keeps them waiting."""
TRICKLING, PIPELINED = 300, 20
"""Connections that hardly say anything, and requests that one sends without reading an answer."""
PIECES, PIECE = 400, 0.000_5
"""How often a second another program computes, and for how many seconds."""


def request(path: str, key: str, body: str = "") -> bytes:
    """A GET, or a PATCH of JSON, as bytes."""
    method = "PATCH" if body else "GET"
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
    if body:
        head += f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n"
    return f"{head}\r\n{body}".encode()


async def answer(reader: asyncio.StreamReader) -> int:
    """The status of an answer, once it is read."""
    head = await reader.readuntil(b"\r\n\r\n")
    lengths = [int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    await reader.readexactly(lengths[0] if lengths else 0)
    return int(head[9:12])


async def _ask(port: int, text: bytes, counts: Counter[str], number: int, at_once: int = 1) -> None:
    """Asks at its pace, or as fast as it is answered when that is slower."""
    begin = time.monotonic() + number / CONNECTIONS / PACE
    turn = 0
    while True:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            while True:
                turn = max(turn + at_once, int((time.monotonic() - begin) * PACE))
                await asyncio.sleep(begin + turn / PACE - time.monotonic())
                writer.write(text * at_once)
                for _ in range(at_once):
                    counts[str(await answer(reader))] += 1
        except (asyncio.IncompleteReadError, OSError):
            counts["closed"] += 1


async def _trickle(port: int, text: bytes, counts: Counter[str], number: int) -> None:
    """Sends a byte now and then: of nothing, of a head, of a body."""
    promised = text[:-2] + b"Content-Length: 100000\r\nContent-Type: application/json\r\n\r\n"
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write((b"", text[:-3], promised.replace(b"GET", b"POST", 1))[number % 3])
            while not writer.is_closing():
                await asyncio.sleep(1 + number / TRICKLING)
                writer.write(b" " if number % 3 == 2 else b"")
        except OSError:
            counts["closed"] += 1


async def _compute(counts: Counter[str]) -> None:
    """Uses a processor in pieces as long as an answer takes the server, and asks it nothing."""
    while True:
        await asyncio.sleep(random.expovariate(PIECES))
        until = time.perf_counter() + PIECE
        while time.perf_counter() < until:
            pass
        counts["computed"] += 1


Asking = Iterator[Coroutine[object, object, None]]


def _paced(text: Callable[[str, str, int], bytes]) -> Callable[[int, str, list[str], Counter[str]], Asking]:
    def asking(port: int, account: str, keys: list[str], counts: Counter[str]) -> Asking:
        for number in range(CONNECTIONS):
            for key in keys:
                yield _ask(port, text(account, key, number), counts, number)

    return asking


def _connections(port: int, account: str, keys: list[str], counts: Counter[str]) -> Asking:
    del account
    for number in range(TRICKLING):
        yield _trickle(port, request("/v1/accounts", keys[number % len(keys)]), counts, number)
    for number in range(CONNECTIONS):
        yield _ask(port, request("/v1/units", keys[0]), counts, number, PIPELINED)


def _computing(port: int, account: str, keys: list[str], counts: Counter[str]) -> Asking:
    del port, account, keys
    yield _compute(counts)


KINDS = {
    "flood": _paced(lambda _, key, __: request("/v1/units", key)),
    "locks": _paced(lambda account, key, n: request(f"/v1/accounts/{account}", key, f'{{"name": "Held {n}"}}')),
    "wrong keys": _paced(lambda _, key, __: request("/v1/units", f"{key[:-8]}{0:08d}")),
    "connections": _connections,
    "lists": _paced(lambda _, key, __: request("/v1/accounts?limit=200&expand=owner", key)),
    "nothing": _computing,
}


async def abuse(kind: str, port: int, account: str, keys: list[str]) -> None:
    """Goes on until it is ended; prints how many answers of each status came, each second.

    What asks runs in time that nobody else needs, as if it were on another machine.
    """
    if KINDS[kind] is not _computing:
        os.sched_setscheduler(0, os.SCHED_IDLE, os.sched_param(0))
    counts: Counter[str] = Counter()
    asking = [asyncio.create_task(one) for one in KINDS[kind](port, account, keys, counts)]
    while asking:
        await asyncio.sleep(1)
        print(json.dumps(counts), flush=True)
        counts.clear()


if __name__ == "__main__":
    asyncio.run(abuse(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4:]))
