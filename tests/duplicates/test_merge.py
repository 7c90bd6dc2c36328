"""Two records become one, and two again: over HTTP, as people with roles."""

import asyncio
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import asyncpg
import httpx2
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.catalog import CATALOG
from crm_api.domains.duplicates import children
from crm_api.kernel.feed import sequence
from crm_api.kernel.record import Record
from tests.support.org import Org
from tests.support.problems import problem

some = st.sampled_from


def merge(person, survivor: dict, other: dict, plural: str = "accounts", **body: Any) -> dict[str, Any]:
    answer = person.post(f"/v1/{plural}/{survivor['id']}/merge", json={"other_id": other["id"], **body})
    assert answer.status_code == 200, answer.text
    return answer.json()


def unmerge(person, survivor: dict, other: dict, plural: str = "accounts") -> dict[str, Any]:
    answer = person.post(f"/v1/{plural}/{survivor['id']}/unmerge", json={"other_id": other["id"]})
    assert answer.status_code == 200, answer.text
    return answer.json()


def get(person, record: dict, plural: str = "accounts") -> dict[str, Any]:
    answer = person.get(f"/v1/{plural}/{record['id']}")
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.fixture
def pair(org) -> tuple[dict, dict]:
    """Two accounts of `rep` that mean the same company."""
    return (
        org.rep.make("accounts", name="Kaufmann AG", tier="A", tags=["old"]),
        org.rep.make("accounts", name="Kaufmann", industry="Trade", tax_id="DE1", tier="B", tags=["new"]),
    )


def test_the_others_values_fill_what_is_empty_and_what_is_chosen(org, pair):
    survivor, other = pair
    told = merge(org.manager, survivor, other, fields={"tier": "other", "tags": "both"})
    assert {item["field"]: item["taken"] for item in told["fields"]} == {
        "industry": "other",
        "tax_id": "other",
        "tier": "other",
        "tags": "both",
    }
    now = get(org.manager, survivor)
    assert told["survivor"] == now
    assert [now[name] for name in ("name", "industry", "tax_id", "tier", "tags", "version")] == [
        *("Kaufmann AG", "Trade", "DE1", "B"),
        ["old", "new"],
        2,
    ]


def test_a_preview_says_what_would_come_of_it_and_does_nothing(org, pair):
    survivor, other = pair
    org.rep.make("contacts", last_name="Kaufmann", account_id=other["id"])
    body = {"other_id": other["id"]}
    path = f"/v1/accounts/{survivor['id']}/merge"
    preview = org.manager.post(path, json=body, params={"dry_run": "true"}).json()
    assert preview["survivor"]["industry"] == "Trade"
    assert preview["moved"] == [{"resource": "contacts", "field": "account_id", "count": 1}]
    assert (get(org.rep, survivor), get(org.rep, other)) == pair
    done = merge(org.manager, survivor, other)
    assert (done["fields"], done["moved"]) == (preview["fields"], preview["moved"])


def test_the_old_id_leads_to_the_survivor_and_takes_no_writes(org, pair):
    survivor, other = pair
    third = org.rep.make("accounts", name="Kaufmann SE")
    merge(org.manager, survivor, other)
    path = f"/v1/accounts/{other['id']}"
    moved = org.rep.get(path)
    assert (moved.status_code, moved.headers["location"]) == (308, f"/v1/accounts/{survivor['id']}")
    assert (moved.json()["code"], moved.json()["merged_into"]) == ("merged", survivor["id"])
    for method, suffix, body in (
        ("DELETE", "", None),
        ("PATCH", "", {"tier": "C"}),
        ("POST", "/block", {"reason": "x"}),
    ):
        found = problem(org.manager.request(method, path + suffix, json=body), 409)
        assert found["merged_into"] == survivor["id"]
    problem(org.manager.post(f"{path}/restore"), 409)
    problem(org.outsider.get(path), 404)
    merge(org.manager, third, survivor)
    assert org.rep.get(path).json()["merged_into"] == third["id"]
    assert [item["merged_id"] for item in org.rep.get(f"/v1/accounts/{third['id']}/merges").json()["data"]] == [
        survivor["id"]
    ]


