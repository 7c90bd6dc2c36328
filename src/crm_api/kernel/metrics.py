"""What /metrics says: the figures of this process, or the sums of all processes that serve one socket together."""

import asyncio
import os
from functools import cache
from pathlib import Path

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest, multiprocess

from crm_api.kernel.database import Database

SECONDS = Histogram(
    "crm_request_seconds",
    "Duration of requests.",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5),
)
REQUESTS = Counter("crm_requests", "Requests by outcome.", ["method", "status"])
IN_USE = Gauge(
    "crm_database_connections_in_use", "Database connections handed out, once a second.", multiprocess_mode="livesum"
)
JOBS = Gauge(
    "crm_jobs",
    "Jobs of all tenants that are due, run, or have failed; each up to 10,000, every 15 seconds.",
    ["state"],
    multiprocess_mode="livemostrecent",
)
JOB_LAG = Gauge(
    "crm_job_lag_seconds",
    "How long the first job in the queue has been due, every 15 seconds.",
    multiprocess_mode="livemostrecent",
)
_FOLDER = "PROMETHEUS_MULTIPROC_DIR"
"""Set by `crm-api serve` for several processes: each keeps its figures in a file there."""


@cache
def seconds(method: str, route: str) -> Histogram:
    """The histogram of a route, looked up once."""
    return SECONDS.labels(method, route)


@cache
def requests(method: str, status: int) -> Counter:
    """The counter of an outcome, looked up once."""
    return REQUESTS.labels(method, str(status))


def exposition() -> bytes:
    """The figures, summed over the processes when there are several."""
    folder = os.environ.get(_FOLDER)
    if folder is None:
        return generate_latest(REGISTRY)
    for file in Path(folder).glob("gauge_live*.db"):
        pid = int(file.stem.rpartition("_")[2])
        if not _alive(pid):
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


async def watch(database: Database) -> None:
    """Notes once a second what is no event: another process may be the one that is asked."""
    while True:
        IN_USE.set(database.in_use)
        await asyncio.sleep(1)
