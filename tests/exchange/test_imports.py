"""Imports: what files may look like, what rows come to, who may do what, and the way back."""

import csv
import io
import json
import zipfile

import openpyxl
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from crm_api.kernel import feed
from tests.support.asking import code, fault
from tests.support.imports import begin, done, rows, run, send, table
from tests.support.jobs import wait, working
from tests.support.org import REPRESENTATIVE, Org

PEOPLE = [
    {"First": "José", "Last": "Núñez", "Mail": "jose@example.com", "Born": "1980-02-29", "Call": "yes"},
    {"First": "Eva", "Last": "Groß; Klein", "Mail": "", "Born": "", "Call": "no"},
]
MAPPING = [
    {"column": "First", "field": "first_name"},
    {"column": "Last", "field": "last_name"},
    {"column": "Mail", "field": "emails.0.address"},
    {"column": "Born", "field": "birthday"},
    {"column": "Call", "field": "do_not_contact"},
]
CONTACTS = {"resource": "contacts", "mapping": MAPPING}
NAMES = {"resource": "accounts", "mapping": [{"column": "name", "field": "name"}]}


@pytest.fixture(scope="module", autouse=True)
def worker(server):
    with working(server):
        yield


@pytest.fixture
def org(server):
    return Org.create(server)


def book(lines, sheet="People") -> bytes:
    made, content = openpyxl.Workbook(), io.BytesIO()
    made.active.title = sheet
    made.active.append([*lines[0]])
    for line in lines:
        made.active.append([*line.values()])
    made.save(content)
    return content.getvalue()


def semicolons(lines) -> str:
    text = io.StringIO()
    writer = csv.writer(text, delimiter=";")
    writer.writerows([[*lines[0]], *[[*line.values()] for line in lines]])
    return text.getvalue()


FILES = {
    "utf-8": ("csv", table(PEOPLE).encode()),
    "with a mark": ("csv", b"\xef\xbb\xbf" + table(PEOPLE).encode()),
    "windows-1252": ("csv", table(PEOPLE).encode("windows-1252")),
    "utf-16": ("csv", table(PEOPLE).encode("utf-16")),
    "semicolons": ("csv", semicolons(PEOPLE).encode()),
    "tabs": ("csv", "\r\n".join("\t".join(part) for part in ([*PEOPLE[0]], *(p.values() for p in PEOPLE))).encode()),
    "xlsx": ("xlsx", book(PEOPLE)),
    "ndjson": ("ndjson", "\n\n".join(json.dumps(person) for person in PEOPLE).encode()),
}


@pytest.mark.parametrize("name", FILES)
def test_files_of_every_kind_mean_the_same(org, name):
    form, content = FILES[name]
    made = done(org.rep, content, format=form, **CONTACTS)
    assert (made["state"], made["counts"]["created"], made["counts"]["rows"]) == ("applied", 2, 2)
    assert made["columns"] == [*PEOPLE[0]]
    sample = org.rep.get(f"/v1/imports/{made['id']}/sample").json()["data"]
    assert [line["Last"] for line in sample] == ["Núñez", "Groß; Klein"]
    eva, jose = org.rep.all("/v1/contacts", sort="last_name")
    assert (jose["first_name"], jose["last_name"], jose["birthday"]) == ("José", "Núñez", "1980-02-29")
    assert ([mail["address"] for mail in jose["emails"]], jose["do_not_contact"]) == (["jose@example.com"], True)
    assert (eva["last_name"], eva["emails"], eva["birthday"]) == ("Groß; Klein", [], None)
    assert {jose["owner_id"], eva["owner_id"]} == {org.rep.id}


def test_lines_of_json_need_no_mapping(org):
    lines = [{"last_name": "Abel", "tags": ["a", "b"], "emails": [{"address": "a@example.com"}]}, {"last_nam": "B"}]
    lines.append({"last_name": "C", "external_ids": {"nobody": "1"}})
    content = "\n".join([*map(json.dumps, lines), '{"last_name": "D", "last_name": "E"}'])
    made = begin(org.rep, content, resource="contacts", format="ndjson")
    made = run(org.rep, made, "validate")
    wrong = rows(org.rep, made, state="invalid")
    assert [(row["row"], [(p["column"], p["code"]) for p in row["problems"]]) for row in wrong] == [
        (2, [("last_name", "required"), ("last_nam", "unknown_field")]),
        (3, [("external_ids", "unknown_source")]),
        (4, [(None, "invalid_json")]),
    ]
    made = run(org.rep, made, "apply")
    (abel,) = org.rep.all("/v1/contacts")
    assert abel["tags"] == ["a", "b"]