def test_children_move_and_links_become_one(org, pair):
    survivor, other = pair
    contact = org.rep.make("contacts", last_name="Kaufmann", account_id=other["id"])
    both = org.rep.make("contacts", last_name="Both")
    child = org.rep.make("accounts", name="Subsidiary", parent_id=other["id"])
    kept = org.rep.make("account_contacts", account_id=survivor["id"], contact_id=both["id"], is_active=False)
    gone = org.rep.make("account_contacts", account_id=other["id"], contact_id=both["id"])
    mine = org.rep.make("account_team_members", account_id=survivor["id"], principal_id=org.outsider.id)
    org.rep.make("account_team_members", account_id=other["id"], principal_id=org.outsider.id, level="write")
    merge(org.manager, survivor, other)
    assert get(org.rep, contact, "contacts")["account_id"] == survivor["id"]
    assert get(org.rep, child)["parent_id"] == survivor["id"]
    assert get(org.rep, kept, "account_contacts")["is_active"] is True
    problem(org.rep.get(f"/v1/account_contacts/{gone['id']}"), 404)
    assert get(org.rep, mine, "account_team_members")["level"] == "write"
    assert org.outsider.patch(f"/v1/accounts/{survivor['id']}", json={"tier": "C"}).status_code == 200


def test_external_ids_are_kept(org, pair):
    survivor, other = pair
    for source in ("erp", "shop"):
        org.admin.make("sources", name=source, code=source)
    for record, source, id_ in ((survivor, "erp", "1"), (other, "erp", "2"), (other, "shop", "3")):
        body = {"source": source, "external_id": id_}
        assert org.rep.post(f"/v1/accounts/{record['id']}/link", json=body).status_code == 200
    merge(org.manager, survivor, other)
    assert get(org.rep, survivor)["external_ids"] == {"erp": "1", "shop": "3"}
    assert org.rep.get("/v1/accounts/ext:shop:3").json()["id"] == survivor["id"]
    moved = org.rep.get("/v1/accounts/ext:erp:2")
    assert (moved.status_code, moved.json()["merged_into"]) == (308, survivor["id"])
    put = problem(org.admin.put("/v1/accounts/ext:erp:2", json={"name": "Again"}), 409)
    assert put["merged_into"] == survivor["id"]
    unmerge(org.manager, survivor, other)
    assert get(org.rep, survivor)["external_ids"] == {"erp": "1"}
    assert org.rep.get("/v1/accounts/ext:shop:3").json()["id"] == other["id"]
    assert org.rep.get("/v1/accounts/ext:erp:2").json()["external_ids"] == {"erp": "2", "shop": "3"}


def test_who_may_merge(org, pair):
    survivor, other = pair
    theirs = org.outsider.make("accounts", name="Kaufmann")
    path = f"/v1/accounts/{survivor['id']}/merge"
    assert problem(org.rep.post(path, json={"other_id": other["id"]}), 403)["permission"] == "accounts:merge"
    hidden = problem(org.manager.post(path, json={"other_id": theirs["id"]}), 422)
    nobody = problem(org.manager.post(path, json={"other_id": "019aa1d1-0000-7000-8000-00000000000f"}), 422)
    assert hidden["errors"] == nobody["errors"]
    share = {"grantee_type": "user", "grantee_id": org.manager.id, "level": "write"}
    assert org.outsider.post(f"/v1/accounts/{theirs['id']}/share", json=share).status_code == 201
    assert problem(org.manager.post(path, json={"other_id": theirs["id"]}), 403)["permission"] == "accounts:merge"
    grants = [(f"accounts:{action}", "all") for action in ("read", "merge")]
    cannot = org.person("cannot", org.role("Cannot", *grants))
    assert problem(cannot.post(path, json={"other_id": other["id"]}), 403)["permission"] == "accounts:update"
    rules = [{"resource": "accounts", "field": name, "rule": "hidden"} for name in ("industry", "tax_id")]
    blind = org.person("blind", org.role("Blind", ("accounts:*", "all"), field_rules=rules))
    chosen = {"other_id": other["id"], "fields": {"industry": "other"}}
    assert problem(blind.post(path, json=chosen), 403)["code"] == "field_read_only"
    told = merge(blind, survivor, other)
    assert [item["field"] for item in told["fields"]] == []
    assert (told["survivor"]["industry"], told["moved"]) == (None, [])
    assert get(org.rep, survivor)["industry"] == "Trade"


