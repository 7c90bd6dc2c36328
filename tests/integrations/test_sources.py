"""Sources: who may name records in their place, and whose fields are whose."""

import asyncio
import random
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest

from tests.support.asking import code, fault
from tests.support.org import Org, Person
from tests.support.problems import problem

OWNED = ("name", "legal_name", "addresses")


def robot(org: Org, name: str = "ERP", **scopes) -> Person:
    """A service account with every permission, and its key."""
    account = org.admin.make("service_accounts", name=name)
    org.admin.make("role_assignments", principal_id=account["id"], role_id=org.roles["Administrator"])
    issued = org.admin.post(f"/v1/service_accounts/{account['id']}/issue_key", json={"name": "key", **scopes})
    assert issued.status_code == 201, issued.text
    return Person(org.server, account["id"], issued.json()["key"])


def source(org: Org, code_: str = "erp", account: Person | None = None, **values) -> dict:
    fields = [{"resource": "accounts", "field": name} for name in values.pop("fields", OWNED)]
    values = {"service_account_id": account and account.id, "owned_fields": fields, **values}
    return org.admin.make("sources", name=code_.upper(), code=code_, **values)


@pytest.fixture
def erp(org) -> Person:
    """The program that writes as the source `erp`, which owns some fields of accounts."""
    person = robot(org)
    source(org, account=person)
    return person


PATH = "/v1/accounts/ext:erp:4711"


def test_a_source_has_a_code_of_its_own_that_never_changes(org):
    made = org.admin.make("sources", name="ERP", code="erp")
    path = f"/v1/sources/{made['id']}"
    assert (made["on_conflict"], made["owned_fields"], made["service_account_id"]) == ("refuse", [], None)
    assert code(org.admin.post("/v1/sources", json={"name": "Other", "code": "erp"})) == (409, "duplicate")
    assert fault(org.admin.patch(path, json={"code": "crp"})) == [("/code", "read_only_field")]
    for odd in ("ERP", "e-p", "1", "", "ext:erp", "a" * 64):
        assert org.admin.post("/v1/sources", json={"name": "Odd", "code": odd}).status_code == 422, odd
    for owned, wrong in (
        ({"resource": "nothing", "field": "name"}, "resource"),
        ({"resource": "accounts", "field": "nothing"}, "field"),
        ({"resource": "accounts", "field": "status"}, "field"),
        ({"resource": "accounts", "field": "id"}, "field"),
        ({"resource": "audit_log", "field": "action"}, "field"),
    ):
        refused = org.admin.patch(path, json={"owned_fields": [{"resource": "accounts", "field": "name"}, owned]})
        assert [place for place, _ in fault(refused)] == [f"/owned_fields/1/{wrong}"]
    user = {"service_account_id": org.rep.id}
    assert fault(org.admin.patch(path, json=user)) == [("/service_account_id", "reference_not_found")]
    problem(org.rep.get("/v1/sources"), 403)


def test_a_source_by_its_own_external_id(org):
    source(org, fields=())
    first = org.admin.put("/v1/sources/ext:erp:crm2", json={"name": "Second", "code": "crm2"})
    assert first.status_code == 201, first.text
    other = org.admin.put("/v1/sources/ext:erp:crm2", json={"name": "Second CRM", "code": "crm2"})
    assert (other.status_code, other.json()["name"]) == (200, "Second CRM"), other.text
    refused = org.admin.put("/v1/sources/ext:erp:crm2", json={"name": "Third", "code": "crm3"})
    assert (code(refused), fault(refused)) == ((409, "conflict"), [("/code", "set_once")])
    assert org.admin.get("/v1/sources/ext:erp:crm2").json()["name"] == "Second CRM"


