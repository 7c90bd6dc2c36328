"""`python -m benchmarks.limits`: what the limiter costs, and what a tenant notices of one that abuses the server."""

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.request import Request, urlopen
from uuid import UUID

from benchmarks import limiter_cost, load, report, servers
from benchmarks.abuse import CONNECTIONS, KINDS, PACE, PIECE, PIECES, PIPELINED, TRICKLING, answer
from benchmarks.operations import OPERATIONS, UNIQUE, Operation, Pick
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import cpu_seconds, machine
from crm_api.app import build_kernel
from crm_api.domains.identity.default_roles import ADMINISTRATOR
from crm_api.kernel.unit_of_work import system
from crm_api.settings import Settings, load_settings
from crm_api.tenants import add_key, add_user, create_tenant

GET: Operation = OPERATIONS[0]
_NAMED = {operation.name: operation for operation in OPERATIONS}
BAR_COST, BAR_P99 = 0.02, 0.2
READERS = 8
"""Connections of the tenant that behaves."""
ABUSERS, ROWS = 4, 200
"""Credentials of the other one, and accounts that it has."""
PACES = {"gets": 320.0, "mix": 160.0}
"""Requests each second of all of them together; with fewer, what is measured is how processors wake up."""
OTHERS = {
    "gets": f"reads {PACES['gets']:g} accounts each second",
    "mix": (
        f"asks {PACES['mix']:g} times each second: of eight requests four are gets, two lists of 50 contacts "
        "with their accounts, one a search for text, one a create"
    ),
}
"""What the tenant that behaves does."""
SETTLE, CALM = 6.0, 2.0
"""Seconds before a window with abuse, in which the burst that everybody has is used, and before a quiet one."""
ALL = "all"
WHAT = {
    "flood": "units are read, more often than allowed",
    "locks": "an account is changed that another transaction holds, so that each request waits for it on a connection",
    "wrong keys": "keys are wrong",
    "connections": (
        f"{TRICKLING} connections send a byte each second or two, or none; {CONNECTIONS} ask {PIPELINED} times at once"
    ),
    "lists": f"lists of {ROWS} accounts with their owners are read, more often than allowed",
    ALL: "the windows of all kinds of abuse together",
    "nothing": (
        f"no abuse: a program that asks the server nothing computes for {PIECE * 1000:g} ms, up to {PIECES} times a "
        "second, on the same processors"
    ),
}


async def _keys(stage: Stage, name: str, number: int) -> list[str]:
    """Keys of as many people of a new tenant, who see all of it."""
    kernel = build_kernel(load_settings(), stage.app_url)
    try:
        new = await create_tenant(kernel, stage.migrate_url, name, "admin@example.com")
        ctx = system(kernel, new.tenant_id, "benchmark")
        role = new.roles[ADMINISTRATOR]
        people = [await add_user(ctx, {"name": f"P{n}", "email": f"p{n}@example.com"}, role) for n in range(number)]
        return [await add_key(ctx, person, "key") for person in people]
    finally:
        await kernel.database.close()


async def _unlimited(stage: Stage) -> None:
    """Lets the tenant that behaves make up for a moment in which the whole machine stood."""
    connection = await connect(stage)
    try:
        await connection.execute("UPDATE tenants SET credential_rate = 1000 WHERE tenant_id = $1", stage.tenant)
    finally:
        await connection.close()


def _accounts(port: int, key: str) -> str:
    """Makes accounts; gives the id of one."""
    items = [{"op": "create", "body": {"name": f"Account {n}"}} for n in range(ROWS)]
    asked = Request(f"http://127.0.0.1:{port}/v1/accounts/batch", json.dumps({"items": items}).encode())
    asked.add_header("Authorization", f"Bearer {key}")
    asked.add_header("Content-Type", "application/json")
    with urlopen(asked, timeout=30):  # noqa: S310 - our own server
        pass
    listed = Request(f"http://127.0.0.1:{port}/v1/accounts?limit=1", headers={"Authorization": f"Bearer {key}"})
    with urlopen(listed, timeout=30) as told:  # noqa: S310 - our own server
        id_: str = json.load(told)["data"][0]["id"]
        return id_


def asking(others: str, picks: list[Pick], key: str) -> list[bytes]:
    """The requests of the tenant that behaves, in an order in which each connection has all kinds."""
    if others == "gets":
        return [GET.request(pick, key) for pick in picks]
    get, search, create = GET, _NAMED["search"], _NAMED["create"]
    page = replace(_NAMED["list"], path=lambda pick: f"{_NAMED['list'].path(pick)}&expand=account")
    kinds = [kind for kind in (get, page, get, search, get, page, get, create) for _ in range(READERS)]
    return [kinds[n % len(kinds)].request(pick, key) for n, pick in enumerate(picks)]


