"""`python -m benchmarks.history`: lists and sums as of an instant, beside the same of now, by how much changed since."""
# ruff: noqa: E501 - SQL

import argparse
import asyncio
import json
import sys
import time
from datetime import UTC, datetime, timedelta
from http.client import HTTPConnection
from typing import Any
from urllib.parse import quote

from benchmarks import load, report, servers
from benchmarks.stage import Stage, connect, staged
from benchmarks.usage import machine

ROWS, CHANGES = 20_000, 5
SHARES = (0.01, 0.1, 1.0)
"""Parts of the rows that were changed after each instant that is asked about."""
_CHANGED = """
INSERT INTO audit_entries (tenant_id, id, at, actor_id, credential_id, request_id, object_type, object_id, version, action, before, after)
SELECT tenant_id, gen_random_uuid(), $3::timestamptz, owner_id, NULL, 'bench', 'account', id, version + $4, 'update',
  jsonb_build_object('annual_revenue', annual_revenue + $4, 'industry', industry, 'tier', 'A'), jsonb_build_object('annual_revenue', annual_revenue)
FROM accounts WHERE tenant_id = $1 AND created_via = 'import' AND mod(hashtext(id::text)::bigint + 2147483648, 1000) < $2::float8 * 1000
"""
_CREATED = """
INSERT INTO audit_entries (tenant_id, id, at, actor_id, credential_id, request_id, object_type, object_id, version, action, before, after)
SELECT tenant_id, gen_random_uuid(), created_at, owner_id, NULL, 'bench', 'account', id, version, 'create', '{}', '{}'
FROM accounts WHERE tenant_id = $1 AND created_via = 'import'
"""
_RAISED = """
UPDATE accounts SET version = version + $3, updated_at = $4
WHERE tenant_id = $1 AND created_via = 'import' AND mod(hashtext(id::text)::bigint + 2147483648, 1000) < $2::float8 * 1000
"""
QUESTIONS = {
    "list, newest first": ("GET", "/v1/accounts?limit=50", None),
    "list by name": ("GET", "/v1/accounts?limit=50&sort=name", None),
    "list by revenue, of one owner": ("GET", "/v1/accounts?limit=50&owner_id={owner}&sort=-annual_revenue", None),
    "sums by industry": (
        "POST",
        "/v1/accounts/aggregate",
        {"group_by": ["industry"], "measures": [{"op": "count"}, {"op": "sum", "field": "annual_revenue"}]},
    ),
}


async def fill(stage: Stage, rows: int) -> dict[float, datetime]:
    """Accounts, of which a part was changed some times after each instant; gives the instants."""
    await load.load(stage, 1, rows, rows)
    connection = await connect(stage)
    found, now = {}, datetime.now(UTC)
    try:
        await connection.execute("SET session_replication_role = replica")
        await connection.execute(_CREATED, stage.tenant)
        for days, share in enumerate(sorted(SHARES, reverse=True)):
            at = now - timedelta(days=10 - days)
            found[share] = at - timedelta(hours=1)
            for version in range(1, CHANGES + 1):
                await connection.execute(_CHANGED, stage.tenant, share, at, version)
            await connection.execute(_RAISED, stage.tenant, share, CHANGES, at)
        await connection.execute("VACUUM (ANALYZE) accounts")
        await connection.execute("VACUUM (ANALYZE) audit_entries")
    finally:
        await connection.close()
    return found


def _ask(connection: HTTPConnection, key: str, name: str, owner: str, as_of: datetime | None) -> tuple[float, int]:
    """(milliseconds, status) of one question."""
    method, path, body = QUESTIONS[name]
    path = path.replace("{owner}", owner)
    if as_of is not None:
        path += ("&" if "?" in path else "?") + f"as_of={quote(as_of.isoformat())}"
    head = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    began = time.perf_counter()
    connection.request(method, path, json.dumps(body) if body else None, head)
    answer = connection.getresponse()
    text = answer.read()
    took = (time.perf_counter() - began) * 1000
    if answer.status not in (200, 503) or (answer.status == 200 and not json.loads(text)["data"]):
        raise SystemExit(f"{name}: {answer.status} {text.decode()[:500]}")
    return took, answer.status


def measure(stage: Stage, port: int, instants: dict[float, datetime], rounds: int) -> dict[str, dict[str, Any]]:
    """Median milliseconds by question, of now and of each instant in turns; None for what takes longer than allowed."""
    client = HTTPConnection("127.0.0.1", port, timeout=60)
    owner = str(stage.tree[0])
    found: dict[str, dict[str, Any]] = {}
    for name in QUESTIONS:
        times: dict[str, list[float]] = {}
        for number in range(rounds + 1):
            for label, instant in [("now", None), *((f"{share:.0%}", at) for share, at in instants.items())]:
                took, status = _ask(client, stage.keys["manager"], name, owner, instant)
                if number:
                    times.setdefault(label, []).append(took if status == 200 else float("inf"))
        found[name] = {label: sorted(some)[len(some) // 2] for label, some in times.items()}
    client.close()
    return found


def main() -> int:
    """Runs it and writes the figures beside the others."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.history", description=__doc__)
    parser.add_argument("--rows", type=int, default=ROWS, help="accounts")
    parser.add_argument("--rounds", type=int, default=10, help="times that each question is asked")
    parser.add_argument("--name", help="of the result files")
    options = parser.parse_args()
    facts = machine()
    with staged() as stage:
        instants = asyncio.run(fill(stage, options.rows))
        server = servers.start("ours", stage)
        try:
            found = measure(stage, server.port, instants, options.rounds)
        finally:
            server.stop()
    told = f"{options.rows:,} accounts, of which that part was changed {CHANGES} times or more since; medians of {options.rounds}, in turns, for a manager who sees a tenth."
    labels = list(next(iter(found.values())))
    head = ["| question | " + " | ".join(f"{label} ms" for label in labels) + " |", "|---|" + "--:|" * len(labels)]
    rows = [
        f"| {name} | " + " | ".join(f"{part[label]:.1f}" for label in labels) + " |" for name, part in found.items()
    ]
    sections = [
        ("Machine", [f"- {name}: {value}" for name, value in facts.items()]),
        ("As of an instant", [told, "", *head, *rows]),
    ]
    report.save(sections, {"machine": facts, "rows": options.rows, "history": found}, options.name)
    return 0


if __name__ == "__main__":
    sys.exit(main())