def test_only_the_sources_account_writes_its_fields_on_records_linked_to_it(org, erp):
    made = erp.put(PATH, json={"name": "Kaufmann AG", "legal_name": "Kaufmann Aktiengesellschaft", "tier": "A"})
    assert made.status_code == 201, made.text
    before = made.json()
    for person in (org.admin, robot(org, "Other")):
        for body, fields in (
            ({"name": "Mine"}, ["name"]),
            ({"tier": "B", "legal_name": None, "name": "Mine"}, ["legal_name", "name"]),
            ({"addresses": []}, ["addresses"]) if before["addresses"] else ({"legal_name": "Mine"}, ["legal_name"]),
        ):
            refused = person.patch(f"/v1/accounts/{before['id']}", json=body)
            found = problem(refused, 409, code="field_owned")
            assert found["source"] == "erp"
            assert fault(refused) == [(f"/{name}", "field_owned") for name in fields]
        refused = person.put(PATH, json={"name": "Mine", "tier": "B"})
        assert (code(refused), fault(refused)) == ((409, "field_owned"), [("/name", "field_owned")])
    assert org.admin.get(PATH).json() == before, "refused means not done"
    done = org.admin.patch(PATH, json={"tier": "B", "risk": "low"})
    assert (done.status_code, done.headers.get("ignored-fields")) == (200, None)
    assert org.admin.post(f"{PATH}/activate").status_code == 200
    same = {"name": "Kaufmann AG", "legal_name": before["legal_name"], "addresses": []}
    assert org.admin.patch(PATH, json=same).json() == org.admin.get(PATH).json(), "nothing differs"
    assert org.admin.put(PATH, json={**same, "tier": "C"}).json()["tier"] == "C"
    done = erp.patch(PATH, json={"name": "Kaufmann SE"})
    assert (done.status_code, done.json()["name"]) == (200, "Kaufmann SE")
    unlinked = org.admin.make("accounts", name="Unlinked")
    assert org.admin.patch(f"/v1/accounts/{unlinked['id']}", json={"name": "Changed"}).status_code == 200


def test_to_name_a_record_as_the_source_does_is_not_to_be_the_source(org, erp, unchanged_accounts):
    with unchanged_accounts():
        refused = org.admin.put(PATH, json={"name": "Mine"})
        assert (code(refused), refused.json()["source"]) == ((409, "field_owned"), "erp")
    account = org.admin.make("accounts", name="Ours")
    path = f"/v1/accounts/{account['id']}"
    link = {"source": "erp", "external_id": "4711"}
    assert org.admin.post(f"{path}/link", json=link).status_code == 200
    assert code(org.admin.patch(path, json={"name": "Still ours"})) == (409, "field_owned")
    assert erp.put(PATH, json={"name": "Theirs"}).json()["id"] == account["id"]
    assert org.admin.post(f"{path}/unlink", json={"source": "erp"}).status_code == 200
    assert org.admin.patch(path, json={"name": "Ours again"}).status_code == 200


@pytest.fixture
def unchanged_accounts(org):
    from contextlib import contextmanager

    @contextmanager
    def watch():
        before = org.admin.all("/v1/accounts")
        yield
        assert org.admin.all("/v1/accounts") == before

    return watch


def test_a_source_may_keep_linking_to_itself(org):
    person = robot(org)
    source(org, account=person, fields=("external_ids",))
    account = org.admin.make("accounts", name="Ours")
    path = f"/v1/accounts/{account['id']}"
    link = {"source": "erp", "external_id": "4711"}
    assert code(org.admin.post(f"{path}/link", json=link)) == (409, "field_owned")
    assert code(org.admin.put(PATH, json={"name": "New"})) == (409, "field_owned")
    assert person.post(f"{path}/link", json=link).status_code == 200
    assert code(org.admin.post(f"{path}/unlink", json={"source": "erp"})) == (409, "field_owned")
    source(org, "shop", fields=())
    other = org.admin.post(f"{path}/link", json={"source": "shop", "external_id": "S1"})
    assert other.json()["external_ids"] == {"erp": "4711", "shop": "S1"}, "other sources' ids are not its own"
    assert org.admin.patch(path, json={"name": "Any name"}).status_code == 200