def test_what_was_changed_meanwhile_is_not_merged(org, pair):
    survivor, other = pair
    path = f"/v1/accounts/{survivor['id']}/merge"
    body = {"other_id": other["id"], "other_version": 1}
    problem(org.manager.post(path, json=body, headers={"If-Match": '"2"'}), 412)
    assert org.rep.patch(f"/v1/accounts/{other['id']}", json={"tier": "C"}).status_code == 200
    found = problem(org.manager.post(path, json=body), 412)
    assert (found["current_version"], found["changed"]) == (2, ["tier"])
    for wrong, code in (
        ({"other_id": survivor["id"]}, "same_record"),
        ({"other_id": other["id"], "fields": {"status": "other"}}, "unknown_field"),
        ({"other_id": other["id"], "fields": {"name": "both"}}, "not_a_list"),
    ):
        assert problem(org.manager.post(path, json=wrong), 422)["errors"][0]["code"] == code
    merge(org.manager, survivor, other)
    problem(org.manager.post(path, json={"other_id": other["id"]}), 422)


def test_nothing_comes_to_stand_below_itself(org, pair):
    above, below = pair
    middle = org.rep.make("accounts", name="Middle", parent_id=above["id"])
    assert org.rep.patch(f"/v1/accounts/{below['id']}", json={"parent_id": middle["id"]}).status_code == 200
    found = problem(org.manager.post(f"/v1/accounts/{below['id']}/merge", json={"other_id": above["id"]}), 409)
    assert found["code"] == "cycle"
    chosen = {"other_id": below["id"], "fields": {"parent_id": "other"}}
    assert problem(org.manager.post(f"/v1/accounts/{above['id']}/merge", json=chosen), 409)["code"] == "cycle"
    merge(org.manager, above, below)
    assert get(org.rep, above)["parent_id"] is None


def test_what_was_changed_since_is_reported_and_stays(org, pair):
    survivor, other = pair
    contact = org.rep.make("contacts", last_name="Kaufmann", account_id=other["id"])
    gone = org.rep.make("contacts", last_name="Gone", account_id=other["id"])
    merge(org.manager, survivor, other)
    third = org.rep.make("accounts", name="Third")
    org.rep.patch(f"/v1/accounts/{survivor['id']}", json={"industry": "Retail"})
    org.rep.patch(f"/v1/contacts/{contact['id']}", json={"account_id": third["id"]})
    org.rep.delete(f"/v1/contacts/{gone['id']}")
    told = unmerge(org.manager, survivor, other)
    assert sorted((item["resource"], item["id"], item["field"], item["reason"]) for item in told["kept"]) == sorted(
        [
            ("accounts", survivor["id"], "industry", "changed"),
            ("contacts", contact["id"], "account_id", "changed"),
            ("contacts", gone["id"], "account_id", "gone"),
        ]
    )
    assert told["survivor"]["industry"] == "Retail"
    merge(org.manager, survivor, other, fields={"industry": "other"})
    org.rep.patch(f"/v1/accounts/{survivor['id']}", json={"industry": "Crafts", "tax_id": "DE2"})
    rules = [{"resource": "accounts", "field": "industry", "rule": "hidden"}]
    blind = org.person("blind", org.role("Blind", ("accounts:*", "all"), field_rules=rules))
    assert [item["field"] for item in unmerge(blind, survivor, other)["kept"]] == ["tax_id"]
    assert get(org.rep, contact, "contacts")["account_id"] == third["id"]
    problem(org.manager.post(f"/v1/accounts/{survivor['id']}/unmerge", json={"other_id": other["id"]}), 409)


