"""Deliveries and attempts below their endpoint: the whole lists, bounded to one record that the caller sees."""

import pytest

from crm_api.kernel.context import new_id
from tests.support.asking import code, having
from tests.support.org import Org
from tests.support.receiver import Receiver
from tests.support.webhooks import work

BELOW = [
    (item, column, step)
    for item in having(where=lambda item: item.within)
    for column, step in item.within.items()
    if item.references[column] == "webhook_endpoints"
]
each_below = pytest.mark.parametrize(("resource", "column", "step"), BELOW, ids=[item.plural for item, _, _ in BELOW])


@pytest.fixture(scope="module")
def sent(server):
    """(the organisation, two endpoints with deliveries and attempts of both)."""
    org = Org.create(server)
    with Receiver() as receiver:
        made = [
            org.admin.make("webhook_endpoints", url=receiver.url, principal_id=org.admin.id, event_types=types)
            for types in (["account.*"], ["account.created"])
        ]
        for n in range(3):
            row = org.admin.make("accounts", name=f"Acme {n}")
            org.admin.patch(f"/v1/accounts/{row['id']}", json={"tier": "A"})
        server.run(work(server))
    return org, made


@each_below
def test_a_nested_list_is_the_whole_list_of_one_record(sent, resource, column, step):
    org, made = sent
    for endpoint, number in zip(made, (6, 3), strict=True):
        path = f"/v1/webhook_endpoints/{endpoint['id']}/{step}"
        whole = org.admin.all(f"/v1/{resource.plural}", **{column: endpoint["id"]})
        assert len(whole) == number
        assert org.admin.all(path) == whole
        assert org.admin.all(path, limit=2, sort="id") == whole[::-1]
        first = org.admin.get(path, params={"limit": 2, "count": "exact"})
        assert first.json()["count"] == {"value": number, "relation": "eq"}
        following = first.headers["link"].split(">")[0].removeprefix("<")
        assert following.startswith(path)
        assert org.admin.get(following).json()["data"] == whole[2:4]
        some = {"id": whole[1]["id"]}
        assert org.admin.all(path, **some) == whole[1:2]
        expanded = org.admin.get(path, params={"limit": 1, "expand": "endpoint"}).json()["data"][0]
        assert expanded["endpoint"]["id"] == endpoint["id"]
    other = org.admin.all(f"/v1/{resource.plural}", **{column: made[1]["id"]})[0]
    assert org.admin.all(f"/v1/webhook_endpoints/{made[0]['id']}/{step}", id=other["id"]) == []


def test_the_filters_of_the_whole_list_apply(sent):
    org, (first, _) = sent
    base = f"/v1/webhook_endpoints/{first['id']}"
    created = org.admin.all(f"{base}/deliveries", event_type="account.created", state="delivered")
    assert [row["event_type"] for row in created] == ["account.created"] * 3
    assert org.admin.all(f"{base}/deliveries", state="failed") == []
    (attempt,) = org.admin.all(f"{base}/attempts", delivery_id=created[0]["id"], status=200)
    assert attempt["delivery_id"] == created[0]["id"]
    assert org.admin.post(f"{base}/link", json={"source": "erp", "external_id": "7"}).status_code == 422
    org.admin.make("sources", name="ERP", code="erp")
    assert org.admin.post(f"{base}/link", json={"source": "erp", "external_id": "7"}).status_code == 200
    assert org.admin.all("/v1/webhook_endpoints/ext:erp:7/attempts", delivery_id=created[0]["id"]) == [attempt]


@each_below
def test_what_the_path_says_is_no_parameter(sent, resource, column, step):
    org, made = sent
    for params in ({column: made[1]["id"]}, {f"{column}_is_null": "true"}, {"nonsense": "1"}):
        answer = org.admin.get(f"/v1/webhook_endpoints/{made[0]['id']}/{step}", params=params)
        assert code(answer)[0] == 422
        assert answer.json()["errors"][0]["parameter"] == next(iter(params))


@each_below
def test_a_hidden_endpoint_is_absent_below_it_too(sent, resource, column, step):
    org, (_, endpoint) = sent
    blind = org.person(
        f"blind {step}",
        org.role(f"Blind {step}", ("webhook_endpoints:read", "own"), (f"{resource.plural}:read", "all")),
    )
    stranger = Org.create(org.server).admin
    gone = org.admin.make("webhook_endpoints", url="https://example.com/x", principal_id=org.admin.id)
    assert org.admin.delete(f"/v1/webhook_endpoints/{gone['id']}").status_code == 204
    told = set()
    for person, id_ in (
        (blind, endpoint["id"]),
        (blind, new_id()),
        (stranger, endpoint["id"]),
        (org.admin, gone["id"]),
        (org.admin, new_id()),
        (org.admin, "nonsense"),
    ):
        answer = person.get(f"/v1/webhook_endpoints/{id_}/{step}")
        told.add((*code(answer), answer.json()["detail"]))
    assert {item[:2] for item in told} == {(404, "not_found")}
    assert len(told) == 1


@each_below
def test_both_permissions_are_needed(sent, resource, column, step):
    org, (endpoint, _) = sent
    path = f"/v1/webhook_endpoints/{endpoint['id']}/{step}"
    needed = ("webhook_endpoints:read", f"{resource.plural}:read")
    for has, lacks in (needed, needed[::-1]):
        person = org.person(f"half {has} {step}", org.role(f"Half {has} {step}", (has, "all")))
        answer = person.get(path)
        assert code(answer) == (403, "forbidden")
        assert answer.json()["permission"] == lacks
    assert org.admin.post(path).status_code == 405
