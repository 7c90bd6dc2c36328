"""`python -m benchmarks`: load on the product, on a naive reference and on plain SQL, compared in one run."""

import argparse
import asyncio
import sys
import time
from contextlib import ExitStack
from typing import Any

from benchmarks import client, load, report, sales, servers
from benchmarks.measure import Result, measure
from benchmarks.operations import BREADTH, OPERATIONS, Operation, Pick
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import machine, memory

ACCOUNTS = 100_000
LARGER = 10
MEMORY_LIMIT = 150


def main() -> int:
    """Runs it; the exit status is 1 when any answer was wrong."""
    options = _options()
    with ExitStack() as stack:
        return _run(options, stack)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--full", action="store_true", help="ten times the rows, breadth of access, memory")
    parser.add_argument("--seconds", type=float, default=5, help="length of each run (three of each)")
    parser.add_argument("--minutes", type=float, default=10, help="of mixed load before memory is read (--full)")
    parser.add_argument("--scale", type=float, default=1, help="share of 100,000 accounts and 200,000 contacts")
    parser.add_argument("--only", nargs="*", help="names of operations", choices=[item.name for item in OPERATIONS])
    parser.add_argument("--ours", action="store_true", help="without the two references")
    parser.add_argument("--name", help="of the result files; the default is the date")
    return parser.parse_args()


def _run(options: argparse.Namespace, stack: ExitStack) -> int:
    base = round(ACCOUNTS * options.scale)
    facts = machine()
    stage = stack.enter_context(staged())
    began = time.monotonic()
    asyncio.run(load.load(stage, 1, base, base))
    asyncio.run(load.verify(stage))
    picks = asyncio.run(load.choose(stage))
    asyncio.run(sales.furnish(stage))
    drafts = asyncio.run(sales.drafts(stage))
    _say(f"{base:,} accounts, {base * 2:,} contacts in {time.monotonic() - began:.0f} s")
    postmaster = int((stage.data_directory / "postmaster.pid").read_text().splitlines()[0])
    names = ("ours",) if options.ours else ("ours", "naive", "by_hand")
    running = {name: servers.start(name, stage) for name in names}
    for server in running.values():
        stack.callback(server.stop)

    def reset() -> None:
        asyncio.run(sales.reset(stage))

    def over(operations: tuple[Operation, ...], which: dict[str, servers.Server]) -> list[Result]:
        found = []
        for operation in operations:
            if not options.only or operation.name in options.only or operation in BREADTH:
                of = drafts if operation.once else picks
                asked = {name: server for name, server in which.items() if name != "by_hand" or operation.by_hand}
                found.append(
                    measure(stage, operation, asked, of, postmaster=postmaster, seconds=options.seconds, reset=reset)
                )
                rates = {name: round(figures.rate) for name, figures in found[-1].figures.items()}
                _say(f"{operation.name}: {rates}, CPU {found[-1].figures['ours'].cpu:.2f} ms")
        return found

    results = over(OPERATIONS, running)
    facts |= {"postgresql": asyncio.run(_version(stage)), "client": "wrk" if client.WRK else "bundled client"}
    sections = [
        ("Machine", [f"- {name}: {value}" for name, value in facts.items()]),
        (
            "Figures",
            [
                _conditions(stage, base, options.seconds),
                "",
                *report.table(results),
                *report.by_hand(results),
            ],
        ),
        ("Bars", report.bars(results)),
    ]
    data: dict[str, Any] = {
        "machine": facts,
        "accounts": base,
        "seconds": options.seconds,
        "results": [result.plain() for result in results],
    }
    if options.full:
        alone = {"ours": running["ours"]}
        for name in running.keys() - alone.keys():
            running[name].stop()
        data["memory"] = _memory(stage, running["ours"], picks, options.minutes)
        asyncio.run(load.load(stage, base + 1, base * LARGER, base))
        asyncio.run(load.verify(stage))
        picks = asyncio.run(load.choose(stage))
        _say(f"{base * LARGER:,} accounts")
        large, breadth = over(OPERATIONS, alone), over(BREADTH, alone)
        data["large"] = [result.plain() for result in [*large, *breadth]]
        sections += [
            (f"Flatness: {base * LARGER:,} accounts", report.flatness(results, large)),
            ("Breadth: who sees few of many rows", report.table(breadth)),
            ("Memory", _memory_lines(data["memory"])),
        ]
    path = report.save(sections, data, options.name)
    _say(str(path))
    return int(any(figures.errors for result in results for figures in result.figures.values()))


def _conditions(stage: Stage, base: int, seconds: float) -> str:
    return (
        f"{base:,} accounts and {base * 2:,} contacts of 50 owners; 2 server processes, {client.CONNECTIONS} kept "
        f"connections, medians of 3 runs of {seconds:g} s; a manager who sees {len(stage.tree)} of 50 owners."
    )


def _memory(stage: Stage, server: servers.Server, picks: list[Pick], minutes: float) -> dict[str, Any]:
    """Megabytes of each server process before and after ten minutes of all operations mixed."""
    mixed = stage.folder / "mixed.requests"
    key = stage.keys["manager"]
    mix = [operation for operation in OPERATIONS if not operation.once]
    texts = [mix[i % len(mix)].request(pick, key) for i, pick in enumerate(picks)]
    mixed.write_bytes(b"\0".join(texts))
    before = memory(server.pid)
    loaded = client.run(server.port, mixed, minutes * 60)
    after = memory(server.pid)
    return {"before": before, "after": after, "minutes": minutes, "requests": loaded.requests, "errors": loaded.errors}


def _memory_lines(found: dict[str, Any]) -> list[str]:
    sizes = ", ".join(f"{size:.0f} MB" for size in found["after"])
    verdict = "met" if max(found["after"]) < MEMORY_LIMIT else "**missed**"
    earlier = ", ".join(f"{size:.0f} MB" for size in found["before"])
    text = (
        f"Resident in each server process after {found['minutes']:g} minutes of mixed load ({found['requests']:,} "
        f"requests, {found['errors']} errors): {sizes}; before it {earlier}. Below {MEMORY_LIMIT} MB: {verdict}."
    )
    return [text]


async def _version(stage: Stage) -> str:
    connection = await connect(stage)
    try:
        return str(await connection.fetchval("SHOW server_version"))
    finally:
        await connection.close()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