def test_every_reference_to_what_can_be_merged_is_of_a_resource():
    """Else a merge would leave it behind."""
    for resource in CATALOG.resources.values():
        if "merge" in resource.verbs:
            for table in Record.metadata.tables.values():
                if any(item.referred_table is resource.table for item in table.foreign_key_constraints):
                    assert table.name in CATALOG.by_table, table.name


TABLES = ("accounts", "contacts", "account_contacts", "account_team_members", "external_ids", "shares", "field_values")
STAMPS = "'{version,updated_at,updated_by}'::text[]"


def rows(database, tenant_id) -> dict[str, list[str]]:
    """Everything a merge may touch, as it is in the database, without stamps."""

    async def read() -> dict[str, list[str]]:
        connection = await asyncpg.connect(database["admin"])
        try:
            found = {}
            for table in TABLES:
                query = f"SELECT (to_jsonb(t) - {STAMPS})::text FROM {table} t WHERE tenant_id = $1"  # noqa: S608
                found[table] = sorted(row[0] for row in await connection.fetch(query, tenant_id))
            return found
        finally:
            await connection.close()

    return asyncio.run(read())


VALUES = {
    "industry": some([None, "Trade", "Crafts"]),
    "website": some([None, "https://www.example.com", "https://example.org"]),
    "tax_id": some([None, "DE1"]),
    "credit_limit": some([None, "10.00", "20.50"]),
    "tags": some([[], ["a"], ["b", "c"]]),
    "emails": some([[], [{"address": "a@example.com"}]]),
    "phones": some([[], [{"number": "+4930123456"}]]),
    "addresses": some([[], [{"city": "Bonn", "country": "DE"}]]),
}
WORLDS = st.fixed_dictionaries(
    {
        "survivor": st.fixed_dictionaries({**VALUES, "tax_id": some([None, "FR2"])}),
        "other": st.fixed_dictionaries(VALUES),
        "parents": some([None, "third", "survivor"]),
        "links": st.lists(
            st.tuples(some(["survivor", "other"]), some([0, 1]), st.booleans()), unique_by=lambda link: link[:2]
        ),
        "homes": st.lists(some(["survivor", "other"]), min_size=2, max_size=2),
        "shares": st.lists(
            st.tuples(some(["survivor", "other"]), some(["outsider", "reader"]), some(["read", "write"])),
            unique_by=lambda share: share[:2],
        ),
        "team": st.lists(
            st.tuples(some(["survivor", "other"]), some(["outsider", "reader"]), some(["read", "write"])),
            unique_by=lambda member: member[:2],
        ),
        "external": st.lists(st.tuples(some(["survivor", "other"]), some(["erp", "shop"])), unique=True),
        "fields": st.dictionaries(some(["industry", "tags", "phones"]), some(["survivor", "other"]), max_size=2),
    }
)


