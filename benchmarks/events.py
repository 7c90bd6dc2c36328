"""`python -m benchmarks.events`: webhooks a second, how soon the first attempt is, and how fast the feed is read."""

import argparse
import asyncio
import json
import os
import socket
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import psutil

from benchmarks import report
from benchmarks.servers import ROOT
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import machine
from crm_api.app import build_kernel
from crm_api.domains.identity.default_roles import ADMINISTRATOR
from crm_api.domains.integrations.webhook_endpoint import WEBHOOK_ENDPOINTS
from crm_api.kernel.repository import create
from crm_api.kernel.unit_of_work import system, transact
from crm_api.settings import load_settings
from crm_api.tenants import add_key, add_user

_EVENTS = """
INSERT INTO outbox (tenant_id, event_id, at, transaction_id, type, object_type, object_id, version, previous, data,
  origin)
SELECT a.tenant_id, gen_random_uuid(), now(), gen_random_uuid(), 'account.updated', 'account', a.id, 1,
  '{"description": "before"}', to_jsonb(a) - '{name_key,search_text}'::text[], '{"via": "api"}'
FROM generate_series(1, $2::bigint) n, LATERAL (
  SELECT * FROM accounts WHERE tenant_id = $1 ORDER BY id OFFSET (n % 100) LIMIT 1) a
"""


@dataclass
class Bench:
    """What runs, and where."""

    stage: Stage
    stack: ExitStack
    environment: dict[str, str]
    admin: str = ""
    key: str = ""

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """A process of the product or of ours, ended with the bench."""
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        log = self.stack.enter_context((self.stage.folder / f"{time.monotonic_ns()}.log").open("wb"))
        process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-m", *command],
            env={**self.environment, "PYTHONPATH": path},
            cwd=self.stage.folder,
            stdout=log,
            stderr=log,
        )
        self.stack.callback(_end, process)
        return process

    def call(self, port: int, method: str, path: str, body: Any = None) -> Any:
        """One request to the API."""
        request = Request(f"http://127.0.0.1:{port}{path}", method=method)
        request.add_header("Authorization", f"Bearer {self.key}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", "application/json")
        with urlopen(request, timeout=60) as answer:  # noqa: S310 - our own server
            return json.loads(answer.read() or b"null")


def _end(process: "subprocess.Popen[bytes]") -> None:
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(5)


def _port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


async def _people(bench: Bench) -> None:
    kernel = build_kernel(load_settings(), bench.stage.app_url)
    connection = await connect(bench.stage)
    try:
        ctx = system(kernel, bench.stage.tenant, "benchmark")
        role = await connection.fetchval(
            "SELECT id::text FROM roles WHERE tenant_id = $1 AND name = $2", bench.stage.tenant, ADMINISTRATOR
        )
        bench.admin = await add_user(ctx, {"name": "Robot", "email": "robot@example.com"}, role)
        bench.key = await add_key(ctx, bench.admin, "bench")
        for n in range(100):
            await connection.execute(
                "INSERT INTO accounts (tenant_id, id, name, name_key, type, status, addresses, emails, phones, tags, "
                "interests, search_text, created_at, updated_at) VALUES ($1, uuidv7(), $2, $2, 'customer', 'active', "
                "'[]', '[]', '[]', '[]', '[]', $2, now(), now())",
                bench.stage.tenant,
                f"account {n}",
            )
    finally:
        await connection.close()
        await kernel.database.close()


async def _endpoints(bench: Bench, urls: list[str]) -> None:
    """Endpoints anew: those of an earlier measurement get nothing any more."""
    kernel = build_kernel(load_settings(), bench.stage.app_url)
    connection = await connect(bench.stage)
    try:
        await connection.execute("UPDATE webhook_endpoints SET deleted_at = now()")
        for url in urls:
            whole = WEBHOOK_ENDPOINTS.create.model_validate({"url": url, "principal_id": bench.admin}).model_dump()  # type: ignore[union-attr]
            whole["event_types"] = ["account.*"]
            ctx = system(kernel, bench.stage.tenant, "benchmark")
            await transact(ctx, lambda inner, whole=whole: create(inner, WEBHOOK_ENDPOINTS, whole))
    finally:
        await connection.close()
        await kernel.database.close()


async def _fill(bench: Bench, events: int) -> None:
    connection = await connect(bench.stage)
    try:
        for start in range(0, events, 100_000):
            await connection.execute(_EVENTS, bench.stage.tenant, min(100_000, events - start))
    finally:
        await connection.close()


def _count(file: Path) -> tuple[int, int, float]:
    if not file.exists():
        return 0, 0, 0.0
    requests, ids, last = file.read_text().splitlines()[0].split()
    return int(requests), int(ids), float(last)


