"""Northwind Traders moves in: nine people, 91 customers, and each sees exactly what is theirs."""

import csv
import io
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.scenarios.northwind import FOLDER, SALES_MANAGER, VICE_PRESIDENT, Customer, Northwind
from tests.support.jobs import wait, working
from tests.support.org import MANAGER, REPRESENTATIVE, Org, Person

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the Northwind files are not in {FOLDER}")

EVERYONE = range(1, 10)
INVALID_PHONES = 43
"""Of the 91 phones of the file, those in no numbering plan of phonenumbers 9.0.43 (Mexican ones of 1996, say)."""


@dataclass
class World:
    """The files, and what the API made of them."""

    files: Northwind
    admin: Person
    people: dict[int, Person] = field(default_factory=dict)
    accounts: dict[str, str] = field(default_factory=dict)
    contacts: dict[str, str] = field(default_factory=dict)
    refused_phones: list[str] = field(default_factory=list)

    def codes(self, number: int, collection: str = "accounts", **params: Any) -> set[str]:
        """The customers that an employee's list shows, over all pages."""
        ids = self.accounts if collection == "accounts" else self.contacts
        code_of = {id_: code for code, id_ in ids.items()}
        return {code_of[row["id"]] for row in self.people[number].all(f"/v1/{collection}", **params)}

    def owned_by(self, number: int) -> str:
        """One customer that belongs to an employee."""
        return min(code for code, owner in self.files.owners.items() if owner == number)

    def explain(self, number: int, account: str, action: str = "read") -> tuple[bool, dict[str, bool]]:
        """Whether an employee may act on an account, and which rules say so."""
        answer = self.admin.get(
            "/v1/access/explain",
            params={"resource": "accounts", "id": account, "action": action, "principal": self.people[number].id},
        )
        assert answer.status_code == 200, answer.text
        body = answer.json()
        return body["allowed"], {rule["rule"]: rule["grants"] for rule in body["rules"]}


@pytest.fixture(scope="module")
def world(server):
    """A tenant with one administrator; everything else is made over HTTP."""
    world = World(Northwind(), Org.create(server).admin)
    roles = {role["name"]: role["id"] for role in world.admin.all("/v1/roles")}
    bosses_first = sorted(world.files.employees.values(), key=lambda employee: -len(world.files.tree(employee.number)))
    for employee in bosses_first:
        leads = len(world.files.tree(employee.number)) > 1
        world.people[employee.number] = _hire(world, server, employee, roles[MANAGER if leads else REPRESENTATIVE])
    for code, customer in world.files.customers.items():
        owner = world.people[world.files.owners[code]].id
        world.accounts[code] = _take_on(world, customer, owner)
        first, _, last = customer.contact.rpartition(" ")
        world.contacts[code] = world.admin.make(  # owned by the administrator: others see it by its account
            "contacts",
            first_name=first,
            last_name=last,
            title=customer.contact_title,
            account_id=world.accounts[code],
        )["id"]
    return world


def _hire(world: World, server, employee, role: str) -> Person:
    boss = world.people[employee.reports_to].id if employee.reports_to else None
    user = world.admin.make(
        "users",
        name=employee.name,
        email=f"{employee.first_name}.{employee.last_name}@northwind.example.com".lower(),
        title=employee.title,
        manager_id=boss,
    )
    world.admin.make("role_assignments", principal_id=user["id"], role_id=role)
    issued = world.admin.post(f"/v1/users/{user['id']}/issue_key", json={"name": "laptop"})
    assert issued.status_code == 201, issued.text
    return Person(server, user["id"], issued.json()["key"])


def _take_on(world: World, customer: Customer, owner: str) -> str:
    values = {
        "name": customer.company,
        "type": "customer",
        "owner_id": owner,
        "source": f"northwind:{customer.code}",
        "addresses": [
            {
                "line1": customer.street,
                "city": customer.city,
                "region": customer.region,
                "postal_code": customer.postal_code,
                "country": customer.country,
                "is_primary": True,
            }
        ],
    }
    phone = {"number": customer.phone, "country": customer.country, "is_primary": True}
    answer = world.admin.post("/v1/accounts", json={**values, "phones": [phone]})
    if answer.status_code == 422:
        faults = [(fault["pointer"], fault["code"]) for fault in answer.json()["errors"]]
        assert faults == [("/phones/0", "invalid_phone")], answer.text
        world.refused_phones.append(customer.code)
        answer = world.admin.post("/v1/accounts", json=values)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def test_the_files_are_whole(world):
    files = world.files
    assert (len(files.employees), len(files.customers), len(world.accounts), len(world.contacts)) == (9, 91, 91, 91)
    assert files.tree(SALES_MANAGER) == {5, 6, 7, 9}
    assert files.tree(VICE_PRESIDENT) == set(EVERYONE)
    assert {code for code in ("FISSA", "PARIS") if files.owners[code] == VICE_PRESIDENT} == {"FISSA", "PARIS"}


