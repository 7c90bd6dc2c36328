"""What a tenant may declare, what is refused, and what becomes of records when definitions change."""

import itertools
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.kernel.customs import KINDS
from tests.customs.kinds import BY_KIND
from tests.support.jobs import wait, working
from tests.support.org import Org

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def org(server):
    return Org.create(server)


def declare(org, kind="text", resource="contacts", **values):
    key = values.pop("key", None) or f"f{next(_numbers)}"
    body = {"resource": resource, "key": key, "kind": kind, "label": key, **values}
    return org.admin.make("custom_fields", **body)


def refused(org, status, pointer, **values):
    body = {"resource": "contacts", "key": f"f{next(_numbers)}", "kind": "text", "label": "x", **values}
    answer = org.admin.post("/v1/custom_fields", json=body)
    assert answer.status_code == status, answer.text
    assert answer.json()["errors"][0]["pointer"].startswith(pointer), answer.text
    return answer.json()["errors"][0]["code"]


def contact(org, status=201, **custom):
    answer = org.admin.post("/v1/contacts", json={"last_name": "x", "custom": custom})
    assert answer.status_code == status, answer.text
    return answer.json()


def test_definitions_that_make_no_sense(org):
    assert refused(org, 422, "/key", key="last_name") == "name_taken"
    assert refused(org, 422, "/key", key="tenant_id") == "name_taken"
    assert refused(org, 422, "/key", key="Nope") != ""
    assert refused(org, 422, "/resource", resource="roles") == "unknown_resource"
    assert refused(org, 422, "/resource", resource="nothing") == "unknown_resource"
    assert refused(org, 422, "/choices", kind="choice") == "required"
    assert refused(org, 422, "/choices", choices=[{"value": "a"}]) == "wrong_for_kind"
    assert refused(org, 422, "/choices/1/value", kind="choice", choices=[{"value": "a"}, {"value": "a"}]) == "repeated"
    assert refused(org, 422, "/target", kind="reference") == "wrong_for_kind"
    assert refused(org, 422, "/target", kind="reference", target="nothing") == "unknown_resource"
    assert refused(org, 422, "/target", target="accounts") == "wrong_for_kind"
    assert refused(org, 422, "/currency", currency="EUR") == "wrong_for_kind"
    assert refused(org, 422, "/is_unique", kind="boolean", is_unique=True) == "wrong_for_kind"
    assert refused(org, 422, "/is_unique", is_unique=True, is_filterable=False) == "wrong_for_kind"
    assert refused(org, 422, "/default_value", kind="number", default_value="x") == "invalid_number"
    assert refused(org, 422, "/default_value", kind="choice", choices=[{"value": "a"}], default_value="b") != ""
    assert refused(org, 422, "/kind", kind="formula") != ""
    declare(org, key="taken")
    assert refused(org, 409, "/", key="taken") == "duplicate"


@pytest.mark.parametrize(
    ("kind", "suffix"),
    [("number", "gte"), ("date", "lt"), ("text", "contains"), ("choice", "starts_with"), ("reference", "is_null")],
)
def test_no_key_is_read_as_an_operator_of_another(org, kind, suffix):
    more = {"reference": {"target": "accounts"}, "choice": {"choices": [{"value": "a"}]}}.get(kind, {})
    first = declare(org, kind, is_filterable=False, **more)["key"]
    assert refused(org, 422, "/key", key=f"{first}_{suffix}") == "name_taken"
    assert declare(org, resource="leads", key=f"{first}_{suffix}"), "of another resource"
    later = f"f{next(_numbers)}"
    field = declare(org, key=f"{later}_{suffix}")
    org.admin.post(f"/v1/custom_fields/{field['id']}/retire")
    assert refused(org, 422, "/key", key=later, kind=kind, **more) == "name_taken"


def test_a_key_may_end_like_an_operator_that_the_other_does_not_take(org):
    key = declare(org, "boolean")["key"]
    declare(org, key=f"{key}_gte")
    key = declare(org, "long_text")["key"]
    declare(org, key=f"{key}_is_null")


