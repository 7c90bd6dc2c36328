"""`python -m benchmarks.customs`: custom fields beside declared ones, filters over relations, building an index."""
# ruff: noqa: E501 - tables

import argparse
import asyncio
import json
import os
import random
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from http.client import HTTPConnection
from typing import Any

from benchmarks import load, report, servers
from benchmarks.abuse import request
from benchmarks.customs_stage import fill
from benchmarks.limits import read
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import machine

ROWS = 1_000_000
PACE = 80.0
"""Requests each second while an index is built."""
BAR_RATIO, BAR_TWO, BAR_RISE = 1.2, 60, 0.2
SEES = {"admin": "all", "manager": "a tenth", "narrow": "100 rows"}
TIMEOUT = 503
"""Of a statement that takes longer than the server lets it."""
WARM, DEEP = 5, 20
"""Requests that are not counted, and pages of 200 before a deep one."""
MEANT = {"grade": "industry", "score": "annual_revenue", "nick": "name", "since": "created_at"}
"""The declared field that has the values of a custom one."""
PAIRS = {
    "choice =, newest first": "{grade}={industry}",
    "choice =, number descending": "{grade}={industry}&sort=-{score}",
    "the same, deep page": "{grade}={industry}&sort=-{score}",
    "choice =, text": "{grade}={industry}&sort={nick}",
    "number range, by it": "{score}_gte={least}&{score}_lte={most}&sort={score}",
    "date range, by it descending": "{since}_gte={day}{hour}&sort=-{since}",
}
ONE = {"field": "account.parent.tax_id", "value": "{parent}"}
FEW = {"field": "account.parent.custom.score", "op": "gte", "value": 99_999_000}
TWO: dict[str, tuple[str, Any]] = {
    "account.industry =, an eighth": ("contacts", {"field": "account.industry", "value": "{industry}"}),
    "account.custom.grade =, an eighth": ("contacts", {"field": "account.custom.grade", "value": "{industry}"}),
    "account.parent.industry =, an eighth": ("contacts", {"field": "account.parent.industry", "value": "{industry}"}),
    "account.parent.custom.grade =, an eighth": (
        "contacts",
        {"field": "account.parent.custom.grade", "value": "{industry}"},
    ),
    "account.owner.name =, a fiftieth": ("contacts", {"field": "account.owner.name", "value": "Rep 0 1"}),
    "account.parent.tax_id =, some": ("contacts", ONE),
    "account.parent.custom.score >=, 1 in 100,000": ("contacts", FEW),
    "account.parent.industry =, none": ("contacts", {"field": "account.parent.industry", "value": "Mining"}),
    "account.parent.custom.grade in an or": (
        "contacts",
        {"or": [{"field": "account.parent.custom.grade", "value": "{industry}"}, {"field": "title", "value": "CEO"}]},
    ),
    "children any, an eighth": (
        "accounts",
        {"field": "children", "op": "any", "value": {"field": "industry", "value": "{industry}"}},
    ),
    "children any, custom": (
        "accounts",
        {"field": "children", "op": "any", "value": {"field": "custom.grade", "value": "{industry}"}},
    ),
    "children any, one": (
        "accounts",
        {"field": "children", "op": "any", "value": {"field": "tax_id", "value": "{child}"}},
    ),
    "contacts any, over parent": (
        "accounts",
        {"field": "contacts", "op": "any", "value": {"field": "account.parent.industry", "value": "{industry}"}},
    ),
    "contacts none": (
        "accounts",
        {"field": "contacts", "op": "none", "value": {"field": "title", "value": "CEO"}},
    ),
    "children all": (
        "accounts",
        {"field": "children", "op": "all", "value": {"field": "custom.grade", "value": "{industry}"}},
    ),
}