@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(world=WORLDS)
def test_after_a_merge_is_taken_back_everything_is_as_before(shared_org, database, world):
    org = shared_org
    if not org.admin.all("/v1/sources"):
        for source in ("erp", "shop"):
            org.admin.make("sources", name=source, code=source)
    made = {"third": org.rep.make("accounts", name="Third")}
    made["survivor"] = org.rep.make("accounts", name="Survivor", **world["survivor"])
    parent = made[world["parents"]]["id"] if world["parents"] else None
    made["other"] = org.rep.make("accounts", name="Other", parent_id=parent, **world["other"])
    org.rep.make("accounts", name="Child", parent_id=made["other"]["id"])
    people = [
        org.rep.make("contacts", last_name=f"Contact {i}", account_id=made[home]["id"])
        for i, home in enumerate(world["homes"])
    ]
    for name, i, active in world["links"]:
        ids = {"account_id": made[name]["id"], "contact_id": people[i]["id"]}
        org.rep.make("account_contacts", **ids, is_active=active)
    for name, who, level in world["team"]:
        member = {"account_id": made[name]["id"], "principal_id": org.people[who].id}
        org.rep.make("account_team_members", **member, level=level)
    for name, who, level in world["shares"]:
        body = {"grantee_type": "user", "grantee_id": org.people[who].id, "level": level}
        assert org.rep.post(f"/v1/accounts/{made[name]['id']}/share", json=body).status_code == 201
    for name, source in world["external"]:
        body = {"source": source, "external_id": made[name]["id"]}
        assert org.rep.post(f"/v1/accounts/{made[name]['id']}/link", json=body).status_code == 200
    before = rows(database, org.tenant_id)
    merge(org.manager, made["survivor"], made["other"], fields=world["fields"])
    assert rows(database, org.tenant_id) != before
    assert unmerge(org.manager, made["survivor"], made["other"])["kept"] == []
    assert rows(database, org.tenant_id) == before
    for name in ("survivor", "other"):  # its tax id is free for the next example
        assert org.rep.delete(f"/v1/accounts/{made[name]['id']}").status_code == 204


def test_contacts_are_merged_too(org, database):
    account, second = (org.rep.make("accounts", name=name) for name in ("One", "Two"))
    survivor = org.rep.make("contacts", last_name="Rohr", account_id=account["id"])
    other = org.rep.make("contacts", last_name="Rohr", first_name="Ada", birthday="1980-02-29")
    below = org.rep.make("contacts", last_name="Below", reports_to_id=other["id"])
    org.rep.make("account_contacts", account_id=second["id"], contact_id=other["id"])
    before = rows(database, org.tenant_id)
    told = merge(org.manager, survivor, other, "contacts")
    assert (told["survivor"]["first_name"], told["survivor"]["birthday"]) == ("Ada", "1980-02-29")
    assert get(org.rep, below, "contacts")["reports_to_id"] == survivor["id"]
    (link,) = org.rep.all("/v1/account_contacts")
    assert link["contact_id"] == survivor["id"]
    assert unmerge(org.manager, survivor, other, "contacts")["kept"] == []
    assert rows(database, org.tenant_id) == before


def test_the_feed_says_what_became_of_both(org, pair):
    survivor, other = pair
    share = {"grantee_type": "user", "grantee_id": org.outsider.id}
    assert org.rep.post(f"/v1/accounts/{other['id']}/share", json=share).status_code == 201
    contact = org.rep.make("contacts", last_name="Kaufmann", account_id=other["id"])
    since = changes(org, org.manager)[1]
    merge(org.manager, survivor, other)
    told, since = changes(org, org.manager, since)
    assert sorted((event["type"], event["object"]["id"]) for event in told) == sorted(
        [
            ("account.deleted", other["id"]),
            ("account.merged", survivor["id"]),
            ("account.shared", survivor["id"]),
            ("account.updated", survivor["id"]),
            ("contact.updated", contact["id"]),
        ]
    )
    assert len({event["transaction_id"] for event in told}) == 1
    (gone,) = [event for event in told if event["type"] == "account.deleted"]
    assert gone["object"]["merged_into"] == survivor["id"]
    assert gone["data"]["name"] == "Kaufmann"
    theirs, _ = changes(org, org.outsider)
    assert ("account.access_changed", survivor["id"], "gained") in {
        (event["type"], event["object"]["id"], event["access"]) for event in theirs
    }
    unmerge(org.manager, survivor, other)
    told, _ = changes(org, org.manager, since)
    assert {(event["type"], event["object"]["id"]) for event in told} >= {
        ("account.restored", other["id"]),
        ("account.updated", survivor["id"]),
        ("account.unmerged", survivor["id"]),
    }


def changes(org: Org, person, since: str | None = None) -> tuple[list[dict[str, Any]], str]:
    """What the feed tells somebody, and where it ends."""
    while org.server.run(sequence(org.server.kernel))[1]:
        pass
    page = person.get("/v1/changes", params={"limit": 200, **({"since": since} if since else {})}).json()
    return page["data"], page["next_cursor"]


