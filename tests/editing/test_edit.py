"""Editing many records over HTTP: what it does, to which records, what it refuses, and how it is taken back."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.distribution.test_bulk import accounts, preview, skipped, start
from tests.integrations.conftest import Follower
from tests.support.asking import fault
from tests.support.jobs import get, wait, working
from tests.support.problems import problem

_numbers = itertools.count(1)


def edit(person, **body) -> dict:
    """The job of an edit that went well."""
    with working(person.server):
        job = wait(person, start(person, "accounts/edit", **body))
    assert job["state"] == "succeeded", job
    return job


def undo(person, job: dict) -> dict:
    """The result of taking an edit back."""
    answer = person.post(f"/v1/jobs/{job['id']}/undo")
    assert answer.status_code == 202, answer.text
    assert answer.headers["location"] == f"/v1/jobs/{answer.json()['id']}"
    with working(person.server):
        done = wait(person, answer.json())
    assert done["state"] == "succeeded", done
    return done["result"]


def values(person, ids: list[str], *fields: str) -> list[tuple]:
    found = [person.get(f"/v1/accounts/{id_}").json() for id_ in ids]
    return [tuple(item[name] for name in fields) for item in found]


def test_an_edit_sets_fields_and_changes_lists_of_what_a_filter_finds(org):
    org.admin.make("custom_fields", resource="accounts", key="grade", kind="text", label="Grade")
    org.admin.make(
        "custom_fields", resource="accounts", key="colours", kind="multi_choice", label="Colours", is_open=True
    )
    ids = accounts(org.rep, 2, industry="Mining", tags=["a", "b"], custom={"grade": "low", "colours": ["red"]})
    other = accounts(org.rep, 1, industry="Retail", tags=["a"])
    feed = Follower(org.server, org.admin)
    body = {
        "filter": {"field": "industry", "value": "Mining"},
        "changes": {"annual_revenue": "100", "industry": "Metals", "custom": {"grade": "high"}},
        "add": {"tags": ["c", "a"], "custom.colours": ["blue"]},
        "remove": {"tags": ["b"]},
    }
    told = preview(org.rep, "accounts/edit", **body)
    assert (told["matched"], told["done"], told["refused"]) == ({"value": 2, "relation": "eq"}, 2, [])
    assert {sample["id"] for sample in told["samples"]} == set(ids)
    before = {"annual_revenue": None, "industry": "Mining", "tags": ["a", "b"]}
    assert told["samples"][0]["before"] == {**before, "custom.grade": "low", "custom.colours": ["red"]}
    assert told["samples"][0]["after"]["tags"] == ["a", "c"]
    assert values(org.rep, ids, "version") == [(1,)] * 2, "a preview keeps nothing"
    job = edit(org.rep, **body)
    assert (job["done"], job["expected"], job["result"]["done"], job["result"]["skipped"]) == (2, 2, 2, [])
    shown = ("industry", "annual_revenue", "tags", "custom", "version")
    custom = {"grade": "high", "colours": ["red", "blue"]}
    assert values(org.rep, ids, *shown) == [("Metals", "100.00", ["a", "c"], custom, 2)] * 2
    assert values(org.rep, other, "tags", "version") == [(["a"], 1)]
    events = feed.read(types=["account.updated"])
    assert sorted(event["object"]["id"] for event in events) == sorted(ids)
    assert {event["origin"]["cause"]["kind"] for event in events} == {"edit"}
    entry = org.admin.all("/v1/audit_log", object_id=ids[0])[0]
    assert (entry["action"], entry["actor_id"], entry["before"]["industry"]) == ("update", org.rep.id, "Mining")
    again = edit(org.rep, ids=ids, changes=body["changes"], add=body["add"])
    assert (again["result"]["done"], skipped(again["result"])) == (0, {"unchanged": 2})
    assert preview(org.rep, "accounts/edit", ids=ids, changes={"annual_revenue": "100.0"})["done"] == 0


def test_it_is_undone_where_nobody_changed_the_fields_since(org):
    ids = accounts(org.rep, 4, industry="Mining", tags=["x"])
    job = edit(org.rep, ids=ids, changes={"industry": "Metals"}, add={"tags": ["y"]})
    assert org.rep.patch(f"/v1/accounts/{ids[0]}", json={"industry": "Glass"}).status_code == 200
    assert org.rep.patch(f"/v1/accounts/{ids[1]}", json={"website": "https://example.org"}).status_code == 200
    assert org.rep.delete(f"/v1/accounts/{ids[2]}").status_code == 204
    problem(org.colleague.post(f"/v1/jobs/{job['id']}/undo"), 404)
    result = undo(org.rep, job)
    assert (result["done"], skipped(result)) == (2, {"changed_since": 1, "not_found": 1})
    (kept,) = [item for item in result["refused"] if item["code"] == "changed_since"]
    assert (kept["id"], kept["detail"]) == (ids[0], "Others have changed industry since.")
    assert values(org.rep, [ids[0], ids[1], ids[3]], "industry", "tags") == [
        ("Glass", ["x", "y"]), ("Mining", ["x"]), ("Mining", ["x"]),
    ]  # fmt: skip
    assert values(org.rep, ids[1:2], "website") == [("https://example.org",)], "what was not edited stays"
    assert problem(org.rep.post(f"/v1/jobs/{job['id']}/undo"), 409)["code"] == "transition_refused"
    other = start(org.rep, "accounts/share", ids=ids[:1], grantee_type="user", grantee_id=org.reader.id)
    problem(org.rep.post(f"/v1/jobs/{other['id']}/undo"), 404)
    waiting = start(org.rep, "accounts/edit", ids=ids[:1], changes={"industry": "Wood"})
    assert problem(org.rep.post(f"/v1/jobs/{waiting['id']}/undo"), 409)["state"] == "queued"


def test_a_record_that_refuses_is_told_and_the_others_are_changed(org):
    ids = accounts(org.rep, 3)
    hidden, shown = accounts(org.outsider, 2)
    body = {"grantee_type": "user", "grantee_id": org.rep.id, "level": "read"}
    assert org.outsider.post(f"/v1/accounts/{shown}/share", json=body).status_code == 201
    assert org.rep.patch(f"/v1/accounts/{ids[2]}", json={"parent_id": ids[1]}).status_code == 200
    result = edit(org.rep, ids=[*ids, hidden, shown], changes={"parent_id": ids[2]})["result"]
    assert result["done"] == 1
    found = {item["id"]: (item["code"], item["permission"]) for item in result["refused"]}
    assert found.pop(hidden) == ("not_found", None)
    assert found.pop(shown) == ("forbidden", "accounts:update")
    assert found == {ids[1]: ("cycle", None), ids[2]: ("cycle", None)}
    assert values(org.rep, ids, "parent_id") == [(ids[2],), (None,), (ids[1],)]
    org.admin.make("custom_fields", resource="accounts", key="vat", kind="text", label="Number", is_unique=True)
    taken = edit(org.rep, ids=ids, changes={"custom": {"vat": "17"}})["result"]
    assert (taken["done"], skipped(taken)) == (1, {"duplicate": 2})


def test_nobody_edits_what_they_may_not(org):
    (mine,) = accounts(org.rep, 1)
    role = org.admin.get(f"/v1/roles/{org.roles['Sales representative']}").json()
    rules = [
        {"resource": "accounts", "field": "industry", "rule": "read_only"},
        {"resource": "accounts", "field": "annual_revenue", "rule": "hidden"},
    ]
    assert org.admin.patch(f"/v1/roles/{role['id']}", json={"field_rules": rules}).status_code == 200
    for changes in ({"industry": "Wood"}, {"annual_revenue": "5"}):
        found = problem(org.rep.post("/v1/accounts/edit", json={"ids": [mine], "changes": changes}), 403)
        assert found["errors"][0]["pointer"] == f"/{next(iter(changes))}"
    answer = org.rep.post("/v1/accounts/edit", json={"ids": [mine], "changes": {"owner_id": org.colleague.id}})
    assert problem(answer, 403)["permission"] == "accounts:transfer"
    by_hidden = {"filter": {"field": "annual_revenue", "op": "gt", "value": "1"}, "changes": {"name": "N"}}
    problem(org.rep.post("/v1/accounts/edit", json=by_hidden), 403)
    assert org.admin.patch(f"/v1/roles/{role['id']}", json={"field_rules": []}).status_code == 200
    job = start(org.rep, "accounts/edit", ids=[mine], changes={"industry": "Wood"})
    assert org.admin.patch(f"/v1/roles/{role['id']}", json={"field_rules": rules}).status_code == 200
    with working(org.server):
        job = wait(org.rep, job)
    assert (job["state"], job["problem"]["code"]) == ("failed", "field_read_only"), "the rights are those of the step"
    assert values(org.admin, [mine], "industry", "version") == [(None, 1)]


def test_what_cannot_be_done_is_refused_before_the_job(shared_org):
    org = shared_org
    (mine,) = accounts(org.rep, 1)

    def refused(**body) -> tuple:
        (found,) = problem(org.rep.post("/v1/accounts/edit", json={"ids": [mine], **body}), 422)["errors"]
        return found["pointer"], found["code"]

    assert refused(changes={"nothing": 1}) == ("/changes/nothing", "unknown_field")
    assert refused(changes={"version": 1}) == ("/changes/version", "read_only_field")
    assert refused(changes={"name": None})[0] == "/changes/name"
    assert refused(changes={"parent_id": str(uuid4())}) == ("/changes/parent_id", "reference_not_found")
    assert refused(changes={"custom": {"nothing": 1}}) == ("/changes/custom/nothing", "unknown_field")
    assert refused(add={"industry": ["a"]}) == ("/add/industry", "unknown_field")
    assert refused(add={"custom.nothing": ["a"]}) == ("/add/custom.nothing", "unknown_field")
    assert refused(add={"tags": ["a"]}, remove={"tags": ["a"]}) == ("/remove/tags", "repeated")
    assert refused(add={"tags": ["a"]}, changes={"tags": []}) == ("/add/tags", "repeated")
    assert refused()[1] == "required"
    assert refused(changes={"name": "x" * 50_000})[1] == "too_long"
    assert refused(filter={"field": "name", "value": "x"}, changes={"name": "N"})[1] == "selection"
    bad = {"filter": {"field": "nothing", "value": 1}, "changes": {"name": "N"}}
    assert fault(org.rep.post("/v1/accounts/edit", json=bad)) == [("/filter", "unknown_field")]
    wide = {"filter": {"or": [{"field": "name", "value": str(n)} for n in range(51)]}, "changes": {"name": "N"}}
    assert fault(org.rep.post("/v1/accounts/edit", json=wide))[0][1] == "too_many"
    lines = {"ids": [str(uuid4())], "changes": {"lines": []}}
    assert fault(org.rep.post("/v1/opportunities/edit", json=lines)) == [("/changes/lines", "not_editable")]


def test_others_change_rows_while_it_goes(org, halted):
    industry = f"E {next(_numbers)}"
    ids = accounts(org.rep, 6, industry=industry)
    body = {"filter": {"field": "industry", "value": industry}, "changes": {"industry": "Edited"}}
    with working(org.server):
        job = start(org.rep, "accounts/edit", **body)
        with halted():
            assert org.rep.delete(f"/v1/accounts/{ids[2]}").status_code == 204
            assert org.rep.patch(f"/v1/accounts/{ids[3]}", json={"industry": "Other"}).status_code == 200
            assert org.rep.patch(f"/v1/accounts/{ids[4]}", json={"name": "Renamed"}).status_code == 200
        job = wait(org.rep, job)
    assert (job["state"], job["result"]["done"]) == ("succeeded", 4)
    left = [ids[0], ids[1], *ids[3:]]
    edited = [("Edited",)] * 2
    assert values(org.rep, left, "industry") == [*edited, ("Other",), *edited]
    assert undo(org.rep, job)["done"] == 4
    was = [(industry,)] * 2
    assert values(org.rep, left, "industry") == [*was, ("Other",), *was]
    assert values(org.rep, ids[4:5], "name") == [("Renamed",)]


def test_an_undo_that_took_nothing_back_does_not_use_it_up(org):
    ids = accounts(org.rep, 2, industry="Mining", tags=["x"])
    first = edit(org.rep, ids=ids, changes={"industry": "Metals"}, add={"tags": ["y"]})
    second = edit(org.rep, ids=ids, changes={"industry": "Glass"}, remove={"tags": ["y"]})
    for _ in range(2):
        result = undo(org.rep, first)
        assert (result["done"], skipped(result)) == (0, {"changed_since": 2})
    assert undo(org.rep, second)["done"] == 2
    url = f"/v1/jobs/{first['id']}/undo"
    with ThreadPoolExecutor(4) as pool:
        answers = [*pool.map(lambda _: org.rep.post(url), range(4))]
    assert sorted(answer.status_code for answer in answers) == [202, 409, 409, 409]
    with working(org.server):
        (job,) = [wait(org.rep, answer.json()) for answer in answers if answer.status_code == 202]
    assert job["result"]["done"] == 2
    assert values(org.rep, ids, "industry", "tags") == [("Mining", ["x"])] * 2
    assert problem(org.rep.post(url), 409)["code"] == "transition_refused"
    assert problem(org.rep.post(f"/v1/jobs/{second['id']}/undo"), 409)["code"] == "transition_refused"


def test_a_cancelled_edit_is_undone_as_far_as_it_came_and_goes_no_further(org, halted):
    ids = accounts(org.rep, 4, industry="Before")
    with working(org.server):
        job = start(org.rep, "accounts/edit", ids=ids, changes={"industry": "After"})
        with halted():
            assert org.rep.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
        assert get(org.rep, job)["state"] == "cancelled"
    assert sorted(values(org.rep, ids, "industry")) == [("After",)] * 2 + [("Before",)] * 2
    assert undo(org.rep, job)["done"] == 2
    assert values(org.rep, ids, "industry") == [("Before",)] * 4
    assert org.rep.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
    with working(org.server):
        again = wait(org.rep, job)
    assert (again["state"], again["problem"]["code"]) == ("failed", "transition_refused")
    assert values(org.rep, ids, "industry") == [("Before",)] * 4


WORDS = st.lists(st.sampled_from(["a", "b", "c", "d"]), max_size=4, unique=True)


@given(st.lists(WORDS, min_size=1, max_size=3), WORDS, WORDS)
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_an_edit_and_its_undo_leave_lists_as_they_were(shared_org, before, add, remove):
    org = shared_org
    remove = [word for word in remove if word not in add]
    lists = {"add": {"tags": add} if add else {}, "remove": {"tags": remove} if remove else {}}
    ids = [org.rep.make("accounts", name="L", tags=tags)["id"] for tags in before]
    if not (add or remove):
        problem(org.rep.post("/v1/accounts/edit", json={"ids": ids, **lists}), 422)
        return
    job = edit(org.rep, ids=ids, **lists)
    wanted = [
        [*(tag for tag in tags if tag not in remove), *(tag for tag in add if tag not in tags)] for tags in before
    ]
    assert values(org.rep, ids, "tags") == [(tags,) for tags in wanted]
    changed = sum(one != other for one, other in zip(before, wanted, strict=True))
    assert (job["result"]["done"], undo(org.rep, job)["done"]) == (changed, changed)
    assert values(org.rep, ids, "tags") == [(tags,) for tags in before]
