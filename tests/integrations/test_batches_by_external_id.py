"""Batches that name records as another system does."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.kernel.batch_requests import batched
from tests.integrations.test_sources import robot, source
from tests.laws.test_batches import WRITES, compare
from tests.laws.test_permission import _calls
from tests.support.asking import RESOURCES, code
from tests.support.examples import Examples
from tests.support.org import Org

_numbers = itertools.count(1)
UPSERTED = [pytest.param(item, id=item.plural) for item in RESOURCES if item.upserts]


def upsert(number: str, **body) -> dict:
    return {"op": "upsert", "id": f"ext:erp:{number}", "body": {"name": f"Account {number}", **body}}


def send(person, *items, mode="atomic", **options):
    return person.post("/v1/accounts/batch", json={"mode": mode, "items": items}, **options)


@pytest.fixture
def erp(org):
    person = robot(org)
    source(org, account=person, fields=("legal_name",))
    return person


@pytest.fixture(scope="module")
def shop(server) -> Org:
    org = Org.create(server)
    org.examples = Examples(org.admin)
    org.admin.make("sources", name="Shop", code="shop")
    return org


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_an_upsert_creates_or_changes_also_twice_in_a_batch(org, erp, mode):
    first = send(erp, upsert("1"), upsert("2"), upsert("1", tier="A"), mode=mode)
    assert [item["status"] for item in first.json()["results"]] == [201, 201, 200], first.text
    one, _, again = first.json()["results"]
    assert (one["id"], again["version"], again["body"]["tier"]) == (again["id"], 2, "A")
    keyed = {"Idempotency-Key": f"again-{mode}"}
    items = (upsert("1", industry="Food"), upsert("3"), {"op": "delete", "id": "ext:erp:2"})
    second = send(erp, *items, mode=mode, headers=keyed)
    assert [item["status"] for item in second.json()["results"]] == [200, 201, 204], second.text
    assert second.json()["results"][2]["id"] == first.json()["results"][1]["id"], "ids are told as they are"
    replayed = send(erp, *items, mode=mode, headers=keyed)
    assert (replayed.json(), replayed.headers["idempotency-replayed"]) == (second.json(), "true")
    assert {row["name"] for row in org.admin.all("/v1/accounts")} == {"Account 1", "Account 3"}


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_what_a_batch_makes_is_known_by_its_external_id_to_what_follows(org, erp, mode):
    operations = [
        {"ref": "a", "operation": "upsert_account", "id": "ext:erp:7", "body": {"name": "Seven"}},
        {"operation": "activate_account", "id": "ext:erp:7"},
        {"operation": "create_contact", "body": {"last_name": "Of", "account_id": "ext:erp:7"}},
        {"operation": "create_contact", "body": {"last_name": "By", "account_id": {"$ref": "a.id"}}},
        {"operation": "delete_account", "id": "ext:erp:7"},
        {"operation": "restore_account", "id": "ext:erp:7"},
    ]
    done = erp.post("/v1/batch", json={"mode": mode, "operations": operations})
    assert [item["status"] for item in done.json()["results"]] == [201, 200, 201, 201, 204, 200], done.text
    ids = {item["id"] for item in done.json()["results"] if item.get("body", {}).get("object") != "contact"}
    assert ids == {done.json()["results"][0]["id"]}


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_fields_left_out_are_told_with_the_item(org, erp, mode):
    account = send(erp, upsert("9", legal_name="Nine AG")).json()["results"][0]
    (made,) = org.admin.all("/v1/sources")
    lenient = {"on_conflict": "ignore"}
    assert org.admin.patch(f"/v1/sources/{made['id']}", json=lenient).status_code == 200
    change = {"op": "update", "id": account["id"], "body": {"legal_name": "Other", "tier": "B"}}
    other = {"op": "create", "body": {"name": "Free"}}
    first, second = send(org.admin, change, other, mode=mode).json()["results"]
    assert first["ignored"] == {"legal_name": "erp"}
    assert (first["body"]["legal_name"], first["body"]["tier"]) == ("Nine AG", "B")
    assert "ignored" not in second
    strict = {"on_conflict": "refuse"}
    assert org.admin.patch(f"/v1/sources/{made['id']}", json=strict).status_code == 200
    refused = send(org.admin, change)
    assert code(refused) == (409, "field_owned")
    assert refused.json()["errors"][0]["pointer"] == "/items/0/body/legal_name"


def test_batches_that_upsert_the_same_in_any_order_all_succeed(org, erp):
    """Some after they were told to try again, since each may stand in the way of the others."""

    def work(number: int):
        items = [upsert(f"r{n}", tier=str(number)) for n in range(10)]
        for _ in range(10):
            answer = send(erp, *(items if number % 2 else items[::-1]))
            if answer.status_code == 200:
                return answer
            assert (code(answer)[0], answer.json()["retryable"]) == (409, True), answer.text[:300]
        return answer

    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(work, range(4)))
    assert [answer.status_code for answer in answers] == [200] * 4
    rows = org.admin.all("/v1/accounts")
    assert len(rows) == 10
    assert len({row["tier"] for row in rows}) == 1, "one after another, never mixed"


@pytest.mark.parametrize("resource", UPSERTED)
def test_a_write_by_external_id_is_answered_in_a_batch_as_alone(shop, resource):
    """For a record that has the id, for one that nobody has, and for a source that is not there."""
    assert "upsert" in batched(resource)
    row = shop.admin.get(f"/v1/{resource.plural}").json()["data"]
    row = row[0] if row else shop.examples.make(resource, 0)
    number = f"n{next(_numbers)}"
    link = {"source": "shop", "external_id": number}
    linked = shop.admin.post(f"/v1/{resource.plural}/{row['id']}/link", json=link)
    assert linked.status_code == 200, linked.text
    cases = []
    for id_ in (f"ext:shop:{number}", "ext:shop:nobody", "ext:nowhere:1", "ext:"):
        for operation, path, body in _calls(shop, resource, id_):
            write = WRITES.get(operation.operation_id)
            if write is not None and not write.creates:
                cases.append((write, operation.method, path, id_, body, None))
    for person in (shop.admin, shop.rep, shop.reader):
        compare(person, cases)