def test_who_saw_a_record_by_what_has_moved_is_told_of_its_end_and_no_more(org, pair):
    survivor, other = pair
    member = {"account_id": other["id"], "principal_id": org.outsider.id}
    org.rep.make("account_team_members", **member)
    assert get(org.outsider, other)["name"] == "Kaufmann"
    merge(org.manager, survivor, other)
    told, _ = changes(org, org.outsider)
    (gone,) = [event for event in told if event["type"] == "account.deleted"]
    assert (gone["object"]["id"], gone["object"]["merged_into"]) == (other["id"], survivor["id"])
    assert (gone["data"], gone["actor"]) == (None, {"type": None, "id": None})
    told, _ = changes(org, org.colleague)
    assert not [event for event in told if event["object"]["type"] == "account"]


def test_two_merges_of_the_same_records_at_once_come_to_one(org, pair):
    def one_way(records: tuple[dict, dict]) -> int:
        path = f"/v1/accounts/{records[0]['id']}/merge"
        with httpx2.Client(base_url=org.server.base_url, headers=org.manager.headers, timeout=30) as client:
            return client.post(path, json={"other_id": records[1]["id"]}).status_code

    with ThreadPoolExecutor(2) as pool:
        statuses = sorted(pool.map(one_way, [pair, pair[::-1]]))
    assert statuses[0] == 200
    assert statuses[1] in (404, 409, 422)
    assert len(org.rep.all("/v1/accounts")) == 1


def test_what_is_hidden_moves_and_is_not_counted_and_too_much_does_not_move(org, pair, monkeypatch):
    survivor, other = pair
    seen = org.rep.make("contacts", last_name="Seen", account_id=other["id"])
    grants = [(f"accounts:{action}", "all") for action in ("read", "update", "merge")]
    alone = org.person("alone", org.role("Accounts alone", *grants))
    path = f"/v1/accounts/{survivor['id']}/merge"
    told = alone.post(path, json={"other_id": other["id"]}, params={"dry_run": "true"})
    assert told.json()["moved"] == []
    with monkeypatch.context() as patch:
        patch.setattr(children, "MOST", 0)
        assert problem(org.manager.post(path, json={"other_id": other["id"]}), 409)["code"] == "limit_reached"
    merge(alone, survivor, other)
    assert get(org.rep, seen, "contacts")["account_id"] == survivor["id"]


def test_a_field_that_a_source_owns_is_not_filled_by_others(org, pair):
    survivor, other = pair
    owned = [{"resource": "accounts", "field": "industry"}]
    org.admin.make("sources", name="ERP", code="erp", owned_fields=owned)
    body = {"source": "erp", "external_id": "1"}
    assert org.rep.post(f"/v1/accounts/{survivor['id']}/link", json=body).status_code == 200
    path = f"/v1/accounts/{survivor['id']}/merge"
    assert problem(org.manager.post(path, json={"other_id": other["id"]}), 409)["code"] == "field_owned"
    merge(org.manager, survivor, other, fields={"industry": "survivor"})
    assert get(org.rep, survivor)["industry"] is None


def test_a_merge_has_a_place_in_a_batch_and_one_effect(org, pair):
    survivor, other = pair
    operations = [
        {"operation": "create_contact", "body": {"last_name": "New", "account_id": other["id"]}},
        {"operation": "merge_account", "id": survivor["id"], "body": {"other_id": other["id"]}},
    ]
    headers = {"Idempotency-Key": "merge"}
    first, again = (org.admin.post("/v1/batch", json={"operations": operations}, headers=headers) for _ in range(2))
    assert (first.status_code, again.status_code) == (200, 200), first.text
    contact = first.json()["results"][0]["body"]
    assert get(org.rep, contact, "contacts")["account_id"] == survivor["id"]
    assert again.headers["idempotency-replayed"] == "true"
    assert len(org.rep.get(f"/v1/accounts/{survivor['id']}/merges").json()["data"]) == 1
