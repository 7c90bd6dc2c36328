"""Custom references are steps of paths in filters and groups, under the policies of what they lead to."""

import pytest
from jsonschema import Draft202012Validator

from tests.distribution.test_bulk import preview, start
from tests.support.asking import code, fault
from tests.support.jobs import wait, working
from tests.support.org import Org
from tests.support.receiver import Receiver
from tests.support.webhooks import work


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for resource, key, definition in (
        ("contacts", "partner", {"kind": "reference", "target": "accounts"}),
        ("accounts", "partner", {"kind": "reference", "target": "accounts"}),
        ("accounts", "agent", {"kind": "reference", "target": "principals"}),
        ("accounts", "grade", {"kind": "number"}),
        ("accounts", "silent", {"kind": "reference", "target": "accounts", "is_filterable": False}),
        ("accounts", "note", {"kind": "long_text"}),
    ):
        org.admin.make("custom_fields", resource=resource, key=key, label=key, **definition)
    return org


@pytest.fixture(scope="module")
def known(org):
    """A contact and an account of the rep, whose partner is the rep's, too, and has one that is the administrator's."""
    far = org.admin.make("accounts", name="Far", industry="mining", custom={"grade": 7, "agent": org.admin.id})["id"]
    near = org.rep.make("accounts", name="Near", industry="retail", custom={"grade": 3})["id"]
    own = org.rep.make("accounts", name="Own", industry="energy", custom={"partner": near})["id"]
    one = org.rep.make("contacts", last_name="One", account_id=own, custom={"partner": near})["id"]
    two = org.rep.make("contacts", last_name="Two", account_id=near)["id"]
    for path in (f"accounts/{near}", f"contacts/{two}"):
        assert org.admin.patch(f"/v1/{path}", json={"custom": {"partner": far}}).status_code == 200
    bare = org.rep.make("contacts", last_name="Bare")["id"]
    return {"far": far, "near": near, "own": own, "one": one, "two": two, "bare": bare}


def search(person, collection, field, value, op="eq", **more):
    """The ids that a filter finds: by a search, counted, and within another filter."""
    node = {"field": field, "op": op, "value": value}
    answer = person.post(f"/v1/{collection}/search", json={"filter": node, "count": "exact", **more})
    assert answer.status_code == 200, answer.text
    found = {row["id"] for row in answer.json()["data"]}
    assert answer.json()["count"]["value"] == len(found)
    either = {"or": [node, {"field": "id", "value": "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"}]}
    again = person.post(f"/v1/{collection}/search", json={"filter": either, "sort": ["created_at"]}).json()["data"]
    assert {row["id"] for row in again} == found
    return found


PATHS = (
    ("contacts", "custom.partner.name", "Near", {"one"}, {"one"}),
    ("contacts", "custom.partner.industry", "mining", {"two"}, set()),
    ("contacts", "custom.partner.custom.grade", 3, {"one"}, {"one"}),
    ("contacts", "custom.partner.id", "far", {"two"}, set()),
    ("contacts", "account.custom.partner.industry", "mining", {"two"}, set()),
    ("contacts", "account.custom.partner.custom.grade", 3, {"one"}, {"one"}),
    ("contacts", "custom.partner.owner.name", "rep", {"one"}, {"one"}),
    ("contacts", "custom.partner.custom.partner.custom.grade", 7, {"one"}, set()),
    ("contacts", "custom.partner.custom.agent", "admin", {"two"}, set()),
    ("accounts", "custom.partner.custom.agent.id", "admin", {"near"}, set()),
)


@pytest.mark.parametrize(("collection", "path", "value", "all_", "seen"), PATHS, ids=[item[1] for item in PATHS])
def test_a_path_finds_what_the_caller_sees(org, known, collection, path, value, all_, seen):
    people = {"admin": org.admin.id, "rep": org.admin.get(f"/v1/users/{org.rep.id}").json()["name"]}
    value = {**known, **people}.get(value, value)
    assert search(org.admin, collection, path, value) == {known[name] for name in all_}
    assert search(org.rep, collection, path, value) == {known[name] for name in seen}


def groups(person, collection, path, **more):
    body = {"group_by": [path], "measures": [{"op": "count"}], **more}
    answer = person.post(f"/v1/{collection}/aggregate", json=body)
    assert answer.status_code == 200, answer.text
    return {row["group"][path]: row["measures"][0] for row in answer.json()["data"]}


@pytest.fixture
def building(org, sql):
    """The index of each field is not there yet."""

    def state(index_state):
        sql(
            "UPDATE custom_fields SET index_state = $1 WHERE tenant_id = $2 AND is_filterable AND kind <> 'long_text'",
            *(index_state, org.tenant_id),
        )
        sql("UPDATE tenants SET access_version = access_version + 1 WHERE tenant_id = $1", org.tenant_id)

    state("building")
    yield
    state("ready")