def test_the_tree_of_employees_is_the_one_of_the_file(world):
    number_of = {person.id: number for number, person in world.people.items()}
    users = world.admin.all("/v1/users", email_contains="@northwind.example.com")
    found = {number_of[user["id"]]: number_of.get(user["manager_id"]) for user in users}
    assert found == {number: employee.reports_to for number, employee in world.files.employees.items()}


def test_phones_are_kept_in_e164_and_impossible_ones_were_refused(world):
    rows = world.people[VICE_PRESIDENT].all("/v1/accounts", limit=200)
    code_of = {id_: code for code, id_ in world.accounts.items()}
    numbers = {code_of[row["id"]]: [phone["number"] for phone in row["phones"]] for row in rows}
    assert sorted(code for code, found in numbers.items() if not found) == sorted(world.refused_phones)
    assert len(world.refused_phones) == INVALID_PHONES
    assert numbers["ALFKI"] == ["+49300074321"]
    found = world.people[VICE_PRESIDENT].all("/v1/accounts", phones="+49300074321")
    assert [code_of[row["id"]] for row in found] == ["ALFKI"]


def test_the_vice_president_sees_everything(world):
    assert world.codes(VICE_PRESIDENT) == set(world.files.customers)
    assert world.codes(VICE_PRESIDENT, "contacts") == set(world.files.customers)


@pytest.mark.parametrize("number", EVERYONE)
def test_everyone_sees_exactly_their_tree(world, number):
    expected = world.files.seen_by(number)
    assert expected, "an employee without customers would prove nothing"
    assert world.codes(number, limit=20, sort="name") == expected
    hidden = next((code for code in sorted(world.accounts) if code not in expected), None)
    if hidden:
        assert world.people[number].get(f"/v1/accounts/{world.accounts[hidden]}").status_code == 404


@pytest.mark.parametrize("number", EVERYONE)
def test_contacts_are_seen_with_their_account(world, number):
    assert world.codes(number, "contacts") == world.files.seen_by(number)


@pytest.mark.parametrize("number", EVERYONE)
def test_counts_and_aggregates_agree_with_the_file(world, number):
    person, expected = world.people[number], world.files.by_country(number)
    page = person.get("/v1/accounts", params={"count": "exact", "limit": 1}).json()
    assert page["count"] == {"value": sum(expected.values()), "relation": "eq"}
    answer = person.post(
        "/v1/accounts/aggregate", json={"group_by": ["country"], "measures": [{"op": "count"}], "limit": 1000}
    )
    assert answer.status_code == 200, answer.text
    assert {row["group"]["country"]: row["measures"][0] for row in answer.json()["data"]} == expected
    for country, count in expected.items():
        page = person.get("/v1/accounts", params={"country": country, "count": "exact", "limit": 1}).json()
        assert page["count"]["value"] == count


def test_everyone_exports_their_customers(world):
    with working(world.admin.server):
        for number in (VICE_PRESIDENT, SALES_MANAGER, 1):
            person = world.people[number]
            job = person.post("/v1/exports", json={"resource": "accounts", "fields": ["id", "name"]}).json()
            assert wait(person, job)["result"]["rows"] == len(world.codes(number))
            text = person.get(f"/v1/exports/{job['id']}/content").content.decode()
            rows = {row["id"]: row["name"] for row in csv.DictReader(io.StringIO(text, newline=""))}
            assert rows == {row["id"]: row["name"] for row in person.all("/v1/accounts")}


def test_search_finds_a_fragment_and_ignores_accents(world):
    everyone = {number: world.people[number] for number in EVERYONE}
    for text, code in (("kenvers", "FRANK"), ("taqueria", "ANTON"), ("SNABBKOP", "BERGS")):
        for number, person in everyone.items():
            found = [row["name"] for row in person.get("/v1/accounts", params={"q": text}).json()["data"]]
            visible = code in world.files.seen_by(number)
            assert found == ([world.files.customers[code].company] if visible else []), (text, number)


def test_a_share_opens_one_more_until_it_ends(world):
    suyama, code = world.people[6], world.owned_by(1)
    account, own = world.accounts[code], world.files.seen_by(6)
    assert world.codes(6) == own
    ends = datetime.now(UTC) + timedelta(seconds=1.5)
    shared = world.people[VICE_PRESIDENT].post(
        f"/v1/accounts/{account}/share",
        json={
            "grantee_type": "user",
            "grantee_id": suyama.id,
            "expires_at": ends.isoformat(),
            "cause": "holiday cover",
        },
    )
    assert shared.status_code == 201, shared.text
    assert world.codes(6) == own | {code}
    assert world.codes(6, "contacts") == own | {code}
    assert suyama.patch(f"/v1/accounts/{account}", json={"description": "mine"}).status_code == 403
    allowed, rules = world.explain(6, account)
    assert allowed
    assert (rules["share"], rules["reach:own"]) == (True, False)
    assert world.codes(8) == world.files.seen_by(8), "a share to one is no share to others"

    time.sleep(max(0.0, (ends - datetime.now(UTC)).total_seconds()) + 0.1)
    assert world.codes(6) == own
    assert world.codes(6, "contacts") == own
    assert suyama.get(f"/v1/accounts/{account}").status_code == 404
    assert world.explain(6, account)[0] is False


