"""A hidden field is shown nowhere and answers no question; a read-only one is shown and refuses writes."""

import itertools

import pytest

from crm_api.kernel.customs import CUSTOM, PREFIX
from crm_api.kernel.schema import fold
from tests.support.asking import BEHIND, RESOURCES, code, each
from tests.support.customs import (
    CUSTOMIZED,
    CUSTOMS,
    DEFINITIONS,
    VALUES,
    customs,
    declare,
    filterable,
    flat,
    references,
    setting,
    sortable,
    value_of,
)
from tests.support.examples import MADE, Examples
from tests.support.org import Org
from tests.support.problems import problem

_numbers = itertools.count(1)
SAMPLES = {"integer": "1"}
EVERYTHING = [{"permission": "*:*", "reach": "all"}]


KEYS = [*DEFINITIONS]


def rest(row, left_out) -> dict:
    """A record without some fields."""
    found = {name: value for name, value in row.items() if name not in left_out}
    custom = {key: value for key, value in (found.pop(CUSTOM, None) or {}).items() if PREFIX + key not in left_out}
    return {**found, CUSTOM: custom}


def told(resource, field) -> list[str]:
    """The fields that are hidden with one: those that tell its value, too."""
    return sorted(resource.with_derived(frozenset({field})))


@pytest.fixture(scope="module")
def firm(server) -> Org:
    """A tenant in which `rep` holds one role that grants everything, and rules that each test sets."""
    org = Org.create(server)
    org.examples = Examples(org.admin)
    for row in org.admin.all("/v1/role_assignments", principal_id=org.rep.id):
        org.admin.delete(f"/v1/role_assignments/{row['id']}")
    org.role_id = org.admin.make("roles", name="Ruled", permissions=EVERYTHING)["id"]
    org.admin.make("role_assignments", principal_id=org.rep.id, role_id=org.role_id)
    for resource in RESOURCES:
        made = "create" in resource.operations or resource.plural in MADE
        if made and resource.plural != "access_defaults":
            for n in (1, 2):
                org.examples.make(resource, n)
    first = org.admin.all(f"/v1/{CUSTOMIZED.plural}", sort="id")[0]
    other = org.admin.make("accounts", name="Referred to")["id"]
    declare(org.admin)
    org.custom_values = {key: VALUES.get(key, [other])[0] for key in KEYS} | {"my_text": "Quince jelly"}
    answer = org.admin.patch(f"/v1/{CUSTOMIZED.plural}/{first['id']}", json={CUSTOM: org.custom_values})
    assert answer.json()[CUSTOM] == org.custom_values, answer.text
    return org


def rule(org, resource, field: str, kind: str) -> None:
    rules = [{"resource": resource.plural, "field": field, "rule": kind}]
    answer = org.admin.patch(f"/v1/roles/{org.role_id}", json={"field_rules": rules})
    assert answer.status_code == 200, answer.text


FIELDS = [
    pytest.param(item, field, id=f"{item.plural}.{field}") for item in RESOURCES for field in sorted(item.hideable)
]
OWN = [pytest.param(CUSTOMIZED, PREFIX + key, id=f"{CUSTOMIZED.plural}.{PREFIX}{key}") for key in KEYS]


