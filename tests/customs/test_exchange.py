"""Custom fields of every kind in imports and exports, and what of that a person sees from whom some are hidden."""

import csv
import io
import json

import pytest

from tests.customs.kinds import BY_KIND, EXAMPLES, NOBODY
from tests.support.imports import begin, done, rows, run, table
from tests.support.jobs import wait, working
from tests.support.org import Org

ASKED = ("text", "money", "multi_choice", "reference")
"""Kinds that stand for the others in `make test`."""
KINDS = [
    pytest.param(example, id=example.kind, marks=[] if example.kind in ASKED else pytest.mark.broad)
    for example in EXAMPLES
]


@pytest.fixture(scope="module", autouse=True)
def worker(server):
    with working(server):
        yield


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    for example in EXAMPLES:
        unique = example.kind in ("text", "number", "decimal", "url", "email", "phone")
        org.admin.make(
            "custom_fields",
            resource="contacts",
            key=f"my_{example.kind}",
            kind=example.kind,
            label=f"Label of {example.kind}",
            is_unique=unique,
            **example.definition,
        )
    return org


@pytest.fixture(scope="module")
def target(org):
    return org.admin.make("accounts", name="The target", tax_id="T-1")["id"]


def there(name):
    return {"field": name, "op": "is_null", "value": False}


BAD = {
    "text": "x" * 501,
    "long_text": "x" * 10_001,
    "number": "1.5",
    "decimal": "1.0000001",
    "money": "much",
    "date": "2026-02-30",
    "instant": "2026-13-01T00:00:00Z",
    "boolean": "perhaps",
    "choice": "lead",
    "multi_choice": "gold; lead",
    "reference": NOBODY,
    "url": "ftp://a.example",
    "email": "a@",
    "phone": "+49",
}
"""A cell for each kind that it does not take."""