def test_a_source_that_ignores_leaves_its_fields_out_and_says_so(org):
    person = robot(org)
    source(org, account=person, on_conflict="ignore")
    made = person.put(PATH, json={"name": "Kaufmann", "legal_name": "Kaufmann AG"}).json()
    done = org.admin.patch(PATH, json={"name": "Mine", "legal_name": None, "tier": "B"})
    assert done.status_code == 200, done.text
    assert done.headers["ignored-fields"] == "legal_name;source=erp, name;source=erp"
    found = done.json()
    assert (found["name"], found["legal_name"], found["tier"]) == ("Kaufmann", "Kaufmann AG", "B")
    assert found["version"] == made["version"] + 1
    nothing = org.admin.patch(PATH, json={"name": "Mine"}, headers={"Prefer": "return=minimal"})
    assert (nothing.status_code, nothing.headers["ignored-fields"]) == (204, "name;source=erp")
    assert org.admin.get(PATH).json() == found
    upserted = org.admin.put(PATH, json={"name": "Mine", "tier": "C"})
    assert (upserted.status_code, upserted.json()["name"], upserted.json()["tier"]) == (200, "Kaufmann", "C")
    assert upserted.headers["ignored-fields"] == "name;source=erp"
    assert org.admin.patch(PATH, json={"name": "x", "tier": "D"}, headers={"If-Match": '"1"'}).status_code == 412
    key = {"Idempotency-Key": "ignored"}
    keyed, again = (org.admin.patch(PATH, json={"name": "Mine", "tier": "E"}, headers=key) for _ in range(2))
    assert (keyed.json()["tier"], keyed.headers["ignored-fields"]) == ("E", "name;source=erp")
    assert (again.json(), again.headers["idempotency-replayed"]) == (keyed.json(), "true")
    assert again.headers["ignored-fields"] == "name;source=erp"
    items = [{"op": "update", "id": "ext:erp:4711", "body": {"name": "Mine", "tier": "A"}}]
    for mode in ("atomic", "partial"):
        for _ in range(2):
            frame = {"mode": mode, "items": items}
            told = org.admin.post("/v1/accounts/batch", json=frame, headers={"Idempotency-Key": mode}).json()
            assert told["results"][0]["ignored"] == {"name": "erp"}
    assert code(org.admin.put("/v1/accounts/ext:erp:4712", json={"name": "New"})) == (409, "field_owned")


def test_two_sources_of_one_record_each_own_their_own(org):
    erp, shop = robot(org), robot(org, "Shop")
    source(org, account=erp, fields=("name",))
    source(org, "shop", account=shop, fields=("website",), on_conflict="ignore")
    made = erp.put(PATH, json={"name": "Kaufmann"}).json()
    link = {"source": "shop", "external_id": "S1"}
    assert shop.post(f"/v1/accounts/{made['id']}/link", json=link).status_code == 200
    done = erp.put(PATH, json={"name": "Kaufmann SE", "website": "https://erp.example.com"})
    assert (done.json()["name"], done.json()["website"]) == ("Kaufmann SE", None)
    assert done.headers["ignored-fields"] == "website;source=shop"
    refused = shop.patch("/v1/accounts/ext:shop:S1", json={"name": "Shop", "website": "https://shop.example.com"})
    assert (code(refused), refused.json()["source"]) == ((409, "field_owned"), "erp")
    site = {"website": "https://shop.example.com"}
    assert shop.patch("/v1/accounts/ext:shop:S1", json=site).json()["website"] == site["website"]