def test_of_two_at_once_whose_queries_would_be_read_alike_one_is_declared(org):
    def ask(key):
        body = {"resource": "contacts", "key": key, "kind": "number", "label": "x"}
        return org.admin.post("/v1/custom_fields", json=body).status_code

    for _ in range(5):
        key = f"f{next(_numbers)}"
        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(ask, (key, f"{key}_gte"))) == [201, 422]


def test_two_hundred_fields_and_no_more(server):
    org = Org.create(server)
    for i in range(200):
        declare(org, key=f"k{i}", resource="leads")
    body = {"resource": "leads", "key": "k200", "kind": "text", "label": "x"}
    answer = org.admin.post("/v1/custom_fields", json=body)
    assert (answer.status_code, answer.json()["code"]) == (409, "limit_reached")
    everything = {f"k{i}": f"value {i}" for i in range(200)}
    lead = org.admin.make("leads", last_name="x", custom=everything)
    assert lead["custom"] == everything
    assert [row["id"] for row in org.admin.all("/v1/leads", **{"custom.k199": "value 199"})] == [lead["id"]]
    too_many = {**everything, "k200": "x"}
    answer = org.admin.post("/v1/leads", json={"last_name": "x", "custom": too_many})
    assert answer.status_code == 422


def test_unknown_keys_and_required_ones(server):
    org = Org.create(server)
    answer = contact(org, 422, nothing="x")
    assert answer["errors"] == [
        {"pointer": "/custom/nothing", "code": "unknown_field", "detail": "There is no such custom field."}
    ]
    field = declare(org, resource="accounts", is_required=True)
    body = {"name": "Thing"}
    answer = org.admin.post("/v1/accounts", json=body)
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["pointer"] == f"/custom/{field['key']}"
    made = org.admin.make("accounts", **body, custom={field["key"]: "here"})
    cleared = org.admin.patch(f"/v1/accounts/{made['id']}", json={"custom": {field["key"]: None}})
    assert cleared.status_code == 422
    assert org.admin.patch(f"/v1/accounts/{made['id']}", json={"name": "Other"}).status_code == 200


def test_a_default_fills_what_is_left_out(org):
    field = declare(org, "decimal", default_value="1.50")
    assert field["default_value"] == "1.5"
    assert contact(org)["custom"] == {field["key"]: "1.5"}
    assert contact(org, **{field["key"]: None})["custom"] == {}
    assert contact(org, **{field["key"]: "2"})["custom"] == {field["key"]: "2"}
    retired = org.admin.post(f"/v1/custom_fields/{field['id']}/retire").json()
    assert retired["state"] == "retired"
    assert contact(org)["custom"] == {}


def test_a_retired_field_keeps_its_values_and_takes_none(org):
    field = declare(org)
    made = contact(org, **{field["key"]: "old"})
    url = f"/v1/contacts/{made['id']}"
    org.admin.post(f"/v1/custom_fields/{field['id']}/retire")
    answer = org.admin.patch(url, json={"custom": {field["key"]: "new"}})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["code"] == "custom_field_retired"
    assert org.admin.get(url).json()["custom"] == {field["key"]: "old"}
    assert org.admin.patch(url, json={"title": "Dr"}).json()["custom"] == {field["key"]: "old"}
    assert [row["id"] for row in org.admin.all("/v1/contacts", **{f"custom.{field['key']}": "old"})] == [made["id"]]
    body = {"resource": "contacts", "key": field["key"], "kind": "number", "label": "x"}
    again = org.admin.post("/v1/custom_fields", json=body)
    assert again.status_code == 409
    org.admin.post(f"/v1/custom_fields/{field['id']}/reinstate")
    assert org.admin.patch(url, json={"custom": {field["key"]: "new"}}).json()["custom"] == {field["key"]: "new"}


