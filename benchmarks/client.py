"""The load client: wrk where it is installed, else a small one over raw sockets. Both read the same requests."""

import asyncio
import itertools
import json
import shutil
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

from benchmarks.operations import UNIQUE

CONNECTIONS = 8
WRK = shutil.which("wrk")
SCRIPT = Path(__file__).with_name("load.lua")
_runs = itertools.count(1)


@dataclass(frozen=True)
class Load:
    """What one run of the client saw; times in milliseconds."""

    requests: int
    seconds: float
    p50: float
    p99: float
    max: float
    errors: int
    p95: float = 0.0

    @property
    def rate(self) -> float:
        """Requests each second."""
        return self.requests / self.seconds


def alone(port: int, requests: Path, number: int) -> float:
    """p95 in milliseconds of so many requests, one after the other over one connection."""
    return asyncio.run(_sockets(port, requests.read_bytes().split(b"\0"), 60, next(_runs) * 10**9, number)).p95


def run(port: int, requests: Path, seconds: float) -> Load:
    """Sends the requests over eight kept connections for a time."""
    first = next(_runs) * 10**9
    if WRK is None:
        return asyncio.run(_sockets(port, requests.read_bytes().split(b"\0"), seconds, first))
    whole = max(round(seconds), 1)
    command = [WRK, "-t", "2", "-c", str(CONNECTIONS), "-d", f"{whole}s", "--timeout", "10s", "-s", str(SCRIPT)]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}", "--", str(requests), str(first)],
        capture_output=True,
        text=True,
        check=True,
    )
    return Load(**json.loads(done.stdout.strip().splitlines()[-1]))


async def _sockets(port: int, texts: list[bytes], seconds: float, first: int, alone: int = 0) -> Load:
    numbers = itertools.count(first)
    deadline = time.perf_counter() + seconds
    times: list[float] = []
    errors = 0

    async def connection(start: int) -> None:
        nonlocal errors
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for text in itertools.islice(itertools.cycle(texts), start, start + alone if alone else None):
            sent = time.perf_counter()
            if sent >= deadline:
                break
            writer.write(text.replace(UNIQUE.encode(), b"%012d" % next(numbers)))
            head = await reader.readuntil(b"\r\n\r\n")
            length = next(
                (int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")), 0
            )
            await reader.readexactly(length)
            errors += int(head[9:12]) > 399
            times.append(time.perf_counter() - sent)
        writer.close()

    began = time.perf_counter()
    await asyncio.gather(*(connection(i * len(texts) // CONNECTIONS) for i in range(1 if alone else CONNECTIONS)))
    elapsed = time.perf_counter() - began
    cuts = [cut * 1000 for cut in statistics.quantiles(times, n=100)]
    return Load(len(times), elapsed, cuts[49], cuts[98], max(times) * 1000, errors, cuts[94])
