"""One operation, measured: warm-up, then ours, naive and floor in turn, so that drift of the machine hits all."""

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks import client, floor
from benchmarks.operations import Operation, Pick
from benchmarks.servers import Server, ask
from benchmarks.stage import Stage
from benchmarks.usage import cpu_seconds

RUNS = 3
ALONE = 400
"""Requests one after the other, where an operation has a bar for each by itself."""


@dataclass
class Figures:
    """Medians over the runs; CPU in milliseconds for each request."""

    rate: float
    p50: float = 0.0
    p99: float = 0.0
    server_cpu: float = 0.0
    database_cpu: float = 0.0
    requests: int = 0
    errors: int = 0
    rates: list[float] = field(default_factory=list)
    p95_alone: float = 0.0

    @property
    def cpu(self) -> float:
        """Server and PostgreSQL together."""
        return self.server_cpu + self.database_cpu


@dataclass
class Result:
    """One row of the table."""

    operation: Operation
    figures: dict[str, Figures]

    def plain(self) -> dict[str, Any]:
        """For the JSON file."""
        return {
            "operation": self.operation.name,
            "title": self.operation.title,
            **{name: {**asdict(figures), "cpu": figures.cpu} for name, figures in self.figures.items()},
        }


def measure(
    stage: Stage,
    operation: Operation,
    servers: dict[str, Server],
    picks: list[Pick],
    *,
    postmaster: int,
    seconds: float,
    reset: Callable[[], None],
) -> Result:
    """Measures an operation on each server, and on pgbench where it has SQL.

    Raises:
        SystemExit: an answer was not the right one.
    """
    key = stage.keys[operation.user]
    requests = operation.write(stage.folder / f"{operation.name}.requests", picks, key)
    runs: dict[str, list[Figures]] = {}
    again = reset if operation.once else _nothing
    for server in servers.values():
        again()
        for pick in picks[:5]:
            ask(server, operation, pick, key)
        again()
        client.run(server.port, requests, min(seconds, 2))
    for _ in range(RUNS):
        for name, server in servers.items():
            again()
            loaded = _counted(server.pid, postmaster, lambda port=server.port: client.run(port, requests, seconds))
            runs.setdefault(name, []).append(loaded)
        if operation.sql and len(servers) > 1:
            lowest = _counted(None, postmaster, lambda: floor.run(stage, operation, len(picks), seconds))
            runs.setdefault("floor", []).append(lowest)
    figures = {name: _median(found) for name, found in runs.items()}
    if operation.bar is not None and operation.bar.p95 is not None:
        for name, server in servers.items():
            figures[name].p95_alone = client.alone(server.port, requests, ALONE)
    return Result(operation, figures)


def _nothing() -> None:
    """What is to be reset after most operations."""


def _counted(server: int | None, postmaster: int, load: Callable[[], Any]) -> Figures:
    before = (cpu_seconds(server) if server else 0.0, cpu_seconds(postmaster))
    found = load()
    after = (cpu_seconds(server) if server else 0.0, cpu_seconds(postmaster))
    each = 1000 / max(found.requests, 1)
    return Figures(
        found.rate,
        getattr(found, "p50", 0.0),
        getattr(found, "p99", 0.0),
        (after[0] - before[0]) * each,
        (after[1] - before[1]) * each,
        found.requests,
        found.errors,
    )


def _median(found: list[Figures]) -> Figures:
    medians = {
        name: statistics.median(getattr(item, name) for item in found)
        for name in ("rate", "p50", "p99", "server_cpu", "database_cpu")
    }
    return Figures(
        **medians,
        requests=sum(item.requests for item in found),
        errors=sum(item.errors for item in found),
        rates=[round(item.rate, 1) for item in found],
    )