def test_a_field_of_a_kind_that_nobody_filters_by_says_so(org):
    field = declare(org, "long_text", is_filterable=True)
    assert (field["is_filterable"], field["index_state"]) == (False, "none")
    changed = org.admin.patch(f"/v1/custom_fields/{field['id']}", json={"is_filterable": True, "label": "New"}).json()
    assert (changed["is_filterable"], changed["index_state"], changed["label"]) == (False, "none", "New")
    assert declare(org, "text")["is_filterable"]


def test_what_a_record_has_may_be_sent_back(org):
    """A form that sends all of `custom` again, after choices and a field were retired and a record deleted."""
    other = org.admin.make("accounts", name="Referred to")
    fields = {
        "one": declare(org, "choice", choices=[{"value": "a"}, {"value": "b"}]),
        "many": declare(org, "multi_choice", choices=[{"value": "a"}, {"value": "b"}, {"value": "c"}]),
        "gone": declare(org, "number"),
        "to": declare(org, "reference", target="accounts"),
    }
    one, many, gone, to = (field["key"] for field in fields.values())
    made = contact(org, **{one: "a", many: ["a", "b"], gone: 5, to: other["id"]})
    bare = contact(org)
    for name, words in (("one", "ab"), ("many", "abc")):
        choices = [{"value": word, "is_retired": word == "a"} for word in words]
        assert org.admin.patch(f"/v1/custom_fields/{fields[name]['id']}", json={"choices": choices}).status_code == 200
    assert org.admin.post(f"/v1/custom_fields/{fields['gone']['id']}/retire").status_code == 200
    assert org.admin.delete(f"/v1/accounts/{other['id']}").status_code == 204

    def send(record, **custom):
        answer = org.admin.patch(f"/v1/contacts/{record['id']}", json={"custom": custom})
        return (answer.status_code, [item["code"] for item in answer.json().get("errors", [])])

    assert send(made, **made["custom"]) == (200, [])
    assert send(made, **{**made["custom"], many: ["a", "b", "c"]}) == (200, [])
    assert org.admin.get(f"/v1/contacts/{made['id']}").json()["custom"] == {**made["custom"], many: ["a", "b", "c"]}
    for key, value in ((one, "a"), (many, ["a"]), (gone, 5), (to, other["id"])):
        assert send(bare, **{key: value})[0] == 422, key
    assert send(made, **{one: "a", gone: 6})[0] == 422
    assert send(made, **{one: "b", many: ["b"]}) == (200, [])
    assert send(made, **{one: "a"}) == (422, ["choice_retired"])
    assert send(made, **{many: ["a", "b"]}) == (422, ["choice_retired"])
    assert send(made, nowhere=1) == (422, ["unknown_field"])


def test_a_label_may_change_and_a_key_may_not(org):
    field = declare(org)
    url = f"/v1/custom_fields/{field['id']}"
    renamed = org.admin.patch(url, json={"label": "Better", "labels": {"es": "Mejor"}, "help": "What it means"}).json()
    assert (renamed["label"], renamed["labels"]) == ("Better", {"es": "Mejor"})
    for name, value in (("key", "other"), ("kind", "number"), ("resource", "accounts"), ("target", "accounts")):
        answer = org.admin.patch(url, json={name: value})
        assert answer.status_code == 422, name


def test_a_choice_that_is_retired_while_used(org):
    field = declare(org, "choice", choices=[{"value": "a"}, {"value": "b"}])
    made = contact(org, **{field["key"]: "a"})
    url, key = f"/v1/custom_fields/{field['id']}", field["key"]
    answer = org.admin.patch(url, json={"choices": [{"value": "b"}]})
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "choice_removed")
    choices = [{"value": "a", "is_retired": True}, {"value": "b"}, {"value": "c", "label": "See"}]
    assert org.admin.patch(url, json={"choices": choices}).status_code == 200
    assert contact(org, 422, **{key: "a"})["errors"][0]["code"] == "choice_retired"
    contact(org, **{key: "c"})
    record = org.admin.patch(f"/v1/contacts/{made['id']}", json={"title": "Dr"}).json()
    assert record["custom"] == {key: "a"}
    assert [row["id"] for row in org.admin.all("/v1/contacts", **{f"custom.{key}": "a"})] == [made["id"]]