@pytest.mark.parametrize(("resource", "field"), [*FIELDS, *OWN])
def test_a_hidden_field_is_shown_nowhere_and_answers_nothing(firm, resource, field):
    rule(firm, resource, field, "hidden")
    person, path = firm.rep, f"/v1/{resource.plural}"
    whole = {row["id"]: row for row in firm.admin.get(path, params={"limit": 20, "sort": "id"}).json()["data"]}
    masked = {"version", "redacted", "updated_at", "updated_by", *BEHIND, *told(resource, field)}
    own = customs(resource)
    custom = own.get(field)
    filters, sorted_by = filterable(resource), field in sortable(resource)
    for row in person.get(path, params={"limit": 20, "sort": "id"}).json()["data"]:
        assert all(value_of(row, name) is None for name in told(resource, field))
        assert row["redacted"] == told(resource, field)
        other = rest(row, masked)
        assert other == {name: value for name, value in rest(whole[row["id"]], masked).items() if name in other}
    if custom is not None:
        assert any(value_of(row, field) is not None for row in whole.values())
    id_ = next(iter(whole))
    assert value_of(person.get(f"{path}/{id_}").json(), field) is None
    refused = [
        person.get(path, params={name: SAMPLES.get(kind, "true")})
        for name, (of, _, kind) in flat(resource).items()
        if of == field
    ]
    if sorted_by:
        refused += [person.get(path, params={"sort": sort}) for sort in (field, f"-{field}", f"created_at,{field}")]
    expandable = {column: name for name, (column, _) in references(resource).items()}
    if field in expandable:
        refused.append(person.get(path, params={"expand": expandable[field]}))
        refused.append(person.get(f"{path}/{id_}", params={"expand": expandable[field]}))
    if "search" in resource.operations:
        asked = field if custom is None else CUSTOM
        rows = person.post(f"{path}/search", json={"fields": [asked], "limit": 3}).json()["data"]
        assert all(value_of(row, field) is None and row["redacted"] == [field] for row in rows)
        if field in filters:
            for op in ("eq", "ne", "in", "any", "is_null", "gt"):
                tree = {"or": [{"field": "id", "value": id_}, {"field": field, "op": op, "value": True}]}
                refused.append(person.post(f"{path}/search", json={"filter": tree}))
        if sorted_by:
            refused.append(person.post(f"{path}/search", json={"sort": [field]}))
        if field in expandable:
            refused.append(person.post(f"{path}/search", json={"expand": [expandable[field]]}))
        if field in expandable:
            through = {"field": f"{expandable[field]}.id", "op": "eq", "value": id_}
            refused.append(person.post(f"{path}/search", json={"filter": through}))
    if "aggregate" in resource.operations and filters.get(field, "values") != "values":
        measures = [{"op": "count"}]
        refused.append(person.post(f"{path}/aggregate", json={"group_by": [field], "measures": measures}))
        tree = {"field": field, "op": "is_null", "value": True}
        refused.append(person.post(f"{path}/aggregate", json={"measures": measures, "filter": tree}))
        if filters[field] in ("money", "ratio", "integer"):
            for op in ("sum", "avg", "min", "max", "count"):
                refused.append(person.post(f"{path}/aggregate", json={"measures": [{"op": op, "field": field}]}))
    lists = resource.parts.keys() & told(resource, field)
    for referrer in RESOURCES:
        for hop, (column, target) in references(referrer).items():
            if target is resource and (referrer.table, column) != (resource.table, field):
                listing = person.get(f"/v1/{referrer.plural}", params={"expand": hop, "limit": 5})
                if any(resource.parts[name].plural == referrer.plural for name in lists):
                    refused.append(listing)  # its rows are the items of a list that is hidden
                    continue
                listed = listing.json()["data"]
                for row in listed:
                    if row[hop] is not None:
                        assert (value_of(row[hop], field), row[hop]["redacted"]) == (None, told(resource, field))
                if "search" in referrer.operations and field in filters:
                    tree = {"field": f"{hop}.{field}", "op": "is_null", "value": False}
                    refused.append(person.post(f"/v1/{referrer.plural}/search", json={"filter": tree}))
        for name, many in referrer.many.items():
            if many.plural == resource.plural:
                brought = person.get(f"/v1/{referrer.plural}", params={"expand": name, "limit": 5})
                if many.column == field:  # which children a record has tells their hidden reference
                    problem(brought, 403)
                    continue
                for row in brought.json()["data"]:
                    for child in row[name]["data"]:
                        assert (value_of(child, field), child["redacted"]) == (None, told(resource, field))
    for answer in refused:
        assert code(answer) == (403, "forbidden"), (answer.request.url, answer.request.content, answer.text)
    entries = person.get("/v1/audit_log", params={"object_type": resource.singular, "limit": 50}).json()["data"]
    assert all(value_of(entry[side], field) is None for entry in entries for side in ("before", "after"))
    if custom is None:
        assert all(field not in entry[side] for entry in entries for side in ("before", "after"))
    assert all(field in entry["redacted"] for entry in entries)


SEARCHED = [name for name, item in CUSTOMS.items() if item.kind.searched]


