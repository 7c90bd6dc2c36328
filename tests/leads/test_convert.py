"""Leads: their graph, and what a conversion makes, refuses and tells."""

import asyncio
import itertools

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from crm_api.domains.leads.lead import LIFECYCLE
from tests.support.asking import code, fault
from tests.support.org import Org

_numbers = itertools.count(1)
BODIES = {"disqualify": {"reason": "No budget"}, "convert": {}}


def lead(person, **values) -> dict:
    n = next(_numbers)
    return person.make("leads", **{"last_name": f"Zuse {n}", "company": f"Zuse {n} KG", **values})


def qualified(person, **values) -> dict:
    made = lead(person, **values)
    for verb in ("work", "qualify"):
        answer = person.post(f"/v1/leads/{made['id']}/{verb}")
        assert answer.status_code == 200, answer.text
    return answer.json()


def convert(person, made, **body):
    return person.post(f"/v1/leads/{made['id']}/convert", json=body)


def numbers(org) -> list[int]:
    """How many accounts and contacts there are."""
    return [
        org.admin.get(f"/v1/{plural}", params={"count": "exact", "limit": 1}).json()["count"]["value"]
        for plural in ("accounts", "contacts")
    ]


@pytest.fixture(scope="module")
def firm(server) -> Org:
    return Org.create(server)


@settings(max_examples=12, deadline=None)
@given(walk=st.lists(st.sampled_from([edge.verb for edge in LIFECYCLE.edges]), max_size=9))
def test_a_walk_never_leaves_the_graph(firm, walk):
    made, state, recycled = lead(firm.admin), "new", 0
    for verb in walk:
        edge = LIFECYCLE.edge(verb)
        answer = firm.admin.post(f"/v1/leads/{made['id']}/{verb}", json=BODIES.get(verb))
        if state in edge.sources:
            assert answer.status_code == 200, answer.text
            state = edge.target
            recycled += verb == "recycle"
        else:
            assert code(answer) == (409, "transition_refused")
        now = firm.admin.get(f"/v1/leads/{made['id']}").json()
        assert (now["status"], now["recycle_count"]) == (state, recycled)
        assert (now["disqualified_reason"] is not None) == (state == "disqualified")
        assert (now["converted_account_id"] is not None) == (now["converted_at"] is not None) == (state == "converted")
        offered = firm.admin.get(f"/v1/leads/{made['id']}/transitions").json()["data"]
        assert {item["action"] for item in offered if item["allowed"]} == {
            edge.verb for edge in LIFECYCLE.edges if state in edge.sources
        }


def test_a_lead_is_a_person_or_a_company(firm):
    rep = firm.rep
    refused = rep.post("/v1/leads", json={"first_name": "Ada"})
    assert (code(refused), fault(refused)) == ((422, "invalid"), [("/last_name", "required"), ("/company", "required")])
    made = rep.make("leads", company="Only")
    assert fault(rep.patch(f"/v1/leads/{made['id']}", json={"company": None})) == [("/company", "required")]
    both = {"company": None, "last_name": "Now a person"}
    assert rep.patch(f"/v1/leads/{made['id']}", json=both).status_code == 200
    for bad in (
        {"score": 101},
        {"score": -1},
        {"utm": {"sauce": "x"}},
        {"utm": {"term": "x" * 201}},
        {"status": "new"},
    ):
        assert rep.post("/v1/leads", json={"company": "X", **bad}).status_code == 422, bad


def test_a_conversion_makes_account_and_contact_of_what_the_lead_says(firm):
    made = qualified(
        firm.rep,
        first_name="Konrad",
        website="https://zuse.example",
        country="DE",
        source="Fair",
        language="de",
        tags=["computers"],
        emails=[{"address": "konrad@zuse.example"}],
        phones=[{"number": "030 123456", "country": "DE"}],
        utm={"source": "news", "term": "relays"},
    )
    done = convert(firm.rep, made)
    assert done.status_code == 200, done.text
    now = done.json()
    assert (now["status"], now["version"]) == ("converted", made["version"] + 1)
    account = firm.rep.get(f"/v1/accounts/{now['converted_account_id']}").json()
    contact = firm.rep.get(f"/v1/contacts/{now['converted_contact_id']}").json()
    assert (account["name"], account["domain"], account["country"]) == (made["company"], "zuse.example", "DE")
    assert (account["emails"], account["source"], account["tags"]) == ([], "Fair", ["computers"])
    assert (contact["first_name"], contact["last_name"]) == ("Konrad", made["last_name"])
    assert (contact["account_id"], contact["emails"]) == (account["id"], made["emails"])
    assert (contact["phones"], contact["language"]) == (made["phones"], "de")
    assert account["owner_id"] == contact["owner_id"] == firm.rep.id
    assert code(convert(firm.rep, made)) == (409, "transition_refused")
    listed = firm.rep.all("/v1/leads", converted_account_id=account["id"])
    assert [row["id"] for row in listed] == [made["id"]]