class Client:
    """One kept connection for each user."""

    def __init__(self, stage: Stage, port: int) -> None:
        self.stage = stage
        self.connection = HTTPConnection("127.0.0.1", port, timeout=120)

    def ask(self, user: str, method: str, path: str, body: Any = None) -> tuple[float, Any]:
        """(milliseconds, answer) of a request.

        Raises:
            SystemExit: it was refused.
        """
        head = {"Authorization": f"Bearer {self.stage.keys[user]}", "Content-Type": "application/json"}
        began = time.perf_counter()
        self.connection.request(method, path, None if body is None else json.dumps(body), head)
        answer = self.connection.getresponse()
        text = answer.read()
        took = (time.perf_counter() - began) * 1000
        if answer.status >= 300 and answer.status != TIMEOUT:
            raise SystemExit(f"{method} {path} {body}: {answer.status} {text.decode()[:500]}")
        return took, json.loads(text)


def _figures(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {f"p{p}": times[min(len(times) * p // 100, len(times) - 1)] for p in (50, 95)}


def _values(dice: random.Random, rows: int) -> dict[str, Any]:
    """What a request asks for, anew for each, so that none is answered from what the one before it left behind."""
    least = dice.randrange(0, 90_000_000)
    return {
        "industry": dice.choice(load.INDUSTRIES),
        "least": least,
        "most": least + 10_000_000,
        "day": f"202{dice.randrange(4, 6)}-{dice.randrange(1, 11):02}-{dice.randrange(1, 28):02}",
        "parent": f"TX{dice.randrange(1, rows // 10)}",
        "child": f"TX{dice.randrange(rows // 10, rows)}",
    }


def _paths(template: str, values: dict[str, Any]) -> tuple[str, str]:
    """The query by the custom fields, and by the declared ones with the same values."""
    custom = {key: f"custom.{key}" for key in MEANT}
    declared = {**values, "least": f"{values['least']}.00", "most": f"{values['most']}.00"}
    first = template.format(**custom, **values, hour="")
    second = template.format(**MEANT, **declared, hour="T00:00:00Z")
    return f"/v1/accounts?{first}", f"/v1/accounts?{second}"


def _deep(client: Client, user: str, path: str) -> str:
    """The query of a page far behind the first, or of the last but one when there are not so many."""
    found = path
    for _ in range(DEEP):
        _, page = client.ask(user, "GET", f"{found}&limit={200 if user != 'narrow' else 2}")
        if not page["has_more"]:
            break
        found = f"{path}&cursor={page['next_cursor']}"
    return found


def lists(client: Client, rows: int, rounds: int) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """By user and query: figures of the custom fields and of the declared ones, asked in turns."""
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for user in SEES:
        for name, template in PAIRS.items():
            dice = random.Random(7)  # noqa: S311 - the same queries in each run
            times: tuple[list[float], list[float]] = ([], [])
            deep = {}
            if "deep" in name:
                for industry in load.INDUSTRIES:
                    pair = _paths(template, {**_values(dice, rows), "industry": industry})
                    deep[industry] = [_deep(client, user, path) for path in pair]
            for number in range(rounds + WARM):
                values = _values(dice, rows)
                pair = deep[values["industry"]] if deep else _paths(template, values)
                took = [client.ask(user, "GET", path) for path in (pair if number % 2 else reversed(pair))]
                if number >= WARM:
                    for side, (each, _) in zip(times, took if number % 2 else reversed(took), strict=True):
                        side.append(each)
            found.setdefault(user, {})[name] = {"custom": _figures(times[0]), "declared": _figures(times[1])}
    return found


def _bound(node: Any, values: dict[str, Any]) -> Any:
    if isinstance(node, dict):
        return {key: _bound(value, values) for key, value in node.items()}
    if isinstance(node, list):
        return [_bound(item, values) for item in node]
    return node.format(**values) if isinstance(node, str) else node


def two_hops(client: Client, rows: int, rounds: int) -> dict[str, dict[str, dict[str, float]]]:
    """By user and filter: figures, and how many rows a page had on the average."""
    found: dict[str, dict[str, dict[str, float]]] = {}
    for user in SEES:
        for name, (plural, node) in TWO.items():
            dice = random.Random(8)  # noqa: S311 - the same queries in each run
            times, lengths = [], []
            for number in range(rounds + WARM):
                body = {"filter": _bound(node, _values(dice, rows))}
                took, page = client.ask(user, "POST", f"/v1/{plural}/search", body)
                if "data" not in page:  # it timed out: no figures are missed by not asking again
                    times, lengths = [took], [0]
                    break
                if number >= WARM:
                    times.append(took)
                    lengths.append(len(page["data"]))
            found.setdefault(user, {})[name] = {**_figures(times), "rows": statistics.mean(lengths)}
    return found


async def _texts(stage: Stage) -> list[bytes]:
    """Gets, lists and creates, six to three to one."""
    connection = await connect(stage)
    try:
        ids = await connection.fetch("SELECT id FROM accounts ORDER BY md5(id::text) LIMIT 600")
    finally:
        await connection.close()
    key, texts = stage.keys["admin"], []
    for n, row in enumerate(ids):
        texts.append(request(f"/v1/accounts/{row['id']}", key))
        if n % 2:
            industry = load.INDUSTRIES[n % len(load.INDUSTRIES)]
            texts.append(request(f"/v1/accounts?custom.grade={industry}&sort=-custom.score", key))
        if n % 6 == 0:
            body = json.dumps({"name": f"New {n}", "custom": {"grade": "retail", "score": n}})
            texts.append(request("/v1/accounts", key, body).replace(b"PATCH", b"POST", 1))
    random.Random(9).shuffle(texts)  # noqa: S311 - the same order in each run
    return texts


def building(
    stage: Stage, client: Client, port: int, late: dict[str, str], rounds: int, seconds: float
) -> dict[str, Any]:
    """Windows in turns, quiet and while a worker of its own builds an index; the last one is built to its end."""
    texts = asyncio.run(_texts(stage))
    asyncio.run(read(port, texts, 5, PACE))
    quiet, busy, done = [], [], 0.0
    with (stage.folder / "worker.log").open("wb") as log:
        environment = {**stage.environment, "PYTHONPATH": str(servers.ROOT / "src")}
        worker = subprocess.Popen(
            [sys.executable, "-m", "crm_api", "worker"], stdout=log, stderr=log, env=environment, cwd=stage.folder
        )
    try:
        for number, id_ in zip(range(rounds), late.values(), strict=False):
            asyncio.run(asyncio.sleep(3))
            quiet.append(asyncio.run(read(port, texts, seconds, PACE)))
            began = time.perf_counter()
            client.connection.close()  # the server has done so by now; the next request opens another
            client.ask("admin", "PATCH", f"/v1/custom_fields/{id_}", {"is_filterable": True})
            asyncio.run(asyncio.sleep(3))  # until the worker has found it
            busy.append(asyncio.run(read(port, texts, seconds, PACE)))
            client.connection.close()
            state = client.ask("admin", "GET", f"/v1/custom_fields/{id_}")[1]["index_state"]
            if number < rounds - 1:
                client.ask("admin", "PATCH", f"/v1/custom_fields/{id_}", {"is_filterable": False})
                if state != "building":
                    raise SystemExit("The index was built before the window ended: more rows, or shorter windows.")
            while number == rounds - 1 and state == "building":
                time.sleep(0.5)
                state = client.ask("admin", "GET", f"/v1/custom_fields/{id_}")[1]["index_state"]
            done = time.perf_counter() - began
    finally:
        worker.terminate()
        worker.wait(15)
    found: dict[str, Any] = {"seconds to the end": done}
    for name, windows in (("quiet", quiet), ("building", busy)):
        cuts = [statistics.quantiles(times, n=100) for times in windows]
        found[name] = {f"p{p}": statistics.median(cut[p - 1] for cut in cuts) for p in (50, 99)}
        found[name]["p99s"] = [round(cut[98], 2) for cut in cuts]
    found["rise"] = found["building"]["p99"] / found["quiet"]["p99"] - 1
    return found


def _verdict(met: bool) -> str:
    return "met" if met else "**missed**"


def list_lines(found: dict[str, Any]) -> list[str]:
    """The table of the first bar."""
    rows = [
        "| who sees | query | custom p50 ms | p95 | declared p50 | p95 | p50 | p95 | |",
        "|---|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for user, queries in found.items():
        for name, part in queries.items():
            ours, other = part["custom"], part["declared"]
            ratios = [ours[p] / other[p] for p in ("p50", "p95")]
            cells = " | ".join(f"{side[p]:.1f}" for side in (ours, other) for p in ("p50", "p95"))
            verdict = _verdict(max(ratios) <= BAR_RATIO)
            rows.append(f"| {SEES[user]} | {name} | {cells} | {ratios[0]:.2f} | {ratios[1]:.2f} | {verdict} |")
    return rows


def two_lines(found: dict[str, Any]) -> list[str]:
    """The table of the second bar."""
    rows = ["| who sees | filter | rows | p50 ms | p95 ms | |", "|---|---|--:|--:|--:|---|"]
    for user, queries in found.items():
        for name, part in queries.items():
            figures = f"{part['rows']:.0f} | {part['p50']:.1f} | {part['p95']:.1f}"
            rows.append(f"| {SEES[user]} | {name} | {figures} | {_verdict(part['p95'] < BAR_TWO)} |")
    return rows


def building_lines(found: dict[str, Any]) -> list[str]:
    """The table of the third bar."""
    rows = ["| | p50 ms | p99 ms | p99 of each window |", "|---|--:|--:|---|"]
    for name in ("quiet", "building"):
        part = found[name]
        rows.append(f"| {name} | {part['p50']:.2f} | {part['p99']:.2f} | {', '.join(map(str, part['p99s']))} |")
    told = f"p99 {found['rise']:+.0%} (bar {BAR_RISE:.0%}): {_verdict(found['rise'] < BAR_RISE)}."
    return [*rows, "", f"{told} The last index was built in {found['seconds to the end']:.0f} s."]


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.customs", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="accounts")
    parser.add_argument("--rounds", type=int, default=60, help="times that each query is asked")
    parser.add_argument("--windows", type=int, default=4, help="of each kind, while no index is built and while one is")
    parser.add_argument("--seconds", type=float, default=15, help="length of each window")
    parser.add_argument("--only", nargs="+", choices=("lists", "hops", "building"), help="bars")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with staged() as stage:
        late = asyncio.run(fill(stage, options.rows, [f"late_{n}" for n in range(options.windows)]))
        data, sections = run(stage, late, options)
    facts["load after the run, its own included"] = f"{os.getloadavg()[0]:.1f}"
    sections.insert(0, ("Machine", [f"- {name}: {value}" for name, value in facts.items()]))
    report.save(sections, {"machine": facts, "accounts": options.rows, **data}, options.name)
    return 0


def run(
    stage: Stage, late: dict[str, str], options: argparse.Namespace
) -> tuple[dict[str, Any], list[tuple[str, list[str]]]]:
    """All bars that are asked for."""
    only = options.only or ("lists", "hops", "building")
    data: dict[str, Any] = {}
    sections: list[tuple[str, list[str]]] = []
    with ExitStack() as stack:
        server = servers.start("ours", stage, worker="false")
        stack.callback(server.stop)
        client = Client(stage, server.port)
        stack.callback(client.connection.close)
        if "lists" in only:
            data["lists"] = lists(client, options.rows, options.rounds)
            told = (
                f"{options.rows:,} accounts; pages of 50; {options.rounds} of each, one at a time, in turns with the same list "
                f"by declared fields that have the same values. The bar: p50 and p95 at most {BAR_RATIO - 1:.0%} above it."
            )
            sections.append(("Lists by custom fields", [told, "", *list_lines(data["lists"])]))
        if "hops" in only:
            data["hops"] = two_hops(client, options.rows, options.rounds)
            told = (
                f"{options.rows:,} accounts, of which four fifths have a parent, and {options.rows * 2:,} contacts; pages of 50, "
                f"newest first; {options.rounds} of each. The bar: p95 below {BAR_TWO} ms."
            )
            sections.append(("Filters over relations", [told, "", *two_lines(data["hops"])]))
        if "building" in only:
            data["building"] = building(stage, client, server.port, late, options.windows, options.seconds)
            told = (
                f"{PACE:g} requests each second at an even pace, gets, lists and creates 6 : 3 : 1, latency since "
                f"a request was due; {options.windows} windows of {options.seconds:g} s, each after a quiet one; figures are "
                f"medians of the windows. The worker is a process of its own."
            )
            sections.append(("Building an index", [told, "", *building_lines(data["building"])]))
    return data, sections


if __name__ == "__main__":
    sys.exit(main())