def text_of(value):
    """A value as people write it into a cell."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "; ".join(value) if isinstance(value, list) else str(value)


def exported(person, **body):
    job = wait(person, person.post("/v1/exports", json={"resource": "contacts", **body}).json(), seconds=60)
    assert job["state"] == "succeeded", job
    link = person.post(f"/v1/exports/{job['id']}/download_link").json()
    return job["result"], link


def lines_of(text, form):
    return [*csv.DictReader(io.StringIO(text))] if form == "csv" else [*map(json.loads, text.splitlines())]


def content(person, link):
    answer = person.get(link["url"])
    assert answer.status_code == 200, answer.text
    return answer.text


@pytest.mark.parametrize("example", KINDS)
def test_cells_become_values_and_values_cells(org, target, example):
    key, name = f"my_{example.kind}", f"custom.my_{example.kind}"
    values = example.values or (target,)
    lines = [{"who": f"in {key}", "what": text_of(value)} for value in values] + [{"who": f"in {key}", "what": ""}]
    mapping = [{"column": "who", "field": "last_name"}, {"column": "what", "field": name}]
    made = done(org.admin, table(lines), resource="contacts", mapping=mapping, allow_duplicates=True)
    assert made["counts"]["created"] == len(lines), rows(org.admin, made)
    found = org.admin.all("/v1/contacts", last_name=f"in {key}")
    told = [row["custom"][key] for row in found if row["custom"]]
    assert sorted(map(str, told)) == sorted(map(str, values))
    if example.kind != "long_text":
        lists = example.kind == "multi_choice"
        filtered = {"field": name, "op": "any", "value": ["bronze", "silver"]} if lists else there(name)
        tree = {"and": [{"field": "last_name", "value": f"in {key}"}, filtered]}
        sort = [] if example.kind in ("multi_choice", "reference") else [f"-{name}"]
        result, link = exported(org.admin, fields=["last_name", name], filter=tree, sort=sort)
        assert result["fields"] == ["last_name", name]
        cells = [line[name] for line in csv.DictReader(io.StringIO(content(org.admin, link)))]
        expected = [json.loads(c) if example.kind == "multi_choice" else c.removeprefix("'") for c in cells]
        kept = [str(v).lower() if isinstance(v, bool) else v if isinstance(v, list) else str(v) for v in values[::-1]]
        assert expected == kept if sort else sorted(map(str, expected)) == sorted(map(str, kept))
    reverted = run(org.admin, made, "revert")
    assert reverted["counts"]["reverted"] == len(lines), rows(org.admin, made)


LISTS = (["bronze", "gold"], ["silver"], [])
LISTED = (["referral", "trade-fair-2026"], ["with; both, signs", 'a "word"', "[x]"], [])


@pytest.mark.parametrize("form", ["csv", "xlsx"])
def test_lists_that_were_exported_are_imported_as_they_were(org, form):
    named = f"listed {form}"
    fields = ["last_name", "tags", "emails", "custom.my_multi_choice"]
    made = [
        org.admin.make(
            "contacts",
            last_name=named,
            tags=tags,
            emails=[{"address": f"{n}{i}.{form}@example.com"} for i in range(n)],
            custom={"my_multi_choice": words},
        )
        for n, (tags, words) in enumerate(zip(LISTED, LISTS, strict=True))
    ]
    tree = {"field": "last_name", "value": named}
    _, link = exported(org.admin, fields=["id", *fields], filter=tree, format=form)
    file = org.admin.get(link["url"]).content
    for row in made:
        body = {"tags": ["gone"], "emails": [], "custom": {"my_multi_choice": ["bronze"]}}
        assert org.admin.patch(f"/v1/contacts/{row['id']}", json=body).status_code == 200
    mapping = [{"column": name, "field": name} for name in ("id", *fields)]
    settings = {"resource": "contacts", "mapping": mapping, "match_on": [{"by": "id"}], "mode": "update"}
    back = done(org.admin, file, format=form, **settings)
    assert back["counts"]["updated"] == len(made), rows(org.admin, back)
    for row in made:
        now = org.admin.get(f"/v1/contacts/{row['id']}").json()
        assert (now["tags"], now["emails"], now["custom"]) == (row["tags"], row["emails"], row["custom"])


@pytest.mark.parametrize(
    ("cell", "tags"),
    [("a; b", ["a", "b"]), ("[a]; b", ["[a]", "b"]), ("[draft", ["[draft"]), ('["a", "b; c"]', ["a", "b; c"])],
)
def test_a_cell_is_a_json_list_or_words_with_a_separator(org, cell, tags):
    mapping = [{"column": "who", "field": "last_name"}, {"column": "tags", "field": "tags"}]
    who = f"cell {cell}"
    made = done(org.admin, table([{"who": who, "tags": cell}]), resource="contacts", mapping=mapping)
    assert made["counts"]["created"] == 1, rows(org.admin, made)
    assert [row["tags"] for row in org.admin.all("/v1/contacts", last_name=who)] == [tags]


@pytest.mark.parametrize(
    ("field", "cell"),
    [
        ("tags", "[1]"),
        ("tags", '[{"a": 1}]'),
        ("custom.my_multi_choice", "[[]]"),
        ("emails", '[{"address": "odd@example.com"}, 5]'),
    ],
)
def test_items_of_another_kind_are_a_problem_of_the_row(org, field, cell):
    mapping = [{"column": "who", "field": "last_name"}, {"column": "what", "field": field}]
    lines = table([{"who": "odd", "what": cell}])
    made = run(org.admin, begin(org.admin, lines, resource="contacts", mapping=mapping), "validate")
    (row,) = rows(org.admin, made, state="invalid")
    assert row["problems"][0]["column"] == "what"


@pytest.mark.parametrize("example", KINDS)
def test_what_does_not_fit_is_said_with_row_and_column(org, example):
    name = f"custom.my_{example.kind}"
    lines = [{"who": "bad", "what": BAD[example.kind]}]
    mapping = [{"column": "who", "field": "last_name"}, {"column": "what", "field": name}]
    made = run(org.admin, begin(org.admin, table(lines), resource="contacts", mapping=mapping), "validate")
    (row,) = rows(org.admin, made, state="invalid")
    (problem,) = row["problems"]
    assert (problem["row"], problem["column"]) == (2, "what")
    assert problem["pointer"].startswith(f"/custom/my_{example.kind}")


def test_columns_are_suggested_by_key_and_by_label(org):
    line = {"Last name": "x", "my_number": "1", "Label of choice": "gold", "custom.my_date": "2026-01-01"}
    made = begin(org.admin, table([line]), resource="contacts")
    assert {item["column"]: item["field"] for item in made["suggestions"]} == {
        "Last name": "last_name",
        "my_number": "custom.my_number",
        "Label of choice": "custom.my_choice",
        "custom.my_date": "custom.my_date",
    }


@pytest.mark.parametrize("kind", ["text", "number", "decimal", "url", "email", "phone"])
def test_rows_find_records_by_a_unique_field(org, kind):
    key, value = f"my_{kind}", BY_KIND[kind].values[-1]
    there = org.admin.make("contacts", last_name=f"found by {kind}", custom={key: value, "my_boolean": True})
    mapping = [
        {"column": "key", "field": f"custom.{key}"},
        {"column": "name", "field": "last_name"},
        {"column": "grade", "field": "custom.my_choice"},
    ]
    match = [{"by": "field", "field": f"custom.{key}"}]
    settings = {"resource": "contacts", "mapping": mapping, "match_on": match, "mode": "upsert"}
    made = done(org.admin, table([{"key": text_of(value), "name": f"now {kind}", "grade": "Gold"}]), **settings)
    assert made["counts"]["updated"] == 1, rows(org.admin, made)
    url = f"/v1/contacts/{there['id']}"
    merged = org.admin.get(url).json()
    assert merged["custom"] == {key: value, "my_boolean": True, "my_choice": "gold"}
    org.admin.patch(url, json={"custom": {"my_boolean": False}})
    assert run(org.admin, made, "revert")["counts"]["reverted"] == 1, rows(org.admin, made)
    back = org.admin.get(url).json()
    assert (back["last_name"], back["custom"]) == (f"found by {kind}", {key: value, "my_boolean": False})
    assert org.admin.delete(url).status_code == 204


def test_a_later_change_of_the_same_field_stays(org):
    there = org.admin.make("contacts", last_name="kept", custom={"my_text": "kept"})
    mapping = [{"column": "id", "field": "id"}, {"column": "grade", "field": "custom.my_choice"}]
    settings = {"resource": "contacts", "mapping": mapping, "match_on": [{"by": "id"}], "mode": "update"}
    made = done(org.admin, table([{"id": there["id"], "grade": "gold"}]), **settings)
    org.admin.patch(f"/v1/contacts/{there['id']}", json={"custom": {"my_choice": "silver"}})
    run(org.admin, made, "revert")
    (row,) = rows(org.admin, made, state="kept")
    assert "custom.my_choice" in row["problems"][0]["detail"]
    assert org.admin.get(f"/v1/contacts/{there['id']}").json()["custom"]["my_choice"] == "silver"


def test_a_created_record_whose_custom_field_changed_since_stays(org):
    mapping = [{"column": "who", "field": "last_name"}, {"column": "grade", "field": "custom.my_choice"}]
    made = done(org.admin, table([{"who": "grown", "grade": "gold"}]), resource="contacts", mapping=mapping)
    (row,) = org.admin.all("/v1/contacts", last_name="grown")
    org.admin.patch(f"/v1/contacts/{row['id']}", json={"custom": {"my_number": 77}})
    assert run(org.admin, made, "revert")["counts"]["kept"] == 1
    assert org.admin.get(f"/v1/contacts/{row['id']}").status_code == 200


def test_two_rows_with_one_unique_value_leave_the_second(org):
    mapping = [{"column": "who", "field": "last_name"}, {"column": "n", "field": "custom.my_number"}]
    lines = [{"who": f"twin {n}", "n": str(n)} for n in (501, 502, 501)]
    made = done(org.admin, table(lines), resource="contacts", mapping=mapping)
    assert (made["counts"]["created"], made["counts"]["failed"]) == (2, 1)
    (row,) = rows(org.admin, made, state="failed")
    assert (row["row"], row["problems"][0]["column"], row["problems"][0]["code"]) == (4, "n", "duplicate")


def test_a_reference_is_named_by_a_field_of_its_record(org, target):
    mapping = [
        {"column": "who", "field": "last_name"},
        {"column": "of", "field": "custom.my_reference", "by": "field", "target": "tax_id"},
    ]
    lines = [{"who": "led", "of": "T-1"}, {"who": "lost", "of": "T-2"}]
    made = done(org.admin, table(lines), resource="contacts", mapping=mapping)
    (row,) = org.admin.all("/v1/contacts", last_name="led")
    assert row["custom"] == {"my_reference": target}
    (lost,) = rows(org.admin, made, state="invalid")
    assert [(p["column"], p["code"], p["pointer"]) for p in lost["problems"]] == [
        ("of", "reference_not_found", "/custom/my_reference")
    ]


def test_what_is_required_is_asked_of_new_records_alone(org):
    for key in ("must", "other"):
        org.admin.make("custom_fields", resource="accounts", key=key, kind="text", label=key, is_required=key == "must")
    there = org.admin.make("accounts", name="Old", custom={"must": "x"})
    mapping = [
        {"column": "id", "field": "id"},
        {"column": "name", "field": "name"},
        {"column": "o", "field": "custom.other"},
    ]
    lines = [{"id": there["id"], "name": "Old", "o": "y"}, {"id": "", "name": "New", "o": "z"}]
    settings = {"resource": "accounts", "mapping": mapping, "match_on": [{"by": "id"}], "mode": "upsert"}
    made = done(org.admin, table(lines), **settings)
    (row,) = rows(org.admin, made, state="invalid")
    assert [(p["column"], p["code"], p["pointer"]) for p in row["problems"]] == [(None, "required", "/custom/must")]
    assert org.admin.get(f"/v1/accounts/{there['id']}").json()["custom"] == {"must": "x", "other": "y"}


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"mapping": [{"column": "who", "field": "custom.nothing"}]}, "unknown_field"),
        ({"mapping": [{"column": "who", "field": "custom"}]}, "unknown_field"),
        (
            {"mapping": [{"column": "who", "field": "custom.my_text", "by": "field", "target": "name"}]},
            "invalid_value",
        ),
        ({"match_on": [{"by": "field", "field": "custom.my_choice"}]}, "invalid_value"),
        ({"match_on": [{"by": "field", "field": "custom.nothing"}]}, "invalid_value"),
    ],
)
def test_settings_that_lead_nowhere_are_refused(org, settings, code):
    answer = org.admin.post("/v1/imports", json={"name": "x", "resource": "contacts", **settings})
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["code"] == code


RIGHTS = (("contacts:*", "all"), ("accounts:read", "all"), ("imports:*", "own"), ("exports:*", "own"))


@pytest.mark.parametrize("example", KINDS)
def test_a_hidden_field_is_in_no_import_and_no_export(org, target, example):
    key, name = f"my_{example.kind}", f"custom.my_{example.kind}"
    rights = [*RIGHTS, ("jobs:*", "own")]
    role = org.role(f"exchange {key}", *rights)
    person = org.person(f"exchange_{example.kind}", role)
    value = example.values[1 if len(example.values) > 1 else 0] if example.values else target
    org.admin.make("contacts", last_name=f"hush {key}", custom={key: value})
    lines = [{"who": f"seen {key}", "what": text_of(example.values[0] if example.values else target)}]
    mapping = [{"column": "who", "field": "last_name"}, {"column": "what", "field": name}]
    before = done(person, table(lines), resource="contacts", mapping=mapping)
    assert before["counts"]["created"] == 1, rows(person, before)
    assert key in rows(person, before)[0]["values"]["custom"]
    only = {"field": "last_name", "value": f"hush {key}"}
    _, whole = exported(person, filter=only, format="ndjson")
    _, columns = exported(person, filter=only)
    assert content(person, whole)
    assert content(person, columns)
    rules = [{"resource": "contacts", "field": name, "rule": "hidden"}]
    assert org.admin.patch(f"/v1/roles/{role}", json={"field_rules": rules}).status_code == 200
    assert rows(person, before)[0]["values"] == {"last_name": f"seen {key}", "custom": {}}
    for link in (whole, columns):
        assert person.get(link["url"]).status_code == 403
    for body in ({"fields": [name]}, {"sort": [name]}):
        if "sort" in body and example.kind in ("long_text", "multi_choice", "reference"):
            continue
        assert person.post("/v1/exports", json={"resource": "contacts", **body}).status_code == 403
    for form in ("csv", "ndjson"):
        result, link = exported(person, filter=only, format=form)
        (line,) = lines_of(content(person, link), form)
        assert name not in result["fields"]
        assert line["last_name"] == f"hush {key}"
        assert name not in line
        assert line.get("custom", {}) == {}
    late = begin(person, table(lines), resource="contacts", mapping=mapping)
    refused = person.post(f"/v1/imports/{late['id']}/validate")
    assert refused.status_code == 403
    assert refused.json()["errors"][0]["pointer"] == f"/custom/{key}"
    line = {"last_name": "x", "custom": {key: value}}
    sly = run(person, begin(person, json.dumps(line), resource="contacts", format="ndjson"), "validate")
    applied = run(person, sly, "apply")
    (row,) = rows(person, applied, state="failed")
    assert [(p["code"], p["pointer"]) for p in row["problems"]] == []
    match = {"resource": "contacts", "name": "x", "match_on": [{"by": "field", "field": name}]}
    if example.kind in ("text", "number", "decimal", "url", "email", "phone"):
        assert person.post("/v1/imports", json=match).status_code == 403