async def read(port: int, texts: list[bytes], seconds: float, pace: float) -> list[float]:
    """Milliseconds of each answer since the request was due, asked for at an even pace whatever the answers take.

    `pace` is requests each second. What the client's own timer wakes late is not counted.

    Raises:
        SystemExit: one was refused.
    """
    times: list[float] = []

    async def connection(number: int) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        begin = time.perf_counter() + number / pace
        for turn in range(round(seconds * pace / READERS)):
            due = begin + turn * READERS / pace
            if (early := due - time.perf_counter()) > 0:
                await asyncio.sleep(early)
                due = time.perf_counter()
            text = texts[(turn * READERS + number) % len(texts)]
            writer.write(text.replace(UNIQUE.encode(), os.urandom(6).hex().encode()))
            status = await answer(reader)
            times.append((time.perf_counter() - due) * 1000)
            if status not in (200, 201):
                raise SystemExit(f"the tenant that behaves got {status}")
        writer.close()

    await asyncio.gather(*(connection(number) for number in range(READERS)))
    return times


@dataclass
class Seen:
    """What a tenant had of one kind of abuse, or without any, in windows.

    Attributes:
        windows: milliseconds of the answers of each.
        server: processors that the server used, in each.
        abuser: processors that the load of the abuser took, which the server did not have, in each.
        answered: answers of each status to the abuser, and of how many seconds.
    """

    windows: list[list[float]] = field(default_factory=list)
    server: list[float] = field(default_factory=list)
    abuser: list[float] = field(default_factory=list)
    answered: Counter[str] = field(default_factory=Counter)
    seconds: int = 0

    @classmethod
    def of(cls, parts: list["Seen"]) -> "Seen":
        """Of several kinds together."""
        whole = cls()
        for part in parts:
            whole.windows += part.windows
            whole.server += part.server
            whole.abuser += part.abuser
            whole.answered += part.answered
            whole.seconds += part.seconds
        return whole

    @property
    def figures(self) -> dict[str, Any]:
        """Medians of the windows, lest a moment in which the whole machine stood is all that p99 tells of."""
        cuts = [statistics.quantiles(times, n=100) for times in self.windows]
        return {
            "p50": statistics.median(cut[49] for cut in cuts),
            "p99": statistics.median(cut[98] for cut in cuts),
            "p99s": [round(cut[98], 2) for cut in cuts],
            "server": statistics.median(self.server),
            "abuser": statistics.median(self.abuser),
            "answered each second": {name: round(n / self.seconds) for name, n in sorted(self.answered.items())},
        }


@asynccontextmanager
async def _held(stage: Stage, account: str) -> AsyncIterator[None]:
    """A transaction that holds an account."""
    connection = await connect(stage)
    try:
        async with connection.transaction():
            await connection.execute("SELECT FROM accounts WHERE id = $1 FOR UPDATE", UUID(account))
            yield
    finally:
        await connection.close()


def _started(command: list[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@dataclass
class Scene:
    """The server, who behaves and who does not."""

    stage: Stage
    server: servers.Server
    abused: servers.Server
    texts: dict[str, list[bytes]]
    keys: list[str]
    account: str

    async def window(self, kind: str | None, others: str, seconds: float, seen: Seen) -> None:
        """One window of a kind of abuse, or of none."""
        async with _held(self.stage, self.account):
            command = [sys.executable, "-m", "benchmarks.abuse", kind or "", str(self.abused.port), self.account]
            abuser = _started([*command, *self.keys]) if kind else None
            await asyncio.sleep(SETTLE if kind else CALM)
            before = cpu_seconds(self.server.pid), cpu_seconds(abuser.pid) if abuser else 0.0
            times = await read(self.server.port, self.texts[others], seconds, PACES[others])
            after = cpu_seconds(self.server.pid), cpu_seconds(abuser.pid) if abuser else 0.0
            if abuser is not None:
                abuser.terminate()
                lines = abuser.communicate()[0].splitlines()[round(SETTLE) - 1 : -1]
                seen.seconds += len(lines)
                for line in lines:
                    seen.answered.update(json.loads(line))
        seen.windows.append(times)
        seen.server.append((after[0] - before[0]) / seconds)
        seen.abuser.append((after[1] - before[1]) / seconds)


def _rounds(scene: Scene, kinds: list[str], rounds: int, seconds: float) -> dict[str, dict[str, Any]]:
    """Windows in turns: a quiet one before each with abuse. By kind of abuse, and all, and by what the others do."""
    cases = [(kind, others) for kind in kinds for others in scene.texts]
    every = [*cases, *((ALL, others) for others in scene.texts if len(kinds) > 1)]
    quiet, abused = ({case: Seen() for case in every} for _ in range(2))
    for others, texts in scene.texts.items():
        asyncio.run(read(scene.server.port, texts, 2, PACES[others]))
    for _ in range(rounds):
        for kind, others in cases:
            asyncio.run(scene.window(None, others, seconds, quiet[kind, others]))
            asyncio.run(scene.window(kind, others, seconds, abused[kind, others]))
    found: dict[str, dict[str, Any]] = {kind: {} for kind, _ in every}
    for kind, others in every:
        if kind == ALL:
            for seen in (quiet, abused):
                seen[kind, others] = Seen.of([seen[one, others] for one in kinds if one != "nothing"])
        quiet[kind, others].seconds = 1
        figures = {"quiet": quiet[kind, others].figures, "abused": abused[kind, others].figures}
        found[kind][others] = {**figures, "rise": figures["abused"]["p99"] / figures["quiet"]["p99"] - 1}
    return found


def _default(setting: str) -> int:
    value: int = Settings.model_fields[setting].default
    return value


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.limits", description=__doc__)
    parser.add_argument("--seconds", type=float, default=5, help="length of each window")
    parser.add_argument("--rounds", type=int, default=5, help="of quiet and each kind of abuse in turns")
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS), help="kinds of abuse")
    parser.add_argument("--others", nargs="+", choices=OTHERS, default=list(OTHERS), help="what who behaves does")
    parser.add_argument("--rate-tenant", type=int, default=_default("rate_tenant"), help="of a tenant, each second")
    parser.add_argument("--apart", action="store_true", help="who abuses asks another server over the same database")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with ExitStack() as stack:
        data, sections = _run(stack, options)
    facts["load after the run, its own included"] = f"{os.getloadavg()[0]:.1f}"
    report.save([("Machine", [f"- {name}: {value}" for name, value in facts.items()]), *sections], data, options.name)
    return 0


