"""What a token is told that it may do is what the server lets it do, for every resource and every caller."""

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.collective import collective_operations
from crm_api.kernel.context import new_id
from crm_api.kernel.router import operations
from tests.support.asking import RESOURCES
from tests.support.org import Person

PATH = "/v1/me/capabilities"
HIDDEN = [{"resource": "accounts", "field": "annual_revenue", "rule": "hidden"}]
HIDDEN += [{"resource": "accounts", "field": "website", "rule": "read_only"}]
HIDDEN += [{"resource": "opportunities", "field": "lines", "rule": "hidden"}]
ODD = (
    ("accounts:read", "own"),
    ("accounts:block", "team"),
    ("orders:*", "subordinates"),
    ("opportunities:read", "all"),
)


@pytest.fixture(scope="module")
def callers(shared_org):
    """Default roles, an odd role with field rules, and keys with scopes; by name."""
    org, found = shared_org, {}
    org.person("odd", org.role("Odd", *ODD, field_rules=HIDDEN))
    for name, who, scopes in (
        ("reads", "admin", ["accounts:read", "orders:read", "identity:read"]),
        ("writes", "manager", ["accounts:write", "quotes:admin", "jobs:delete"]),
    ):
        issued = org.people[who].post(
            f"/v1/users/{org.people[who].id}/issue_key", json={"name": name, "scopes": scopes}
        )
        found[name] = Person(org.server, org.people[who].id, issued.json()["key"])
    return found | {name: org.people[name] for name in ("admin", "rep", "reader", "odd")}


def _told(person):
    return {item["resource"]: item for item in person.get(PATH).json()["resources"]}


def _operations(resource):
    derived = [operation for operation in operations(resource) if operation.kind != "batch"]
    return derived + [item for item in collective_operations(CATALOG) if item.resource is resource]


@pytest.mark.parametrize(
    "who", ["reads", *(pytest.param(who, marks=pytest.mark.broad) for who in ("writes", "reader")), "odd"]
)
def test_it_agrees_with_what_the_server_answers(callers, who):
    """Refused is 403 with the permission that was told; anything else, as 404 or 422, is not for lack of a right."""
    told, tried, wrong = _told(callers[who]), {True: 0, False: 0}, []
    assert told.keys() == CATALOG.resources.keys()
    for resource in RESOURCES:
        actions = told[resource.plural]["actions"]
        assert [item["action"] for item in actions] == list(resource.permitted_actions)
        for operation in _operations(resource):
            ways = [item for item in actions if operation.operation_id in item["operations"]]
            assert ways, operation.operation_id
            may = any(item["allowed"] for item in ways)
            path = operation.path.replace("{id}", str(new_id()))
            body = None if operation.method in ("GET", "DELETE") else {}
            answer = callers[who].request(operation.method, path, json=body, params={})
            refused = answer.status_code == 403
            tried[may] += 1
            if refused is may or (refused and answer.json()["permission"] not in {way["missing"] for way in ways}):
                wrong.append((operation.operation_id, may, answer.status_code, answer.text[:200]))
    assert wrong == []
    assert min(tried.values()) > 50, "both were asked"


@pytest.mark.parametrize("who", ["reads", "writes", "admin", "odd"])
def test_who_one_is_tells_the_same_permissions(callers, who):
    """Effective ones: no role opens to a token what its scopes leave out."""
    told = {item["permission"]: item["reach"] for item in callers[who].get("/v1/me").json()["permissions"]}
    assert told == {
        f"{item['resource']}:{action['action']}": action["reach"]
        for item in callers[who].get(PATH).json()["resources"]
        for action in item["actions"]
        if action["allowed"]
    }


def test_reach_and_fields_are_told(callers):
    told = _told(callers["odd"])
    accounts = {item["action"]: item for item in told["accounts"]["actions"]}
    assert (accounts["read"]["reach"], accounts["block"]["reach"]) == (["own"], ["team"])
    assert accounts["delete"] == {
        **accounts["delete"],
        "allowed": False,
        "missing": "accounts:delete",
        "reach": [],
    }
    assert "delete_account" in accounts["delete"]["operations"]
    assert told["accounts"]["hidden_fields"] == ["annual_revenue"]
    assert told["accounts"]["read_only_fields"] == ["annual_revenue", "website"]
    lines = told["opportunity_lines"]["actions"][0]
    assert (lines["action"], lines["allowed"]) == ("read", False), "with a list go its rows"
    narrow = {item["action"]: item for item in _told(callers["reads"])["accounts"]["actions"]}
    assert narrow["update"]["missing"] == "scope accounts:write"


def test_it_is_as_it_was_until_rights_change(callers, shared_org):
    first = callers["rep"].get(PATH)
    assert (first.headers["cache-control"], first.headers["vary"]) == ("private, no-cache", "Authorization")
    known = {"If-None-Match": first.headers["etag"]}
    again = callers["rep"].get(PATH, headers=known)
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert callers["reader"].get(PATH, headers=known).status_code == 200
    role = shared_org.role("More", ("accounts:block", "all"))
    shared_org.admin.make("role_assignments", role_id=role, principal_id=callers["rep"].id)
    changed = callers["rep"].get(PATH, headers=known)
    assert changed.status_code == 200
    assert changed.headers["etag"] != first.headers["etag"]


def test_limits_are_those_of_the_other_page(callers):
    limits = callers["rep"].get("/v1/limits").json()
    told = callers["rep"].get(PATH).json()["limits"]
    assert told["fixed"] == {item["name"]: item["most"] for item in limits["fixed"]}
    rates = {item["name"]: item["quota"] // item["window"] for item in limits["policies"] if item["window"]}
    assert told["requests_per_second"] == rates
    assert len(callers["admin"].get(PATH).content) < 200_000
    assert callers["admin"].get(PATH, params={"since": "x"}).status_code == 422