@pytest.mark.usefixtures("building")
def test_paths_are_right_while_the_index_is_built(org, known):
    for collection, path, value, found, _ in PATHS[:6]:
        assert search(org.admin, collection, path, known.get(value, value)) == {known[name] for name in found}, path


def test_groups_and_measures_over_one_reference(org, known):
    assert groups(org.admin, "contacts", "custom.partner.industry") == {"retail": 1, "mining": 1, None: 1}
    assert groups(org.rep, "contacts", "custom.partner.industry") == {"retail": 1, None: 2}
    assert groups(org.admin, "contacts", "custom.partner.custom.grade") == {3: 1, 7: 1, None: 1}
    both = {"group_by": ["custom.partner.custom.grade", "account.custom.grade"], "measures": [{"op": "count"}]}
    data = org.admin.post("/v1/contacts/aggregate", json=both).json()["data"]
    assert {tuple(row["group"].values()): row["measures"] for row in data} == {
        (3, None): [1],
        (7, 3): [1],
        (None, None): [1],
    }
    node = {"field": "account.custom.partner.name", "op": "in", "value": ["Near", "Far"]}
    measure = {"measures": [{"op": "sum", "field": "custom.partner.custom.grade"}], "filter": node}
    assert org.admin.post("/v1/contacts/aggregate", json=measure).json()["data"] == [{"group": {}, "measures": [10]}]
    measure = {"measures": [{"op": "min", "field": "custom.partner.created_at"}], "filter": node}
    first = org.admin.get(f"/v1/accounts/{known['far']}").json()["created_at"]
    assert org.admin.post("/v1/contacts/aggregate", json=measure).json()["data"][0]["measures"] == [first]
    deep = {"group_by": ["custom.partner.custom.partner.industry"], "measures": [{"op": "count"}]}
    assert fault(org.admin.post("/v1/contacts/aggregate", json=deep)) == [("/group_by/0", "unknown_field")]


def test_children_and_custom_references(org, known):
    child = {"field": "contacts", "op": "any", "value": {"field": "custom.partner.name", "value": "Near"}}
    asked = {"filter": child}
    assert [row["id"] for row in org.admin.post("/v1/accounts/search", json=asked).json()["data"]] == [known["own"]]
    many = {"field": "custom.partner.contacts", "op": "any", "value": {"field": "last_name", "value": "Two"}}
    for collection, found in (("accounts", "own"), ("contacts", "one")):
        data = org.admin.post(f"/v1/{collection}/search", json={"filter": many}).json()["data"]
        assert [row["id"] for row in data] == [known[found]]


def test_what_is_no_path_is_refused(org):
    def refused(*fields, op="eq", value="x"):
        nodes = [{"field": field, "op": op, "value": value} for field in fields]
        answer = org.admin.post("/v1/accounts/search", json={"filter": {"and": nodes}})
        assert answer.status_code == 422, answer.text
        return fault(answer), answer.json()["errors"][0]["detail"]

    first = "/filter/and/0"
    assert refused("custom.nothing.name")[0] == [(first, "unknown_field")]
    found, detail = refused("custom.grade.name")
    assert (found, detail) == ([(first, "unknown_field")], "'custom.grade' is no reference to filter through.")
    found, detail = refused("custom.silent.name")
    assert (found, detail) == ([(first, "unknown_field")], "'custom.silent' is not a filter of accounts.")
    assert refused("custom.partner.nothing")[0] == [(first, "unknown_field")]
    assert refused("custom.partner.custom.nothing")[0] == [(first, "unknown_field")]
    assert refused("custom.partner.custom.note")[0] == [(first, "unknown_field")]
    assert refused("custom.partner")[0] == [(first, "invalid_value")]
    assert refused("custom.partner.name", op="any")[0] == [(first, "unknown_operator")]
    assert refused("custom.partner.custom.partner.custom.partner.name")[0] == [(first, "too_deep")]
    assert refused("custom.partner.parent.custom.partner.name")[0] == [(first, "too_deep")]
    assert refused(*["custom.partner.custom.partner.name"] * 11)[0] == [("/filter/and/10", "too_complex")]
    answer = org.admin.get("/v1/accounts", params={"custom.partner.name": "Near"})
    assert fault(answer) == [("custom.partner.name", "unknown_parameter")], "as for declared references"
    node = {"field": "custom.partner.name", "value": "Near"}
    answer = org.admin.post("/v1/accounts/search", params={"as_of": "2026-01-01T00:00:00Z"}, json={"filter": node})
    assert fault(answer) == [("as_of", "not_as_of")]


HIDDEN = (
    ("contacts", "custom.partner"),
    ("accounts", "industry"),
    ("accounts", "custom.grade"),
)


