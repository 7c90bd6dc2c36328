"""`python -m benchmarks.pipeline`: sums over the pipeline and forecasts, by who asks, beside a bare GROUP BY."""
# ruff: noqa: E501 - SQL

import argparse
import asyncio
import json
import sys
import time
from datetime import UTC, date, datetime
from http.client import HTTPConnection
from typing import Any
from uuid import UUID

import asyncpg

from benchmarks import load, report, servers
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import machine

SCALE, ACCOUNTS = 1_000_000, 10_000
BAR = 300
"""Milliseconds that p95 stays below for a manager of a tenth of the rows."""
SEES = {"manager": "a tenth", "reader": "all"}
_OPPORTUNITIES = """
INSERT INTO opportunities (tenant_id, id, name, name_key, account_id, pipeline_id, stage_id, status, amount, currency,
  probability, forecast_category, close_date, competitors, score_card, tags, stage_entered_at, latest_change, search_text,
  owner_id, version, created_at, created_by, created_via, updated_at, updated_by)
SELECT $1::uuid, bench.id('opportunity', i, at), 'Deal ' || i, 'deal ' || i, account,
  s.pipeline_id, s.id, s.kind, bench.dice(51, i, 1000000) * 10000, 'EUR', s.probability, s.forecast_category,
  current_date - 365 + bench.dice(52, i, 730)::int, '[]', '[]', '[]', at, '[{"from_stage_id": null}]', 'deal ' || i,
  owner, 1, at, owner, 'import', at, owner
FROM (SELECT d.i, bench.at(d.i, $4::timestamptz) AS at, a.id AS account, a.owner_id AS owner
      FROM (SELECT i, bench.dice(53, i, 10) = 0 AS near, bench.dice(54, i, 1000000000) AS pick
            FROM generate_series($2::bigint, $3::bigint) i) d
      JOIN (SELECT near, max(n) + 1 AS most FROM bench.sellers GROUP BY near) m ON m.near = d.near
      JOIN bench.sellers a ON a.near = d.near AND a.n = d.pick % m.most) rows
JOIN (SELECT *, row_number() OVER (ORDER BY position) - 1 AS n FROM stages WHERE tenant_id = $1) s ON s.n = bench.dice(55, i, 6)
"""
_SELLERS = """
CREATE TABLE bench.sellers AS
SELECT id, owner_id, near, row_number() OVER (PARTITION BY near) - 1 AS n
FROM (SELECT id, owner_id, owner_id = ANY($1::uuid[]) AS near FROM accounts WHERE created_via = 'import') a
"""
_INDEXES = """
SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename = 'opportunities'
  AND indexname NOT IN (SELECT conname FROM pg_constraint)
"""
_BARE = {
    "by stage": "SELECT stage_id, count(*), sum(amount::numeric) FROM opportunities WHERE tenant_id = $1 AND deleted_at IS NULL {only} GROUP BY 1",
    "by owner": "SELECT owner_id, count(*), sum(amount::numeric) FROM opportunities WHERE tenant_id = $1 AND deleted_at IS NULL {only} GROUP BY 1",
    "forecast of a quarter": "SELECT owner_id, currency, forecast_category, count(*), sum(amount::numeric), sum(amount::numeric * probability) FROM opportunities "
    "WHERE tenant_id = $1 AND deleted_at IS NULL AND close_date >= $2 AND close_date < $2 + 92 AND status <> 'lost' {only} GROUP BY 1, 2, 3",
}
_ONLY = "AND owner_id = ANY($3)"


def _quarter() -> date:
    today = datetime.now(UTC).date()
    return date(today.year, today.month - (today.month - 1) % 3, 1)


async def fill(stage: Stage, scale: int) -> None:
    """Adds the opportunities: a tenth of the manager's tree, six stages, two years of close dates."""
    await load.load(stage, 1, ACCOUNTS, ACCOUNTS)
    connection = await connect(stage)
    try:
        await connection.execute(
            "SET session_replication_role = replica; SET jit = off; SET maintenance_work_mem = '1GB'"
        )
        tree = ", ".join(f"'{owner}'" for owner in stage.tree)  # a table is not made with parameters
        await connection.execute(_SELLERS.replace("$1::uuid[]", f"ARRAY[{tree}]::uuid[]"))
        rows = await connection.fetch(_INDEXES)
        for row in rows:
            await connection.execute(f'DROP INDEX "{row["indexname"]}"')
        since = await connection.fetchval("SELECT at FROM bench.since")
        for start in range(1, scale + 1, load.BATCH):
            end = min(start + load.BATCH - 1, scale)
            await connection.execute(_OPPORTUNITIES, stage.tenant, start, end, since)
        for row in rows:
            await connection.execute(row["indexdef"])
        await connection.execute("VACUUM (ANALYZE, FREEZE) opportunities")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


