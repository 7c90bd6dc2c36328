"""Text search looks into custom fields that are marked for it, and into none that is hidden from the caller."""

import pytest

from tests.support.asking import code, fault
from tests.support.imports import done, table
from tests.support.jobs import wait, working
from tests.support.org import Org

VALUES = {
    "text": ("Quittenmühle Süd", "quitten"),
    "url": ("https://walnut.example/path", "walnut"),
    "email": ("zwetschge@example.com", "zwetschge"),
    "phone": ("+4930123456", "3012345"),
}


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for kind in VALUES:
        declare(org, kind, kind)
    declare(org, "shut", is_searchable=False)
    return org


def declare(org, key, kind="text", **values):
    values = {"resource": "contacts", "is_searchable": True, **values}
    return org.admin.make("custom_fields", key=key, kind=kind, label=key, **values)


def hits(person, q, path="/v1/contacts"):
    """Ids that each way of searching one collection finds."""
    listed = person.get(path, params={"q": q, "limit": 200})
    assert listed.status_code == 200, listed.text
    searched = person.post(f"{path}/search", json={"q": q, "limit": 200}).json()["data"]
    found = {row["id"] for row in listed.json()["data"]}
    assert found == {row["id"] for row in searched}
    return found


def everywhere(person, q):
    """What the search across collections finds, by id."""
    answer = person.get("/v1/search", params={"q": q, "types": ["contact"]})
    assert answer.status_code == 200, answer.text
    return {hit["id"]: hit for hit in answer.json()["data"]}


@pytest.mark.parametrize("kind", VALUES)
def test_values_are_found_by_their_parts(org, kind):
    value, word = VALUES[kind]
    made = org.admin.make("contacts", last_name="Search", custom={kind: value, "shut": "medlar"})
    assert hits(org.admin, word) == hits(org.admin, f"search {word.upper()}") == {made["id"]}
    hit = everywhere(org.admin, word)[made["id"]]
    assert {"field": f"custom.{kind}"}.items() <= hit["highlights"][0].items()
    assert hit["record"]["custom"][kind] == made["custom"][kind]
    assert hits(org.admin, "medlar") == set()
    assert hits(org.admin, kind) == set(), "the key is no text of the record"
    assert org.admin.delete(f"/v1/contacts/{made['id']}").status_code == 204
    assert hits(org.admin, word) == set()


def test_a_change_of_one_field_leaves_the_others_found(org):
    made = org.admin.make("contacts", last_name="Persimmon", custom={"text": "tamarind", "email": "sorrel@example.com"})
    url, only = f"/v1/contacts/{made['id']}", {made["id"]}
    for body, found, lost in (
        ({"custom": {"text": "lovage"}}, ("lovage", "sorrel", "persimmon lovage"), ("tamarind",)),
        ({"last_name": "Rhubarb"}, ("lovage", "sorrel", "rhubarb"), ("persimmon",)),
        ({"last_name": "Fennel", "custom": {"email": None}}, ("lovage", "fennel"), ("sorrel", "rhubarb")),
        ({"custom": {"shut": "chervil"}}, ("lovage", "fennel"), ("chervil",)),
        ({"custom": {"url": "https://borage.example"}}, ("lovage", "fennel", "borage"), ()),
        ({"custom": {"text": None, "url": None}}, ("fennel",), ("lovage", "borage")),
    ):
        assert org.admin.patch(url, json=body).status_code == 200
        for q in found:
            assert hits(org.admin, q) == only, (body, q)
        for q in lost:
            assert hits(org.admin, q) == set(), (body, q)


@pytest.mark.parametrize("also", [False, True], ids=["custom", "declared too"])
def test_a_hidden_field_is_not_looked_into(org, also):
    rules = [{"resource": "contacts", "field": "custom.text", "rule": "hidden"}]
    rules += [{"resource": "contacts", "field": "title", "rule": "hidden"}] if also else []
    name = f"blind {also}".replace(" ", "_").lower()
    blind = org.person(name, org.role(name, ("contacts:*", "all"), field_rules=rules))
    values = {"text": f"bergamotte{also}", "email": f"pomelo{also}@example.com"}
    made = org.admin.make("contacts", last_name=f"Kumquat{also}", title=f"Yuzu{also}", custom=values)
    only = {made["id"]}
    shown = [f"kumquat{also}", f"pomelo{also}", f"kumquat{also} pomelo{also}"]
    hidden = [f"bergamotte{also}", f"kumquat{also} bergamotte{also}", f"pomelo{also} bergamotte{also}"]
    (hidden if also else shown).append(f"yuzu{also}")
    for q in [*shown, *hidden]:
        assert hits(org.admin, q) == only, q
        assert set(everywhere(org.admin, q)) == only, q
    for q in shown:
        assert hits(blind, q) == only, q
        assert set(everywhere(blind, q)) == only, q
    for q in hidden:
        assert hits(blind, q) == set(), q
        assert everywhere(blind, q) == {}, q
    assert everywhere(blind, f"bergamottte{also}") == {}, "nor by what is like it"
    assert made["id"] in everywhere(org.admin, f"bergamottte{also}")
    assert "bergamotte" not in str(everywhere(blind, f"pomelo{also}"))