def test_explain_names_the_rule_or_denies(world):
    account = world.accounts[world.owned_by(7)]
    allowed, rules = world.explain(7, account)
    assert allowed
    assert (rules["permission"], rules["reach:own"]) == (True, True)
    for boss in (SALES_MANAGER, VICE_PRESIDENT):
        allowed, rules = world.explain(boss, account)
        assert allowed
        assert rules["reach:subordinates"]
    allowed, rules = world.explain(4, account)
    assert not allowed
    assert rules["permission"]
    assert not any(grants for rule, grants in rules.items() if rule != "permission")
    assert world.explain(7, account, "transfer")[1]["permission"] is False, "a representative's role has no transfer"
    assert world.people[4].get("/v1/access/explain", params={"resource": "accounts", "id": account}).status_code == 404


def test_expand_brings_owner_and_parent_as_far_as_they_may_be_seen(world):
    child, parent = world.owned_by(3), world.owned_by(4)
    changed = world.people[VICE_PRESIDENT].patch(
        f"/v1/accounts/{world.accounts[child]}", json={"parent_id": world.accounts[parent]}
    )
    assert changed.status_code == 200, changed.text
    try:
        params = {"expand": "owner,parent"}
        path = f"/v1/accounts/{world.accounts[child]}"
        seen = world.people[VICE_PRESIDENT].get(path, params=params).json()
        assert (seen["owner"]["object"], seen["owner"]["name"]) == ("principal", world.files.employees[3].name)
        assert seen["parent"]["name"] == world.files.customers[parent].company
        listed = world.people[VICE_PRESIDENT].all("/v1/accounts", expand="owner,parent")
        assert [row for row in listed if row["id"] == seen["id"]] == [seen]
        assert {row["owner"]["name"] for row in listed} == {
            world.files.employees[number].name for number in world.files.owners.values()
        }
        narrow = world.people[3].get(path, params=params).json()
        assert narrow["owner"] == seen["owner"]
        assert narrow["parent"] == {"id": world.accounts[parent], "object": "account", "redacted": True}
    finally:
        world.admin.patch(f"/v1/accounts/{world.accounts[child]}", json={"parent_id": None})


def test_a_transfer_moves_the_account_with_its_contact(world):
    code = world.owned_by(9)
    account, giver, taker = world.accounts[code], world.people[9], world.people[8]
    refused = giver.patch(f"/v1/accounts/{account}", json={"owner_id": taker.id})
    assert (refused.status_code, refused.json()["permission"]) == (403, "accounts:transfer")
    assert code in world.codes(9)

    moved = world.people[VICE_PRESIDENT].patch(f"/v1/accounts/{account}", json={"owner_id": taker.id})
    assert moved.status_code == 200, moved.text
    try:
        for collection in ("accounts", "contacts"):
            assert world.codes(9, collection) == world.files.seen_by(9) - {code}
            assert world.codes(SALES_MANAGER, collection) == world.files.seen_by(SALES_MANAGER) - {code}
            assert world.codes(8, collection) == world.files.seen_by(8) | {code}
            assert world.codes(VICE_PRESIDENT, collection) == set(world.files.customers)
    finally:
        back = world.people[VICE_PRESIDENT].patch(f"/v1/accounts/{account}", json={"owner_id": giver.id})
    assert back.status_code == 200, back.text
    assert world.codes(9) == world.files.seen_by(9)


def test_a_manager_leaves_the_tree_and_sight_goes_with_it(world):
    buchanan, dodsworth = world.people[SALES_MANAGER], world.people[9]
    assert world.codes(SALES_MANAGER) == world.files.seen_by(SALES_MANAGER)
    moved = world.admin.patch(f"/v1/users/{dodsworth.id}", json={"manager_id": world.people[VICE_PRESIDENT].id})
    assert moved.status_code == 200, moved.text
    try:
        assert world.codes(SALES_MANAGER) == world.files.seen_by(SALES_MANAGER) - world.files.seen_by(9)
    finally:
        world.admin.patch(f"/v1/users/{dodsworth.id}", json={"manager_id": buchanan.id})
    assert world.codes(SALES_MANAGER) == world.files.seen_by(SALES_MANAGER)
