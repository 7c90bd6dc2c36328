"""A refusal by the database is kept under its Idempotency-Key like a success; any other failure leaves the key free."""

import asyncio
import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.kernel import idempotency
from crm_api.kernel.database import Link
from tests.support.asking import code, each, fault
from tests.support.examples import claims
from tests.support.org import Org

_numbers = itertools.count(1)


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"refusal-{next(_numbers)}"}


def same(first, again) -> None:
    """The second answer is the kept first one; only the request id is its own."""
    assert first.status_code in (409, 422), first.text
    assert "idempotency-replayed" not in first.headers
    assert again.headers.get("idempotency-replayed") == "true", again.text
    old, new = first.json(), again.json()
    assert new.pop("request_id") == again.headers["x-request-id"] != old.pop("request_id")
    assert (again.status_code, new) == (first.status_code, old)
    assert again.headers["content-type"] == "application/problem+json"


@each("create", "delete", where=claims)
def test_a_taken_value_stays_refused_when_it_is_free_again(lab, resource, unchanged):
    body, another = lab.examples.body(resource, 1), lab.examples.body(resource, 2)
    path = f"/v1/{resource.plural}"
    row = lab.admin.make(resource.plural, **body)
    creation, restoration = key(), key()
    first = lab.admin.post(path, json=body, headers=creation)
    assert code(first) == (409, "duplicate")
    assert lab.admin.delete(f"{path}/{row['id']}").status_code == 204
    with unchanged(lab):
        same(first, lab.admin.post(path, json=body, headers=creation))
        other = lab.admin.post(path, json=another, headers=creation)
        assert code(other) == (422, "idempotency_mismatch"), other.text
    if "restore" in resource.operations:
        twin = lab.admin.make(resource.plural, **body)
        first = lab.admin.post(f"{path}/{row['id']}/restore", headers=restoration)
        assert code(first) == (409, "duplicate")
        assert lab.admin.delete(f"{path}/{twin['id']}").status_code == 204
        with unchanged(lab):
            same(first, lab.admin.post(f"{path}/{row['id']}/restore", headers=restoration))
        assert lab.admin.post(f"{path}/{row['id']}/restore", headers=key()).status_code == 200


def test_a_reference_that_was_gone_stays_refused_when_it_is_back(lab, unchanged):
    parent, child = (lab.admin.make("accounts", name=name) for name in ("Parent", "Child"))
    assert lab.admin.delete(f"/v1/accounts/{parent['id']}").status_code == 204
    calls = (
        ("POST", "/v1/contacts", {"last_name": "Reference", "account_id": parent["id"]}, key()),  # one statement
        ("POST", "/v1/accounts", {"name": "Other", "parent_id": parent["id"]}, key()),  # a transaction
        ("PATCH", f"/v1/accounts/{child['id']}", {"parent_id": parent["id"]}, key()),
    )
    refused = [lab.admin.request(method, path, json=body, headers=headers) for method, path, body, headers in calls]
    for answer in refused:
        assert code(answer) == (422, "invalid"), answer.text
        assert [name for _, name in fault(answer)] == ["reference_not_found"]
    assert lab.admin.post(f"/v1/accounts/{parent['id']}/restore").status_code == 200
    with unchanged(lab):
        for first, (method, path, body, headers) in zip(refused, calls, strict=True):
            same(first, lab.admin.request(method, path, json=body, headers=headers))
    for method, path, body, _ in calls:
        assert lab.admin.request(method, path, json=body, headers=key()).status_code in (200, 201)


