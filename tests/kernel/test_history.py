"""A record as of an instant is what a GET answered then: random edits by several people, replayed."""

from datetime import UTC, datetime

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.jobs import wait, working
from tests.support.problems import problem

EDIT = st.one_of(
    st.builds(lambda name: {"name": name}, st.sampled_from(["Ash", "Birch", "Cedar"])),
    st.builds(lambda money: {"annual_revenue": money}, st.sampled_from([None, "1.5", "9000000"])),
    st.builds(lambda tier, tags: {"tier": tier, "habits": tags}, st.sampled_from(["A", None]), st.lists(st.just("x"))),
    st.sampled_from(["delete", "restore", "owner"]),
)


def now() -> str:
    return datetime.now(UTC).isoformat()


def read(person, path, **query):
    answer = person.get(path, params=query)
    assert answer.status_code in (200, 404), answer.text
    return answer.json() if answer.status_code == 200 else None


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(edits=st.lists(st.tuples(EDIT, st.booleans()), max_size=8))
def test_each_answer_comes_back(shared_org, edits):
    org = shared_org
    before = now()
    account = org.rep.make("accounts", name="Oak", annual_revenue="100")
    path = f"/v1/accounts/{account['id']}"
    seen = [(before, None), (now(), read(org.admin, path))]
    for edit, by_manager in edits:
        person = org.manager if by_manager else org.admin
        if edit == "delete":
            answer = person.delete(path)
        elif edit == "restore":
            answer = person.post(f"{path}/restore")
        elif edit == "owner":
            answer = person.patch(path, json={"owner_id": org.colleague.id})
        else:
            answer = person.patch(path, json=edit)
        assert answer.status_code in (200, 204, 404), answer.text
        seen.append((now(), read(org.admin, path)))
    for instant, item in seen:
        assert read(org.admin, path, as_of=instant) == item


def test_rights_are_those_of_now(org):
    account = org.rep.make("accounts", name="Oak")
    path, then = f"/v1/accounts/{account['id']}", now()
    assert read(org.rep, path, as_of=then)["name"] == "Oak"
    assert read(org.outsider, path, as_of=then) is None
    assert org.admin.patch(path, json={"owner_id": org.outsider.id}).status_code == 200
    assert read(org.rep, path, as_of=then) is None
    assert read(org.outsider, path, as_of=then)["owner_id"] == org.rep.id


@pytest.mark.parametrize("text", ["", "yesterday", "2026-01-01", "2026-01-01T00:00:00", "9998-01-01T00:00:00Z"])
def test_an_instant_that_has_passed(org, text):
    account = org.rep.make("accounts", name="Oak")
    problem(org.rep.get(f"/v1/accounts/{account['id']}", params={"as_of": text}), 422)


def test_what_was_merged_or_deleted_is_as_it_was_until_then(org):
    one, other = (org.admin.make("accounts", name=name) for name in ("Oak", "Ash"))
    then = now()
    answer = org.admin.post(
        f"/v1/accounts/{one['id']}/merge", json={"other_id": other["id"], "fields": {"name": "other"}}
    )
    assert answer.status_code == 200, answer.text
    after = now()
    assert read(org.admin, f"/v1/accounts/{other['id']}", as_of=then) == other
    assert read(org.admin, f"/v1/accounts/{one['id']}", as_of=then) == one
    assert read(org.admin, f"/v1/accounts/{one['id']}", as_of=after)["name"] == "Ash"
    gone = org.admin.get(f"/v1/accounts/{other['id']}", params={"as_of": after}, follow_redirects=False)
    assert gone.status_code in (308, 404)


def test_custom_fields_and_what_is_hidden(org):
    for key in ("open", "secret"):
        org.admin.make("custom_fields", resource="accounts", key=key, kind="text", label=key)
    account = org.admin.make("accounts", name="Oak", tier="A", custom={"open": "a", "secret": "hush"})
    path, then = f"/v1/accounts/{account['id']}", now()
    org.admin.patch(path, json={"custom": {"open": "b", "secret": None}, "tier": "B"})
    assert read(org.admin, path, as_of=then) == account
    rules = [{"resource": "accounts", "field": field, "rule": "hidden"} for field in ("tier", "custom.secret")]
    blind = org.person("blind", org.role("blind", ("accounts:read", "all"), field_rules=rules))
    seen = read(blind, path, as_of=then)
    assert (seen["tier"], seen["custom"], seen["redacted"]) == (None, {"open": "a"}, ["custom.secret", "tier"])


def test_states_that_verbs_moved(org):
    account = org.admin.make("accounts", name="Oak")
    path, then = f"/v1/accounts/{account['id']}", now()
    active = org.admin.post(f"{path}/activate").json()
    later = now()
    org.admin.post(f"{path}/mark_at_risk")
    assert read(org.admin, path, as_of=then) == account
    assert read(org.admin, path, as_of=later) == active


def test_an_erased_person_stays_erased(org):
    contact = org.admin.make("contacts", last_name="Featherstone", title="Dr")
    path, then = f"/v1/contacts/{contact['id']}", now()
    org.admin.patch(path, json={"last_name": "Featherstonehaugh"})
    answer = org.admin.post("/v1/erasures", json={"contact_id": contact["id"], "basis": "request"})
    assert answer.status_code in (201, 202), answer.text
    with working(org.server):
        wait(org.admin, answer.json())
    found = org.admin.get(path, params={"as_of": then})
    assert "Feather" not in found.text
    assert found.json().get("last_name") in (None, "Erased")