def test_ownership_holds_and_ends_with_the_next_request(org, erp):
    assert erp.put(PATH, json={"name": "Kaufmann"}).status_code == 201
    (row,) = org.admin.all("/v1/sources", code="erp")
    path = f"/v1/sources/{row['id']}"
    for _ in range(3):
        assert code(org.admin.patch(PATH, json={"name": "Mine"})) == (409, "field_owned")
        assert org.admin.patch(path, json={"owned_fields": []}).status_code == 200
        assert org.admin.patch(PATH, json={"name": "Mine"}).status_code == 200
        assert org.admin.patch(path, json={"owned_fields": row["owned_fields"]}).status_code == 200
        assert code(org.admin.patch(PATH, json={"name": "Ours"})) == (409, "field_owned")
        assert erp.patch(PATH, json={"name": "Kaufmann"}).status_code == 200
    assert org.admin.patch(path, json={"service_account_id": None}).status_code == 200
    assert code(erp.patch(PATH, json={"name": "Nobody's"})) == (409, "field_owned")
    assert org.admin.delete(path).status_code == 204
    assert org.admin.patch(PATH, json={"name": "Free"}).json()["external_ids"] == {"erp": "4711"}
    refused = org.admin.put("/v1/accounts/ext:erp:9", json={"name": "New"})
    assert (code(refused), fault(refused)) == ((422, "invalid"), [("id", "unknown_source")])
    assert org.admin.post(f"{PATH}/unlink", json={"source": "erp"}).status_code == 200


def test_a_new_source_is_known_with_the_next_request(org):
    for number in range(5):
        path = f"/v1/accounts/ext:s{number}:1"
        assert fault(org.admin.put(path, json={"name": "New"})) == [("id", "unknown_source")]
        org.admin.make("sources", name="New", code=f"s{number}")
        assert org.admin.put(path, json={"name": "New"}).status_code == 201


def test_a_field_rule_on_external_ids_keeps_a_role_from_linking(org):
    source(org, fields=())
    rules = [{"resource": "accounts", "field": "external_ids", "rule": "read_only"}]
    role = org.role("Careful", ("accounts:*", "all"), field_rules=rules)
    careful = org.person("careful", role)
    account = careful.make("accounts", name="Mine")
    body = {"source": "erp", "external_id": "1"}
    assert code(careful.post(f"/v1/accounts/{account['id']}/link", json=body)) == (403, "field_read_only")
    assert code(careful.put("/v1/accounts/ext:erp:1", json={"name": "New"})) == (403, "field_read_only")
    assert org.admin.post(f"/v1/accounts/{account['id']}/link", json=body).status_code == 200
    refused = careful.post(f"/v1/accounts/{account['id']}/unlink", json={"source": "erp"})
    assert code(refused) == (403, "field_read_only")
    assert careful.patch("/v1/accounts/ext:erp:1", json={"tier": "A"}).status_code == 200


def test_a_key_looks_by_external_id_into_no_domain_that_its_scopes_leave_out(org):
    source(org, fields=())
    account = org.admin.put(PATH, json={"name": "Kaufmann"}).json()
    narrow = robot(org, "Narrow", scopes=["contacts:read", "contacts:write"])
    contact = narrow.make("contacts", last_name="Kaufmann", account_id=account["id"])
    assert narrow.all("/v1/contacts", account_id=account["id"]) == [contact]
    found = problem(narrow.get("/v1/contacts", params={"account_id": "ext:erp:4711"}), 403)
    assert found["permission"] == "scope accounts:read"
    problem(narrow.post("/v1/contacts", json={"last_name": "X", "account_id": "ext:erp:4711"}), 403)
    problem(narrow.patch(f"/v1/contacts/{contact['id']}", json={"account_id": "ext:erp:4711"}), 403)
    writer = robot(org, "Writer", scopes=["accounts:write"])
    assert writer.put(PATH, json={"name": "Kaufmann SE"}).status_code == 204, "may write, but not read"
    assert writer.put("/v1/accounts/ext:erp:1", json={"name": "New"}).status_code == 201