def test_an_open_choice_takes_other_words(org):
    field = declare(org, "choice", choices=[{"value": "a"}], is_open=True)
    assert contact(org, **{field["key"]: "anything"})["custom"] == {field["key"]: "anything"}


@pytest.mark.parametrize("kind", [name for name, kind in KINDS.items() if kind.unique])
def test_a_unique_field_is_freed_by_a_deletion_and_a_taken_value_blocks_the_restore(org, kind):
    field = declare(org, kind, is_unique=True)
    key, (one, two) = field["key"], BY_KIND[kind].values[:2]
    first = contact(org, **{key: one})
    for spelling in (one, *BY_KIND[kind].given):
        answer = contact(org, 409, **{key: spelling})
        assert (answer["code"], answer["errors"][0]["pointer"]) == ("duplicate", f"/custom/{key}")
    second = contact(org, **{key: two})
    assert org.admin.patch(f"/v1/contacts/{second['id']}", json={"custom": {key: one}}).status_code == 409
    assert org.admin.patch(f"/v1/contacts/{first['id']}", json={"custom": {key: one}, "title": "x"}).status_code == 200
    assert org.admin.delete(f"/v1/contacts/{first['id']}").status_code == 204
    third = contact(org, **{key: one})
    assert org.admin.post(f"/v1/contacts/{first['id']}/restore").status_code == 409
    org.admin.patch(f"/v1/contacts/{third['id']}", json={"custom": {key: None}})
    assert org.admin.post(f"/v1/contacts/{first['id']}/restore").status_code == 200
    contact(org, 409, **{key: one})
    contact(org)
    contact(org)


def test_of_twenty_that_want_one_unique_value_one_gets_it(org):
    field = declare(org, is_unique=True)
    body = {"last_name": "race", "custom": {field["key"]: "same"}}
    with ThreadPoolExecutor(8) as pool:
        codes = list(pool.map(lambda _: org.admin.post("/v1/contacts", json=body).status_code, range(20)))
    assert sorted(codes) == [201] + [409] * 19


def test_made_unique_over_duplicates_is_refused_with_the_list(org):
    field = declare(org)
    ids = [contact(org, **{field["key"]: value})["id"] for value in ("a", "a", "b")]
    url = f"/v1/custom_fields/{field['id']}"
    answer = org.admin.patch(url, json={"is_unique": True})
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate")
    (fault,) = answer.json()["errors"]
    assert fault["pointer"] == "/is_unique"
    assert all(id_ in fault["detail"] for id_ in ids[:2])
    assert ids[2] not in fault["detail"]
    org.admin.patch(f"/v1/contacts/{ids[1]}", json={"custom": {field["key"]: "c"}})
    assert org.admin.patch(url, json={"is_unique": True}).json()["is_unique"]
    contact(org, 409, **{field["key"]: "c"})


def test_deleted_and_merged_twins_do_not_keep_a_field_from_being_unique(org):
    field = declare(org)
    key, url = field["key"], f"/v1/custom_fields/{field['id']}"
    twins = [contact(org, **{key: "same"})["id"] for _ in range(3)]
    answer = org.admin.post(f"/v1/contacts/{twins[0]}/merge", json={"other_id": twins[1]})
    assert answer.status_code == 200, answer.text
    assert org.admin.patch(url, json={"is_unique": True}).status_code == 409
    assert org.admin.delete(f"/v1/contacts/{twins[2]}").status_code == 204
    answer = org.admin.patch(url, json={"is_unique": True})
    assert answer.status_code == 200, answer.text
    with working(org.server):
        for job in org.admin.all("/v1/jobs", kind="index_custom_field"):
            wait(org.admin, job, "succeeded")
    contact(org, 409, **{key: "same"})
    answer = org.admin.post(f"/v1/contacts/{twins[2]}/restore")
    assert (answer.status_code, answer.json()["code"]) == (409, "duplicate")
    org.admin.patch(f"/v1/contacts/{twins[0]}", json={"custom": {key: None}})
    assert org.admin.post(f"/v1/contacts/{twins[2]}/restore").status_code == 200
    contact(org, 409, **{key: "same"})