def throughput(bench: Bench, workers: int, events: int, endpoints: int) -> dict[str, Any]:
    """Drains events that wait in the outbox: rate from the start of the workers' first send to the last."""
    port, file = _port(), bench.stage.folder / f"receiver-{time.monotonic_ns()}"
    receiver = bench.start("benchmarks.receiver", str(port), str(file))
    time.sleep(0.5)
    asyncio.run(_endpoints(bench, [f"http://127.0.0.1:{port}/{n}" for n in range(endpoints)]))
    asyncio.run(_fill(bench, events))
    running = [bench.start("crm_api", "worker") for _ in range(workers)]
    while not _count(file)[0]:
        time.sleep(0.02)
    began, before = time.time(), _count(file)[0]
    memory: list[float] = []
    total = events * endpoints
    while (done := _count(file)[0]) < total:
        memory.append(sum(psutil.Process(item.pid).memory_info().rss for item in running) / len(running) / 1e6)
        if time.time() - began > 1800:
            raise SystemExit(f"{done} of {total} after half an hour")
        time.sleep(0.2)
    requests, _, last = _count(file)
    for process in running:
        _end(process)
    _end(receiver)
    third = max(len(memory) // 3, 1)
    return {
        "workers": workers,
        "endpoints": endpoints,
        "deliveries": total,
        "per_second": (requests - before) / (last - began),
        "sent_again": requests - total,
        "memory_first_third_mb": statistics.median(memory[:third]),
        "memory_last_third_mb": statistics.median(memory[-third:]),
    }


def latency(bench: Bench, tries: int) -> dict[str, Any]:
    """From the reply of a write to an idle server until its event is at the receiver."""
    port, server, file = _port(), _port(), bench.stage.folder / "latency"
    receiver = bench.start("benchmarks.receiver", str(port), str(file))
    time.sleep(0.5)
    asyncio.run(_endpoints(bench, [f"http://127.0.0.1:{port}/"]))
    serving = bench.start("crm_api", "serve", "--port", str(server))
    _ready(server)
    times: dict[str, float] = {}
    for n in range(tries):
        sent = bench.call(server, "POST", "/v1/accounts", {"name": f"Soon {n}"})
        times[sent["id"]] = time.time()
        time.sleep(0.15)
    time.sleep(1)
    cursor, arrived = None, {}
    lines = dict(line.split() for line in file.read_text().splitlines()[1:])
    while True:
        query = "?types=account.created&limit=200" + (f"&since={cursor}" if cursor else "")
        page = bench.call(server, "GET", f"/v1/changes{query}")
        arrived |= {item["object"]["id"]: float(lines[item["id"]]) for item in page["data"] if item["id"] in lines}
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    gaps = sorted((arrived[id_] - at) * 1000 for id_, at in times.items() if id_ in arrived)
    _end(serving)
    _end(receiver)
    return {
        "tries": tries,
        "arrived": len(gaps),
        "p50_ms": statistics.median(gaps),
        "p99_ms": gaps[int(len(gaps) * 0.99) - 1],
    }


def feed_read(bench: Bench) -> dict[str, Any]:
    """Pages through the whole feed over HTTP with one client."""
    server = _port()
    serving = bench.start("crm_api", "serve", "--port", str(server))
    _ready(server)
    while True:
        head = asyncio.run(_waiting(bench))
        if not head:
            break
        time.sleep(0.5)
    began, events, cursor = time.monotonic(), 0, None
    while True:
        page = bench.call(server, "GET", "/v1/changes?limit=200" + (f"&since={cursor}" if cursor else ""))
        events += len(page["data"])
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    seconds = time.monotonic() - began
    _end(serving)
    return {"events": events, "seconds": seconds, "per_second": events / seconds}


async def _waiting(bench: Bench) -> int:
    connection = await connect(bench.stage)
    try:
        return int(await connection.fetchval("SELECT count(*) FROM outbox"))
    finally:
        await connection.close()


def _ready(port: int) -> None:
    for _ in range(200):
        try:
            with urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise SystemExit("the server did not start")


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.events", description=__doc__)
    parser.add_argument("--events", type=int, default=10_000, help="that wait when workers start")
    parser.add_argument("--backlog", type=int, default=0, help="events of one long drain, for its memory (1,000,000)")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts, found = machine(), {}
    with ExitStack() as stack:
        stage = stack.enter_context(staged())
        environment = {
            **stage.environment,
            "CRM_ENVIRONMENT": "development",
            "CRM_DATA_DIR": str(stage.folder / "data"),
        }
        os.environ["CRM_ENVIRONMENT"] = "development"  # receivers are on loopback
        load_settings.cache_clear()
        bench = Bench(stage, stack, environment)
        asyncio.run(_people(bench))
        found["latency"] = latency(bench, 100)
        print(found["latency"], flush=True)
        for workers, endpoints in ((1, 1), (1, 4), (4, 4)):
            name = f"{workers} workers, {endpoints} endpoints"
            found[name] = throughput(bench, workers, options.events // endpoints, endpoints)
            print(found[name], flush=True)
        found["feed"] = feed_read(bench)
        print(found["feed"], flush=True)
        if options.backlog:
            found["backlog"] = throughput(bench, 1, options.backlog, 1)
            print(found["backlog"], flush=True)
    lines = [
        f"- {name}: "
        + ", ".join(
            f"{key} {value:,.1f}" if isinstance(value, float) else f"{key} {value:,}" for key, value in item.items()
        )
        for name, item in found.items()
    ]
    sections = [("Machine", [f"- {name}: {value}" for name, value in facts.items()]), ("Events", lines)]
    print(report.save(sections, {"machine": facts, "events": found}, options.name))
    return 0


if __name__ == "__main__":
    sys.exit(main())