def _run(stack: ExitStack, options: argparse.Namespace) -> tuple[dict[str, Any], list[tuple[str, list[str]]]]:
    stage = stack.enter_context(staged())
    asyncio.run(load.load(stage, 1, 5_000, 5_000))
    asyncio.run(_unlimited(stage))
    picks = asyncio.run(load.choose(stage))
    keys = asyncio.run(_keys(stage, "Abuser", ABUSERS))
    texts = {others: asking(others, picks, stage.keys["manager"]) for others in options.others}
    cost = limiter_cost.summary(limiter_cost.cost(asking("gets", picks, stage.keys["manager"])))
    rates = {"rate_credential": _default("rate_credential"), "rate_tenant": options.rate_tenant}
    server = servers.start("ours", stage, **rates)
    stack.callback(server.stop)
    abused = server
    if options.apart:
        abused = servers.start("ours", stage, **rates)
        stack.callback(abused.stop)
    scene = Scene(stage, server, abused, texts, keys, _accounts(server.port, keys[0]))
    seen = _rounds(scene, options.only, options.rounds, options.seconds)
    return {"cost": cost, "abuse": seen}, [("Limits", _lines(cost, seen, options))]


def _lines(cost: dict[str, float], seen: dict[str, Any], options: argparse.Namespace) -> list[str]:
    told = (
        f"A get takes {cost['with']:.1f} us of its thread with the limiter, {cost['without']:.1f} us without it, "
        f"in turns of {limiter_cost.BATCH}: {cost['share']:+.1%} (bar {BAR_COST:.0%})."
    )
    conditions = (
        "A tenant asks at an even pace; latency counts from when a request was due. Another one abuses the server with "
        f"{ABUSERS} credentials and {CONNECTIONS} connections of each, which ask {ABUSERS * CONNECTIONS * PACE:g} "
        f"times each second, or less when answers come late. A credential may ask {_default('rate_credential')} times "
        f"each second, a tenant {options.rate_tenant}, the one that behaves more than it does. "
        f"{options.rounds} windows of {options.seconds:g} s of each kind, each after a quiet one; latencies are the "
        "medians of those of the windows. Processors are those of the server and of the abuser's load, which asks in "
        "time that nobody else needs, as if from another machine."
    )
    head = [
        "| abuse | others | quiet p50 | p99 ms | abused p50 | p99 ms | p99 | bar | server | abuser | answered/s |",
        "|---|---|--:|--:|--:|--:|--:|---|--:|--:|---|",
    ]
    rows = []
    for kind, others, part in ((kind, *case) for kind, cases in seen.items() for case in cases.items()):
        quiet, abused = part["quiet"], part["abused"]
        verdict = "met" if part["rise"] < BAR_P99 else f"**missed** ({BAR_P99:.0%})"
        answers = ", ".join(f"{number} x {name}" for name, number in abused["answered each second"].items())
        rows.append(
            f"| {kind} | {others} | {quiet['p50']:.2f} | {quiet['p99']:.2f} | {abused['p50']:.2f} "
            f"| {abused['p99']:.2f} | {part['rise']:+.0%} | {verdict} | {abused['server']:.2f} "
            f"| {abused['abuser']:.2f} | {answers} |"
        )
    kinds = [f"- others do {others}: a tenant {OTHERS[others]}." for others in options.others]
    kinds += [f"- abuse by {kind}: {WHAT[kind]}." for kind in seen]
    lines = [told, "", conditions, "", *kinds, "", *head, *rows]
    print(*lines, sep="\n", file=sys.stderr)
    return lines


if __name__ == "__main__":
    sys.exit(main())
