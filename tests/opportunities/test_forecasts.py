"""Forecasts over HTTP: categories, weights, the manager tree, quotas, and what of it whom is told."""

from datetime import UTC, date, datetime

import pytest

from crm_api.domains.opportunities.take_snapshots import take_weekly_snapshots
from tests.support.org import Org
from tests.support.problems import problem

STAGES = (
    ("pipeline", "open", 10),
    ("best_case", "open", 50),
    ("commit", "open", 90),
    ("omitted", "open", 5),
    ("closed", "won", 100),
)
SPAN = {"period": "quarter", "from": "2026-10-01"}


@pytest.fixture(scope="module")
def org(server) -> Org:
    """Deals of one quarter: of `rep` in each category, of `colleague` a won one, of `outsider` an open one."""
    org = Org.create(server)
    pipeline = org.admin.make("pipelines", name="Sales")["id"]
    stages = {
        code: org.admin.make(
            "stages",
            pipeline_id=pipeline,
            name=code,
            code=code,
            kind=kind,
            probability=likely,
            forecast_category=code,
            position=i,
        )["id"]
        for i, (code, kind, likely) in enumerate(STAGES)
    }
    stages["lost"] = org.admin.make("stages", pipeline_id=pipeline, name="Lost", code="lost", kind="lost")["id"]
    deals = [(org.rep, code, f"{i + 1}00.10", "2026-12-31") for i, (code, *_) in enumerate(STAGES)]
    deals += [(org.rep, "commit", "7.00", "2027-01-01"), (org.rep, "lost", "9.00", "2026-11-01")]
    deals += [(org.colleague, "closed", "1000.00", "2026-10-01"), (org.outsider, "commit", "50.00", "2026-11-11")]
    for person, code, amount, day in deals:
        account = person.make("accounts", name="Kaufmann")["id"]
        values = {"name": code, "account_id": account, "stage_id": stages[code], "close_date": day}
        person.make("opportunities", **values, amount=amount, currency="EUR")
    quota = {"period": "quarter", "period_start": "2026-10-01", "currency": "EUR"}
    org.admin.make("forecast_quotas", principal_id=org.rep.id, amount="900", **quota)
    org.admin.make("forecast_quotas", principal_id=org.manager.id, amount="2000", **quota)
    return org


def lines(person, **params) -> dict:
    answer = person.get("/v1/forecasts", params={**SPAN, **params})
    assert answer.status_code == 200, answer.text
    return {line["principal_id"]: line for line in answer.json()["data"]}


OWN = {
    "count": 4,
    "closed": "500.10",
    "commit": "300.10",
    "best_case": "200.10",
    "pipeline": "100.10",
    "weighted": "880.25",
}


def test_categories_are_added_up_the_tree_against_quota(org):
    found = lines(org.manager)
    assert found.keys() == {org.manager.id, org.rep.id, org.colleague.id}
    assert next(iter(found)) == org.manager.id, "who is above comes first"
    mine = found[org.rep.id]
    assert (mine["own"], mine["tree"], mine["quota"], mine["manager_id"]) == (OWN, OWN, "900.00", org.manager.id)
    above = found[org.manager.id]
    assert above["own"] == {"count": 0} | dict.fromkeys(list(OWN)[1:], "0.00")
    assert above["tree"] == {**OWN, "count": 5, "closed": "1500.10", "weighted": "1880.25"}
    assert (above["quota"], found[org.colleague.id]["quota"]) == ("2000.00", None)


def test_each_sees_what_its_policies_give(org):
    assert lines(org.rep)[org.rep.id]["own"] == OWN
    assert lines(org.rep)[org.manager.id]["tree"] == OWN, "of the tree, what one sees oneself"
    assert lines(org.rep)[org.manager.id]["quota"] is None
    everybody = lines(org.reader)
    assert everybody[org.outsider.id]["own"]["commit"] == "50.00"
    assert lines(org.reader, principal_id=org.manager.id).keys() == lines(org.manager).keys()
    assert org.outsider.id in lines(org.reader, principal_id=org.other_manager.id)


def test_a_period_is_its_days(org):
    month = lines(org.rep, period="month", **{"from": "2027-01-01"})
    assert month[org.rep.id]["own"]["commit"] == "7.00"
    assert lines(org.rep, period="month") == {}
    for params in ({"from": "2026-11-01"}, {"from": "2026-10-02", "period": "month"}, {"from": "9999-10-01"}):
        assert problem(org.rep.get("/v1/forecasts", params={**SPAN, **params}), 422)["errors"][0]["parameter"] == "from"
    stray = org.rep.get("/v1/forecasts", params={**SPAN, "principal_id": org.tenant_id})
    assert problem(stray, 422)["errors"][0]["code"] == "reference_not_found"
    quota = {"principal_id": org.rep.id, "period": "quarter", "amount": "1", "currency": "EUR"}
    refused = org.admin.post("/v1/forecast_quotas", json={**quota, "period_start": "2026-11-01"})
    assert problem(refused, 422)["errors"][0]["pointer"] == "/period_start"


def test_what_is_hidden_is_not_added_up(org):
    rules = [{"resource": "opportunities", "field": "amount", "rule": "hidden"}]
    names = ("opportunities", "principals", "forecast_quotas")
    blind = org.person("blind", org.role("Blind", *((f"{name}:read", "all") for name in names), field_rules=rules))
    assert problem(blind.get("/v1/forecasts", params=SPAN), 403)["permission"] == "field opportunities.amount"
    nobody = org.person("nobody", org.role("Nobody", ("accounts:read", "own")))
    assert problem(nobody.get("/v1/forecasts", params=SPAN), 403)["permission"] == "opportunities:read"