def test_an_index_is_built_for_records_that_are_there(org, sql):
    field = declare(org, "number", is_filterable=False)
    tags = declare(org, "multi_choice", choices=[{"value": "a"}, {"value": "b"}], is_filterable=False)
    key = field["key"]
    ids = [contact(org, **{key: i, tags["key"]: ["a"]})["id"] for i in range(5)]
    assert org.admin.get("/v1/contacts", params={f"custom.{key}": 1}).status_code == 422
    answer = org.admin.get("/v1/contacts", params={"sort": f"custom.{key}"})
    assert answer.status_code == 422
    for one in (field, tags):
        changed = org.admin.patch(f"/v1/custom_fields/{one['id']}", json={"is_filterable": True}).json()
        assert changed["index_state"] == "building"
    assert [row["id"] for row in org.admin.all("/v1/contacts", **{f"custom.{key}": 3})] == [ids[3]]
    answer = org.admin.get("/v1/contacts", params={"sort": f"custom.{key}"})
    assert answer.json()["errors"][0]["code"] == "index_building"
    later = contact(org, **{key: 9, tags["key"]: ["b"]})["id"]
    with working(org.server):
        for job in org.admin.all("/v1/jobs", kind="index_custom_field"):
            wait(org.admin, job, "succeeded")
    assert org.admin.get(f"/v1/custom_fields/{field['id']}").json()["index_state"] == "ready"
    found = org.admin.all("/v1/contacts", sort=f"-custom.{key}", **{f"custom.{key}_gte": 0})
    assert [row["id"] for row in found] == [later, *ids[::-1]]
    assert {row["id"] for row in org.admin.all("/v1/contacts", **{f"custom.{tags['key']}": "a"})} == set(ids)
    kept = sql("SELECT count(*) FROM custom_values WHERE field_id = $1", field["id"])
    assert kept[0][0] == 6


def test_another_tenant_has_its_own(org, server):
    field = declare(org)
    other = Org.create(server)
    answer = other.admin.post("/v1/contacts", json={"last_name": "x", "custom": {field["key"]: "x"}})
    assert answer.status_code == 422
    assert other.admin.get(f"/v1/custom_fields/{field['id']}").status_code == 404
    assert declare(other, "number", key=field["key"])["kind"] == "number"


def test_a_reference_is_only_to_what_the_caller_sees(org):
    field = declare(org, "reference", target="accounts")
    mine = org.rep.make("accounts", name="Mine")
    theirs = org.outsider.make("accounts", name="Theirs")
    seen = org.rep.post("/v1/contacts", json={"last_name": "x", "custom": {field["key"]: mine["id"]}})
    assert seen.status_code == 201, seen.text
    unseen = org.rep.post("/v1/contacts", json={"last_name": "x", "custom": {field["key"]: theirs["id"]}})
    assert unseen.status_code == 422
    assert unseen.json()["errors"][0]["code"] == "reference_not_found"
    org.admin.delete(f"/v1/accounts/{mine['id']}")
    gone = org.admin.post("/v1/contacts", json={"last_name": "x", "custom": {field["key"]: mine["id"]}})
    assert gone.status_code == 422
    kept = org.rep.get(f"/v1/contacts/{seen.json()['id']}").json()
    assert kept["custom"] == {field["key"]: mine["id"]}


def test_only_who_may_define_defines(org):
    body = {"resource": "contacts", "key": "nope", "kind": "text", "label": "x"}
    assert org.rep.post("/v1/custom_fields", json=body).status_code == 403
    assert org.rep.get("/v1/custom_fields").status_code == 200
