"""A record as of an instant is what a GET answered then: random edits by several people, replayed."""

from datetime import UTC, datetime
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.catalog import CATALOG
from crm_api.kernel import collections
from tests.support.asking import RESOURCES
from tests.support.examples import Examples
from tests.support.jobs import wait, working
from tests.support.problems import problem

EDIT = st.one_of(
    st.builds(lambda name: {"name": name}, st.sampled_from(["Ash", "Birch", "Cedar"])),
    st.builds(lambda money: {"annual_revenue": money}, st.sampled_from([None, "1.5", "9000000"])),
    st.builds(lambda tier, tags: {"tier": tier, "habits": tags}, st.sampled_from(["A", None]), st.lists(st.just("x"))),
    st.sampled_from(["delete", "restore", "owner"]),
)


def now() -> str:
    return datetime.now(UTC).isoformat()


def read(person, path, **query):
    answer = person.get(path, params=query)
    assert answer.status_code in (200, 404), answer.text
    return answer.json() if answer.status_code == 200 else None


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(EDIT, st.booleans()), max_size=8))
def test_each_answer_comes_back(shared_org, edits):
    org = shared_org
    before = now()
    account = org.rep.make("accounts", name="Oak", annual_revenue="100")
    path = f"/v1/accounts/{account['id']}"
    seen = [(before, None), (now(), read(org.admin, path))]
    for edit, by_manager in edits:
        person = org.manager if by_manager else org.admin
        if edit == "delete":
            answer = person.delete(path)
        elif edit == "restore":
            answer = person.post(f"{path}/restore")
        elif edit == "owner":
            answer = person.patch(path, json={"owner_id": org.colleague.id})
        else:
            answer = person.patch(path, json=edit)
        assert answer.status_code in (200, 204, 404), answer.text
        seen.append((now(), read(org.admin, path)))
    for instant, item in seen:
        assert read(org.admin, path, as_of=instant) == item


SORTS = ("id", "name", "-annual_revenue,name", "-annual_revenue", "-custom.grade", "name,custom.grade")
CHANGE = st.one_of(
    EDIT,
    st.builds(lambda grade: {"custom": {"grade": grade}}, st.sampled_from([None, 1, 2])),
    st.just("activate"),
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(st.integers(0, 3), CHANGE), min_size=1, max_size=8), sort=st.sampled_from(SORTS))
def test_lists_searches_and_groups_come_back(graded, edits, sort):
    org, marker = graded, uuid4().hex
    rows = [org.admin.make("accounts", name=name, industry=marker) for name in NAMES]
    instants = [(now(), asked(org.admin, marker, sort))]
    for number, edit in edits:
        path = f"/v1/accounts/{rows[number]['id']}"
        if isinstance(edit, dict):
            answer = org.admin.patch(path, json=edit)
        elif edit == "delete":
            answer = org.admin.delete(path)
        elif edit == "owner":
            answer = org.admin.patch(path, json={"owner_id": org.colleague.id})
        else:
            answer = org.admin.post(f"{path}/{edit}")
        assert answer.status_code in (200, 204, 404, 409), answer.text
        instants.append((now(), asked(org.admin, marker, sort)))
    for instant, answers in instants:
        assert asked(org.admin, marker, sort, as_of=instant) == answers


NOBODY = {"field": "id", "value": str(uuid4())}
HISTORICAL = sorted(item.plural for item in RESOURCES if item.history)
NAMES = ("Álamo", "Birch", "ash", "Cedar")


@pytest.fixture
def graded(shared_org):
    if not shared_org.admin.all("/v1/custom_fields", key="grade"):
        shared_org.admin.make("custom_fields", resource="accounts", key="grade", kind="number", label="Grade")
    return shared_org


def asked(person, marker, sort, **query):
    """What every way to read many records answers, page by page."""
    mine = {"field": "industry", "op": "eq", "value": marker}
    found = [person.all("/v1/accounts", industry=marker, sort=sort, limit=2, **query)]
    for tree in (mine, {"and": [mine, {"field": "custom.grade", "op": "gte", "value": 1}]}):
        body = {"filter": tree, "sort": sort.split(","), "fields": ["name", "status", "custom"], "count": "exact"}
        found.append(person.post("/v1/accounts/search", params=query, json=body).json())
    for group in ("status", "owner_id", "custom.grade", "tier"):
        measures = [{"op": "count"}, {"op": "sum", "field": "annual_revenue"}, {"op": "max", "field": "custom.grade"}]
        body = {"filter": mine, "group_by": [group], "measures": measures}
        answer = person.post("/v1/accounts/aggregate", params=query, json=body)
        assert answer.status_code == 200, answer.text
        found.append(answer.json())
    return found