def bomb() -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("xl/sharedStrings.xml", b" " * (65 * 2**20))
    return content.getvalue()


BAD_FILES = {
    "no xlsx": ("xlsx", b"PK\x03\x04 nothing", "unreadable_file"),
    "not a book": ("xlsx", b"name\nx", "unreadable_file"),
    "unpacks to too much": ("xlsx", bomb(), "limit_reached"),
    "no columns": ("csv", b"", "unreadable_file"),
    "an open quote": ("csv", b'name\n"' + b"x" * 200_000, "unreadable_file"),
    "too many columns": ("csv", ",".join(f"c{n}" for n in range(501)).encode(), "limit_reached"),
    "not the encoding it says": ("csv", b"name\n\xff\xfe\xfa", "unreadable_file"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_file_that_cannot_be_read_is_refused_at_once(org, name):
    form, content, expected = BAD_FILES[name]
    options = {"encoding": "utf-8"} if "encoding" in name else {}
    made = org.rep.post("/v1/imports", json={"name": "Bad", "format": form, **NAMES, **options}).json()
    answer = org.rep.put(f"/v1/imports/{made['id']}/content", content=content)
    assert answer.status_code in (409, 422), answer.text
    found = {answer.json()["code"], *(item["code"] for item in answer.json().get("errors", ()))}
    assert expected in found
    assert org.rep.get(f"/v1/imports/{made['id']}").json()["state"] == "created"


def test_all_that_is_wrong_is_said_with_row_and_column(org):
    lines = [
        {"name": "Good", "revenue": "1.234,50", "people": "12", "since": "31-12-99", "boss": "", "country": "España"},
        {"name": "", "revenue": "much", "people": "1,5", "since": "x", "boss": "Nobody", "country": "Atlantis"},
        {"name": "x" * 201, "revenue": "", "people": "-1", "since": "", "boss": "", "country": ""},
        {"name": "Nul\x00", "revenue": "", "people": "", "since": "", "boss": "", "country": ""},
    ]
    mapping = [
        {"column": "name", "field": "name"},
        {"column": "revenue", "field": "annual_revenue", "decimal": ","},
        {"column": "people", "field": "employees", "decimal": ","},
        {"column": "since", "field": "addresses.0.valid_from", "date_format": "DD-MM-YY"},
        {"column": "boss", "field": "owner_id", "by": "field", "target": "name"},
        {"column": "country", "field": "addresses.0.country"},
    ]
    content = table(lines) + "one,two,3,4,5,6,seven\n"
    made = run(org.admin, begin(org.admin, content, resource="accounts", mapping=mapping), "validate")
    assert (made["counts"]["rows"], made["counts"]["create"], made["counts"]["invalid"]) == (5, 1, 4)
    wrong = {
        row["row"]: [(p["column"], p["code"]) for p in row["problems"]]
        for row in rows(org.admin, made, state="invalid")
    }
    assert sorted(wrong[3]) == [
        ("country", "invalid_country"),
        ("people", "invalid_number"),
        ("revenue", "invalid_number"),
        ("since", "invalid_date"),
    ]
    assert wrong[4] == [("name", "string_too_long"), ("people", "greater_than_equal")]
    assert wrong[5] == [(None, "bad_value")]
    assert wrong[6] == [(None, "too_many_cells")]
    run(org.admin, made, "apply")
    (good,) = org.admin.all("/v1/accounts")
    assert (good["annual_revenue"], good["employees"], good["country"]) == ("1234.50", 12, "ES")
    assert good["addresses"][0]["valid_from"] == "1999-12-31"


def test_a_row_that_the_database_refuses_fails_alone(org):
    org.rep.make("accounts", name="There", tax_id="T-77")
    lines = [{"name": f"N {n}", "tax": f"T-{n}"} for n in range(120)]
    lines.append({"name": "Again", "tax": "T-3"})
    mapping = [{"column": "name", "field": "name"}, {"column": "tax", "field": "tax_id"}]
    made = done(org.rep, table(lines), resource="accounts", mapping=mapping)
    assert (made["counts"]["created"], made["counts"]["failed"]) == (119, 2)
    failed = rows(org.rep, made, state="failed")
    assert [(row["row"], row["problems"][0]["column"], row["problems"][0]["code"]) for row in failed] == [
        (79, "tax", "duplicate"),
        (122, "tax", "duplicate"),
    ]
    assert len(org.rep.all("/v1/accounts", limit=200)) == 120
    created = rows(org.rep, made, state="created", limit=50)
    assert {row["id"] for row in created} < {account["id"] for account in org.rep.all("/v1/accounts", limit=200)}


MATCHES = {
    "id": lambda account: ({"by": "id"}, {"column": "key", "field": "id"}, account["id"]),
    "tax id": lambda _: ({"by": "field", "field": "tax_id"}, {"column": "key", "field": "tax_id"}, "T-1"),
    "e-mail": lambda _: (
        {"by": "field", "field": "emails"},
        {"column": "key", "field": "emails.0.address"},
        "A@example.com",
    ),
    "external id": lambda _: (
        {"by": "external_id", "source": "erp"},
        {"column": "key", "field": "external_ids.erp"},
        "4711",
    ),
    "similarity": lambda _: ({"by": "similarity", "score": 50}, {"column": "key", "field": "description"}, "x"),
}


@pytest.mark.parametrize("mode", ["create", "skip", "update", "upsert"])
@pytest.mark.parametrize("way", MATCHES)
def test_rows_find_their_records(org, way, mode):
    org.admin.make("sources", code="erp", name="ERP")
    account = org.admin.make(
        "accounts", name="Acme Machines GmbH", tax_id="T-1", emails=[{"address": "a@example.com"}], tier="old"
    )
    org.admin.post(f"/v1/accounts/{account['id']}/link", json={"source": "erp", "external_id": "4711"})
    rule, entry, key = MATCHES[way](account)
    mapping = [entry, {"column": "name", "field": "name"}, {"column": "tier", "field": "tier"}]
    lines = [
        {"key": key, "name": "Acme Machines AG", "tier": "new"},
        {"key": "", "name": "Totally Different Zebra", "tier": "new"},
    ]
    made = begin(org.admin, table(lines), resource="accounts", mapping=mapping, match_on=[rule], mode=mode)
    made = run(org.admin, made, "validate")
    first, second = rows(org.admin, made)
    expected = {"create": "invalid", "skip": "skip", "update": "update", "upsert": "update"}[mode]
    assert (first["state"], second["state"]) == (expected, "skip" if mode == "update" else "create")
    if expected == "update":
        assert (first["id"], first["before"]["tier"]) == (account["id"], "old")
    made = run(org.admin, made, "apply")
    tiers = {item["name"]: item["tier"] for item in org.admin.all("/v1/accounts")}
    updated = mode in ("update", "upsert")
    assert tiers[("Acme Machines AG" if updated else "Acme Machines GmbH")] == ("new" if updated else "old")
    assert ("Totally Different Zebra" in tiers) == (mode != "update")


def test_two_rows_of_one_file_may_be_about_one_record(org):
    lines = [{"name": f"V {n}", "tax": f"T-{n % 3}", "tier": str(n)} for n in range(9)]
    mapping = [{"column": c, "field": f} for c, f in (("name", "name"), ("tax", "tax_id"), ("tier", "tier"))]
    rule = [{"by": "field", "field": "tax_id"}]
    made = done(org.rep, table(lines), resource="accounts", mapping=mapping, match_on=rule, mode="upsert")
    assert (made["counts"]["created"], made["counts"]["updated"]) == (3, 6)
    assert {a["tax_id"]: a["tier"] for a in org.rep.all("/v1/accounts")} == {"T-0": "6", "T-1": "7", "T-2": "8"}
    again = done(org.rep, table(lines[6:]), resource="accounts", mapping=mapping, match_on=rule, mode="upsert")
    assert again["counts"]["unchanged"] == 3
    back = run(org.rep, made, "revert")
    assert (back["counts"]["reverted"], back["counts"]["kept"]) == (9, 0)
    assert org.rep.all("/v1/accounts") == []


def test_references_by_name_external_id_and_within_the_file(org):
    org.admin.make("sources", code="erp", name="ERP")
    known = org.rep.make("accounts", name="Known")
    org.rep.post(f"/v1/accounts/{known['id']}/link", json={"source": "erp", "external_id": "K"})
    org.outsider.make("accounts", name="Hidden")
    for _ in range(2):
        org.rep.make("accounts", name="Twice")
    lines = [
        {"name": "Leaf", "key": "L", "parent": "M"},
        {"name": "Middle", "key": "M", "parent": "R"},
        {"name": "Root", "key": "R", "parent": "K"},
        {"name": "Lost", "key": "X", "parent": "nowhere"},
        {"name": "Ring one", "key": "O", "parent": "P"},
        {"name": "Ring two", "key": "P", "parent": "O"},
    ]
    mapping = [
        {"column": "name", "field": "name"},
        {"column": "key", "field": "external_ids.erp"},
        {"column": "parent", "field": "parent_id", "by": "external_id", "source": "erp"},
    ]
    made = run(org.rep, begin(org.rep, table(lines), resource="accounts", mapping=mapping), "validate")
    assert [row["row"] for row in rows(org.rep, made, state="invalid")] == [5]
    made = run(org.rep, made, "apply")
    assert (made["counts"]["created"], made["counts"]["failed"]) == (3, 2)
    assert {row["problems"][0]["code"] for row in rows(org.rep, made, state="failed")} == {"reference_not_found"}
    accounts = {account["name"]: account for account in org.rep.all("/v1/accounts")}
    assert accounts["Leaf"]["parent_id"] == accounts["Middle"]["id"]
    assert accounts["Root"]["parent_id"] == known["id"]
    assert accounts["Leaf"]["external_ids"] == {"erp": "L"}
    assert org.rep.get("/v1/accounts/ext:erp:L").json()["id"] == accounts["Leaf"]["id"]

    mapping = [
        {"column": "last", "field": "last_name"},
        {"column": "firm", "field": "account_id", "by": "field", "target": "name"},
    ]
    lines = [{"last": name, "firm": name} for name in ("Known", "Hidden", "Twice", "No such")]
    made = run(org.rep, begin(org.rep, table(lines), resource="contacts", mapping=mapping), "validate")
    assert [
        (row["values"]["last_name"], row["problems"][0]["code"]) for row in rows(org.rep, made, state="invalid")
    ] == [
        ("Hidden", "reference_not_found"),
        ("Twice", "ambiguous_reference"),
        ("No such", "reference_not_found"),
    ]


def test_nobody_imports_what_they_could_not_write(org):
    body = {"name": "Mine", **NAMES}
    assert code(org.reader.post("/v1/imports", json=body)) == (403, "forbidden")
    assert fault(org.rep.post("/v1/imports", json={**body, "resource": "audit_entries"})) == [
        ("/resource", "invalid_value")
    ]
    wrong = {**body, "mapping": [{"column": "a", "field": "version"}]}
    assert fault(org.rep.post("/v1/imports", json=wrong)) == [("/mapping/0/field", "unknown_field")]
    wrong = {**body, "mapping": [{"column": "a", "field": "owner_id", "by": "field", "target": "time_zone"}]}
    assert fault(org.rep.post("/v1/imports", json=wrong)) == [("/mapping/0/target", "invalid_value")]
    wrong = {**body, "mapping": [{"column": "a", "field": "owner_id", "by": "external_id", "source": "sap"}]}
    assert fault(org.rep.post("/v1/imports", json=wrong)) == [("/mapping/0/source", "unknown_source")]
    wrong = {**body, "mapping": [{"column": name, "field": "name"} for name in "ab"]}
    assert fault(org.rep.post("/v1/imports", json=wrong)) == [("/mapping/1/field", "duplicate_field")]
    wrong = {**body, "match_on": [{"by": "field", "field": "version"}]}
    assert fault(org.rep.post("/v1/imports", json=wrong)) == [("/match_on/0", "invalid_value")]
    made = begin(org.rep, "name\nA\n", **NAMES)
    for person, expected in ((org.colleague, 404), (org.manager, 404), (org.admin, 403)):
        for path in ("rows", "result", "sample"):
            assert person.get(f"/v1/imports/{made['id']}/{path}").status_code == expected, path
        assert person.put(f"/v1/imports/{made['id']}/content", content=b"name\nB").status_code == expected
    assert code(org.admin.post(f"/v1/imports/{made['id']}/validate")) == (409, "transition_refused")
    lines = [{"name": "For me", "owner": ""}, {"name": "For another", "owner": org.outsider.id}]
    mapping = [{"column": "name", "field": "name"}, {"column": "owner", "field": "owner_id"}]
    made = done(org.rep, table(lines), resource="accounts", mapping=mapping)
    (failed,) = rows(org.rep, made, state="failed")
    assert (failed["values"]["name"], failed["problems"][0]["code"]) == ("For another", "forbidden")
    assert [account["name"] for account in org.rep.all("/v1/accounts")] == ["For me"]


def test_each_verb_has_its_time(org):
    made = org.rep.post("/v1/imports", json={"name": "Early", **NAMES}).json()
    for verb in ("validate", "apply", "revert"):
        assert code(org.rep.post(f"/v1/imports/{made['id']}/{verb}")) == (409, "transition_refused")
    made = send(org.rep, made, "name\nA\nB\n")
    mapping = [*NAMES["mapping"], {"column": "nope", "field": "industry"}]
    assert org.rep.patch(f"/v1/imports/{made['id']}", json={"mapping": mapping}).status_code == 200
    refused = org.rep.post(f"/v1/imports/{made['id']}/validate")
    assert fault(refused) == [("/mapping/1/column", "unknown_column")]
    assert org.rep.patch(f"/v1/imports/{made['id']}", json={"mapping": NAMES["mapping"]}).status_code == 200
    made = run(org.rep, made, "validate")
    assert org.rep.patch(f"/v1/imports/{made['id']}", json={"nulls": ["B"]}).status_code == 200
    assert code(org.rep.post(f"/v1/imports/{made['id']}/apply")) == (409, "transition_refused")
    made = run(org.rep, made, "validate")
    assert (made["counts"]["create"], made["counts"]["invalid"]) == (1, 1)
    made = run(org.rep, made, "apply")
    assert code(org.rep.patch(f"/v1/imports/{made['id']}", json={"nulls": []})) == (409, "transition_refused")
    assert org.rep.put(f"/v1/imports/{made['id']}/content", content=b"name\nC").status_code == 409
    assert code(org.rep.post(f"/v1/imports/{made['id']}/validate")) == (409, "transition_refused")
    made = run(org.rep, made, "revert")
    assert code(org.rep.post(f"/v1/imports/{made['id']}/apply")) == (409, "transition_refused")
    assert org.rep.delete(f"/v1/imports/{made['id']}").status_code == 204


def test_an_import_that_was_stopped_goes_on(org):
    lines = [{"name": f"N {n}"} for n in range(1500)]
    made = begin(org.rep, table(lines), rows_per_second=1_000, **NAMES)
    assert org.rep.patch(f"/v1/imports/{made['id']}", json={"rows_per_second": None}).status_code == 200
    made = run(org.rep, made, "validate")
    assert org.rep.patch(f"/v1/imports/{made['id']}", json={"rows_per_second": 1_000}).status_code == 200
    job = org.rep.post(f"/v1/imports/{made['id']}/apply").json()
    assert code(org.rep.post(f"/v1/imports/{made['id']}/apply")) == (409, "transition_refused")
    assert code(org.rep.delete(f"/v1/imports/{made['id']}")) == (409, "transition_refused")
    while not (job := org.rep.get(f"/v1/jobs/{job['id']}").json())["done"]:
        assert job["state"] in ("queued", "running")
    assert org.rep.post(f"/v1/jobs/{job['id']}/cancel").status_code == 200
    assert wait(org.rep, job)["state"] == "cancelled"
    before = len(org.rep.all("/v1/accounts", limit=200))
    assert 0 < before < 1500
    assert org.rep.get(f"/v1/imports/{made['id']}").json()["state"] == "applying"
    assert org.rep.patch(f"/v1/imports/{made['id']}", json={"rows_per_second": 90_000}).status_code == 200
    made = run(org.rep, made, "apply")
    assert (made["state"], made["counts"]["created"]) == ("applied", 1500)
    assert len({account["name"] for account in org.rep.all("/v1/accounts", limit=200)}) == 1500


def test_what_others_changed_since_is_kept(org):
    old = org.rep.make("accounts", name="Old", tier="a", tax_id="T-0")
    lines = [{"name": name, "tax": f"T-{n}", "tier": "b"} for n, name in enumerate(("Old", "One", "Two", "Three"))]
    mapping = [{"column": c, "field": f} for c, f in (("name", "name"), ("tax", "tax_id"), ("tier", "tier"))]
    rule = [{"by": "field", "field": "tax_id"}]
    made = done(org.rep, table(lines), resource="accounts", mapping=mapping, match_on=rule, mode="upsert")
    ids = {row["values"]["name"]: row["id"] for row in rows(org.rep, made)}
    assert ids["Old"] == old["id"]
    org.rep.patch(f"/v1/accounts/{ids['One']}", json={"source": "changed"})
    org.rep.patch(f"/v1/accounts/{ids['Two']}", json={"source": "changed"})
    org.rep.patch(f"/v1/accounts/{ids['Two']}", json={"source": None})
    org.rep.delete(f"/v1/accounts/{ids['Three']}")
    made = run(org.rep, made, "revert")
    assert (made["counts"]["reverted"], made["counts"]["kept"]) == (2, 2)
    kept = {row["values"]["name"]: row["problems"][0]["code"] for row in rows(org.rep, made, state="kept")}
    assert kept == {"One": "changed_since", "Three": "gone"}
    assert {account["name"]: account["tier"] for account in org.rep.all("/v1/accounts")} == {"Old": "a", "One": "b"}


def test_the_result_has_a_line_for_each_row(org):
    made = done(org.rep, "name\nGood\n=cmd\n" + "x" * 300 + "\n", **NAMES)
    answer = org.rep.get(f"/v1/imports/{made['id']}/result")
    assert answer.headers["content-type"].startswith("text/csv")
    lines = list(csv.DictReader(io.StringIO(answer.text, newline="")))
    assert [(line["row"], line["state"], line["column"], line["code"]) for line in lines] == [
        ("2", "created", "", ""),
        ("3", "created", "", ""),
        ("4", "invalid", "name", "string_too_long"),
    ]
    assert {line["id"] for line in lines[:2]} == {account["id"] for account in org.rep.all("/v1/accounts")}


def test_audit_and_events_are_those_of_single_writes(org):
    cursor = org.rep.get("/v1/changes/cursor").json()["cursor"]
    single = org.rep.make("accounts", name="Single", emails=[{"address": "s@example.com"}], employees=7)
    lines = [{"name": "Bulk", "mail": "b@example.com", "people": "7"}]
    mapping = [
        {"column": "name", "field": "name"},
        {"column": "mail", "field": "emails.0.address"},
        {"column": "people", "field": "employees"},
    ]
    made = done(org.rep, table([*lines, {**lines[0], "name": "Other"}]), resource="accounts", mapping=mapping)
    bulk = next(account for account in org.rep.all("/v1/accounts") if account["name"] == "Bulk")
    same = {"id", "created_at", "updated_at", "name", "emails"}
    assert {k: v for k, v in bulk.items() if k not in same} == {k: v for k, v in single.items() if k not in same}
    assert {a["name"] for a in org.rep.all("/v1/accounts", q="bulk")} == {"Bulk"}
    assert {a["name"] for a in org.rep.all("/v1/accounts", emails="b@example.com")} == {"Bulk", "Other"}
    audit = org.admin.all("/v1/audit_log", object_id=bulk["id"])
    assert [(entry["action"], entry["version"], entry["actor_id"]) for entry in audit] == [("create", 1, org.rep.id)]
    while any(org.server.run(feed.sequence(org.server.kernel))):
        pass
    page = org.rep.get("/v1/changes", params={"since": cursor, "types": "account.*"}).json()
    mine = [event for event in page["data"] if event["object"]["id"] == bulk["id"]]
    assert [event["type"] for event in mine] == ["account.created"]
    assert mine[0]["origin"]["via"] == "import"
    assert mine[0]["origin"]["cause"]["import_id"] == made["id"]


def test_hidden_fields_stay_hidden_in_rows(org):
    account = org.rep.make("accounts", name="Secret", tax_id="T-1", credit_limit="5.00")
    lines = [{"tax": "T-1", "limit": "9.00"}]
    mapping = [{"column": "tax", "field": "tax_id"}, {"column": "limit", "field": "credit_limit"}]
    made = done(
        org.rep,
        table(lines),
        resource="accounts",
        mapping=mapping,
        match_on=[{"by": "field", "field": "tax_id"}],
        mode="update",
    )
    (row,) = rows(org.rep, made)
    assert (row["state"], row["before"], row["id"]) == ("updated", {"credit_limit": "5.00"}, account["id"])
    role = next(role for role in org.admin.all("/v1/roles") if role["id"] == org.roles[REPRESENTATIVE])
    rule = {"resource": "accounts", "field": "credit_limit", "rule": "hidden"}
    changed = org.admin.patch(f"/v1/roles/{role['id']}", json={"field_rules": [*role["field_rules"], rule]})
    assert changed.status_code == 200, changed.text
    (row,) = rows(org.rep, made)
    assert (row["values"], row["before"]) == ({"tax_id": "T-1"}, {})
    assert code(org.rep.post(f"/v1/imports/{made['id']}/revert"))[0] == 403


def state_of(person) -> dict[str, dict]:
    """All accounts as they are, but for the stamps that any write moves."""
    stamps = ("version", "updated_at", "updated_by")
    found = person.all("/v1/accounts", limit=200)
    return {item["id"]: {name: value for name, value in item.items() if name not in stamps} for item in found}


KEYS = st.sampled_from([f"T-{letter}" for letter in "abcdef"])
ACCOUNT = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["Acme", "Ñandú", "Zoo"]),
        "tax": KEYS,
        "tier": st.sampled_from(["", "A", "B"]),
        "revenue": st.sampled_from(["", "10", "-2.5000", "99999999.9999"]),
        "mail": st.sampled_from(["", "x@example.com", "y@example.com"]),
        "key": st.one_of(st.just(""), KEYS),
    }
)
FIELDS = {
    "name": "name",
    "tax": "tax_id",
    "tier": "tier",
    "revenue": "annual_revenue",
    "mail": "emails.0.address",
    "key": "external_ids.erp",
}