def test_a_company_alone_has_no_contact_and_a_person_alone_an_account_of_the_name(firm):
    company = convert(firm.rep, qualified(firm.rep, last_name=None, emails=[{"address": "hq@zuse.example"}])).json()
    assert company["converted_contact_id"] is None
    emails = firm.rep.get(f"/v1/accounts/{company['converted_account_id']}").json()["emails"]
    assert [item["address"] for item in emails] == ["hq@zuse.example"]
    person = convert(firm.rep, qualified(firm.rep, company=None, first_name="Ada", last_name="Byron")).json()
    assert firm.rep.get(f"/v1/accounts/{person['converted_account_id']}").json()["name"] == "Ada Byron"


def test_a_conversion_takes_records_that_are_there(firm):
    account = firm.rep.make("accounts", name="There")
    contact = firm.rep.make("contacts", last_name="There", account_id=account["id"])
    before = numbers(firm)
    made = qualified(firm.rep)
    now = convert(firm.rep, made, account={"id": account["id"]}, contact={"id": contact["id"]}).json()
    assert (now["converted_account_id"], now["converted_contact_id"]) == (account["id"], contact["id"])
    assert numbers(firm) == before
    firm.admin.make("sources", name="ERP", code="erp")
    firm.admin.post(f"/v1/accounts/{account['id']}/link", json={"source": "erp", "external_id": "1"})
    now = convert(firm.rep, qualified(firm.rep), account={"id": "ext:erp:1"}).json()
    assert now["converted_account_id"] == account["id"]
    assert numbers(firm) == [before[0], before[1] + 1]


def test_what_is_refused_leaves_nothing(firm):
    rep, before = firm.rep, numbers(firm)
    for pipeline in firm.admin.all("/v1/pipelines"):
        assert firm.admin.delete(f"/v1/pipelines/{pipeline['id']}").status_code == 204
    hidden = firm.outsider.make("accounts", name="Hidden")
    theirs = firm.outsider.make("contacts", last_name="Hidden")
    blocked = rep.make("accounts", name="Blocked")
    assert firm.admin.post(f"/v1/accounts/{blocked['id']}/block", json={"reason": "Debt"}).status_code == 200
    nobody = "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"
    made, expected = qualified(rep), [before[0] + 2, before[1] + 1]
    for body, status, pointer, name in (
        ({"account": {"id": hidden["id"]}}, 422, "/account/id", "reference_not_found"),
        ({"account": {"id": nobody}}, 422, "/account/id", "reference_not_found"),
        ({"contact": {"id": theirs["id"]}}, 422, "/contact/id", "reference_not_found"),
        ({"account": {"id": "ext:erp:none"}}, 422, "/account/id", "reference_not_found"),
        ({"account": {"id": blocked["id"]}}, 409, "/account/id", "account_blocked"),
        ({"owner_id": nobody}, 422, "/owner_id", "reference_not_found"),
        ({"account": {"id": "x"}}, 422, "/account/id", "invalid"),
        ({"opportunity": {}}, 422, "/opportunity/pipeline_id", "no_stage"),
        ({"opportunity": {"pipeline_id": nobody}}, 422, "/opportunity/pipeline_id", "reference_not_found"),
        ({"opportunity": {"stage_id": nobody}}, 422, "/opportunity/stage_id", "invalid"),
    ):
        answer = convert(rep, made, **body)
        assert answer.status_code == status, (body, answer.text)
        assert fault(answer)[0][0] == pointer, body
        assert name == "invalid" or fault(answer)[0][1] == name, body
        assert numbers(firm) == expected, body
    assert code(convert(rep, lead(rep))) == (409, "transition_refused")
    assert rep.get(f"/v1/leads/{made['id']}").json() == made
    dry = rep.post(f"/v1/leads/{made['id']}/convert", json={}, params={"dry_run": "true"})
    assert (dry.status_code, numbers(firm)) == (200, expected)