def test_a_verb_that_was_refused_stays_refused(lab, unchanged):
    account = lab.admin.make("accounts", name="Blocked")
    path = f"/v1/accounts/{account['id']}"
    block, move = key(), key()
    assert lab.admin.post(f"{path}/block", json={"reason": "late"}).status_code == 200
    assert lab.admin.post(f"{path}/activate").status_code == 200
    first = lab.admin.post(f"{path}/block", json={"reason": "late"}, headers=block)
    moved = lab.admin.post(f"{path}/activate", headers=move)
    assert (code(first), code(moved)) == ((409, "conflict"), (409, "transition_refused"))
    assert lab.admin.post(f"{path}/unblock").status_code == 200
    assert lab.admin.post(f"{path}/deactivate").status_code == 200
    with unchanged(lab):
        same(first, lab.admin.post(f"{path}/block", json={"reason": "late"}, headers=block))
        same(moved, lab.admin.post(f"{path}/activate", headers=move))
        other = lab.admin.post(f"{path}/block", json={"reason": "later"}, headers=block)
        assert code(other) == (422, "idempotency_mismatch")
    assert lab.admin.post(f"{path}/block", json={"reason": "late"}, headers=key()).status_code == 200


def test_a_kept_refusal_is_the_credentials_own_and_holds_no_value(lab, sql):
    secret = "DE811907980"
    lab.admin.make("accounts", name="Holder", tax_id=secret)
    headers = key()
    body = {"name": "Asker", "tax_id": secret}
    first = lab.manager.post("/v1/accounts", json=body, headers=headers)
    assert code(first) == (409, "duplicate")
    same(first, lab.manager.post("/v1/accounts", json=body, headers=headers))
    others = lab.other_manager.post("/v1/accounts", json=body | {"tax_id": None}, headers=headers)
    assert others.status_code == 201
    kept = sql("SELECT image::text AS image FROM idempotency_replies WHERE tenant_id = $1", lab.tenant_id)
    refusals = [row["image"] for row in kept if '"errors"' in row["image"]]
    assert refusals
    assert not [text for text in refusals if secret in text or "Holder" in text or "Asker" in text]


def test_a_dry_run_that_is_refused_takes_no_key(lab, unchanged):
    holder = lab.admin.make("accounts", name="Holder", tax_id="DRY-1")
    headers, body = key(), {"name": "Dry", "tax_id": "DRY-1"}
    path = f"/v1/accounts/{holder['id']}/unblock"
    with unchanged(lab):
        for _ in range(2):
            dry = lab.admin.post("/v1/accounts", json=body, headers=headers, params={"dry_run": "true"})
            assert (code(dry), dry.headers.get("idempotency-replayed")) == ((409, "duplicate"), None)
            dry = lab.admin.post(path, headers=headers, params={"dry_run": "true"})
            assert (code(dry), dry.headers.get("idempotency-replayed")) == ((409, "conflict"), None)
    assert lab.admin.delete(f"/v1/accounts/{holder['id']}").status_code == 204
    assert lab.admin.post("/v1/accounts", json=body, headers=headers).status_code == 201


def test_other_failures_leave_the_key_free(lab, sql):
    account = lab.colleague.make("accounts", name="Theirs")
    path = f"/v1/accounts/{account['id']}"
    patch = {"legal_name": "Theirs Ltd"}
    keys = "SELECT scope FROM idempotency_keys WHERE tenant_id = $1 ORDER BY scope"

    def failed(answer, *expected) -> None:
        assert code(answer) == expected, answer.text
        assert sql(keys, lab.tenant_id) == before

    before = sql(keys, lab.tenant_id)
    headers = key()
    failed(lab.rep.patch(path, json={"nmae": "x"}, headers=headers), 422, "invalid")
    failed(lab.rep.patch(path, json={"name": 7}, headers=headers), 422, "invalid")
    failed(lab.rep.patch(path, json=patch, headers=headers), 404, "not_found")
    share = {"grantee_type": "user", "grantee_id": lab.rep.id, "level": "read"}
    assert lab.admin.post(f"{path}/share", json=share).status_code == 201
    failed(lab.rep.patch(path, json=patch, headers=headers), 403, "forbidden")
    assert lab.admin.post(f"{path}/share", json=share | {"level": "write"}).status_code == 201
    failed(lab.rep.patch(path, json=patch, headers=headers | {"If-Match": '"9"'}), 412, "version_mismatch")
    failed(lab.rep.patch(path, json=patch, headers={**headers, "Authorization": "Bearer x"}), 401, "unauthenticated")
    done = lab.rep.patch(path, json=patch, headers=headers)
    assert (done.status_code, done.headers.get("idempotency-replayed")) == (200, None)
    again = lab.rep.patch(path, json=patch, headers=headers)
    assert (again.json(), again.headers["idempotency-replayed"]) == (done.json(), "true")