def test_shares_and_questions_about_access_take_external_ids(org):
    source(org, fields=())
    for path, external in ((f"/v1/users/{org.rep.id}", "rep"), (f"/v1/users/{org.reader.id}", "reader")):
        assert org.admin.post(f"{path}/link", json={"source": "erp", "external_id": external}).status_code == 200
    mine = org.colleague.make("accounts", name="Mine")
    assert org.admin.post(f"/v1/accounts/{mine['id']}/link", json={"source": "erp", "external_id": "1"}).is_success
    share = {"grantee_type": "user", "grantee_id": "ext:erp:rep"}
    done = org.colleague.post("/v1/accounts/ext:erp:1/share", json=share)
    assert (done.status_code, done.json()["grantee_id"]) == (201, org.rep.id)
    assert org.rep.get("/v1/accounts/ext:erp:1").status_code == 200
    refused = org.colleague.post("/v1/accounts/ext:erp:1/share", json={**share, "grantee_id": "ext:erp:nobody"})
    assert fault(refused) == [("/grantee_id", "reference_not_found")]
    params = {"resource": "accounts", "id": "ext:erp:1", "principal": "ext:erp:rep"}
    told = org.admin.get("/v1/access/explain", params=params).json()
    assert (told["record_id"], told["principal_id"], told["allowed"]) == (mine["id"], org.rep.id, True)
    problem(org.admin.get("/v1/access/explain", params={**params, "id": "ext:erp:2"}), 404)
    problem(org.admin.get("/v1/access/explain", params={**params, "principal": "ext:erp:2"}), 404)
    assert org.admin.get("/v1/principals/ext:erp:rep").json()["id"] == org.rep.id
    assert org.admin.all("/v1/accounts", owner_id="ext:erp:rep") == []


CALLERS = 24


@pytest.mark.parametrize("keyed", [False, True])
@pytest.mark.parametrize(
    "collection", ["accounts", *(pytest.param(name, marks=pytest.mark.broad) for name in ("contacts", "teams"))]
)
def test_of_upserts_at_once_one_creates_and_the_others_update(org, collection, keyed, sql):
    """Different bodies, some with a whole-row check; each caller is told what it came to, none is refused."""
    source(org, fields=())
    names = {"accounts": "name", "contacts": "last_name", "teams": "name"}
    reference = {"accounts": "parent_id", "contacts": "reports_to_id"}.get(collection)
    above = org.admin.make(collection, **{names[collection]: "Above"})["id"]
    for number in range(6):
        path = f"/v1/{collection}/ext:erp:{number}"

        def call(caller: int, path=path, number=number):
            body = {names[collection]: f"Racer {caller % 8} of {number}"}
            if reference and caller % 3 == 0:
                body[reference] = above
            headers = {"Idempotency-Key": f"{number}-{caller}"} if keyed else {}
            return org.admin.put(path, json=body, headers=headers)

        with ThreadPoolExecutor(CALLERS) as pool:
            answers = list(pool.map(call, range(CALLERS)))
        assert sorted(answer.status_code for answer in answers) == [200] * (CALLERS - 1) + [201], [
            answer.text for answer in answers if answer.status_code not in (200, 201)
        ]
        assert len({answer.json()["id"] for answer in answers}) == 1
        assert len(org.admin.all(f"/v1/{collection}", id=f"ext:erp:{number}")) == 1
    rows = sql("SELECT count(*) AS n FROM external_ids WHERE tenant_id = $1", org.tenant_id)
    assert rows[0]["n"] == 6
    assert len(org.admin.all(f"/v1/{collection}")) == 7