def test_an_opportunity_is_made_with_the_estimate_unless_told(server):
    firm = Org.create(server)
    pipeline = firm.admin.make("pipelines", name="Sales")
    assert firm.admin.post(f"/v1/pipelines/{pipeline['id']}/make_default").status_code == 200
    stage = firm.admin.make("stages", pipeline_id=pipeline["id"], name="First", code="first", position=1)
    made = qualified(firm.rep, estimate="1234.50", currency="EUR", tags=["a"])
    now = convert(firm.rep, made, opportunity={}).json()
    found = firm.rep.get(f"/v1/opportunities/{now['converted_opportunity_id']}").json()
    assert (found["name"], found["amount"], found["currency"]) == (made["company"], "1234.50", "EUR")
    assert (found["stage_id"], found["owner_id"]) == (stage["id"], firm.rep.id)
    assert found["account_id"] == now["converted_account_id"]
    assert found["contact_id"] == now["converted_contact_id"]
    told = {"name": "Fleet", "amount": "9.99", "currency": "USD", "close_date": "2027-03-31"}
    account = {"id": now["converted_account_id"]}
    now = convert(firm.rep, qualified(firm.rep, estimate="1.00"), account=account, opportunity=told).json()
    found = firm.rep.get(f"/v1/opportunities/{now['converted_opportunity_id']}").json()
    assert {name: found[name] for name in told} == told
    assert found["account_id"] == account["id"]
    grants = [(f"{name}:*", "all") for name in ("leads", "accounts", "contacts")]
    other = firm.person("other", firm.role("No opportunities", *grants))
    before, open_ = numbers(firm), qualified(firm.rep)
    refused = convert(other, open_, opportunity={})
    assert (refused.status_code, refused.json()["permission"]) == (403, "opportunities:create")
    assert numbers(firm) == before
    assert convert(other, open_).json()["converted_opportunity_id"] is None


def test_a_contact_that_is_refused_leaves_no_account(server):
    firm = Org.create(server)
    rep = firm.rep
    rep.make("contacts", last_name="Twin", emails=[{"address": "twin@zuse.example"}])
    firm.admin.make("duplicate_checks", resource="contacts", on_create="refuse", score=80)
    made, before = qualified(rep, emails=[{"address": "twin@zuse.example"}]), numbers(firm)
    refused = convert(rep, made)
    assert code(refused) == (409, "duplicate_suspected")
    assert (numbers(firm), rep.get(f"/v1/leads/{made['id']}").json()) == (before, made)
    assert convert(rep, made, allow_duplicate=True).status_code == 200
    assert numbers(firm) == [before[0] + 1, before[1] + 1]


def test_it_takes_the_rights_to_make_what_is_missing(firm):
    grants = [(f"leads:{verb}", "all") for verb in ("read", "create", "work", "qualify", "convert")]
    accounts = [*grants, ("accounts:read", "all"), ("accounts:create", "all")]
    only = firm.person("only_converter", firm.role("Converts only", *grants))
    half = firm.person("half", firm.role("Makes accounts", *accounts))
    made, before = qualified(firm.rep), numbers(firm)
    for person, missing in ((only, "accounts:create"), (half, "contacts:create")):
        refused = convert(person, made)
        assert (refused.status_code, refused.json()["permission"]) == (403, missing)
    assert numbers(firm) == before
    bounded = httpx2.Client(
        base_url=firm.server.base_url,
        headers={"Authorization": f"Bearer {_key(firm, ['leads:read', 'leads:write', 'accounts:write'])}"},
    )
    with bounded:
        answer = bounded.post(f"/v1/leads/{made['id']}/convert", json={})
        assert (answer.status_code, answer.json()["permission"]) == (403, "scope contacts:write")
        found = bounded.get(f"/v1/leads/{made['id']}/match_candidates").json()
        assert (found["accounts"], found["contacts"]) == ([], [])
    assert numbers(firm) == before
    assert code(convert(firm.outsider, made)) == (404, "not_found")
    assert code(convert(firm.reader, made)) == (403, "forbidden")


def _key(firm, scopes) -> str:
    answer = firm.admin.post(f"/v1/users/{firm.rep.id}/issue_key", json={"name": "bounded", "scopes": scopes})
    assert answer.status_code in (200, 201), answer.text
    return answer.json()["key"]


