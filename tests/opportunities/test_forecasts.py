"""Forecasts over HTTP: categories, weights, the manager tree, quotas, and what of it whom is told."""

import pytest

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