@pytest.mark.parametrize(("resource", "field"), HIDDEN)
def test_a_hidden_field_of_either_side_answers_nothing(org, known, resource, field):
    rules = [{"resource": resource, "field": field, "rule": "hidden"}]
    grants = (("accounts:read", "all"), ("contacts:read", "all"))
    blind = org.person(f"blind {field}", org.role(f"blind {field}", *grants, field_rules=rules))
    hops = ["custom.partner.industry", "custom.partner.custom.grade", "account.custom.partner.industry"]
    for path in hops:
        closed = path.endswith(field) or (field == "custom.partner" and path.startswith(field))
        value = 7 if path.endswith("grade") else "mining"
        body = {"filter": {"or": [{"field": path, "value": value}, {"field": "id", "value": known["one"]}]}}
        answer = blind.post("/v1/contacts/search", json=body)
        assert code(answer) == ((403, "forbidden") if closed else (200, "")), (path, answer.text)
        if path.count(".") < 3 or path.startswith("custom"):
            grouped = {"group_by": [path], "measures": [{"op": "count"}]}
            assert blind.post("/v1/contacts/aggregate", json=grouped).status_code == (403 if closed else 200), path


def test_without_the_permission_to_read_them_records_pass_nothing(org, known):
    for name, hop in (("custom", "custom.partner.industry"), ("declared", "account.industry")):
        alone = org.person(f"alone {name}", org.role(f"alone {name}", ("contacts:read", "all")))
        for op, value in (("eq", "retail"), ("is_null", False), ("is_null", True), ("ne", "x")):
            assert search(alone, "contacts", hop, value, op) == set(), (hop, op)
        assert groups(alone, "contacts", hop) == {None: len(alone.all("/v1/contacts"))}


def test_external_ids_at_the_end_of_a_path(org):
    org.admin.make("sources", name="ERP", code="erp")
    target = org.admin.put("/v1/accounts/ext:erp:4711", json={"name": "Acme"})
    assert target.status_code == 201, target.text
    above = org.rep.make("accounts", name="Above")["id"]
    org.admin.patch(f"/v1/accounts/{above}", json={"custom": {"partner": "ext:erp:4711"}})
    made = org.rep.make("contacts", last_name="Of Acme", account_id=above)["id"]
    org.admin.patch(f"/v1/contacts/{made}", json={"custom": {"partner": "ext:erp:4711"}})
    for path, seen in (("custom.partner.id", set()), ("account.custom.partner", {made})):
        assert search(org.admin, "contacts", path, "ext:erp:4711") == {made}, path
        assert search(org.admin, "contacts", path, target.json()["id"]) == {made}, path
        assert search(org.rep, "contacts", path, target.json()["id"]) == seen, path
        assert search(org.rep, "contacts", path, "ext:erp:4711") == set(), "whose record the rep does not see"


def test_what_is_deleted_or_merged_is_as_for_declared_references(org):
    other = org.admin.make("accounts", name="Other", industry="gone")["id"]
    holder = org.admin.make("contacts", last_name="Holder", custom={"partner": other}, account_id=other)["id"]
    for path in ("custom.partner.industry", "account.industry"):
        assert search(org.admin, "contacts", path, "gone") == {holder}
    survivor = org.admin.make("accounts", name="Survivor", industry="left")["id"]
    merge = org.admin.post(f"/v1/accounts/{survivor}/merge", json={"other_id": other})
    assert merge.status_code == 200, merge.text
    for path in ("custom.partner.industry", "account.industry"):
        assert search(org.admin, "contacts", path, "left") == {holder}
        assert search(org.admin, "contacts", path, "gone") == set()
    org.admin.patch(f"/v1/contacts/{holder}", json={"account_id": None})
    assert org.admin.delete(f"/v1/accounts/{survivor}").status_code == 204
    assert search(org.admin, "contacts", "custom.partner.industry", "left") == set()
    assert holder not in search(org.admin, "contacts", "custom.partner.industry", True, "is_null")


def test_a_view_by_a_retired_reference_shows_and_tells_it(org):
    field = org.admin.make(
        "custom_fields", resource="contacts", key="sponsor", kind="reference", label="Sponsor", target="accounts"
    )
    sponsor = org.rep.make("accounts", name="Sponsor")["id"]
    made = org.rep.make("contacts", last_name="Sponsored", custom={"sponsor": sponsor})["id"]
    node = {"field": "custom.sponsor.name", "value": "Sponsor"}
    view = org.admin.make("saved_views", name="Sponsored", resource="contacts", filter=node, visibility="everyone")
    path = f"/v1/saved_views/{view['id']}/records"
    page = org.rep.get(path).json()
    assert ([row["id"] for row in page["data"]], page["notices"]) == ([made], [])
    assert org.colleague.get(path).json()["data"] == []
    assert org.admin.post(f"/v1/custom_fields/{field['id']}/retire").status_code == 200
    page = org.rep.get(path).json()
    assert [row["id"] for row in page["data"]] == [made]
    assert [(item["part"], item["name"], item["code"]) for item in page["notices"]] == [
        ("filter", "custom.sponsor", "field_retired")
    ]
    bad = {"name": "Bad", "resource": "contacts", "filter": {"field": "custom.nothing.name", "value": "x"}}
    assert fault(org.rep.post("/v1/saved_views", json=bad)) == [("/filter", "unknown_field")]