def test_what_is_hidden_on_the_lead_goes_nowhere(firm):
    grants = [(f"{name}:*", "all") for name in ("leads", "accounts", "contacts")]
    rules = [{"resource": "leads", "field": name, "rule": "hidden"} for name in ("emails", "website", "phones")]
    blind = firm.person("blind", firm.role("Blind", *grants, field_rules=rules))
    known = firm.admin.make("contacts", last_name="Known", emails=[{"address": "secret@zuse.example"}])
    made = qualified(firm.admin, emails=[{"address": "secret@zuse.example"}], website="https://secret.example")
    seeing = firm.admin.get(f"/v1/leads/{made['id']}/match_candidates").json()["contacts"]
    assert [item["record"]["id"] for item in seeing] == [known["id"]]
    assert blind.get(f"/v1/leads/{made['id']}/match_candidates").json()["contacts"] == []
    now = convert(blind, made).json()
    assert blind.get(f"/v1/contacts/{now['converted_contact_id']}").json()["emails"] == []
    assert blind.get(f"/v1/accounts/{now['converted_account_id']}").json()["website"] is None


def test_of_two_conversions_at_once_one_is_done(firm):
    made, before = qualified(firm.rep), numbers(firm)

    async def both():
        asked = (asyncio.to_thread(convert, person, made) for person in (firm.rep, firm.admin))
        return await asyncio.gather(*asked)

    answers = asyncio.run(both())
    assert sorted(answer.status_code for answer in answers) == [200, 409]
    assert numbers(firm) == [before[0] + 1, before[1] + 1]


def test_a_retried_conversion_is_done_once(firm):
    made, before = qualified(firm.rep), numbers(firm)
    key = {"Idempotency-Key": f"convert-{made['id']}"}
    first, second = (firm.rep.post(f"/v1/leads/{made['id']}/convert", json={}, headers=key) for _ in range(2))
    assert (first.status_code, second.status_code, first.json()) == (200, 200, second.json())
    assert second.headers["idempotency-replayed"] == "true"
    assert numbers(firm) == [before[0] + 1, before[1] + 1]


def test_candidates_are_those_that_the_caller_sees(server):
    firm = Org.create(server)
    theirs = firm.outsider.make("accounts", name="Analytical Engines")
    mine = firm.rep.make("accounts", name="Analytical Engines Ltd")
    ada = firm.rep.make("contacts", first_name="Ada", last_name="Byron", account_id=mine["id"])
    firm.outsider.make("contacts", first_name="Ada", last_name="Byron", account_id=theirs["id"])
    made = firm.rep.make("leads", first_name="Ada", last_name="Byron", company="analytical engines")
    found = firm.rep.get(f"/v1/leads/{made['id']}/match_candidates").json()
    assert [item["record"]["id"] for item in found["accounts"]] == [mine["id"]]
    assert [(item["record"]["id"], item["rules"]) for item in found["contacts"]] == [(ada["id"], ["name"])]
    whole = firm.admin.get(f"/v1/leads/{made['id']}/match_candidates").json()
    assert {item["record"]["id"] for item in whole["accounts"]} == {mine["id"], theirs["id"]}
    nobody = firm.rep.make("leads", company="Nothing like it")
    empty = firm.rep.get(f"/v1/leads/{nobody['id']}/match_candidates").json()
    assert (empty["accounts"], empty["contacts"]) == ([], [])
    assert code(firm.outsider.get(f"/v1/leads/{made['id']}/match_candidates")) == (404, "not_found")


def test_transitions_tell_what_a_conversion_lacks(firm):
    role = firm.role("Converter", ("leads:read", "all"), ("leads:convert", "all"), ("contacts:create", "all"))
    person = firm.person("half_a_converter", role)
    made = qualified(firm.admin)

    def told() -> tuple[bool, list[str]]:
        rows = person.get(f"/v1/leads/{made['id']}/transitions").json()["data"]
        (row,) = [row for row in rows if row["action"] == "convert"]
        return row["allowed"], [block["detail"] for block in row["blocked_by"]]

    before = numbers(firm)
    assert told() == (False, ["This needs the permission accounts:create."])
    refused = convert(person, made)
    assert (refused.status_code, refused.json()["detail"]) == (403, told()[1][0])
    grants = [{"permission": name, "reach": "all"} for name in ("leads:read", "leads:convert")]
    creates = [{"permission": f"{name}:create", "reach": "all"} for name in ("accounts", "contacts")]
    assert firm.admin.patch(f"/v1/roles/{role}", json={"permissions": grants + creates}).status_code == 200
    assert (told(), numbers(firm)) == ((True, []), before)
