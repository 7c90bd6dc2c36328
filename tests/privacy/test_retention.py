"""Retention policies: looked at before they are active, applied in small steps, and no hold is passed over."""

from datetime import UTC, datetime

import pytest

from crm_api.domains.privacy import retain
from crm_api.domains.privacy.preview_retention import untouched_since
from tests.support.jobs import wait
from tests.support.problems import problem

POLICY = {
    "name": "Old leads",
    "resource": "leads",
    "filter": {"field": "status", "op": "eq", "value": "disqualified"},
    "untouched_months": 12,
    "effect": "erase",
}


def old_lead(org, sql, name: str, *, months: int = 13, status: str = "disqualified", **values) -> dict:
    lead = org.admin.make("leads", last_name=name, **values)
    if status == "disqualified":
        answer = org.admin.post(f"/v1/leads/{lead['id']}/disqualify", json={"reason": "No budget."})
        assert answer.status_code == 200, answer.text
    then = untouched_since(datetime.now(UTC), months)
    sql("UPDATE leads SET updated_at = $2 WHERE id = $1", lead["id"], then)
    return lead


def activated(person, **values) -> dict:
    policy = person.make("retention_policies", **{**POLICY, **values})
    seen = person.get(f"/v1/retention_policies/{policy['id']}/preview").json()
    activate(person, policy, seen["count"]["value"])
    return policy


def activate(person, policy, at_most: int = 0) -> None:
    answer = person.post(f"/v1/retention_policies/{policy['id']}/activate", json={"at_most": at_most})
    assert answer.status_code == 200, answer.text


def apply(server) -> int:
    return server.run(retain.apply_retention(server.kernel))


def pause(org, policy) -> None:
    assert org.admin.post(f"/v1/retention_policies/{policy['id']}/pause").status_code == 200


def test_what_is_old_is_erased_and_nothing_else(org, server, worker, sql, monkeypatch):
    monkeypatch.setattr(retain, "AT_ONCE", 2)
    monkeypatch.setattr(retain, "_PAGE", 2)
    old = [old_lead(org, sql, f"Old {i}") for i in range(3)]
    held = old_lead(org, sql, "Held")
    org.admin.make("legal_holds", lead_id=held["id"], reason="Lawsuit")
    others = [old_lead(org, sql, "Young", months=11), old_lead(org, sql, "Open", status="new")]
    policy = org.admin.make("retention_policies", **POLICY)
    problem(org.admin.post(f"/v1/retention_policies/{policy['id']}/activate"), 422)
    refused = problem(org.admin.post(f"/v1/retention_policies/{policy['id']}/activate", json={"at_most": 3}), 409)
    assert refused["errors"][0]["code"] == "reaches_more"
    seen = org.admin.get(f"/v1/retention_policies/{policy['id']}/preview").json()
    assert seen["count"] == {"value": 4, "relation": "eq"}
    assert set(seen["samples"]) == {lead["id"] for lead in (*old, held)}
    assert org.admin.get(f"/v1/leads/{old[0]['id']}").json()["last_name"] == "Old 0"
    activate(org.admin, policy, 4)
    assert apply(server) == 2  # bounded
    assert apply(server) == 1
    assert apply(server) == 0
    for lead in old:
        (erasure,) = org.admin.all("/v1/erasures", object_id=lead["id"])
        assert (erasure["basis"], erasure["policy_id"]) == ("no_longer_needed", policy["id"])
        wait(org.admin, {"id": erasure["job_id"]}, seconds=30)
        assert org.admin.get(f"/v1/leads/{lead['id']}").json()["last_name"] == "Erased"
    for lead in (held, *others):
        assert org.admin.get(f"/v1/leads/{lead['id']}").json()["last_name"] == lead["last_name"]
    pause(org, policy)


def test_deleting_is_what_a_delete_does_and_a_paused_policy_does_nothing(org, server, sql):
    lead = old_lead(org, sql, "Old")
    policy = activated(org.admin, effect="delete")
    pause(org, policy)
    assert apply(server) == 0
    activate(org.admin, policy, 1)
    assert apply(server) == 1
    problem(org.admin.get(f"/v1/leads/{lead['id']}"), 404)
    assert org.admin.post(f"/v1/leads/{lead['id']}/restore").status_code == 200
    pause(org, policy)


def test_an_active_one_stays_as_it_is(org):
    policy = activated(org.admin, filter=None)
    path = f"/v1/retention_policies/{policy['id']}"
    problem(org.admin.patch(path, json={"untouched_months": 1}), 409)
    problem(org.admin.delete(path), 409)
    pause(org, policy)
    assert org.admin.patch(path, json={"untouched_months": 24}).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        {"resource": "accounts"},
        {"untouched_months": 0},
        {"untouched_months": 100_000},
        {"effect": "hide"},
        {"filter": {"field": "shoe_size", "op": "eq", "value": 43}},
        {"filter": {"field": "score", "op": "contains", "value": "x"}},
        {"filter": {"and": "or"}},
        {"state": "active"},
        {"ran_at": "2026-01-01T00:00:00Z"},
    ],
)
def test_bad_policies_are_refused(shared_org, body):
    problem(shared_org.admin.post("/v1/retention_policies", json={**POLICY, **body}), 422)


@pytest.mark.parametrize("who", ["manager", "rep", "reader"])
def test_they_are_for_administrators(shared_org, who):
    person = getattr(shared_org, who)
    problem(person.post("/v1/retention_policies", json=POLICY), 403)
    problem(person.get("/v1/retention_policies"), 403)
    problem(person.get("/v1/legal_holds"), 403)
    problem(person.get("/v1/erasures"), 403)


@pytest.mark.parametrize(
    ("now", "months", "then"),
    [
        ("2026-03-31", 1, "2026-02-28"),
        ("2024-03-31", 1, "2024-02-29"),
        ("2026-01-15", 1, "2025-12-15"),
        ("2026-12-31", 13, "2025-11-30"),
        ("2026-05-05", 1200, "1926-05-05"),
    ],
)
def test_months_are_those_of_the_calendar(now, months, then):
    assert untouched_since(datetime.fromisoformat(f"{now}T00:00:00+00:00"), months).date().isoformat() == then
