"""The log of consents: only added to, with what holds now beside it."""

import pytest

from tests.privacy.conftest import someone
from tests.support.examples import attach
from tests.support.org import Org
from tests.support.problems import problem


def say(person, status="granted", day=1, **values):
    said = {"purpose": "newsletter", "status": status, "at": f"2026-01-{day:02}T00:00:00Z", **values}
    return person.make("consents", **said)


def test_the_newest_entry_of_each_purpose_and_channel_holds(org):
    contact = someone(org.rep)["id"]
    say(org.rep, "granted", 3, contact_id=contact, channel="email", evidence="Signed.", source="fair")
    say(org.rep, "withdrawn", 5, contact_id=contact, channel="email")
    late = say(org.rep, "granted", 4, contact_id=contact, channel="email")  # told later, but said earlier
    say(org.rep, "granted", 1, contact_id=contact, channel="phone")
    say(org.rep, "granted", 1, contact_id=contact, purpose="survey", basis="legitimate_interests")
    log = org.rep.all(f"/v1/contacts/{contact}/consents", sort="-at")
    assert [entry["at"][8:10] for entry in log] == ["05", "04", "03", "01", "01"]
    assert late in log
    states = org.rep.get("/v1/consent_states", params={"contact_id": contact}).json()["data"]
    assert {(s["purpose"], s["channel"]): s["status"] for s in states} == {
        ("newsletter", "email"): "withdrawn",
        ("newsletter", "phone"): "granted",
        ("survey", "any"): "granted",
    }
    granted = org.rep.get("/v1/consent_states", params={"purpose": "newsletter", "status": "granted"}).json()
    assert [(s["contact_id"], s["channel"]) for s in granted["data"]] == [(contact, "phone")]
    withdrawn = org.rep.all("/v1/consents", contact_id=contact, status="withdrawn")
    assert len(withdrawn) == 1


def test_pages_of_states_are_complete_and_bound_to_their_caller(org):
    people = [someone(org.rep)["id"] for _ in range(3)]
    for contact in people:
        for channel in ("email", "phone"):
            say(org.rep, contact_id=contact, channel=channel)
    found, cursor = [], None
    while True:
        params = {"limit": 4, **({"cursor": cursor} if cursor else {})}
        page = org.rep.get("/v1/consent_states", params=params).json()
        found += [(s["contact_id"], s["channel"]) for s in page["data"]]
        if page["next_cursor"] is None:
            break
        cursor = page["next_cursor"]
    assert found == [(contact, channel) for contact in sorted(people) for channel in ("email", "phone")]
    problem(org.admin.get("/v1/consent_states", params={"limit": 4, "cursor": cursor}), 400)
    problem(org.rep.get("/v1/consent_states", params={"status": "granted", "cursor": cursor}), 400)
    problem(org.rep.get("/v1/consent_states", params={"status": "maybe"}), 422)


def test_they_are_open_as_their_person_is(org):
    contact, lead = someone(org.rep)["id"], org.rep.make("leads", last_name="Doe")["id"]
    mine = [say(org.rep, contact_id=contact), say(org.rep, lead_id=lead)]
    for person, seen in ((org.manager, 2), (org.admin, 2), (org.reader, 2), (org.outsider, 0), (org.colleague, 0)):
        assert len(person.all("/v1/consents")) == seen, person.id
        assert len(person.get("/v1/consent_states").json()["data"]) == seen
    problem(org.outsider.get(f"/v1/consents/{mine[0]['id']}"), 404)
    said = {"purpose": "newsletter", "status": "granted", "at": "2026-01-01T00:00:00Z"}
    problem(org.outsider.post("/v1/consents", json={**said, "contact_id": contact}), 422)
    problem(org.reader.post("/v1/consents", json={**said, "contact_id": contact}), 403)


def test_nothing_that_was_said_is_changed(org):
    entry = say(org.rep, contact_id=someone(org.rep)["id"])
    for method in ("PATCH", "DELETE", "PUT"):
        assert org.admin.request(method, f"/v1/consents/{entry['id']}", json={"status": "withdrawn"}).status_code == 405


@pytest.mark.parametrize(
    "body",
    [
        {"purpose": "News letter"},
        {"status": "denied"},
        {"basis": "curiosity"},
        {"channel": "pigeon"},
        {"at": "yesterday"},
        {"contact_id": None},
        {"lead_id": "019aa1d1-0000-7000-8000-0000000000ff"},
        {"file_id": "019aa1d1-0000-7000-8000-0000000000ff"},
        {"evidence": ""},
    ],
)
def test_bad_entries_are_refused(shared_org, body):
    contact = someone(shared_org.admin)["id"]
    said = {"contact_id": contact, "purpose": "newsletter", "status": "granted", "at": "2026-01-01T00:00:00Z"}
    problem(shared_org.admin.post("/v1/consents", json={**said, **body}), 422)
    assert shared_org.admin.all("/v1/consents", contact_id=contact) == []


def test_a_merge_takes_them_along_and_a_file_shows_them(org, server):
    one, two = someone(org.admin)["id"], someone(org.admin)["id"]
    proof = attach(org.admin, "contact", two, "form.txt", b"signed")
    entry = say(org.admin, contact_id=two, file_id=proof["id"])
    say(org.admin, "withdrawn", 9, contact_id=one)
    assert org.admin.post(f"/v1/contacts/{one}/merge", json={"other_id": two}).status_code == 200
    log = org.admin.all(f"/v1/contacts/{one}/consents")
    assert {item["id"] for item in log} >= {entry["id"]}
    (state,) = org.admin.get("/v1/consent_states", params={"contact_id": one}).json()["data"]
    assert state["status"] == "withdrawn"
    other = someone(Org.create(server).admin)["id"]
    said = {"purpose": "newsletter", "status": "granted", "at": "2026-01-01T00:00:00Z"}
    problem(org.admin.post("/v1/consents", json={**said, "contact_id": other}), 422)