@pytest.mark.parametrize(
    ("resource", "field"),
    [item for item in [*FIELDS, *OWN] if item.values[1] in (*item.values[0].search, *SEARCHED)],
)
def test_text_search_does_not_look_into_a_hidden_field(firm, resource, field):
    """The hidden value finds nothing, alone or with words of other fields; the other fields still find."""
    rule(firm, resource, field, "hidden")
    path = f"/v1/{resource.plural}"
    asked = 0
    for row in firm.admin.all(path, limit=200):
        names = [*resource.search, *(SEARCHED if resource is CUSTOMIZED else ())]
        texts = {name: fold(_text(value_of(row, name))) for name in names if value_of(row, name)}
        if field not in texts:
            continue
        others = " ".join(value for name, value in texts.items() if name != field)
        for word in texts[field].split()[:2]:
            if len(word) < 3:
                continue
            asked += 1
            for q in (word, f"{word} {next((w for w in others.split() if len(w) > 2), '')}".strip()):
                hits = {item["id"] for item in firm.rep.get(path, params={"q": q, "limit": 200}).json()["data"]}
                assert (row["id"] in hits) == all(part in others for part in fold(q).split()), (q, texts)
    assert asked


def _text(value) -> str:
    if isinstance(value, list):
        return " ".join(_text(item) for item in value)
    if isinstance(value, dict):
        return " ".join(_text(item) for item in value.values() if isinstance(item, str))
    return str(value)


@each("create", "update", where=lambda item: item.hideable)
def test_writes_to_hidden_and_read_only_fields_are_refused(firm, resource, unchanged):
    body = firm.examples.body(resource, 1)
    bare = firm.examples.body(resource, 1, bare=True)
    row = firm.examples.make(resource, 2)
    path = f"/v1/{resource.plural}/{row['id']}"
    fields = sorted(resource.hideable & set(resource.update.model_fields)) + sorted(customs(resource))
    body |= {PREFIX + key: value for key, value in firm.custom_values.items() if PREFIX + key in fields}
    for kind in ("hidden", "read_only"):
        rules = [{"resource": resource.plural, "field": field, "rule": kind} for field in fields]
        assert firm.admin.patch(f"/v1/roles/{firm.role_id}", json={"field_rules": rules}).status_code == 200
        with unchanged(firm):
            for field in fields:
                for value in (body.get(field), None):
                    answer = firm.rep.patch(path, json=setting(field, value))
                    assert code(answer) in ((403, "field_read_only"), (422, "invalid")), (field, answer.text)
                if body.get(field) not in (None, [], {}):
                    set_ = setting(field, body[field])
                    assert code(firm.rep.patch(path, json=set_)) == (403, "field_read_only"), field
                    answer = firm.rep.post(f"/v1/{resource.plural}", json={**bare, **set_})
                    assert code(answer) == (403, "field_read_only"), (field, answer.text)
        shown = firm.rep.get(path).json()
        if kind == "read_only":
            assert [value_of(shown, field) for field in fields] == [value_of(row, field) for field in fields]
            assert shown["redacted"] == []


@each("update", where=lambda item: item.hideable & set(item.update.model_fields if item.update else ()))
def test_a_precondition_that_fails_does_not_name_hidden_fields(firm, resource):
    body = firm.examples.body(resource, 1)
    texts = {
        name: value for name, value in body.items() if isinstance(value, str) and name in resource.update.model_fields
    }
    values = {name: texts[name] for name in sorted(resource.hideable & texts.keys())[:1]}
    values |= {name: firm.custom_values[name.removeprefix(PREFIX)] for name in customs(resource)}
    for field, value in values.items():
        row = firm.examples.make(resource, 2, bare=True)
        # what is checked together with the field may be refused for it, before versions are compared
        together = {field}.union(*(check.fields for check in resource.checks if field in check.fields))
        other = {name: text for name, text in texts.items() if name not in together and text != row[name]}
        if not other:
            continue
        path = f"/v1/{resource.plural}/{row['id']}"
        rule(firm, resource, field, "hidden")
        assert firm.admin.patch(path, json=setting(field, value)).status_code == 200
        answer = firm.rep.patch(path, json=other, headers={"If-Match": '"1"'})
        assert answer.status_code == 412, answer.text
        assert (answer.json()["current_version"], answer.json()["changed"]) == (2, []), field