def _ask(connection: HTTPConnection, key: str, name: str) -> float:
    head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    measures = [{"op": "count"}, {"op": "sum", "field": "amount"}]
    began = time.perf_counter()
    if name.startswith("forecast"):
        connection.request("GET", f"/v1/forecasts?period=quarter&from={_quarter()}", headers=head)
    else:
        body = {"group_by": [f"{name.removeprefix('by ')}_id"], "measures": measures}
        connection.request("POST", "/v1/opportunities/aggregate", json.dumps(body), head)
    answer = connection.getresponse()
    text = answer.read()
    if answer.status != 200 or not json.loads(text)["data"]:
        raise SystemExit(f"{name}: {answer.status} {text.decode()[:500]}")
    return (time.perf_counter() - began) * 1000


async def _bare(connection: asyncpg.Connection, stage: Stage, name: str, owners: list[UUID] | None) -> float:
    values: list[Any] = [stage.tenant, _quarter()] + ([owners] if owners else [])
    text = _BARE[name].format(only=_ONLY if owners else "")
    if "$2" not in text:
        text = text.replace("$3", "$2")
        values.pop(1)
    began = time.perf_counter()
    await connection.fetch(text, *values)
    return (time.perf_counter() - began) * 1000


def _figures(times: list[float]) -> dict[str, float]:
    times = sorted(times)
    return {f"p{p}": times[min(len(times) * p // 100, len(times) - 1)] for p in (50, 95)}


async def measure(stage: Stage, port: int, rounds: int) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Figures by user and question, the bare statement in turns with ours, after 3 of each to warm up."""
    bare, client = await connect(stage), HTTPConnection("127.0.0.1", port, timeout=60)
    found: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    try:
        for user in SEES:
            owners = stage.tree if user == "manager" else None
            for name in _BARE:
                ours, floor = [], []
                for number in range(rounds + 3):
                    took = _ask(client, stage.keys[user], name), await _bare(bare, stage, name, owners)
                    if number >= 3:
                        ours.append(took[0])
                        floor.append(took[1])
                found.setdefault(user, {})[name] = {"ours": _figures(ours), "bare": _figures(floor)}
    finally:
        client.close()
        await bare.close()
    return found


def lines(found: dict[str, dict[str, dict[str, dict[str, float]]]]) -> list[str]:
    """The table."""
    rows = ["| who sees | question | p50 ms | p95 ms | bare p50 | ours/bare | |", "|---|---|--:|--:|--:|--:|---|"]
    for user, questions in found.items():
        for name, part in questions.items():
            ours, bare = part["ours"], part["bare"]
            verdict = "" if user != "manager" else "met" if ours["p95"] < BAR else "**missed**"
            ratio = ours["p50"] / bare["p50"]
            cells = f"{ours['p50']:.0f} | {ours['p95']:.0f} | {bare['p50']:.0f} | {ratio:.2f} | {verdict}"
            rows.append(f"| {SEES[user]} | {name} | {cells} |")
    return rows


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pipeline", description=__doc__)
    parser.add_argument("--scale", type=int, default=SCALE, help="opportunities")
    parser.add_argument("--rounds", type=int, default=40, help="times that each question is asked")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with staged() as stage:
        asyncio.run(fill(stage, options.scale))
        server = servers.start("ours", stage)
        try:
            found = asyncio.run(measure(stage, server.port, options.rounds))
        finally:
            server.stop()
        conditions = (
            f"{options.scale:,} opportunities of 50 owners, each of its account's owner, a tenth of them of the manager's 11; 2 server processes, one "
            f"request at a time, {options.rounds} of each in turns with the same GROUP BY as the superuser without any "
            f"policy. The bar: p95 below {BAR} ms for the manager."
        )
        sections = [
            ("Machine", [f"- {name}: {value}" for name, value in facts.items()]),
            ("Sums over the pipeline", [conditions, "", *lines(found)]),
        ]
        report.save(sections, {"machine": facts, "opportunities": options.scale, "pipeline": found}, options.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
