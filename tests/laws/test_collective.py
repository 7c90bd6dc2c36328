"""Laws of verbs on many records: which resources have them, and that they ask for what one record would ask for."""

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.collective import collective_operations
from crm_api.kernel.customs import customizable
from crm_api.kernel.router import operations
from tests.support.asking import RESOURCES
from tests.support.problems import problem

OPERATIONS = collective_operations(CATALOG)
NOBODY = "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"


def body(verb: str, person) -> dict:
    more = {
        "share": {"grantee_type": "user", "grantee_id": person.id},
        "unshare": {"cause": "manual"},
        "transfer": {"owner_id": person.id},
        "distribute": {"users": [person.id]},
        "reassign": {},
        "edit": {"changes": {"tags": ["a"]}},
    }
    return {"ids": [NOBODY], **more[verb]}


def test_every_resource_that_they_fit_has_them_beside_its_own_verbs():
    found = {(operation.resource.plural, operation.verb.verb) for operation in OPERATIONS}
    owned = [resource for resource in RESOURCES if resource.owned]
    given = {(item.plural, verb) for item in owned for verb in ("share", "unshare", "transfer", "distribute")}
    given |= {(item, "reassign") for item in ("accounts", "leads")}
    assert found == given | {(item.plural, "edit") for item in RESOURCES if customizable(item)}
    taken = {(item.method, item.path) for resource in RESOURCES for item in operations(resource)}
    assert not taken & {(item.method, item.path) for item in OPERATIONS}
    names = {item.operation_id for resource in RESOURCES for item in operations(resource)}
    assert not names & {item.operation_id for item in OPERATIONS}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda item: item.operation_id)
def test_each_takes_its_permission_and_finds_nothing_of_others(shared_org, operation, unchanged):
    org, verb, path = shared_org, operation.verb.verb, operation.path
    answer = org.reader.post(path, json=body(verb, org.reader))
    assert problem(answer, 403)["permission"] == operation.permission
    with unchanged(org):
        told = org.admin.post(path, params={"dry_run": "true"}, json=body(verb, org.admin))
    assert told.status_code == 200, told.text
    assert (told.json()["done"], told.json()["refused"][0]["code"]) == (0, "not_found")
    field = {"filter": {"field": "nothing", "value": 1}}
    wrong = {**{name: value for name, value in body(verb, org.admin).items() if name != "ids"}, **field}
    problem(org.admin.post(path, json=wrong), 422)
    problem(org.admin.post(path, json={**body(verb, org.admin), "more": 1}), 422)
    problem(org.admin.post(f"{path}?nothing=1", json=body(verb, org.admin)), 422)
    assert problem(org.admin.get(path), 405)["code"] == "method_not_allowed"