def test_records_that_are_there_are_found_when_the_job_is_done(org):
    field = declare(org, "later", is_searchable=False, is_filterable=False)
    old = org.admin.make("contacts", last_name="Old", custom={"later": "mirabelle", "text": "loquat"})["id"]
    none = org.admin.make("contacts", last_name="Mirage", custom={"text": "loquat"})["id"]
    url = f"/v1/custom_fields/{field['id']}"
    before = org.admin.get(f"/v1/contacts/{old}").json()
    assert org.admin.patch(url, json={"is_searchable": True}).json()["index_state"] == "none"
    new = org.admin.make("contacts", last_name="New", custom={"later": "mirabelle"})["id"]
    assert hits(org.admin, "mirabelle") == {new}
    index(org)
    assert hits(org.admin, "mirabelle") == {old, new}
    assert hits(org.admin, "loquat") == {old, none}
    assert hits(org.admin, "old mirabelle") == {old}
    assert org.admin.get(f"/v1/contacts/{old}").json() == before, "that is no change of the record"
    org.admin.patch(url, json={"is_searchable": False})
    org.admin.patch(f"/v1/contacts/{new}", json={"custom": {"later": "bullace"}})
    index(org)
    assert hits(org.admin, "mirabelle") == hits(org.admin, "bullace") == set()
    assert hits(org.admin, "loquat") == {old, none}


def index(org):
    with working(org.server):
        for job in org.admin.all("/v1/jobs", kind="index_custom_field"):
            wait(org.admin, job, "succeeded")


def test_what_is_marked_and_unmarked_while_it_is_indexed(org):
    """A later change of the definition takes over from the job that an earlier one began."""
    field = declare(org, "both", is_searchable=False, is_filterable=False)
    made = org.admin.make("contacts", last_name="Both", custom={"both": "greengage"})["id"]
    url = f"/v1/custom_fields/{field['id']}"
    for body in ({"is_searchable": True}, {"is_filterable": True}, {"is_filterable": False}):
        assert org.admin.patch(url, json=body).status_code == 200
    index(org)
    assert hits(org.admin, "greengage") == {made}
    for body in ({"is_filterable": True}, {"is_searchable": False}):
        assert org.admin.patch(url, json=body).status_code == 200
    index(org)
    assert hits(org.admin, "greengage") == set()
    assert org.admin.get(url).json()["index_state"] == "ready"
    assert [row["id"] for row in org.admin.all("/v1/contacts", **{"custom.both": "greengage"})] == [made]


def test_imported_and_merged_records(org):
    mapping = [{"column": "name", "field": "last_name"}, {"column": "text", "field": "custom.text"}]
    with working(org.server):
        done(
            org.admin,
            table([{"name": "One", "text": "damson"}, {"name": "Two", "text": ""}]),
            resource="contacts",
            mapping=mapping,
            mode="create",
        )
    (one,) = hits(org.admin, "damson")
    two = org.admin.all("/v1/contacts", last_name="Two")[0]["id"]
    merged = org.admin.post(f"/v1/contacts/{two}/merge", json={"other_id": one})
    assert merged.status_code == 200, merged.text
    assert hits(org.admin, "damson") == {two}
    assert org.admin.post(f"/v1/contacts/{two}/unmerge", json={"other_id": one}).status_code == 200
    assert hits(org.admin, "damson") == {one}


@pytest.mark.parametrize("kind", ["number", "long_text", "date", "boolean", "choice"])
def test_other_kinds_are_not_searched(org, kind):
    more = {"choices": [{"value": "a"}]} if kind == "choice" else {}
    body = {"resource": "contacts", "key": "odd", "kind": kind, "label": "x", "is_searchable": True, **more}
    answer = org.admin.post("/v1/custom_fields", json=body)
    assert (code(answer), fault(answer)) == ((422, "invalid"), [("/is_searchable", "wrong_for_kind")])


def test_the_description_tells_it(org):
    fields = {item["name"]: item for item in org.admin.get("/v1/meta/objects/contact").json()["fields"]}
    told = [fields[name]["is_searched"] for name in ("custom.text", "custom.shut", "last_name", "birthday")]
    assert told == [True, False, True, False]