@pytest.mark.parametrize("plural", HISTORICAL)
def test_what_is_asked_of_a_past_row_is_in_the_audit_trail(plural):
    resource = CATALOG.resources[plural]
    keys = {str(key.key) for key in resource.keys.values()}
    asked = resource.filterable.keys() | {column.key for column in resource.sortable.values()}
    assert asked - keys <= set(resource.columns)


@pytest.mark.parametrize("plural", HISTORICAL)
def test_each_resource_with_history_is_read_as_it_was(org, plural):
    made = Examples(org.admin).make(CATALOG.resources[plural])
    then = now()
    path = f"/v1/{plural}/{made['id']}"
    seen = read(org.admin, path)
    assert org.admin.delete(path).status_code == 204
    for _ in range(2):
        body = {"filter": {"field": "id", "value": made["id"]}}
        assert org.admin.all(f"/v1/{plural}", id=made["id"], as_of=then) == [seen]
        (found,) = org.admin.post(f"/v1/{plural}/search", params={"as_of": then}, json=body).json()["data"]
        assert {name: found[name] for name in seen} == seen
        counted = {**body, "measures": [{"op": "count"}]}
        answer = org.admin.post(f"/v1/{plural}/aggregate", params={"as_of": then}, json=counted).json()
        assert answer["data"] == [{"group": {}, "measures": [1]}]
        assert org.admin.all(f"/v1/{plural}", id=made["id"]) == []
        assert org.admin.all(f"/v1/{plural}", id=made["id"], as_of=made["created_at"][:10] + "T00:00:00Z") == []


@pytest.mark.parametrize(
    ("path", "query", "body"),
    [
        ("accounts", {"expand": "owner"}, None),
        ("accounts", {"q": "birch"}, None),
        ("accounts", {"tags": "x"}, None),
        ("accounts/search", {}, {"filter": {"field": "owner.name", "op": "eq", "value": "Rep"}}),
        (
            "accounts/search",
            {},
            {"filter": {"field": "contacts", "op": "any", "value": {"field": "id", "value": None}}},
        ),
        ("accounts/search", {}, {"expand": ["owner"]}),
        ("accounts/aggregate", {}, {"group_by": ["owner.name"], "measures": [{"op": "count"}]}),
        ("tags", {}, None),
        ("teams/search", {}, {}),
    ],
)
def test_what_is_known_as_it_is_now_only_is_refused(org, path, query, body):
    parameters = {**query, "as_of": now()}
    answer = (
        org.admin.get(f"/v1/{path}", params=parameters)
        if body is None
        else org.admin.post(f"/v1/{path}", params=parameters, json=body)
    )
    assert answer.status_code == 422, answer.text
    assert {"not_as_of", "unknown_parameter", "invalid_value"} & {item["code"] for item in answer.json()["errors"]}


@pytest.mark.parametrize("few", [True, False])
def test_a_list_as_it_was_is_under_the_rights_of_now(org, monkeypatch, few):
    """Whether few rows are open to the caller, which are read together, or many, of which a page is."""
    if not few:
        monkeypatch.setattr(collections, "NARROW", 0)
    kept = org.rep.make("accounts", name="Elm")
    account = org.rep.make("accounts", name="Oak")
    then = now()
    assert org.admin.patch(f"/v1/accounts/{account['id']}", json={"owner_id": org.outsider.id}).status_code == 200
    assert org.rep.patch(f"/v1/accounts/{kept['id']}", json={"name": "Yew"}).status_code == 200
    assert org.rep.all("/v1/accounts", as_of=then, limit=1) == [kept]
    assert [item["name"] for item in org.rep.all("/v1/accounts", as_of=now(), limit=1)] == ["Yew"]
    asked_ = {"id": account["id"], "as_of": then}
    assert org.rep.all("/v1/accounts", **asked_) == []
    assert [item["owner_id"] for item in org.outsider.all("/v1/accounts", **asked_)] == [org.rep.id]
    assert org.outsider.all("/v1/accounts", **asked_, owner_id=org.outsider.id) == []
    body = {"filter": {"field": "id", "value": account["id"]}, "measures": [{"op": "count"}]}
    counts = [
        person.post("/v1/accounts/aggregate", params={"as_of": then}, json=body).json()["data"]
        for person in (org.rep, org.outsider)
    ]
    assert [item[0]["measures"] if item else [0] for item in counts] == [[0], [1]]


