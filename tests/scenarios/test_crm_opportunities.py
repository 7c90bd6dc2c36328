"""The set "CRM Sales Opportunities" moves in by imports: accounts under their parents, and who looks after them."""

import csv
import os
from collections import Counter
from decimal import Decimal
from pathlib import Path

import pytest

from tests.support.imports import begin, done, rows, run, table
from tests.support.jobs import working
from tests.support.org import Org

SHARED = Path(os.environ.get("CRM_SHARED") or Path(__file__).resolve().parents[3] / "shared") / "data"
FOLDER = SHARED / "crm-opportunities"
pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the files are not in {FOLDER}")

MAPPING = [
    {"column": "account", "field": "name"},
    {"column": "sector", "field": "industry", "values": {"technolgy": "technology"}},
    {"column": "revenue", "field": "annual_revenue"},
    {"column": "employees", "field": "employees"},
    {"column": "office_location", "field": "addresses.0.country", "values": {"Korea": "KR"}},
    {"column": "subsidiary_of", "field": "parent_id", "by": "field", "target": "name"},
]


def lines(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def admin(server):
    with working(server):
        yield Org.create(server).admin


def test_all_accounts_move_in_under_their_parents_and_their_owners(admin):
    content = (FOLDER / "accounts.csv").read_bytes()
    made = begin(admin, content, resource="accounts", mapping=MAPPING, match_on=[{"by": "field", "field": "name"}])
    assert {item["field"] for item in made["suggestions"]} >= {"name", "annual_revenue", "employees", "parent_id"}
    made = run(admin, made, "validate")
    (wrong,) = rows(admin, made, state="invalid")
    assert (wrong["problems"][0]["column"], wrong["problems"][0]["code"]) == ("office_location", "invalid_country")
    assert made["counts"]["create"] == 84
    mapping = [*MAPPING[:4], {**MAPPING[4], "values": {"Korea": "KR", "Philipines": "PH"}}, MAPPING[5]]
    answer = admin.patch(f"/v1/imports/{made['id']}", json={"mapping": mapping})
    assert answer.status_code == 200, answer.text
    made = run(admin, made, "validate")
    assert made["counts"] == {**made["counts"], "rows": 85, "create": 85, "invalid": 0}
    made = run(admin, made, "apply")
    assert (made["state"], made["counts"]["created"], made["counts"]["failed"]) == ("applied", 85, 0)

    accounts = admin.all("/v1/accounts", limit=200)
    names = {account["id"]: account["name"] for account in accounts}
    source = lines("accounts.csv")
    assert sorted(names.values()) == sorted(line["account"] for line in source)
    parents = {account["name"]: names.get(account["parent_id"], "") for account in accounts}
    assert parents == {line["account"]: line["subsidiary_of"] for line in source}
    total = sum(Decimal(account["annual_revenue"]) for account in accounts)
    assert total == sum(Decimal(line["revenue"]) for line in source) == Decimal("169543.80")
    assert Counter(account["industry"] for account in accounts)["technology"] == 12

    _owners(admin, source)


def _owners(admin, source):
    """Each account goes to the agent with most of its deals: an import that finds accounts and users by name."""
    agents = {line["sales_agent"] for line in lines("sales_teams.csv")}
    deals = Counter((line["account"], line["sales_agent"]) for line in lines("sales_pipeline.csv") if line["account"])
    owner = {}
    for (account, agent), number in sorted(deals.items()):
        if number > owner.get(account, ("", 0))[1]:
            owner[account] = (agent, number)
    chosen = sorted({agent for agent, _ in owner.values()})
    assert set(chosen) <= agents
    users = {}
    for i, agent in enumerate(chosen):
        user = admin.make("users", name=agent, email=f"agent{i}@crm.example")
        users[user["id"]] = agent
    content = table([{"Account": account, "Agent": agent} for account, (agent, _) in owner.items()])
    made = done(
        admin,
        content,
        resource="accounts",
        mode="update",
        match_on=[{"by": "field", "field": "name"}],
        mapping=[
            {"column": "Account", "field": "name"},
            {"column": "Agent", "field": "owner_id", "by": "field", "target": "name"},
        ],
    )
    assert made["counts"]["updated"] == len(owner) == 85
    found = {account["name"]: users[account["owner_id"]] for account in admin.all("/v1/accounts", limit=200)}
    assert found == {account: agent for account, (agent, _) in owner.items()}
    back = run(admin, made, "revert")
    assert (back["state"], back["counts"]["reverted"], back["counts"]["kept"]) == ("reverted", 85, 0)
    assert {account["owner_id"] for account in admin.all("/v1/accounts", limit=200)} == {admin.id}