def test_an_edit_changes_what_a_path_finds(org, known):
    body = {"filter": {"field": "custom.partner.name", "value": "Near"}, "changes": {"department": "Partners"}}
    with working(org.server):
        job = wait(org.rep, start(org.rep, "contacts/edit", **body))
    assert (job["state"], job["result"]["done"]) == ("succeeded", 1), job
    assert org.rep.get(f"/v1/contacts/{known['one']}").json()["department"] == "Partners"
    far = {"filter": {"field": "custom.partner.name", "value": "Far"}, "changes": {"department": "Partners"}}
    assert preview(org.rep, "contacts/edit", **far)["matched"]["value"] == 0
    assert preview(org.admin, "contacts/edit", **far)["matched"]["value"] == 1


def test_a_webhook_follows_a_path_now_and_before(org, known):
    node = {"field": "custom.partner.name", "value": "Near"}
    with Receiver() as receiver:
        values = {"event_types": ["contact.*"], "filter": node, "principal_id": org.rep.id}
        org.admin.make("webhook_endpoints", url=receiver.url, **values)
        made = org.rep.make("contacts", last_name="Hooked", custom={"partner": known["near"]})["id"]
        org.rep.make("contacts", last_name="Not hooked", custom={"partner": known["own"]})
        org.server.run(work(org.server))
        for change in ({"custom": {"partner": None}}, {"last_name": "Unhooked"}):
            org.rep.patch(f"/v1/contacts/{made}", json=change)
            org.server.run(work(org.server))
        told = sorted((event["object"]["id"], event["object"]["version"]) for event in receiver.events)
    assert told == [(made, 1), (made, 2)]


def test_the_contract_and_the_description_tell_of_paths(org):
    schemas = org.admin.get("/v1/meta/openapi.json").json()["components"]["schemas"]
    comparison, body = schemas["ContactComparison"]["properties"]["field"], schemas["ContactAggregate"]["properties"]
    names, grouped = comparison["anyOf"][0]["enum"], body["group_by"]["items"]["anyOf"][0]["enum"]
    assert len(names) == len(set(names))
    for path in ("custom.partner", "custom.partner.name", "custom.partner.custom.grade", "account.custom.partner"):
        assert path in names, path
        assert path in grouped, path
    assert not any("silent" in name or "note" in name for name in names)
    assert {"custom.partner.tags"} & set(names) - set(grouped)
    field = Draft202012Validator(comparison)
    accepted = ("custom.partner.custom.partner.custom.grade", "account.custom.partner.owner_id", "custom.agent.name")
    for path in accepted:
        assert field.is_valid(path), path
    for path in ("custom.partner.custom.partner.custom.partner.name", "custom.", "nothing", "account.parent.owner.x"):
        assert not field.is_valid(path), path
    relations = {item["name"]: item for item in org.admin.get("/v1/meta/objects/contact").json()["relations"]}
    assert relations["custom.partner"] == {"name": "custom.partner", "type": "account", "is_list": False}


def test_names_of_the_greatest_length_are_taken(org):
    key = "k" * 63
    for resource in ("leads", "accounts"):
        values = {"key": key, "kind": "reference", "target": "accounts", "label": "Long"}
        org.admin.make("custom_fields", resource=resource, **values)
    end = org.admin.make("accounts", name="End")["id"]
    middle = org.admin.make("accounts", name="Middle", custom={key: end})["id"]
    last = org.admin.make("accounts", name="Last", custom={key: middle})["id"]
    lead = org.admin.make("leads", last_name="Long", custom={key: last})["id"]
    path = f"custom.{key}.custom.{key}.custom.{key}"
    assert search(org.admin, "leads", path, end) == {lead}
    longest = org.admin.get("/openapi.json").json()["components"]["schemas"]["LeadComparison"]
    assert longest["properties"]["field"]["anyOf"][1]["maxLength"] == len(path)
    node = {"group_by": [f"custom.{key}.name"], "measures": [{"op": "max", "field": f"custom.{key}.created_at"}]}
    answer = org.admin.post("/v1/leads/aggregate", json=node)
    assert [row["group"] for row in answer.json()["data"]] == [{f"custom.{key}.name": "Last"}]