def test_whatever_races_an_external_id_means_one_record(org, sql):
    """Upserts, links, unlinks, deletions and restorations of few external ids by many callers."""
    source(org, fields=())
    spare = [org.admin.make("accounts", name=f"Spare {n}")["id"] for n in range(3)]
    allowed = {200, 201, 204, 404, 409}
    told = set()

    def call(seed: int) -> None:
        draw = random.Random(seed)  # noqa: S311 - repeatable
        for _ in range(12):
            name = draw.choice("ab")
            path = f"/v1/accounts/ext:erp:{name}"
            match draw.randrange(6):
                case 0 | 1:
                    answer = org.admin.put(path, json={"name": f"{seed}"})
                    assert answer.status_code in (200, 201), answer.text
                case 2:
                    answer = org.admin.delete(path)
                case 3:
                    answer = org.admin.post(f"{path}/unlink", json={"source": "erp"})
                case 4:
                    body = {"source": "erp", "external_id": name}
                    answer = org.admin.post(f"/v1/accounts/{draw.choice(spare)}/link", json=body)
                case _:
                    answer = org.admin.post(f"{path}/restore")
            assert answer.status_code in allowed, answer.text
            told.add((answer.status_code, answer.json().get("code") if answer.status_code == 409 else None))

    with ThreadPoolExecutor(12) as pool:
        list(pool.map(call, range(12)))
    assert {409} & {status for status, _ in told}
    assert {reason for status, reason in told if status == 409} <= {"external_id_taken", "conflict", "locked"}
    agree = """
        SELECT id, e.key, e.value, deleted_at IS NULL
        FROM accounts, jsonb_each_text(external_ids) e WHERE tenant_id = $1
        EXCEPT SELECT object_id, source, external_id, deleted_at IS NULL FROM external_ids WHERE tenant_id = $1
    """
    assert sql(agree, org.tenant_id) == []
    live = """
        SELECT source, external_id FROM external_ids WHERE tenant_id = $1 AND deleted_at IS NULL
        GROUP BY 1, 2 HAVING count(*) > 1
    """
    assert sql(live, org.tenant_id) == []
    for name in "ab":
        assert len(org.admin.all("/v1/accounts", id=f"ext:erp:{name}")) <= 1


def test_the_feed_carries_external_ids_and_their_changes(org, follow):
    source(org, fields=())
    follower = follow(org.admin)
    org.admin.put(PATH, json={"name": "Kaufmann"})
    org.admin.put(PATH, json={"name": "Kaufmann"})
    org.admin.post(f"{PATH}/unlink", json={"source": "erp"})
    created, unlinked = follower.read()
    assert (created["type"], created["data"]["external_ids"]) == ("account.created", {"erp": "4711"})
    assert (unlinked["type"], unlinked["changed"]) == ("account.updated", ["external_ids"])
    assert (unlinked["previous"]["external_ids"], unlinked["data"]["external_ids"]) == ({"erp": "4711"}, {})


@pytest.mark.parametrize("before", [None, "4711"])
def test_a_deletion_that_waits_for_a_link_frees_the_linked_id_too(org, database, sql, before):
    """It began before the link was committed, or taken and given back, and does not see that in its snapshot."""
    source(org, fields=())
    account = org.admin.make("accounts", name="Linked late")
    if before is not None:
        body = {"source": "erp", "external_id": before}
        assert org.admin.post(f"/v1/accounts/{account['id']}/link", json=body).status_code == 200

    async def work():
        connection = await asyncpg.connect(database["admin"])
        try:
            async with connection.transaction():
                await connection.execute(
                    'UPDATE accounts SET version = version + 1, external_ids = \'{"erp": "4711"}\' WHERE id = $1',
                    account["id"],
                )
                await connection.execute("DELETE FROM external_ids WHERE object_id = $1", account["id"])
                await connection.execute(
                    "INSERT INTO external_ids (tenant_id, object_type, object_id, source, external_id) "
                    "VALUES ($1, 'account', $2, 'erp', '4711')",
                    org.tenant_id,
                    account["id"],
                )
                deletion = asyncio.create_task(asyncio.to_thread(org.admin.delete, f"/v1/accounts/{account['id']}"))
                await asyncio.sleep(0.2)
            return await deletion
        finally:
            await connection.close()

    assert asyncio.run(work()).status_code == 204
    rows = sql("SELECT deleted_at IS NULL AS live FROM external_ids WHERE tenant_id = $1", org.tenant_id)
    assert [row["live"] for row in rows] == [False]
    assert org.admin.put(PATH, json={"name": "Its successor"}).status_code == 201
