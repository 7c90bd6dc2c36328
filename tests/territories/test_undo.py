"""Taking a reassignment back: what it moved and nobody moved since goes where it was; the rest is told."""

import pytest

from tests.distribution.test_bulk import skipped, start
from tests.editing.test_edit import undo
from tests.integrations.conftest import Follower
from tests.support.asking import code
from tests.support.jobs import get, wait, working
from tests.support.problems import problem
from tests.territories.test_territories import account, address, rule, territory

EVERY = {"filter": {"field": "id", "op": "is_null", "value": False}}


@pytest.fixture
def moved(org):
    """Five accounts that rules had put into `old`, and the next rule put into `new` by a reassignment."""
    org.old, org.new = territory(org.admin), territory(org.admin)
    org.first = rule(org.admin, org.old, countries=["DE"])["id"]
    org.ids = [account(org.rep, **address("DE"))["id"] for _ in range(5)]
    org.second = rule(org.admin, org.new, priority=1, countries=["DE"])["id"]
    return org


def reassign(person, **body) -> dict:
    with working(person.server):
        job = wait(person, start(person, "accounts/reassign", **{**EVERY, **body}))
    assert job["state"] == "succeeded", job
    return job


def where(org, id_: str) -> tuple:
    found = org.admin.get(f"/v1/accounts/{id_}").json()
    return found["territory_id"], found["territory_rule_id"]


def assign(org, id_: str, **body) -> None:
    assert org.admin.post(f"/v1/accounts/{id_}/assign_territory", json=body).status_code == 200


def test_it_puts_back_what_nobody_moved_since(moved):
    gone, by_hand, pinned, renamed, still = moved.ids
    job = reassign(moved.admin)
    assert job["result"]["done"] == 5
    assert moved.admin.delete(f"/v1/accounts/{gone}").status_code == 204
    assign(moved, by_hand, territory_id=moved.old)
    assign(moved, pinned, territory_id=moved.new)
    assert moved.rep.patch(f"/v1/accounts/{renamed}", json={"name": "Renamed"}).status_code == 200
    feed = Follower(moved.server, moved.admin)
    result = undo(moved.admin, job)
    assert (result["done"], skipped(result)) == (2, {"changed_since": 2, "not_found": 1})
    told = {item["id"]: item["detail"] for item in result["refused"]}
    assert told[by_hand] == "Others have changed territory_id, territory_pinned, territory_rule_id since."
    assert told[pinned] == "Others have changed territory_pinned, territory_rule_id since."
    assert [where(moved, id_) for id_ in (by_hand, pinned, renamed, still)] == [
        (moved.old, None), (moved.new, None), (moved.old, moved.first), (moved.old, moved.first),
    ]  # fmt: skip
    assert moved.admin.get(f"/v1/accounts/{renamed}").json()["name"] == "Renamed"
    events = [event for event in feed.read() if event["type"] == "account.updated"]
    assert {event["object"]["id"] for event in events} == {renamed, still}
    assert {event["origin"]["cause"]["kind"] for event in events} == {"undo_reassign"}
    assert {event["origin"]["cause"]["reassign_id"] for event in events} == {job["id"]}
    entry = moved.admin.all("/v1/audit_log", object_id=still)[0]
    assert (entry["action"], entry["before"]["territory_id"]) == ("undo_reassign", moved.new)
    assert entry["after"]["territory_id"] == moved.old
    answer = moved.admin.post(f"/v1/jobs/{job['id']}/undo")
    assert code(answer) == (409, "transition_refused"), "once"


def test_out_of_none_it_goes_back_into_none(org):
    made = account(org.rep, **address("FR"))
    place = territory(org.admin)
    rule(org.admin, place, countries=["FR"])
    job = reassign(org.admin)
    assert where(org, made["id"])[0] == place
    assert undo(org.admin, job)["done"] == 1
    assert where(org, made["id"]) == (None, None)


def test_a_territory_that_takes_nothing_new_is_left(moved):
    job = reassign(moved.admin)
    assert moved.admin.patch(f"/v1/territories/{moved.old}", json={"is_active": False}).status_code == 200
    result = undo(moved.admin, job)
    assert (result["done"], skipped(result)) == (0, {"inactive": 5})
    assert where(moved, moved.ids[0]) == (moved.new, moved.second)


def test_one_that_is_gone_is_left(moved):
    job = reassign(moved.admin)
    assert moved.admin.delete(f"/v1/territory_rules/{moved.first}").status_code == 204
    assert moved.admin.delete(f"/v1/territories/{moved.old}").status_code == 204
    result = undo(moved.admin, job)
    assert (result["done"], skipped(result)) == (0, {"reference_not_found": 5})
    assert where(moved, moved.ids[0]) == (moved.new, moved.second)


def test_it_takes_the_right_to_reassign(moved):
    grants = ("jobs:read", "all"), ("accounts:read", "all"), ("accounts:update", "all"), ("territories:read", "all")
    clerk = moved.person("clerk", moved.role("Clerk", *grants))
    mover = moved.person("mover", moved.role("Mover", *grants, ("accounts:assign_territory", "own")))
    job = reassign(moved.admin)
    assert problem(clerk.post(f"/v1/jobs/{job['id']}/undo"), 403)["permission"] == "accounts:assign_territory"
    problem(moved.rep.post(f"/v1/jobs/{job['id']}/undo"), 404)
    result = undo(mover, job)
    assert (result["done"], skipped(result)) == (0, {"forbidden": 5}), "and over each record"
    assert result["refused"][0]["permission"] == "accounts:assign_territory"
    assert where(moved, moved.ids[0]) == (moved.new, moved.second)


def test_one_that_was_cancelled_is_undone_as_far_as_it_came(moved, halted):
    with working(moved.server):
        job = start(moved.admin, "accounts/reassign", ids=moved.ids)
        with halted():
            problem(moved.admin.post(f"/v1/jobs/{job['id']}/undo"), 409)
            assert moved.admin.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
        assert get(moved.admin, job)["state"] == "cancelled"
    assert [where(moved, id_)[0] for id_ in moved.ids].count(moved.new) == 2
    assert undo(moved.admin, job)["done"] == 2
    assert {where(moved, id_) for id_ in moved.ids} == {(moved.old, moved.first)}
    assert moved.admin.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
    with working(moved.server):
        again = wait(moved.admin, job)
    assert (again["state"], again["problem"]["code"]) == ("failed", "transition_refused")
    assert {where(moved, id_) for id_ in moved.ids} == {(moved.old, moved.first)}
