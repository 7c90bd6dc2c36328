"""The pipeline of "CRM Sales Opportunities" moves in by batches; totals by agent, quarter and account are its own."""

import csv
import os
from collections import Counter, defaultdict
from datetime import date, datetime
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.org import Org

SHARED = Path(os.environ.get("CRM_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
FOLDER = SHARED / "crm-opportunities"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the files are not in {FOLDER}")
STAGES = {"Prospecting": ("open", 10), "Engaging": ("open", 40), "Won": ("won", 100), "Lost": ("lost", 0)}
AT_ONCE = 200
UNKNOWN = "(account not known yet)"


def _lines(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def _day(text: str) -> date | None:
    return datetime.strptime(text, "%d-%m-%y").date() if text else None  # noqa: DTZ007 - a day without a time


def _quarter(day: date) -> tuple[int, int]:
    return day.year, (day.month + 2) // 3


def _batch(admin, collection: str, bodies: list[dict]) -> list[str]:
    ids = []
    for start in range(0, len(bodies), AT_ONCE):
        items = [{"op": "create", "body": body} for body in bodies[start : start + AT_ONCE]]
        answer = admin.post(
            f"/v1/{collection}/batch", json={"items": items}, headers={"Prefer": "return=minimal"}, timeout=60
        )
        assert answer.status_code == 200, answer.text
        results = answer.json()["results"]
        assert {result["status"] for result in results} == {201}
        ids += [result["id"] for result in results]
    return ids


def _totals(admin, group: str | None, *conditions: tuple[str, str, str]) -> dict:
    body = {"measures": [{"op": "count"}, {"op": "sum", "field": "amount"}], "group_by": [group] if group else []}
    if conditions:
        body["filter"] = {"and": [{"field": name, "op": op, "value": value} for name, op, value in conditions]}
    answer = admin.post("/v1/opportunities/aggregate", json=body)
    assert answer.status_code == 200, answer.text
    return {
        (row["group"][group] if group else None): (row["measures"][0], Decimal(row["measures"][1] or 0))
        for row in answer.json()["data"]
    }


def _summed(rows: list[dict], key) -> dict:
    found: dict = defaultdict(lambda: (0, Decimal(0)))
    for row in rows:
        count, total = found[key(row)]
        found[key(row)] = (count + 1, total + Decimal(row["close_value"] or 0))
    return dict(found)


@pytest.mark.parametrize(
    "number", [pytest.param(1_000, id="some"), pytest.param(8_800, id="all", marks=pytest.mark.full)]
)
def test_the_pipeline_moves_in_and_its_totals_are_its_own(server, number):
    admin = Org.create(server).admin
    source = _lines("sales_pipeline.csv")
    source = [source[i * len(source) // number] for i in range(number)]  # of each time something
    assert len(source) == number
    pipeline = admin.make("pipelines", name="GTX")["id"]
    stages = {
        name: admin.make(
            "stages",
            pipeline_id=pipeline,
            name=name,
            code=name.lower(),
            kind=kind,
            probability=likely,
            position=i,
        )["id"]
        for i, (name, (kind, likely)) in enumerate(STAGES.items())
    }
    names = sorted({row["account"] or UNKNOWN for row in source})
    accounts = dict(zip(names, _batch(admin, "accounts", [{"name": name} for name in names]), strict=True))
    people = sorted({row["sales_agent"] for row in source})
    users = [{"name": name, "email": f"agent{i}@crm.example"} for i, name in enumerate(people)]
    agents = dict(zip(people, _batch(admin, "users", users), strict=True))
    ids = _batch(
        admin,
        "opportunities",
        [
            {
                "name": f"{row['product']} {row['opportunity_id']}",
                "account_id": accounts[row["account"] or UNKNOWN],
                "stage_id": stages[row["deal_stage"]],
                "owner_id": agents[row["sales_agent"]],
                "close_date": day.isoformat() if (day := _day(row["close_date"])) else None,
                "amount": row["close_value"] or None,
                "currency": "USD",
            }
            for row in source
        ],
    )
    assert len(set(ids)) == number

    assert _totals(admin, "stage_id") == _summed(source, lambda row: stages[row["deal_stage"]])
    assert _totals(admin, "status") == _summed(source, lambda row: STAGES[row["deal_stage"]][0])
    assert _totals(admin, "owner_id") == _summed(source, lambda row: agents[row["sales_agent"]])
    assert _totals(admin, "account_id") == _summed(source, lambda row: accounts[row["account"] or UNKNOWN])
    closed = ("status", "eq", "won")
    won = [row for row in source if row["deal_stage"] == "Won"]
    assert _totals(admin, "owner_id", closed) == _summed(won, lambda row: agents[row["sales_agent"]])
    assert _totals(admin, "account_id", closed) == _summed(won, lambda row: accounts[row["account"] or UNKNOWN])
    quarters = _summed(won, lambda row: _quarter(_day(row["close_date"])))
    for (year, quarter), figures in quarters.items():
        first, last = date(year, quarter * 3 - 2, 1), date(year + quarter // 4, quarter % 4 * 3 + 1, 1)
        within = ("close_date", "gte", first.isoformat()), ("close_date", "lt", last.isoformat())
        assert _totals(admin, None, closed, *within) == {None: figures}

    began = admin.post(
        "/v1/stage_changes/aggregate", json={"group_by": ["to_stage_id"], "measures": [{"op": "count"}]}
    ).json()["data"]
    counted = Counter(stages[row["deal_stage"]] for row in source)
    assert {row["group"]["to_stage_id"]: row["measures"][0] for row in began} == counted, "each has its history"