def test_by_external_id(org):
    org.admin.make("sources", code="erp", name="ERP")
    assert org.admin.put("/v1/accounts/ext:erp:4711", json={"name": "Oak"}).status_code == 201
    then, path = now(), "/v1/accounts/ext:erp:4711"
    org.admin.patch(path, json={"name": "Ash"})
    assert read(org.admin, path, as_of=then)["name"] == "Oak"
    assert org.admin.delete(path).status_code == 204
    assert read(org.admin, path, as_of=then)["name"] == "Oak"
    assert read(org.admin, "/v1/accounts/ext:erp:4712", as_of=then) is None


def test_a_cursor_is_of_its_instant(org):
    for n in range(3):
        org.admin.make("accounts", name=f"Oak {n}")
    then = now()
    page = org.admin.get("/v1/accounts", params={"limit": 1, "as_of": then}).json()
    problem(org.admin.get("/v1/accounts", params={"limit": 1, "cursor": page["next_cursor"]}), 400)
    again = org.admin.get("/v1/accounts", params={"limit": 1, "as_of": then, "cursor": page["next_cursor"]})
    assert again.json()["data"][0]["id"] != page["data"][0]["id"]


def test_rights_are_those_of_now(org):
    account = org.rep.make("accounts", name="Oak")
    path, then = f"/v1/accounts/{account['id']}", now()
    assert read(org.rep, path, as_of=then)["name"] == "Oak"
    assert read(org.outsider, path, as_of=then) is None
    assert org.admin.patch(path, json={"owner_id": org.outsider.id}).status_code == 200
    assert read(org.rep, path, as_of=then) is None
    assert read(org.outsider, path, as_of=then)["owner_id"] == org.rep.id


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "9998-01-01T00:00:00Z"])
def test_an_instant_that_has_passed(org, text):
    account = org.rep.make("accounts", name="Oak")
    problem(org.rep.get(f"/v1/accounts/{account['id']}", params={"as_of": text}), 422)


def test_what_was_merged_or_deleted_is_as_it_was_until_then(org):
    one, other = (org.admin.make("accounts", name=name) for name in ("Oak", "Ash"))
    then = now()
    answer = org.admin.post(
        f"/v1/accounts/{one['id']}/merge", json={"other_id": other["id"], "fields": {"name": "other"}}
    )
    assert answer.status_code == 200, answer.text
    after = now()
    assert read(org.admin, f"/v1/accounts/{other['id']}", as_of=then) == other
    assert read(org.admin, f"/v1/accounts/{one['id']}", as_of=then) == one
    assert read(org.admin, f"/v1/accounts/{one['id']}", as_of=after)["name"] == "Ash"
    gone = org.admin.get(f"/v1/accounts/{other['id']}", params={"as_of": after}, follow_redirects=False)
    assert gone.status_code in (308, 404)


def test_custom_fields_and_what_is_hidden(org):
    for key in ("open", "secret"):
        org.admin.make("custom_fields", resource="accounts", key=key, kind="text", label=key)
    account = org.admin.make("accounts", name="Oak", tier="A", custom={"open": "a", "secret": "hush"})
    path, then = f"/v1/accounts/{account['id']}", now()
    org.admin.patch(path, json={"custom": {"open": "b", "secret": None}, "tier": "B"})
    assert read(org.admin, path, as_of=then) == account
    rules = [{"resource": "accounts", "field": field, "rule": "hidden"} for field in ("tier", "custom.secret")]
    blind = org.person("blind", org.role("blind", ("accounts:read", "all"), field_rules=rules))
    seen = read(blind, path, as_of=then)
    assert (seen["tier"], seen["custom"], seen["redacted"]) == (None, {"open": "a"}, ["custom.secret", "tier"])


def test_states_that_verbs_moved(org):
    account = org.admin.make("accounts", name="Oak")
    path, then = f"/v1/accounts/{account['id']}", now()
    active = org.admin.post(f"{path}/activate").json()
    later = now()
    org.admin.post(f"{path}/mark_at_risk")
    assert read(org.admin, path, as_of=then) == account
    assert read(org.admin, path, as_of=later) == active


def test_an_erased_person_stays_erased(org):
    contact = org.admin.make("contacts", last_name="Featherstone", title="Dr")
    path, then = f"/v1/contacts/{contact['id']}", now()
    org.admin.patch(path, json={"last_name": "Featherstonehaugh"})
    answer = org.admin.post("/v1/erasures", json={"contact_id": contact["id"], "basis": "request"})
    assert answer.status_code in (201, 202), answer.text
    with working(org.server):
        wait(org.admin, answer.json())
    found = org.admin.get(path, params={"as_of": then})
    assert "Feather" not in found.text
    assert found.json().get("last_name") in (None, "Erased")