@each("create", "update", where=lambda item: item.hideable & set(item.create.model_fields if item.create else ()))
def test_a_replay_does_not_show_what_is_hidden_by_now(firm, resource):
    body = firm.examples.body(resource, 1)
    if own := [*customs(resource)]:
        body[CUSTOM] = firm.custom_values
    fields = [name for name in sorted(resource.hideable) if body.get(name) not in (None, [], {})][:1] + own
    if not fields:
        return
    firm.admin.patch(f"/v1/roles/{firm.role_id}", json={"field_rules": []})
    headers = {"Idempotency-Key": f"hidden-{next(_numbers)}"}
    first = firm.rep.post(f"/v1/{resource.plural}", json=body, headers=headers)
    assert all(value_of(first.json(), field) is not None for field in fields)
    patch = {"Idempotency-Key": f"hidden-{next(_numbers)}"}
    path = f"/v1/{resource.plural}/{first.json()['id']}"
    text = next(
        name
        for name, value in body.items()
        if isinstance(value, str) and name in resource.update.model_fields and name not in fields
    )
    changed = {text: body[text]}
    second = firm.rep.patch(path, json=changed, headers=patch)
    assert all(value_of(second.json(), field) is not None for field in fields)
    for field in fields:
        rule(firm, resource, field, "hidden")
        again = firm.rep.post(f"/v1/{resource.plural}", json=body, headers=headers)
        if code(again) != (403, "field_read_only"):  # where the body names the field, before anything is looked up
            _replayed(again, resource, field)
        _replayed(firm.rep.patch(path, json=changed, headers=patch), resource, field)


def _replayed(answer, resource, field) -> None:
    assert answer.headers.get("idempotency-replayed") == "true", answer.text
    assert (value_of(answer.json(), field), answer.json()["redacted"]) == (None, told(resource, field))


@pytest.mark.parametrize("resource", [item for item in RESOURCES if item.hideable], ids=lambda item: item.plural)
def test_a_field_is_hidden_only_if_every_granting_role_hides_it(firm, resource):
    field = min(resource.hideable)
    rule(firm, resource, field, "hidden")
    path = f"/v1/{resource.plural}"
    assert firm.rep.get(path, params={"limit": 1}).json()["data"][0]["redacted"] == told(resource, field)
    open_ = firm.admin.make(
        "roles", name=f"Open {next(_numbers)}", permissions=[{"permission": f"{resource.plural}:read", "reach": "all"}]
    )
    held = firm.admin.make("role_assignments", principal_id=firm.rep.id, role_id=open_["id"])
    assert firm.rep.get(path, params={"limit": 1}).json()["data"][0]["redacted"] == []
    assert firm.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204
    assert firm.rep.get(path, params={"limit": 1}).json()["data"][0]["redacted"] == told(resource, field)


@each("get", where=lambda item: item.hideable and item.default_access)
def test_a_rule_holds_where_reading_comes_from_the_organisation_wide_default(firm, resource):
    field = min(resource.hideable)
    person = firm.person(
        f"defaulted{next(_numbers)}",
        firm.admin.make(
            "roles",
            name=f"Rule only {next(_numbers)}",
            permissions=[{"permission": "accounts:read", "reach": "own"}],
            field_rules=[{"resource": resource.plural, "field": field, "rule": "hidden"}],
        )["id"],
    )
    row = person.get(f"/v1/{resource.plural}", params={"limit": 1}).json()["data"][0]
    assert (row[field], row["redacted"]) == (None, told(resource, field))


@pytest.mark.parametrize(
    ("resource", "field"),
    [
        item
        for item in FIELDS
        if any(other is not item.values[0] and other.table is item.values[0].table for other in RESOURCES)
    ],
)
def test_a_field_hidden_on_one_resource_is_hidden_on_others_of_the_same_rows(firm, resource, field):
    rule(firm, resource, field, "hidden")
    mine = {row["id"] for row in firm.admin.all(f"/v1/{resource.plural}", limit=200)}
    for other in RESOURCES:
        if other is not resource and other.table is resource.table and field in other.hideable:
            for row in firm.rep.all(f"/v1/{other.plural}", limit=200):
                if row["id"] in mine:
                    assert row[field] is None, (other.plural, field)
