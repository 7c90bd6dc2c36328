"""`python -m benchmarks.search`: how long the search over all records takes, by what is asked and who asks."""

import argparse
import asyncio
import sys
import time
from collections.abc import Callable
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

from benchmarks import load, report, servers
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import machine

ACCOUNTS, BASE = 1_000_000, 100_000
BAR = 60
"""Milliseconds that p95 of the mixture stays below, for who sees all and for who sees 100."""
SEES = {"reader": "all", "narrow": "100 accounts", "manager": "11 of 50 owners' records"}
Names = list[str]


def _slip(word: str) -> str:
    """The word with two neighbours swapped, near its middle."""
    at = len(word) // 2
    return word[:at] + word[at + 1] + word[at] + word[at + 2 :]


KINDS: dict[str, Callable[[Names], str]] = {
    "the beginning of a name, 6 letters": lambda words: words[0][:6],
    "a part of a name, 5 letters": lambda words: words[0][2:7],
    "a whole name": " ".join,
    "a name and a trade": lambda words: f"{words[1]} {words[0]}",
    "a name with a slip": lambda words: _slip(words[0]),
    "a name and a trade, both with a slip": lambda words: f"{_slip(words[0])} {_slip(words[1])}",
    "two letters": lambda words: words[0][:2],
    "a trade (in one of 30 names)": lambda words: words[1],
    "a legal form (in one of 10 names)": lambda words: words[2],
    "nothing that is there": lambda words: words[0][::-1] + "qx",
}
COMMON = ("two letters", "a trade (in one of 30 names)", "a legal form (in one of 10 names)")
"""Not in the mixture: half of what people type is not the same ten words."""


async def names(stage: Stage, owners: Any, most: int) -> list[Names]:
    """Folded names of accounts in words, of these owners or of anyone."""
    connection = await connect(stage)
    try:
        rows = await connection.fetch(
            "SELECT name_key FROM accounts WHERE created_via = 'import' AND ($1::uuid[] IS NULL OR owner_id = ANY($1)) "
            "ORDER BY md5(id::text) LIMIT $2",
            owners,
            most,
        )
        return [words for row in rows if len(words := row["name_key"].split()) == 3]
    finally:
        await connection.close()


def ask(connection: HTTPConnection, key: str, text: str) -> tuple[float, int]:
    """(milliseconds, records found) of one search."""
    began = time.perf_counter()
    connection.request("GET", f"/v1/search?{urlencode({'q': text})}", headers={"Authorization": f"Bearer {key}"})
    answer = connection.getresponse()
    body = answer.read()
    took = (time.perf_counter() - began) * 1000
    if answer.status != 200:
        raise SystemExit(f"{text!r}: {answer.status} {body.decode()[:500]}")
    return took, body.count(b'"score"')


def _figures(taken: list[tuple[float, int]]) -> dict[str, float]:
    times = sorted(took for took, _ in taken)
    part = {f"p{p}": times[min(len(times) * p // 100, len(times) - 1)] for p in (50, 95, 99)}
    return {"asked": len(times), **part, "found": sum(number for _, number in taken) / len(taken)}


def measure(stage: Stage, port: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """Figures by user and kind of text; one request at a time, each text once, after 20 of each kind to warm up."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for user in SEES:
        owners = {"reader": None, "narrow": [stage.narrow], "manager": stage.tree}[user]
        known = asyncio.run(names(stage, owners, rounds + 20))
        connection = HTTPConnection("127.0.0.1", port, timeout=30)
        taken: dict[str, list[tuple[float, int]]] = {kind: [] for kind in KINDS}
        for number in range(rounds + 20):
            for kind, text in KINDS.items():
                answer = ask(connection, stage.keys[user], text(known[number % len(known)]))
                if number >= 20:
                    taken[kind].append(answer)
        connection.close()
        mixture = [answer for kind in KINDS if kind not in COMMON for answer in taken[kind]]
        found[user] = {"mixture": _figures(mixture), **{kind: _figures(part) for kind, part in taken.items()}}
    return found


def lines(found: dict[str, dict[str, dict[str, float]]]) -> list[str]:
    """The table."""
    rows = ["| who sees | text | p50 ms | p95 ms | p99 ms | found | |", "|---|---|--:|--:|--:|--:|---|"]
    for user, kinds in found.items():
        for kind, part in kinds.items():
            verdict = ""
            if kind == "mixture" and user != "manager":
                verdict = "met" if part["p95"] < BAR else "**missed**"
            cells = [f"{part[name]:.1f}" for name in ("p50", "p95", "p99", "found")]
            rows.append(f"| {SEES[user]} | {kind} | {' | '.join(cells)} | {verdict} |")
    return rows


def save(found: dict[str, dict[str, dict[str, float]]], facts: dict[str, Any], options: argparse.Namespace) -> None:
    """Writes the figures beside the others."""
    conditions = (
        f"{options.accounts:,} accounts and {options.accounts * 2:,} contacts; 2 server processes, one request at a "
        f"time over one connection, {options.rounds} texts of each kind, each asked once, after 20 to warm up. The "
        f"mixture is all kinds but {', '.join(COMMON)}. The bar: p95 of the mixture below {BAR} ms."
    )
    sections = [
        ("Machine", [f"- {name}: {value}" for name, value in facts.items()]),
        ("Search over accounts, contacts and people", [conditions, "", *lines(found)]),
    ]
    report.save(sections, {"machine": facts, "accounts": options.accounts, "search": found}, options.name)


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description=__doc__)
    parser.add_argument("--accounts", type=int, default=ACCOUNTS)
    parser.add_argument("--rounds", type=int, default=100, help="texts of each kind")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with staged() as stage:
        base = min(BASE, options.accounts)
        asyncio.run(load.load(stage, 1, base, base))
        if options.accounts > base:
            asyncio.run(load.load(stage, base + 1, options.accounts, base))
        asyncio.run(load.verify(stage))
        server = servers.start("ours", stage)
        try:
            save(measure(stage, server.port, options.rounds), facts, options)
        finally:
            server.stop()
    return 0


if __name__ == "__main__":
    sys.exit(main())