def test_a_lock_that_was_not_had_leaves_the_key_free(lab, database):
    account = lab.admin.make("accounts", name="Held")
    path, headers = f"/v1/accounts/{account['id']}", key()

    async def held():
        import asyncpg

        connection = await asyncpg.connect(database["admin"])
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", account["id"])
                return await asyncio.to_thread(lab.admin.patch, path, json={"name": "Free"}, headers=headers)
        finally:
            await connection.close()

    refused = asyncio.run(held())
    assert refused.status_code == 409
    assert refused.json()["retryable"] is True
    done = lab.admin.patch(path, json={"name": "Free"}, headers=headers)
    assert (done.status_code, done.headers.get("idempotency-replayed")) == (200, None)


def test_of_refused_twins_one_refusal_is_kept(lab, sql):
    lab.admin.make("accounts", name="Holder", tax_id="TWIN-1")
    blocked = lab.admin.make("accounts", name="Twins")
    for path, body in (
        ("/v1/accounts", {"name": "Twin", "tax_id": "TWIN-1"}),
        (f"/v1/accounts/{blocked['id']}/unblock", None),
    ):
        headers = key()
        counted = "SELECT count(*) AS n FROM idempotency_replies WHERE tenant_id = $1"
        before = sql(counted, lab.tenant_id)[0]["n"]
        with ThreadPoolExecutor(6) as pool:
            sent = [pool.submit(lab.admin.post, path, json=body, headers=headers) for _ in range(6)]
        answers = [item.result() for item in sent]
        told = [item for item in answers if code(item)[1] not in ("idempotency_in_flight", "locked")]
        assert {code(item) for item in told} <= {(409, "duplicate"), (409, "conflict")}, [item.text for item in answers]
        assert sum("idempotency-replayed" not in item.headers for item in told) == 1
        assert sql(counted, lab.tenant_id)[0]["n"] == before + 1


@pytest.fixture
def before_keeping(monkeypatch):
    """Calls a function in the moment between a refusal and its being kept."""
    todo = []
    fetch = Link.fetch

    async def interposed(self, statement, values):
        if statement is idempotency._REFUSE and todo:
            await asyncio.to_thread(todo.pop())
        return await fetch(self, statement, values)

    monkeypatch.setattr(Link, "fetch", interposed)
    return todo.append


@pytest.mark.parametrize("single", [True, False])
def test_a_twin_that_succeeded_meanwhile_wins(server, ledger, before_keeping, single):
    org = Org.create(server)
    holder = org.admin.make("accounts", name="Holder", tax_id="RACE-1")
    parent = org.admin.make("accounts", name="Parent")
    headers = key()
    body = {"name": "Racer", "tax_id": "RACE-1", **({} if single else {"parent_id": parent["id"]})}
    twins = []

    def overtake() -> None:
        assert org.admin.delete(f"/v1/accounts/{holder['id']}").status_code == 204
        twins.append(org.admin.post("/v1/accounts", json=body, headers=headers))

    before_keeping(overtake)
    late = org.admin.post("/v1/accounts", json=body, headers=headers)
    (twin,) = twins
    assert (twin.status_code, twin.headers.get("idempotency-replayed")) == (201, None), twin.text
    assert (late.status_code, late.json()) == (201, twin.json())
    assert late.headers["idempotency-replayed"] == "true"
    assert len(ledger(org, twin.json()["id"])[0]) == 1
