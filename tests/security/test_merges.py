"""What a merge, and taking one back, must not give, lift or tell."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx2
import pytest

from crm_api.domains.duplicates.children import MOST
from tests.support.examples import attach
from tests.support.org import Org
from tests.support.problems import problem

ACTIONS = ("read", "update", "merge")


def ask(person, verb: str, survivor: dict, other: dict, headers=None, params=None, **body: Any):
    path = f"/v1/accounts/{survivor['id']}/{verb}"
    return person.post(path, json={"other_id": other["id"], **body}, headers=headers, params=params)


def done(answer) -> dict[str, Any]:
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(person, record: dict, plural: str = "accounts"):
    return person.get(f"/v1/{plural}/{record['id']}")


def share(person, record: dict, grantee: str, level: str = "read", **more: Any) -> dict[str, Any]:
    body = {"grantee_type": "user", "grantee_id": grantee, "level": level, **more}
    answer = person.post(f"/v1/accounts/{record['id']}/share", json=body)
    assert answer.status_code == 201, answer.text
    return answer.json()


@pytest.fixture
def pair(org: Org) -> tuple[dict, dict]:
    """Two accounts of `rep`; the second has what the first lacks."""
    return (
        org.rep.make("accounts", name="Kaufmann AG"),
        org.rep.make("accounts", name="Kaufmann", industry="Trade", credit_limit="900.00", payment_terms="30 days"),
    )


def merger(org: Org, name: str, *grants: tuple[str, str], rules: dict[str, str] | None = None):
    """Somebody who may merge all accounts, but for what the rules say of fields."""
    permissions = [(f"accounts:{action}", "all") for action in ACTIONS]
    field_rules = [{"resource": "accounts", "field": field, "rule": rule} for field, rule in (rules or {}).items()]
    return org.person(name, org.role(name.title(), *permissions, *grants, field_rules=field_rules))


def key(org: Org, person, scope: str) -> dict[str, str]:
    body = {"name": "narrow", "scopes": [f"accounts:{scope}"]}
    made = org.admin.post(f"/v1/users/{person.id}/issue_key", json=body)
    assert made.status_code == 201, made.text
    return {"Authorization": f"Bearer {made.json()['key']}"}


def test_a_key_that_may_only_write_reads_nothing_by_a_merge(org, pair):
    narrow, only = (key(org, person, scope) for person, scope in ((org.admin, "write"), (org.manager, "read")))
    for verb, params in (("merge", {"dry_run": "true"}), ("merge", None), ("unmerge", None)):
        told = done(ask(org.admin, verb, *pair, headers=narrow, params=params))
        assert told["survivor"] == {}
        assert told.get("fields", []) == []
    for verb in ("merge", "unmerge"):
        assert problem(ask(org.manager, verb, *pair, headers=only), 403)["permission"] == "scope accounts:write"


def test_a_field_that_is_read_only_is_not_filled_by_a_merge_nor_emptied_by_taking_it_back(org, pair):
    clerk = merger(org, "clerk", rules={"credit_limit": "read_only"})
    before = [get(org.rep, record).json() for record in pair]
    found = problem(ask(clerk, "merge", *pair), 403)
    assert [(fault["pointer"], fault["code"]) for fault in found["errors"]] == [
        ("/fields/credit_limit", "field_read_only")
    ]
    assert [get(org.rep, record).json() for record in pair] == before
    told = done(ask(clerk, "merge", *pair, fields={"credit_limit": "survivor"}))
    assert told["survivor"]["credit_limit"] is None
    done(ask(clerk, "unmerge", *pair))
    done(ask(org.manager, "merge", *pair))
    found = problem(ask(clerk, "unmerge", *pair), 403)
    assert found["errors"][0]["pointer"] == "/credit_limit"
    assert get(org.rep, pair[0]).json()["credit_limit"] == "900.00"


def test_a_hidden_field_is_told_by_no_refusal(org, pair):
    """That a source owns it would tell, by a 409, whether the two records differ in it."""
    survivor, other = pair
    owned = [{"resource": "accounts", "field": "credit_limit"}]
    org.admin.make("sources", name="ERP", code="erp", owned_fields=owned)
    body = {"source": "erp", "external_id": "1"}
    assert org.rep.post(f"/v1/accounts/{survivor['id']}/link", json=body).status_code == 200
    blind = merger(org, "blind", rules={"credit_limit": "hidden"})
    told = done(ask(blind, "merge", survivor, other))
    assert "credit_limit" not in str([told["fields"], told["moved"]])
    assert get(org.rep, survivor).json()["credit_limit"] is None, "it is the source's"
    assert done(ask(blind, "unmerge", survivor, other))["kept"] == []


def test_owner_and_team_change_for_who_may_give_the_record_away(org):
    team = org.admin.make("teams", name="North")
    grants = [(f"accounts:{action}", "all") for action in ACTIONS]
    half = org.person("half", org.role("Half", *grants, ("accounts:transfer", "own")))
    survivor = org.admin.make("accounts", name="Survivor")
    assert org.admin.patch(f"/v1/accounts/{survivor['id']}", json={"owner_id": None}).status_code == 200
    other = org.admin.make("accounts", name="Other", team_id=team["id"], owner_id=org.rep.id)
    for name in ("owner_id", "team_id"):
        found = problem(ask(half, "merge", survivor, other, fields={name: "other"}), 403)
        assert found["permission"] == "accounts:transfer"
    told = done(ask(half, "merge", survivor, other))
    assert (told["fields"], told["survivor"]["owner_id"], told["survivor"]["team_id"]) == ([], None, None)
    done(ask(org.admin, "unmerge", survivor, other))
    done(ask(org.admin, "merge", survivor, other))
    assert get(org.admin, survivor).json()["owner_id"] == org.rep.id
    assert problem(ask(half, "unmerge", survivor, other), 403)["permission"] == "accounts:transfer"


def test_taking_a_merge_back_takes_the_permission_to_update(org, pair):
    done(ask(org.manager, "merge", *pair))
    grants = [(f"accounts:{action}", "all") for action in ("read", "merge")]
    cannot = org.person("cannot", org.role("Cannot", *grants))
    assert problem(ask(cannot, "unmerge", *pair), 403)["permission"] == "accounts:update"
    org.outsider.make("accounts", name="Theirs")
    problem(ask(org.other_manager, "unmerge", *pair), 404)


def test_a_block_is_not_lost_in_a_merge(org, pair):
    survivor, other = pair
    assert org.admin.post(f"/v1/accounts/{other['id']}/block", json={"reason": "fraud"}).status_code == 200
    found = problem(ask(org.manager, "merge", survivor, other), 409)
    assert found["errors"][0]["pointer"] == "/other_id"
    assert get(org.rep, other).json()["is_blocked"] is True
    told = done(ask(org.manager, "merge", other, survivor))
    assert told["survivor"]["is_blocked"] is True


def test_what_was_closed_since_a_merge_stays_closed_when_it_is_taken_back(org, pair):
    """A share and a member of the team that were ended, others that were given less."""
    survivor, other = pair
    second = org.other_manager.id
    share(org.rep, other, org.outsider.id, "write")
    share(org.rep, other, second, "write", expires_at="2090-01-01T00:00:00Z")
    share(org.rep, survivor, second, "write")
    for record in pair:
        org.rep.make("account_team_members", account_id=record["id"], principal_id=org.colleague.id, level="write")
    done(ask(org.manager, "merge", survivor, other))
    path = f"/v1/accounts/{survivor['id']}"
    for row in org.rep.get(f"{path}/shares").json()["data"]:
        if row["grantee_id"] == org.outsider.id:
            assert org.rep.post(f"{path}/unshare", json={"share_id": row["id"]}).status_code == 200
    share(org.rep, survivor, second, "read")
    (member,) = org.rep.all("/v1/account_team_members", account_id=survivor["id"])
    assert org.rep.patch(f"/v1/account_team_members/{member['id']}", json={"level": "read"}).status_code == 200
    kept = done(ask(org.manager, "unmerge", survivor, other))["kept"]
    assert {(item["resource"], item["field"], item["reason"]) for item in kept} >= {
        ("accounts", "shares", "gone"),
        ("account_team_members", "level", "changed"),
    }
    problem(get(org.outsider, other), 404)
    for person in (org.other_manager, org.colleague):
        problem(person.patch(f"/v1/accounts/{other['id']}", json={"tier": "A"}), 403)
    done(ask(org.manager, "merge", survivor, other))
    assert org.rep.delete(f"/v1/account_team_members/{member['id']}").status_code == 204
    done(ask(org.manager, "unmerge", survivor, other))
    problem(get(org.colleague, other), 404)


def test_a_share_that_has_ended_opens_nothing_by_a_merge(org, pair, sql):
    survivor, other = pair
    share(org.rep, other, org.outsider.id, expires_at="2090-01-01T00:00:00Z")
    sql("UPDATE shares SET expires_at = now() - interval '1 s' WHERE object_id = $1", other["id"])
    done(ask(org.manager, "merge", survivor, other))
    assert org.rep.get(f"/v1/accounts/{survivor['id']}/shares").json()["data"] == []
    problem(get(org.outsider, survivor), 404)
    sql("DELETE FROM shares WHERE object_id = $1", other["id"])


def test_files_go_with_their_record_and_come_back(org, pair):
    survivor, other = pair
    file = attach(org.rep, "account", other["id"], "offer.txt", b"offer")
    share(org.rep, survivor, org.outsider.id)
    problem(get(org.outsider, file, "files"), 404)
    told = done(ask(org.manager, "merge", survivor, other))
    assert {"resource": "files", "field": "object_id", "count": 1} in told["moved"]
    for person in (org.rep, org.outsider):
        assert person.get(f"/v1/files/{file['id']}/content").content == b"offer"
    assert get(org.rep, file, "files").json()["object_id"] == survivor["id"]
    done(ask(org.manager, "unmerge", survivor, other))
    assert get(org.rep, file, "files").json()["object_id"] == other["id"]
    problem(org.outsider.get(f"/v1/files/{file['id']}/content"), 404)


@pytest.mark.parametrize("verb", ["merge", "unmerge"])
def test_another_tenants_record_is_no_record(server, org, pair, verb):
    other = Org.create(server)
    theirs = other.admin.make("accounts", name="Theirs")
    random = {"id": "019aa1d1-0000-7000-8000-00000000000f"}
    found, nobody = (problem(ask(org.admin, verb, pair[0], record), 409, 422) for record in (theirs, random))
    assert (found["code"], found["errors"]) == (nobody["code"], nobody["errors"])
    found, nobody = (problem(ask(org.admin, verb, record, pair[0]), 404) for record in (theirs, random))
    assert found["detail"] == nobody["detail"]
    assert get(other.admin, theirs).json() == theirs


def test_more_than_a_merge_moves_is_refused_whole(org, pair, sql, unchanged):
    survivor, other = pair
    contact = org.rep.make("contacts", last_name="Many", account_id=other["id"])
    columns = "SELECT column_name FROM information_schema.columns WHERE table_name = 'contacts'"
    names = [row["column_name"] for row in sql(columns)]
    values = ", ".join("gen_random_uuid()" if name == "id" else f"c.{name}" for name in names)
    copy = f"INSERT INTO contacts ({', '.join(names)}) SELECT {values} FROM contacts c, generate_series(1, {MOST}) "  # noqa: S608
    sql(copy + "WHERE c.id = $1", contact["id"])
    with unchanged(org):
        assert problem(ask(org.manager, "merge", survivor, other), 409)["code"] == "limit_reached"
    assert org.rep.delete(f"/v1/contacts/{contact['id']}").status_code == 204
    told = done(ask(org.manager, "merge", survivor, other))
    assert told["moved"] == [{"resource": "contacts", "field": "account_id", "count": MOST}]


def test_whatever_happens_to_a_record_while_it_is_merged_happens_before_or_not_at_all(server, org):
    """One of the writes at a time races with a merge of its record."""
    survivor = org.rep.make("accounts", name="Survivor")

    def send(person, method: str, target: str, **options: Any) -> int:
        with httpx2.Client(base_url=server.base_url, headers=person.headers, timeout=30) as client:
            return client.request(method, target, **options).status_code

    for method, suffix, options in (
        ("PATCH", "", {"json": {"description": "late"}}),
        ("DELETE", "", {}),
        ("POST", "/share", {"json": {"grantee_type": "user", "grantee_id": org.outsider.id}}),
        ("FILE", "", {}),
    ):
        other = org.rep.make("accounts", name="Other")
        path = f"/v1/accounts/{other['id']}"
        with ThreadPoolExecutor(2) as pool:
            if method == "FILE":
                params = {"object_type": "account", "object_id": other["id"], "name": "late.txt"}
                write = pool.submit(send, org.rep, "POST", "/v1/files", params=params, content=b"late")
            else:
                write = pool.submit(send, org.rep, method, path + suffix, **options)
            body = {"other_id": other["id"]}
            merging = pool.submit(send, org.manager, "POST", f"/v1/accounts/{survivor['id']}/merge", json=body)
            wrote, merged = write.result() < 300, merging.result()
        assert merged in (200, 409, 422), merged
        assert (org.rep.get(path).status_code == 308) == (merged == 200)
        if merged != 200:  # the deletion came first, or the lock was not to be had
            continue
        now = org.rep.get(f"/v1/accounts/{survivor['id']}").json()
        if method == "PATCH":
            assert (now["description"] == "late") == wrote
        elif method == "FILE":
            assert len(org.rep.all("/v1/files", object_id=survivor["id"])) == wrote
        elif method == "POST":
            assert (org.outsider.get(f"/v1/accounts/{survivor['id']}").status_code == 200) == wrote
        else:
            assert not wrote


def test_what_comes_to_refer_to_a_record_while_it_is_merged_goes_along_or_is_refused(server, org):
    """Whoever sees no merge yet must not attach something to what is gone a moment later."""
    for _ in range(3):
        survivor, other = (org.rep.make("accounts", name=name) for name in ("Survivor", "Other"))
        refused: list[int] = []

        def create(refused: list[int] = refused, other: dict = other) -> int:
            made = 0
            with httpx2.Client(base_url=server.base_url, headers=org.rep.headers, timeout=30) as client:
                while not refused:
                    body = {"last_name": "Racing", "account_id": other["id"]}
                    status = client.post("/v1/contacts", json=body).status_code
                    made += status == 201
                    if status != 201:
                        refused.append(status)
            return made

        with ThreadPoolExecutor(3) as pool:
            creating = [pool.submit(create) for _ in range(3)]
            answer = ask(org.manager, "merge", survivor, other)
            while answer.status_code == 409:  # a lock that was not to be had
                answer = ask(org.manager, "merge", survivor, other)
            made = sum(each.result() for each in creating)
        done(answer)
        assert set(refused) <= {409, 422}
        assert len(org.rep.all("/v1/contacts", account_id=survivor["id"])) == made
        assert org.rep.all("/v1/contacts", account_id=other["id"]) == []
