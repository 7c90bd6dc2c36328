"""Verbs in bulk while rows, rights and people change under them, or two of them run at once."""

import itertools
from concurrent.futures import ThreadPoolExecutor

from crm_api.domains.distribution import transfer, walk
from tests.distribution.test_bulk import accounts, owners, preview, run, skipped, start
from tests.support.jobs import get, wait, working

_numbers = itertools.count(1)


def test_rows_that_are_gone_or_changed_meanwhile_are_left_alone(org, halted):
    industry = f"H {next(_numbers)}"
    ids = accounts(org.rep, 6, industry=industry)
    body = {"filter": {"field": "industry", "value": industry}, "owner_id": org.colleague.id}
    with working(org.server):
        job = start(org.manager, "accounts/transfer", **body)
        with halted():
            assert org.rep.delete(f"/v1/accounts/{ids[2]}").status_code == 204
            assert org.rep.patch(f"/v1/accounts/{ids[3]}", json={"industry": "Other"}).status_code == 200
            assert org.admin.patch(f"/v1/accounts/{ids[4]}", json={"owner_id": org.outsider.id}).status_code == 200
        job = wait(org.manager, job)
    assert (job["state"], job["done"], job["expected"], job["result"]["done"]) == ("succeeded", 3, 6, 3)
    assert owners(org.admin, [ids[0], ids[1], ids[3], ids[4], ids[5]]) == [
        *[org.colleague.id] * 2,
        org.rep.id,
        org.outsider.id,
        org.colleague.id,
    ]


def test_a_list_tells_of_rows_that_are_gone_meanwhile(org, halted):
    ids = accounts(org.rep, 4)
    with working(org.server):
        job = start(org.manager, "accounts/transfer", ids=ids, owner_id=org.colleague.id)
        with halted():
            assert org.rep.delete(f"/v1/accounts/{ids[3]}").status_code == 204
        job = wait(org.manager, job)
    assert (job["done"], job["expected"], job["result"]["done"]) == (4, 4, 3)
    assert skipped(job["result"]) == {"not_found": 1}


def test_who_loses_the_right_in_the_middle_is_told_and_what_was_done_stays(org, halted):
    role = org.role("Mover", ("accounts:*", "all"), ("jobs:*", "own"))
    mover = org.person("mover", role)
    ids = accounts(org.rep, 5)
    with working(org.server):
        job = start(mover, "accounts/transfer", ids=ids, owner_id=org.colleague.id)
        with halted():
            less = {
                "permissions": [
                    {"permission": "accounts:read", "reach": "all"},
                    {"permission": "jobs:*", "reach": "own"},
                ]
            }
            assert org.admin.patch(f"/v1/roles/{role}", json=less).status_code == 200
        job = wait(mover, job)
    assert (job["state"], job["done"], job["problem"]["code"]) == ("failed", 2, "forbidden")
    assert owners(org.admin, ids) == [*[org.colleague.id] * 2, *[org.rep.id] * 3]


def test_whoever_is_not_active_any_more_gets_nothing(org, halted):
    ids = accounts(org.admin, 6)
    with working(org.server):
        job = start(org.admin, "accounts/distribute", ids=ids, users=[org.rep.id, org.outsider.id])
        with halted():
            assert org.admin.patch(f"/v1/users/{org.outsider.id}", json={"is_active": False}).status_code == 200
        job = wait(org.admin, job)
    assert (job["state"], job["problem"]["code"]) == ("failed", "invalid")
    assert [(item["pointer"], item["code"]) for item in job["problem"]["errors"]] == [("/users/1", "inactive")]
    assert owners(org.admin, ids)[2:] == [org.admin.id] * 4


def test_two_distributions_at_once_leave_each_row_with_one_owner(org, monkeypatch):
    """Also a person who changes the same rows meanwhile: whatever comes last holds, and every change is recorded."""
    monkeypatch.setattr(walk, "STEP", 7)
    ids = accounts(org.admin, 24)
    groups = ([org.rep.id, org.colleague.id], [org.manager.id, org.outsider.id])
    with working(org.server), ThreadPoolExecutor(2) as pool:
        jobs = [
            start(org.admin, "accounts/distribute", ids=chosen, users=group)
            for group, chosen in zip(groups, (ids, ids[::-1]), strict=True)
        ]

        def change(id_: str) -> int:
            return org.rep.patch(f"/v1/accounts/{id_}", json={"tier": "A"}).status_code

        statuses = set(pool.map(change, ids))
        jobs = [wait(org.admin, job) for job in jobs]
    assert {job["state"] for job in jobs} == {"succeeded"}
    assert statuses <= {200, 404, 409}
    for row in org.admin.all("/v1/accounts", limit=200):
        assert row["owner_id"] in itertools.chain(*groups)
        entries = org.admin.all("/v1/audit_log", object_id=row["id"])
        assert sorted(entry["version"] for entry in entries) == [*range(1, row["version"] + 1)]
        last = next(entry for entry in entries if "owner_id" in entry["after"])
        assert last["after"]["owner_id"] == row["owner_id"]
    assert [sum(item["number"] for item in job["result"]["users"]) for job in jobs] == [24, 24]


def test_many_children_take_several_steps(org, monkeypatch):
    monkeypatch.setattr(transfer, "CHILDREN", 3)
    monkeypatch.setattr(walk, "STEP", 2)
    ids = accounts(org.rep, 3)
    contacts = [org.rep.make("contacts", last_name="C", account_id=id_)["id"] for id_ in ids for _ in range(3)]
    kept = org.colleague.make("contacts", last_name="Kept")["id"]
    assert org.manager.patch(f"/v1/contacts/{kept}", json={"account_id": ids[0]}).status_code == 200
    body = {"ids": ids, "owner_id": org.manager.id, "children": "all"}
    assert preview(org.manager, "accounts/transfer", **body)["children"] == 9
    result = run(org.manager, "accounts/transfer", **body)
    assert (result["done"], result["children"]) == (3, 9)
    assert {row["owner_id"] for row in org.admin.all("/v1/contacts", account_id=ids[1])} == {org.manager.id}
    assert org.admin.get(f"/v1/contacts/{kept}").json()["owner_id"] == org.colleague.id
    assert {org.admin.get(f"/v1/contacts/{id_}").json()["version"] for id_ in contacts} == {2}


def test_a_job_that_was_stopped_goes_on_where_it_was(org, monkeypatch):
    monkeypatch.setattr(walk, "STEP", 3)
    ids = accounts(org.admin, 14)
    users = [org.rep.id, org.colleague.id, org.manager.id]
    job = start(org.admin, "accounts/distribute", ids=ids, users=users)
    while get(org.admin, job)["state"] not in ("succeeded", "failed"):
        with working(org.server, lease=5):
            wait(org.admin, job, "running", "succeeded", "queued")
    job = get(org.admin, job)
    assert (job["state"], job["result"]["done"]) == ("succeeded", 14)
    assert owners(org.admin, ids) == [users[i % 3] for i in range(14)]
    assert {org.admin.get(f"/v1/accounts/{id_}").json()["version"] for id_ in ids} == {2}