def test_quotas_are_seen_up_the_tree(org):
    assert len(org.manager.all("/v1/forecast_quotas")) == 2
    assert len(org.rep.all("/v1/forecast_quotas")) == 1
    assert org.outsider.all("/v1/forecast_quotas") == []
    mine = org.rep.all("/v1/forecast_quotas")[0]
    assert problem(org.rep.patch(f"/v1/forecast_quotas/{mine['id']}", json={"amount": "1"}), 403)


def accuracy(person, **params) -> list[dict]:
    answer = person.get("/v1/forecasts/accuracy", params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@pytest.fixture(scope="module")
def tracked(server) -> Org:
    """Deals of this month, of which a snapshot was taken; one of `rep` was won after, one of `colleague` lost."""
    org, today = Org.create(server), datetime.now(UTC).date()
    org.month = today.replace(day=1).isoformat()
    stages = {stage["code"]: stage["id"] for stage in org.admin.all("/v1/stages")}
    quota = {"period": "month", "period_start": org.month, "currency": "EUR"}
    org.admin.make("forecast_quotas", principal_id=org.rep.id, amount="500", **quota)
    deals = {}
    for name, owner, code in (("a", "rep", "proposal"), ("b", "rep", "commitment"), ("c", "colleague", "negotiation")):
        person = org.people[owner]
        account = person.make("accounts", name="Kaufmann")["id"]
        values = {"name": name, "account_id": account, "stage_id": stages[code], "close_date": today.isoformat()}
        deals[name] = person.make("opportunities", **values, amount="100.01", currency="EUR")["id"]
    answer = org.admin.post("/v1/forecast_snapshots/take")
    assert (answer.status_code, answer.json()["taken"] >= 4) == (200, True), answer.text
    assert org.rep.post(f"/v1/opportunities/{deals['b']}/win").status_code == 200
    assert org.colleague.post(f"/v1/opportunities/{deals['c']}/lose").status_code == 200
    return org


def test_a_snapshot_says_what_the_forecast_said(tracked):
    (line,) = tracked.rep.all("/v1/forecast_snapshots", period="month", period_start=tracked.month)
    figures = {"count": 2, "closed": "0.00", "commit": "100.01", "best_case": "0.00", "pipeline": "100.01"}
    assert {name: line[name] for name in figures} == figures
    assert (line["weighted"], line["quota"], line["created_by"]) == ("130.013", "500.00", tracked.admin.id)
    again = tracked.admin.post("/v1/forecast_snapshots/take")
    assert again.json()["taken"] == 0, "once a day"
    for person in (tracked.manager, tracked.rep, tracked.reader):
        assert problem(person.post("/v1/forecast_snapshots/take"), 403)["permission"] == "forecast_snapshots:take"


def test_accuracy_sets_the_forecast_beside_what_was_closed(tracked):
    span = {"period": "month", "from": tracked.month}
    mine, theirs = sorted(accuracy(tracked.manager, **span), key=lambda line: line["principal_id"] != tracked.rep.id)
    assert (mine["principal_id"], mine["weighted"], mine["actual"]) == (tracked.rep.id, "130.013", "100.01")
    assert (mine["deviation"], mine["deviation_percent"], mine["is_final"]) == ("30.003", 30.0, False)
    assert (theirs["principal_id"], theirs["actual"], theirs["deviation_percent"]) == (
        tracked.colleague.id,
        "0.00",
        None,
    )
    assert accuracy(tracked.rep, **span) == [mine]
    assert accuracy(tracked.manager, **span, principal_id=tracked.rep.id) == [mine]
    assert accuracy(tracked.outsider, **span) == []
    assert accuracy(tracked.rep, **span, snapshots="last") == accuracy(tracked.rep, **span, snapshots="all") == [mine]
    quarter = date.fromisoformat(tracked.month)
    quarter = quarter.replace(month=quarter.month - (quarter.month - 1) % 3)
    (line,) = accuracy(tracked.rep, period="quarter", **{"from": quarter.isoformat()})
    assert (line["actual"], line["quota"]) == ("100.01", None)


def test_accuracy_is_bounded_and_tells_nothing_hidden(tracked):
    span = {"period": "month", "from": tracked.month}
    for params, name in (
        ({"from": "2026-10-02"}, "from"),
        ({"periods": 25}, "periods"),
        ({"from": "9999-10-01"}, "from"),
    ):
        refused = tracked.rep.get("/v1/forecasts/accuracy", params={**span, **params})
        assert problem(refused, 422)["errors"][0]["parameter"] == name
    rules = [{"resource": "opportunities", "field": "amount", "rule": "hidden"}]
    names = ("opportunities", "forecast_snapshots")
    role = tracked.role("Blind", *((f"{name}:read", "all") for name in names), field_rules=rules)
    blind = tracked.person("blind", role)
    assert problem(blind.get("/v1/forecasts/accuracy", params=span), 403)["permission"] == "field opportunities.amount"
    assert {row["weighted"] for row in blind.all("/v1/forecast_snapshots")} == {None}


def test_the_schedule_takes_what_a_week_lacks_once(server):
    org = Org.create(server)
    org.admin.make("forecast_quotas", **this_month(), principal_id=org.rep.id, amount="7", currency="EUR")
    for _ in range(2):
        server.run(take_weekly_snapshots(server.kernel))
        found = org.rep.all("/v1/forecast_snapshots", period="month")
        assert [(row["quota"], row["weighted"], row["created_by"]) for row in found] == [("7.00", "0.00", None)]


def this_month() -> dict:
    return {"period": "month", "period_start": datetime.now(UTC).date().replace(day=1).isoformat()}