@pytest.fixture(scope="module")
def random_org(server):
    org = Org.create(server)
    org.admin.make("sources", code="erp", name="ERP")
    return org


def _line(tax, key, name="Acme"):
    return {"name": name, "tax": tax, "tier": "", "revenue": "", "mail": "", "key": key}


# The second row is refused; so the third is applied alone, and ties its record in a version of its own.
@example(
    present=[_line("T-b", "")],
    lines=[_line("T-b", "T-c"), _line("T-b", "T-d"), _line("T-a", "T-a"), _line("T-a", "", "Zoo")],
    mode="upsert",
    by=[{"by": "field", "field": "tax_id"}],
)
@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    present=st.lists(ACCOUNT, max_size=4, unique_by=lambda item: item["tax"]),
    lines=st.lists(ACCOUNT, min_size=1, max_size=12),
    mode=st.sampled_from(["create", "skip", "update", "upsert"]),
    by=st.sampled_from([[], [{"by": "field", "field": "tax_id"}], [{"by": "external_id", "source": "erp"}]]),
)
def test_after_reverting_all_is_as_it_was(random_org, present, lines, mode, by):
    person = random_org.rep
    for item in present:
        person.make("accounts", name=item["name"], tax_id=item["tax"], tier=item["tier"] or None)
    before = state_of(person)
    mapping = [{"column": column, "field": field} for column, field in FIELDS.items()]
    made = done(person, table(lines), resource="accounts", mapping=mapping, mode=mode, match_on=by)
    counts = made["counts"]
    assert counts["rows"] == len(lines) == sum(counts.values()) - counts["rows"]
    back = run(person, made, "revert")
    assert (back["counts"]["kept"], back["counts"]["reverted"]) == (0, counts["created"] + counts["updated"])
    assert state_of(person) == before
    for id_ in before:
        assert person.delete(f"/v1/accounts/{id_}").status_code == 204
