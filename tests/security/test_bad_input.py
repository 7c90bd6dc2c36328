"""Input that no honest client sends: refused with a problem that says why; nothing is written, nothing breaks."""

import json
import secrets
import socket
import threading
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.org import Org
from tests.support.problems import problem, read_answer, request_bytes, send_raw

JSON = {"Content-Type": "application/json"}


@pytest.fixture(scope="module")
def crm(shared_org) -> Org:
    """A tenant with one account of `rep`; every test of this module leaves `rep`'s rows as they were."""
    shared_org.account = shared_org.rep.make("accounts", name="Bastion")
    return shared_org


@pytest.fixture
def untouched(crm):
    """Fails the test when it changed or added an account of the tenant."""
    before = crm.admin.all("/v1/accounts", limit=200)
    yield
    assert crm.admin.all("/v1/accounts", limit=200) == before


def raw(crm: Org, method: str, target: str | bytes, headers: list[tuple[str, str]] | None = None, body: bytes = b""):
    auth = [("Authorization", f"Bearer {crm.rep.key}")]
    return send_raw(crm.server.base_url, request_bytes(method, target, [*auth, *(headers or [])], body))


# ---------------------------------------------------------------- bodies

MALFORMED = {
    "empty": b"",
    "space": b"  ",
    "half": b'{"name": "x"',
    "single quotes": b"{'name': 'x'}",
    "trailing comma": b'{"name": "x",}',
    "two values": b'{"name": "x"}{"name": "y"}',
    "comment": b'{"name": "x"} // y',
    "duplicate key": b'{"name": "x", "name": "y"}',
    "duplicate key inside": b'{"name": "x", "addresses": [{"city": "a", "city": "b"}]}',
    "duplicate key, one escaped": b'{"name": "x", "n\\u0061me": "y"}',
    "NaN": b'{"name": "x", "employees": NaN}',
    "Infinity": b'{"name": "x", "employees": Infinity}',
    "-Infinity": b'{"name": "x", "annual_revenue": -Infinity}',
    "lone surrogate, escaped": b'{"name": "a\\ud800b"}',
    "reversed surrogates, escaped": b'{"name": "\\udc00\\ud800"}',
    "lone surrogate, raw": b'{"name": "a\xed\xa0\x80b"}',
    "invalid UTF-8": b'{"name": "a\xff\xfeb"}',
    "overlong UTF-8": b'{"name": "a\xc0\x80b"}',
    "UTF-16": '{"name": "x"}'.encode("utf-16"),
    "latin-1": '{"name": "é"}'.encode("latin-1"),
    "raw control character": b'{"name": "a\x01b"}',
    "raw NUL": b'{"name": "a\x00b"}',
    "NUL behind": b'{"name": "x"}\x00',
    "100,000 arrays deep": b'{"name": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "100,000 objects deep": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "33 levels": b'{"name": "x", "tags": ' + b"[" * 33 + b"]" * 33 + b"}",
    "integer of 10**5000": b'{"name": "x", "employees": ' + b"9" * 5000 + b"}",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03",
}


@pytest.mark.parametrize("body", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.usefixtures("untouched")
def test_malformed_json_is_400(crm, body):
    for method, path in (
        ("POST", "/v1/accounts"),
        ("PATCH", f"/v1/accounts/{crm.account['id']}"),
        ("POST", "/v1/accounts/search"),
    ):
        problem(crm.rep.request(method, path, content=body, headers=JSON), 400, code="malformed_json")


WRONG = {
    "an array": b"[]",
    "a string": b'"x"',
    "a number": b"1",
    "null": b"null",
    "unknown field": b'{"name": "x", "nmae": "y"}',
    "escaped NUL": b'{"name": "a\\u0000b"}',
    "escaped NUL in a key": b'{"name": "x", "a\\u0000b": 1}',
    "no name": b"{}",
    "name null": b'{"name": null}',
    "name a number": b'{"name": 1}',
    "name empty": b'{"name": ""}',
    "name of spaces": b'{"name": "   "}',
    "name of tabs and newlines": b'{"name": "\\t\\n\\r"}',
    "name of wide spaces": '{"name": "\u3000\u2003\u00a0"}'.encode(),
    "name too long": b'{"name": "' + b"x" * 201 + b'"}',
    "name of 1,000,000 characters": b'{"name": "' + b"x" * 1_000_000 + b'"}',
    "money as a float": b'{"name": "x", "annual_revenue": 12.5}',
    "money as an integer": b'{"name": "x", "annual_revenue": 12}',
    "money of 10**400": b'{"name": "x", "annual_revenue": ' + b"9" * 400 + b"}",
    "money with an exponent": b'{"name": "x", "annual_revenue": "1e3"}',
    "money NaN": b'{"name": "x", "annual_revenue": "NaN"}',
    "money Infinity": b'{"name": "x", "annual_revenue": "Infinity"}',
    "money too large": b'{"name": "x", "annual_revenue": "100000000000000000"}',
    "money with five decimals": b'{"name": "x", "annual_revenue": "1.00001"}',
    "money in other digits": '{"name": "x", "annual_revenue": "\u0661\u0662"}'.encode(),
    "money and newline": b'{"name": "x", "annual_revenue": "1\\n2"}',
    "integer of 10**400": b'{"name": "x", "employees": ' + b"9" * 400 + b"}",
    "integer as a float": b'{"name": "x", "employees": 1.0}',
    "integer 1e400": b'{"name": "x", "employees": 1e400}',
    "integer as text": b'{"name": "x", "employees": "1"}',
    "negative count": b'{"name": "x", "employees": -1}',
    "boolean as integer": b'{"name": "x", "employees": true}',
    "currency unknown": b'{"name": "x", "currency": "XYZ"}',
    "currency in lower case": b'{"name": "x", "currency": "eur"}',
    "country unknown": b'{"name": "x", "addresses": [{"country": "ZZ"}]}',
    "country of three": b'{"name": "x", "addresses": [{"country": "DEU"}]}',
    "email without at": b'{"name": "x", "emails": [{"address": "nobody"}]}',
    "email with two ats": b'{"name": "x", "emails": [{"address": "a@b@example.com"}]}',
    "email with a line break": b'{"name": "x", "emails": [{"address": "a@example.com\\r\\nBcc: b@example.com"}]}',
    "email too long": b'{"name": "x", "emails": [{"address": "' + b"a" * 300 + b'@example.com"}]}',
    "phone of letters": b'{"name": "x", "phones": [{"number": "call me"}]}',
    "phone without country": b'{"name": "x", "phones": [{"number": "030 123456"}]}',
    "phone impossible": b'{"name": "x", "phones": [{"number": "+999123456789"}]}',
    "date of year 0": b'{"name": "x", "addresses": [{"valid_from": "0000-01-01"}]}',
    "date of year 99999": b'{"name": "x", "addresses": [{"valid_from": "99999-01-01"}]}',
    "date that is none": b'{"name": "x", "addresses": [{"valid_from": "2025-02-30"}]}',
    "date as a number": b'{"name": "x", "addresses": [{"valid_from": 86400}]}',
    "period reversed": b'{"name": "x", "addresses": [{"valid_from": "2025-02-02", "valid_until": "2025-02-01"}]}',
    "website of another scheme": b'{"name": "x", "website": "javascript:alert(1)"}',
    "website with half an IPv6 address": b'{"name": "x", "website": "http://["}',
    "website that normalises badly": '{"name": "x", "website": "http://example.com\u2100.com"}'.encode(),
    "id that is none": b'{"name": "x", "id": "1"}',
    "id in braces": b'{"name": "x", "id": "{019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e5}"}',
    "too many tags": b'{"name": "x", "tags": [' + b",".join(b'"t%d"' % i for i in range(51)) + b"]}",
    "300,000 wrong tags": b'{"name": "x", "tags": [' + b",".join([b"1"] * 300_000) + b"]}",
    "300,000 empty arrays": b'{"name": "x", "tags": [' + b",".join([b"[]"] * 300_000) + b"]}",
    "60,000 unknown fields": b'{"name": "x",' + b",".join(b'"f%d":1' % i for i in range(60_000)) + b"}",
    "an unknown field of 900,000 characters": b'{"name": "x", "' + b"f" * 900_000 + b'": 1}',
    "server-set version": b'{"name": "x", "version": 7}',
    "server-set status": b'{"name": "x", "status": "active"}',
    "server-set created_by": b'{"name": "x", "created_by": null}',
    "tenant_id": b'{"name": "x", "tenant_id": "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"}',
    "deleted_at": b'{"name": "x", "deleted_at": null}',
    "name_key": b'{"name": "x", "name_key": "y"}',
    "search_text": b'{"name": "x", "search_text": "y"}',
    "custom": b'{"name": "x", "custom": {"a": 1}}',
}


@pytest.mark.parametrize("body", WRONG.values(), ids=WRONG.keys())
@pytest.mark.usefixtures("untouched")
def test_wrong_values_are_422_with_a_pointer(crm, body):
    found = problem(crm.rep.post("/v1/accounts", content=body, headers=JSON), 422)
    assert found["errors"]
    assert all("pointer" in fault for fault in found["errors"])


def test_wrong_values_of_a_patch_change_nothing(crm, untouched):
    path = f"/v1/accounts/{crm.account['id']}"
    for body in (b for name, b in WRONG.items() if name != "no name"):
        problem(crm.rep.patch(path, content=body, headers=JSON), 422)


@pytest.mark.parametrize("at", ["0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999-23:59"])
def test_instants_that_leave_the_calendar_in_utc(crm, at):
    filters = {"filter": {"field": "created_at", "op": "gte", "value": at}}
    problem(crm.rep.post("/v1/accounts/search", json=filters), 422)
    problem(crm.rep.get("/v1/accounts", params={"created_at_gte": at}), 422)
    body = {"name": "k", "expires_at": at}
    problem(crm.rep.post(f"/v1/users/{crm.rep.id}/issue_key", json=body), 422)


def test_dates_at_the_ends_of_the_calendar_are_kept(crm):
    for day in ("0001-01-01", "9999-12-31"):
        contact = crm.rep.make("contacts", last_name="Ends", birthday=day)
        assert contact["birthday"] == day
        found = crm.rep.get("/v1/contacts", params={"birthday": day}).json()["data"]
        assert [row["id"] for row in found] == [contact["id"]]
    for day in ("0000-12-31", "10000-01-01", "99999-01-01", "-0001-01-01", "2025-13-01"):
        problem(crm.rep.post("/v1/contacts", json={"last_name": "x", "birthday": day}), 422)
        problem(crm.rep.get("/v1/contacts", params={"birthday": day}), 422)


def test_a_name_whose_sort_key_outgrows_its_index(crm, untouched):
    squares = [chr(code) for code in range(0x3300, 0x3358)] + [chr(code) for code in range(0x3371, 0x3400)]
    name = "".join((squares * 2)[:200])
    answer = crm.rep.post("/v1/accounts", json={"name": name})
    if answer.status_code == 201:
        assert crm.rep.delete(f"/v1/accounts/{answer.json()['id']}").status_code == 204
    else:
        problem(answer, 422)


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [("Content-Type", "text/plain")],
        [("Content-Type", "application/x-www-form-urlencoded")],
        [("Content-Type", "multipart/form-data; boundary=x")],
        [("Content-Type", "application/jsonp")],
        [("Content-Type", "application/json, text/plain")],
        [("Content-Type", "")],
        [("Content-Type", "\u00ff")],
    ],
)
def test_other_content_types_are_415(crm, untouched, headers):
    for method, path in (("POST", "/v1/accounts"), ("PATCH", f"/v1/accounts/{crm.account['id']}")):
        problem(raw(crm, method, path, headers, b'{"name": "x"}'), 415, code="unsupported_media_type")


def test_ten_megabytes_are_413(crm, untouched):
    body = b'{"name": "' + b"x" * 10_000_000 + b'"}'
    problem(crm.rep.post("/v1/accounts", content=body, headers=JSON), 413, code="body_too_large")
    chunks = (body[start : start + 65_536] for start in range(0, len(body), 65_536))
    problem(crm.rep.post("/v1/accounts", content=chunks, headers=JSON), 413, code="body_too_large")
    length = [("Content-Type", "application/json"), ("Content-Length", "10000000000")]
    problem(raw(crm, "POST", "/v1/accounts", length), 413, code="body_too_large")
    assert crm.rep.get("/healthz").status_code == 200


def test_a_body_just_at_the_limit_is_read(crm, untouched):
    body = b'{"name": ""}'
    body += b" " * (1_048_576 - len(body))
    problem(crm.rep.post("/v1/accounts", content=body, headers=JSON), 422)
    problem(crm.rep.post("/v1/accounts", content=body + b" ", headers=JSON), 413)


def test_without_a_key_nothing_of_a_body_is_read(crm):
    head = [("Content-Type", "application/json"), ("Content-Length", "900000"), ("Expect", "100-continue")]
    answer = send_raw(crm.server.base_url, request_bytes("POST", "/v1/accounts", head))
    problem(answer, 401, code="unauthenticated")


def test_expect_100_continue(crm):
    body = b'{"name": ""}'
    head = [
        ("Authorization", f"Bearer {crm.rep.key}"),
        ("Content-Type", "application/json"),
        ("Content-Length", str(len(body))),
        ("Expect", "100-continue"),
    ]
    host, port = crm.server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(request_bytes("POST", "/v1/accounts", head))
        assert connection.recv(1000).startswith(b"HTTP/1.1 100")
        connection.sendall(body)
        problem(read_answer(connection), 422)


def test_bodies_where_none_belongs(crm, untouched):
    path = f"/v1/accounts/{crm.account['id']}"
    assert crm.rep.request("GET", path, content=b'{"x": 1}', headers=JSON).status_code == 200
    problem(crm.rep.post(f"{path}/activate", json={"status": "inactive"}), 422)
    problem(crm.rep.post(f"{path}/activate", content=b"[1", headers=JSON), 400)


# ---------------------------------------------------------------- paths, queries, methods

BAD_IDS = [
    "1",
    "null",
    "..",
    "%2e%2e",
    "%00",
    "a" * 36,
    "019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55%0a",
    "%ff%fe",
    "%ed%a0%80",
]
BAD_IDS += ["019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55%00", "{id}", "'; DROP TABLE accounts; --", "ext:x:1", "%F0%9F%92%A9"]
BAD_IDS += ["019aa1c27d3e7c41b1f23f6d1b0a9e55", "urn:uuid:019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55", "9" * 400, "x" * 4000]


@pytest.mark.parametrize("bad", BAD_IDS, ids=lambda bad: bad[:20])
@pytest.mark.usefixtures("untouched")
def test_what_is_no_id_leads_nowhere(crm, bad):
    target = bad.replace(" ", "%20")
    for method, path in (
        ("GET", f"/v1/accounts/{target}"),
        ("PATCH", f"/v1/accounts/{target}"),
        ("DELETE", f"/v1/accounts/{target}"),
        ("POST", f"/v1/accounts/{target}/restore"),
        ("POST", f"/v1/accounts/{target}/activate"),
        ("GET", f"/v1/accounts/{target}/transitions"),
    ):
        body = b'{"name": "x"}' if method == "PATCH" else b""
        problem(raw(crm, method, path, list(JSON.items()), body), 404)


@pytest.mark.usefixtures("untouched")
def test_other_spellings_of_a_path_give_nothing(crm):
    one = crm.account["id"]
    for path in (
        "//v1/accounts",
        "/v1//accounts",
        f"/v1/accounts//{one}",
        f"/v1/accounts/{one}/",
        f"/v1/accounts/{one}//",
        f"/v1/accounts/{one}/activate/",
        "/v1/accounts/",
        "/v1/accounts%2f" + one,
        "/v1%2faccounts",
        "/v1/accounts/" + one + "%2factivate",
        "/v1/accounts/" + one + "%2Fshares",
        "/v1/./accounts",
        "/v1/x/../accounts",
        "/v1/accounts/../users",
        f"/v1/accounts/..%2f{one}",
        "/V1/accounts",
        "/v1/Accounts",
        "/v1/accounts;x=1",
        "/v1/accounts%00",
        "/v1/accounts%20",
        "/v1/me/",
        "/v1/access/explain/",
        "/healthz/",
        "/docs/",
        "/openapi.json/",
        "/docs/assets/..%2f..%2fsettings.py",
        "/docs/assets/%2e%2e/x",
        "/",
        "/v1",
        "/v1/",
        "/v2/accounts",
        "/accounts",
        "/v1/nothing",
        "/v1/accounts/" + one + "/nothing",
        "/v1/accounts/" + one + "/share/x",
        "*",
    ):
        for method in ("GET", "POST"):
            problem(raw(crm, method, path, list(JSON.items())), 404, 405)


def test_long_paths_and_queries_are_414(crm):
    for target in ("/v1/accounts/" + "x" * 9_000, "/v1/accounts?q=" + "x" * 9_000, "/" + "x" * 9_000):
        problem(raw(crm, "GET", target), 414, code="uri_too_long")
    long = raw(crm, "GET", "/v1/accounts?q=" + "x" * 200_000)
    assert long.status_code in (400, 414, 431)


def test_bytes_in_paths_that_are_no_url(crm):
    for target in (b"/v1/accounts/\xff\xfe", "/v1/accounts/é".encode(), b"/v1/accounts?q=\xff\xff\xff"):
        answer = raw(crm, "GET", target)
        assert answer.status_code in (400, 404, 422), answer.text
        assert "raceback" not in answer.text


@pytest.mark.parametrize(
    "query",
    [
        "nmae=x",
        "name_gt=x",
        "name[eq]=x",
        "limit=0",
        "limit=201",
        "limit=1000000000",
        "limit=" + "9" * 400,
        "limit=-1",
        "limit=1.0",
        "limit=1e2",
        "limit=",
        "limit=%D9%A1",
        "limit=5&limit=6",
        "sort=nothing",
        "sort=name,name",
        "sort=id,name,created_at,annual_revenue",
        "sort=-",
        "sort=--name",
        "sort=name%00",
        "sort=tenant_id",
        "sort=search_text",
        "sort=name;drop",
        "expand=nothing",
        "expand=owner.manager.manager",
        "expand=owner,parent,team,children,contacts,owner.manager",
        "expand=tenant",
        "expand=__class__",
        "expand=.",
        "expand=owner.",
        "count=yes",
        "q=",
        "q=ab",
        "q=%00abc",
        "q=%20%20%20",
        "name=a%00b",
        "%00=x",
        "name=%ff",
        "name=%ed%a0%80",
        "%ff=x",
        "owner_id=1",
        "owner_id=",
        "owner_id=019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55%0A",
        "status=nothing",
        "employees=x",
        "employees=" + "9" * 400,
        "employees=9223372036854775808",
        "employees_gt=-9223372036854775809",
        "employees=1.5",
        "employees=%D9%A1",
        "annual_revenue=1e5",
        "annual_revenue=NaN",
        "annual_revenue=" + "9" * 400,
        "annual_revenue=0.123456789",
        "annual_revenue_gte=%20",
        "created_at_gt=2025-01-01",
        "created_at_gt=2025-01-01T00:00:00",
        "created_at_gt=0000-01-01T00:00:00Z",
        "created_at_gt=99999-01-01T00:00:00Z",
        "created_at_gt=now",
        "is_blocked=1",
        "name_contains=" + "x" * 501,
        "name_contains=a&name_contains=b",
        "&".join(f"tags=t{i}" for i in range(501)),
        "&".join(f"x{i}=1" for i in range(700)),
        "dry_run=true",
        "search_text=x",
        "tenant_id=019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55",
        "deleted_at_is_null=false",
    ],
    ids=lambda query: query[:40],
)
def test_wrong_queries_are_422_with_the_parameter(crm, query):
    found = problem(raw(crm, "GET", f"/v1/accounts?{query}"), 422)
    assert all("parameter" in fault for fault in found["errors"])
    assert found["errors"]


def test_unknown_parameters_are_refused_on_every_route(crm):
    one = crm.account["id"]
    for method, path, body in (
        ("GET", f"/v1/accounts/{one}", None),
        ("POST", "/v1/accounts", {"name": "x"}),
        ("PATCH", f"/v1/accounts/{one}", {"name": "x"}),
        ("DELETE", f"/v1/accounts/{one}", None),
        ("POST", f"/v1/accounts/{one}/activate", None),
        ("POST", "/v1/accounts/search", {}),
        ("POST", "/v1/accounts/aggregate", {"measures": [{"op": "count"}]}),
        ("GET", f"/v1/accounts/{one}/transitions", None),
        ("GET", "/v1/me", None),
        ("GET", "/v1/access/explain", None),
    ):
        params = {"nonsense": "1"}
        if path.endswith("explain"):
            params |= {"resource": "accounts", "id": one}
        problem(crm.rep.request(method, path, json=body, params=params), 422)
    assert crm.rep.get(f"/v1/accounts/{one}").json() == crm.account


SEARCHES: dict[str, dict[str, Any]] = {
    "unknown field": {"filter": {"field": "nothing", "value": 1}},
    "unknown operator": {"filter": {"field": "name", "op": "regex", "value": "x"}},
    "operator in upper case": {"filter": {"field": "name", "op": "EQ", "value": "x"}},
    "operator a list": {"filter": {"field": "name", "op": ["eq"], "value": "x"}},
    "field a list": {"filter": {"field": ["name"], "op": "eq", "value": "x"}},
    "field dunder": {"filter": {"field": "__class__", "op": "eq", "value": "x"}},
    "four hops": {"filter": {"field": "owner.manager.manager.name", "op": "eq", "value": "x"}},
    "no hop": {"filter": {"field": ".name", "op": "eq", "value": "x"}},
    "filter through a column": {"filter": {"field": "owner_id.name", "op": "eq", "value": "x"}},
    "hidden column": {"filter": {"field": "tenant_id", "op": "ne", "value": str(uuid.uuid4())}},
    "value an object": {"filter": {"field": "name", "op": "eq", "value": {"a": 1}}},
    "value missing": {"filter": {"field": "name", "op": "eq"}},
    "value null": {"filter": {"field": "name", "op": "eq", "value": None}},
    "integer of 10**400": {"filter": {"field": "employees", "op": "gt", "value": 10**400}},
    "integer 2**63": {"filter": {"field": "employees", "op": "gt", "value": 2**63}},
    "integer a float": {"filter": {"field": "employees", "op": "gt", "value": 1.5}},
    "integer true": {"filter": {"field": "employees", "op": "gt", "value": True}},
    "money a number": {"filter": {"field": "annual_revenue", "op": "gt", "value": 1.5}},
    "list empty": {"filter": {"field": "name", "op": "in", "value": []}},
    "list of lists": {"filter": {"field": "name", "op": "in", "value": [["x"]]}},
    "list of 501": {"filter": {"field": "name", "op": "in", "value": [str(i) for i in range(501)]}},
    "and empty": {"filter": {"and": []}},
    "and an object": {"filter": {"and": {}}},
    "and with or": {"filter": {"and": [{"field": "name", "value": "x"}], "or": []}},
    "51 comparisons": {"filter": {"or": [{"field": "name", "value": "x"}] * 51}},
    "too deep": {"filter": {"and": [{"or": [{"and": [{"or": [{"and": [{"field": "name", "value": "x"}]}]}]}]}]}},
    "filter a list": {"filter": []},
    "filter text": {"filter": "name = 'x'"},
    "sort text": {"sort": "name"},
    "sort unknown": {"sort": ["password"]},
    "four sorts": {"sort": ["name", "id", "created_at", "annual_revenue"]},
    "fields unknown": {"fields": ["name", "search_text"]},
    "fields dunder": {"fields": ["__dict__"]},
    "expand unknown": {"expand": ["secrets"]},
    "expand with a comma": {"expand": ["owner,nothing"]},
    "limit 10**9": {"limit": 10**9},
    "limit 10**400": {"limit": 10**400},
    "limit text": {"limit": "5"},
    "cursor a number": {"cursor": 5},
    "q short": {"q": "a"},
    "unknown member": {"where": "1=1"},
}


@pytest.mark.parametrize("body", SEARCHES.values(), ids=SEARCHES.keys())
def test_wrong_searches_are_422(crm, body):
    problem(crm.rep.post("/v1/accounts/search", json=body), 422)


def test_wrong_aggregates_are_422(crm):
    for body in (
        {},
        {"measures": []},
        {"measures": [{"op": "count"}] * 11},
        {"measures": [{"op": "median", "field": "employees"}]},
        {"measures": [{"op": "sum"}]},
        {"measures": [{"op": "sum", "field": "name"}]},
        {"measures": [{"op": "sum", "field": "search_text"}]},
        {"measures": [{"op": "count"}], "group_by": ["nothing"]},
        {"measures": [{"op": "count"}], "group_by": ["tags"]},
        {"measures": [{"op": "count"}], "group_by": ["tenant_id"]},
        {"measures": [{"op": "count"}], "group_by": ["type; DROP TABLE accounts"]},
        {"measures": [{"op": "count"}], "limit": 10**9},
    ):
        problem(crm.rep.post("/v1/accounts/aggregate", json=body), 422)


def test_methods_that_a_path_does_not_take(crm):
    one = crm.account["id"]
    paths = {
        "/v1/accounts": {"GET", "HEAD", "OPTIONS", "POST"},
        f"/v1/accounts/{one}": {"GET", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"},
        "/v1/accounts/search": {"OPTIONS", "POST"},
        f"/v1/accounts/{one}/activate": {"OPTIONS", "POST"},
        f"/v1/accounts/{one}/transitions": {"GET", "HEAD", "OPTIONS"},
        "/v1/me": {"GET", "HEAD", "OPTIONS"},
        "/v1/access/explain": {"GET", "HEAD", "OPTIONS"},
        "/healthz": {"GET", "HEAD", "OPTIONS"},
        "/openapi.json": {"GET", "HEAD", "OPTIONS"},
        "/problems": {"GET", "HEAD", "OPTIONS"},
    }
    for path, allowed in paths.items():
        for method in ("PUT", "TRACE", "QUERY", "GET", "POST", "PATCH", "DELETE"):
            if method not in allowed:
                answer = raw(crm, method, path, list(JSON.items()))
                if answer.status_code == 400 and not answer.headers["content-type"].startswith("application/problem"):
                    continue  # a method that the HTTP parser itself does not know
                problem(answer, 405, code="method_not_allowed")
                assert set(answer.headers["allow"].split(", ")) == allowed, path
        options = crm.rep.options(path)
        assert (options.status_code, options.content) == (204, b""), path
        assert set(options.headers["allow"].split(", ")) == allowed
    assert crm.rep.get(f"/v1/accounts/{one}").json() == crm.account


def test_head_is_get_without_the_body(crm):
    one = crm.account["id"]
    for path in ("/v1/accounts", f"/v1/accounts/{one}", f"/v1/accounts/{one}/transitions", "/v1/me", "/healthz"):
        get, head = crm.rep.get(path), crm.rep.head(path)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-type"] == get.headers["content-type"]
        assert head.headers.get("etag") == get.headers.get("etag")
        assert head.headers["content-length"] == str(len(get.content))
    for path in (f"/v1/accounts/{uuid.uuid4()}", "/v1/nothing"):
        head = crm.rep.head(path)
        assert (head.status_code, head.content) == (404, b"")


def test_a_method_in_a_header_is_ignored(crm, untouched):
    one = crm.account["id"]
    for name in ("X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override"):
        answer = crm.rep.get(f"/v1/accounts/{one}", headers={name: "DELETE"})
        assert answer.status_code == 200
        problem(crm.rep.post(f"/v1/accounts/{one}", headers={name: "DELETE"}), 405)
        problem(crm.rep.post(f"/v1/accounts/{one}?_method=DELETE"), 405)


def test_no_redirect_follows_the_host_header(crm):
    for path in ("/v1/me/", "/docs/", "/v1/accounts/", "//evil.example/"):
        answer = raw(crm, "GET", path, [("Host", "evil.example"), ("X-Forwarded-Host", "evil.example")])
        assert answer.status_code == 404
        assert "location" not in answer.headers
        assert "link" not in answer.headers
    page = raw(crm, "GET", "/v1/principals?limit=1", [("Host", "evil.example")])
    assert "evil" not in page.headers["link"]


# ---------------------------------------------------------------- headers


def test_unknown_accept_is_answered_in_json(crm):
    for accept in ("text/html", "image/png", "", "*/*;q=0", "x" * 2000):
        assert crm.rep.get("/v1/me", headers={"Accept": accept}).headers["content-type"] == "application/json"


def test_odd_if_match(crm, untouched):
    path = f"/v1/accounts/{crm.account['id']}"
    for value in (
        "1",
        '"x"',
        "'1'",
        '"1',
        '""',
        '"-1"',
        '"1", "2"',
        '"' + "9" * 400 + '"',
        "\u00b9",
        '"1";',
        "W/1",
        "",
    ):
        answer = raw(crm, "PATCH", path, [*JSON.items(), ("If-Match", value)], b'{"name": "y"}')
        problem(answer, 400, code="invalid_header")
        problem(raw(crm, "DELETE", path, [("If-Match", value)]), 400, code="invalid_header")
    problem(crm.rep.patch(path, json={"name": "y"}, headers={"If-Match": '"999999999999999999"'}), 412)
    twice = [*JSON.items(), ("If-Match", '"1"'), ("If-Match", '"7"')]
    problem(raw(crm, "PATCH", path, twice, b'{"name": "y"}'), 400, code="invalid_header")
    for value in ('"x"', "x" * 5000, "\u00ff", '"1', ""):
        assert raw(crm, "GET", path, [("If-None-Match", value)]).status_code == 200


def test_odd_idempotency_keys(crm, untouched):
    for value in ("", " ", "a b", "x" * 256, "\u00e9", "a\tb"):
        answer = raw(crm, "POST", "/v1/accounts", [*JSON.items(), ("Idempotency-Key", value)], b'{"name": "y"}')
        problem(answer, 400, code="invalid_header")
    twice = [*JSON.items(), ("Idempotency-Key", "one"), ("Idempotency-Key", "two")]
    problem(raw(crm, "POST", "/v1/accounts", twice, b'{"name": "y"}'), 400, code="invalid_header")


def test_two_credentials_are_none(crm):
    data = [("Authorization", f"Bearer {crm.rep.key}"), ("Authorization", f"Bearer {crm.admin.key}")]
    problem(send_raw(crm.server.base_url, request_bytes("GET", "/v1/me", data)), 401)


def test_request_ids_are_taken_only_when_harmless(crm):
    good = "abc.DEF_123-xyz"
    assert crm.rep.get("/v1/me", headers={"X-Request-ID": good}).headers["x-request-id"] == good
    for bad in ("short", "x" * 65, "a b c d e f", "abcdefgh;x=1", "<script>alert(1)</script>", "\u00e9" * 10, ""):
        answer = raw(crm, "GET", "/v1/me", [("X-Request-ID", bad)])
        assert answer.status_code == 200
        assert len(answer.headers["x-request-id"]) == 32
    split = request_bytes("GET", "/v1/me", [("Authorization", f"Bearer {crm.rep.key}")]).replace(
        b"\r\n\r\n", b"\r\nX-Request-ID: abcdefgh%0d%0aSet-Cookie: a=b\r\n\r\n"
    )
    answer = send_raw(crm.server.base_url, split)
    assert "set-cookie" not in answer.headers
    problem(crm.rep.get("/v1/nothing", headers={"X-Request-ID": good}), 404)


def test_large_and_many_headers(crm):
    for headers in ([("X-Large", "x" * 60_000)], [(f"X-{i}", "y") for i in range(900)], [("X-Same", "y")] * 900):
        assert raw(crm, "GET", "/v1/me", headers).status_code in (200, 400, 431)
    large = request_bytes("GET", "/v1/me", [("Authorization", "Bearer crm_dev_" + "x" * 60_000)])
    problem(send_raw(crm.server.base_url, large), 400, code="invalid_header")
    assert crm.rep.get("/v1/me").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: -1\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nabcdef",
        b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /v1/accounts HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/me HTTP/1.1\r\nHost: x\r\nBad Header\r\n\r\n",
    ],
)
def test_what_is_not_http(crm, data):
    host, port = crm.server.base_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        reply = b""
        while part := connection.recv(65_536):
            reply += part
    assert not reply or reply.split(b" ")[1] in (b"400", b"401"), reply
    assert b"raceback" not in reply
    assert crm.rep.get("/healthz").status_code == 200


# ---------------------------------------------------------------- cursors


def _cursor(person, **query: Any) -> str:
    return person.post("/v1/principals/search", json={"limit": 1, **query}).json()["next_cursor"]


def test_cursors_are_bound_and_authenticated(crm):
    cursor = _cursor(crm.rep, sort=["name"])
    again = {"limit": 1, "sort": ["name"], "cursor": cursor}
    assert crm.rep.post("/v1/principals/search", json=again).status_code == 200
    for altered in (
        *(cursor[:i] + ("A" if cursor[i] != "A" else "B") + cursor[i + 1 :] for i in range(0, len(cursor), 3)),
        *(cursor[:-1] + other for other in "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefgh0123456789-_" if other != cursor[-1]),
        *(cursor[:end] for end in (0, 1, 5, 16, 22, len(cursor) - 1)),
        cursor + "A",
        cursor + "=",
        "!" + cursor,
        cursor.replace("-", "+").replace("_", "/") + "AAAA",
        "\u00e9" * 20,
        "[]",
    ):
        problem(crm.rep.post("/v1/principals/search", json={**again, "cursor": altered}), 400, code="invalid_cursor")
    for change in (
        {"sort": ["-name"]},
        {"sort": ["created_at"]},
        {"filter": {"field": "is_active", "value": True}},
        {"q": "reader"},
    ):
        problem(crm.rep.post("/v1/principals/search", json={**again, **change}), 400, code="invalid_cursor")
    for other in (crm.colleague, crm.admin):
        problem(other.post("/v1/principals/search", json=again), 400, code="invalid_cursor")
    problem(crm.rep.post("/v1/users/search", json=again), 400, code="invalid_cursor")
    problem(crm.rep.get("/v1/principals", params={"cursor": "x" * 3000}), 400, code="invalid_cursor")


def test_cursors_of_another_tenant(crm, server):
    other = Org.create(server)
    stolen = _cursor(other.admin, sort=["name"])
    answer = crm.admin.post("/v1/principals/search", json={"limit": 1, "sort": ["name"], "cursor": stolen})
    problem(answer, 400, code="invalid_cursor")


# ---------------------------------------------------------------- ids of another tenant


def test_ids_of_another_tenant_are_like_random_ones(crm, server):
    other = Org.create(server)
    account = other.rep.make("accounts", name="Elsewhere")
    contact = other.rep.make("contacts", last_name="Elsewhere", account_id=account["id"])
    mine = crm.admin.make("accounts", name="Mine")
    images = [other.admin.get(f"/v1/accounts/{account['id']}").json()]

    def both(method: str, path: str, foreign: str, **options: Any) -> None:
        replies = []
        for id_ in (foreign, str(uuid.uuid4())):
            values = json.loads(json.dumps(options).replace("@", id_))
            answer = crm.admin.request(method, path.replace("@", id_), **values)
            assert answer.status_code in (200, 404, 422), (path, answer.text)
            body = answer.json()
            for name in ("request_id", "instance"):
                body.pop(name, None)
            replies.append((answer.status_code, json.dumps(body).replace(id_, "@")))
        assert replies[0] == replies[1], path

    for suffix in ("", "/transitions", "/shares"):
        both("GET", f"/v1/accounts/@{suffix}", account["id"])
    for suffix, body in (
        ("/activate", None),
        ("/block", {"reason": "x"}),
        ("/restore", None),
        ("/share", {"grantee_type": "user", "grantee_id": crm.rep.id}),
        ("/unshare", {"share_id": str(uuid.uuid4())}),
    ):
        both("POST", f"/v1/accounts/@{suffix}", account["id"], **({"json": body} if body else {}))
    both("PATCH", "/v1/accounts/@", account["id"], json={"name": "x"})
    both("DELETE", "/v1/accounts/@", account["id"])
    both("POST", "/v1/accounts", account["id"], json={"name": "x", "parent_id": "@"})
    both("POST", "/v1/accounts", other.rep.id, json={"name": "x", "owner_id": "@"})
    both("POST", "/v1/contacts", account["id"], json={"last_name": "x", "account_id": "@"})
    both("POST", "/v1/contacts", contact["id"], json={"last_name": "x", "reports_to_id": "@"})
    both("PATCH", f"/v1/accounts/{mine['id']}", account["id"], json={"parent_id": "@"})
    both("PATCH", f"/v1/accounts/{mine['id']}", other.rep.id, json={"owner_id": "@"})
    both("POST", f"/v1/accounts/{mine['id']}/share", other.rep.id, json={"grantee_type": "user", "grantee_id": "@"})
    both("POST", "/v1/account_contacts", contact["id"], json={"account_id": mine["id"], "contact_id": "@"})
    both("POST", "/v1/account_team_members", other.rep.id, json={"account_id": mine["id"], "principal_id": "@"})
    both("POST", "/v1/role_assignments", other.rep.id, json={"role_id": crm.roles["Reader"], "principal_id": "@"})
    both("POST", "/v1/role_assignments", other.roles["Reader"], json={"role_id": "@", "principal_id": crm.rep.id})
    both("POST", "/v1/users", other.admin.id, json={"name": "x", "email": "x@example.com", "manager_id": "@"})
    both("POST", "/v1/users/@/issue_key", other.rep.id, json={"name": "x"})
    both("GET", "/v1/accounts?parent_id=@", account["id"])
    both("GET", "/v1/accounts?id=@", account["id"])
    both("GET", "/v1/contacts?account_id=@&expand=account&count=exact", account["id"])
    both("POST", "/v1/contacts/search", account["id"], json={"filter": {"field": "account.id", "value": "@"}})
    both("POST", "/v1/accounts/aggregate", account["id"],
         json={"measures": [{"op": "count"}], "filter": {"field": "id", "value": "@"}})  # fmt: skip
    both("GET", "/v1/audit_log?object_id=@", account["id"])
    both("GET", "/v1/access/explain?resource=accounts&id=@", account["id"])
    both("GET", f"/v1/access/explain?resource=accounts&id={mine['id']}&principal=@", other.rep.id)
    images.append(other.admin.get(f"/v1/accounts/{account['id']}").json())
    assert images[0] == images[1]
    assert crm.admin.get(f"/v1/accounts/{mine['id']}").json()["version"] == mine["version"]


# ---------------------------------------------------------------- hidden fields


def test_hidden_fields_are_no_oracle(org):
    rules = [{"resource": "accounts", "field": name, "rule": "hidden"} for name in ("credit_limit", "tax_id", "emails")]
    rules.append({"resource": "accounts", "field": "annual_revenue", "rule": "hidden"})
    role = org.role("Blind", ("accounts:*", "all"), ("contacts:*", "all"), ("users:read", "all"), field_rules=rules)
    blind = org.person("blind", role)
    account = org.admin.make(
        "accounts", name="Veiled", tax_id="DE123456789", credit_limit="77.00", emails=[{"address": "v@veiled.example"}]
    )
    org.admin.make("contacts", last_name="Beside", account_id=account["id"])
    seen = blind.get(f"/v1/accounts/{account['id']}").json()
    assert (seen["tax_id"], seen["credit_limit"], seen["emails"]) == (None, None, None)
    assert seen["redacted"] == ["annual_revenue", "credit_limit", "emails", "tax_id"]
    for query in (
        "tax_id=DE123456789",
        "tax_id_starts_with=DE",
        "tax_id_is_null=false",
        "credit_limit_gte=1",
        "emails=v@veiled.example",
        "sort=annual_revenue",
        "sort=-name,annual_revenue",
    ):
        problem(blind.get(f"/v1/accounts?{query}"), 403, code="forbidden")
    for body in (
        {"filter": {"or": [{"field": "name", "value": "x"}, {"field": "tax_id", "op": "is_null", "value": False}]}},
        {"filter": {"field": "parent.tax_id", "op": "eq", "value": "DE123456789"}},
    ):
        problem(blind.post("/v1/accounts/search", json=body), 403)
    hop = {"filter": {"field": "account.tax_id", "op": "eq", "value": "DE123456789"}}
    problem(blind.post("/v1/contacts/search", json=hop), 403)
    for measure in ({"op": "sum", "field": "credit_limit"}, {"op": "max", "field": "annual_revenue"}):
        problem(blind.post("/v1/accounts/aggregate", json={"measures": [measure]}), 403)
    grouped = {"measures": [{"op": "count"}], "group_by": ["tax_id"]}
    problem(blind.post("/v1/accounts/aggregate", json=grouped), 403)
    for text in ("DE123456789", "veiled.example"):
        assert blind.get("/v1/accounts", params={"q": text}).json()["data"] == []
    assert blind.get("/v1/accounts", params={"q": "veiled"}).json()["data"][0]["id"] == account["id"]
    expanded = blind.get("/v1/contacts", params={"expand": "account"}).json()["data"][0]["account"]
    assert (expanded["tax_id"], expanded["emails"]) == (None, None)
    problem(blind.patch(f"/v1/accounts/{account['id']}", json={"tax_id": "x1"}), 403, code="field_read_only")
    problem(blind.post("/v1/accounts", json={"name": "x", "credit_limit": "1"}), 403, code="field_read_only")
    stale = blind.patch(f"/v1/accounts/{account['id']}", json={"name": "y"}, headers={"If-Match": '"9"'})
    assert "tax_id" not in problem(stale, 412)["changed"]


# ---------------------------------------------------------------- cycles, races, deleted rows


def test_cycles_are_refused(org):
    top = org.rep.make("accounts", name="Top")
    middle = org.rep.make("accounts", name="Middle", parent_id=top["id"])
    low = org.rep.make("accounts", name="Low", parent_id=middle["id"])
    for parent in (low, middle, top):
        answer = org.rep.patch(f"/v1/accounts/{top['id']}", json={"parent_id": parent["id"].upper()})
        assert problem(answer, 409, code="cycle")["errors"][0]["pointer"] == "/parent_id"
    own = str(uuid.uuid4())
    problem(org.rep.post("/v1/accounts", json={"id": own, "name": "x", "parent_id": own}), 409, 422)
    problem(org.admin.patch(f"/v1/users/{org.manager.id}", json={"manager_id": org.rep.id}), 409, code="cycle")
    problem(org.admin.patch(f"/v1/users/{org.manager.id}", json={"manager_id": org.manager.id}), 409, code="cycle")
    boss = org.rep.make("contacts", last_name="Boss")
    aide = org.rep.make("contacts", last_name="Aide", reports_to_id=boss["id"])
    problem(org.rep.patch(f"/v1/contacts/{boss['id']}", json={"reports_to_id": aide["id"]}), 409, code="cycle")


def _race(*works: Any) -> list[Any]:
    gate = threading.Barrier(len(works))

    def run(work: Any) -> Any:
        gate.wait()
        return work()

    with ThreadPoolExecutor(len(works)) as pool:
        return [future.result() for future in [pool.submit(run, work) for work in works]]


def _ancestors(person, collection: str, column: str, start: str) -> list[str]:
    chain, current = [], start
    while current is not None and len(chain) < 20:
        chain.append(current)
        current = person.get(f"/v1/{collection}/{current}").json()[column]
    return chain


def test_two_writers_cannot_close_a_cycle_between_them(org):
    """Neither row of one writer is touched by the other, so only the tree's own lock can keep them apart."""
    for _ in range(12):
        a, b = (org.rep.make("accounts", name=name) for name in "AB")
        m = org.rep.make("accounts", name="M", parent_id=b["id"])
        n = org.rep.make("accounts", name="N", parent_id=a["id"])
        answers = _race(
            lambda a=a, m=m: org.rep.patch(f"/v1/accounts/{a['id']}", json={"parent_id": m["id"]}),
            lambda b=b, n=n: org.manager.patch(f"/v1/accounts/{b['id']}", json={"parent_id": n["id"]}),
        )
        assert sorted(answer.status_code for answer in answers) != [200, 200], "both writers won: a cycle"
        assert len(_ancestors(org.manager, "accounts", "parent_id", a["id"])) < 20
        for answer in answers:
            if answer.status_code != 200:
                problem(answer, 409)


def test_two_writers_cannot_manage_each_other(org):
    for _ in range(6):
        for person in (org.manager, org.other_manager):
            assert org.admin.patch(f"/v1/users/{person.id}", json={"manager_id": None}).status_code == 200
        answers = _race(
            lambda: org.admin.patch(f"/v1/users/{org.manager.id}", json={"manager_id": org.outsider.id}),
            lambda: org.admin.patch(f"/v1/users/{org.other_manager.id}", json={"manager_id": org.rep.id}),
        )
        assert sorted(answer.status_code for answer in answers) != [200, 200], "both writers won: a cycle"
        assert len(_ancestors(org.admin, "users", "manager_id", org.rep.id)) < 20


def test_deleted_rows_take_no_writes(org):
    account = org.rep.make("accounts", name="Gone", tags=["x"])
    path = f"/v1/accounts/{account['id']}"
    assert org.rep.delete(path).status_code == 204
    problem(org.rep.patch(path, json={"name": "Back"}), 404)
    problem(org.rep.delete(path), 404)
    problem(org.rep.post(f"{path}/activate"), 404)
    problem(org.rep.patch(path, json={"name": "Back"}, headers={"If-Match": '"2"'}), 404)
    problem(org.rep.post("/v1/accounts", json={"name": "Child", "parent_id": account["id"]}), 422)
    problem(org.rep.post("/v1/accounts", json={"name": "Again", "id": account["id"]}), 409)
    assert org.rep.get("/v1/accounts", params={"tags": "x"}).json()["data"] == []
    assert org.rep.post(f"{path}/restore").json()["name"] == "Gone"
    problem(org.rep.post(f"{path}/restore"), 404)


def test_two_writers_with_if_match_one_wins(org):
    account = org.rep.make("accounts", name="Contended")
    path = f"/v1/accounts/{account['id']}"
    for version in range(1, 6):
        match = {"If-Match": f'"{version}"'}
        answers = _race(
            *(
                lambda i=i, match=match, version=version: org.rep.patch(
                    path, json={"legal_name": f"{version}-{i}"}, headers=match
                )
                for i in range(6)
            )
        )
        won = [answer for answer in answers if answer.status_code == 200]
        assert len(won) == 1
        for answer in answers:
            if answer.status_code != 200:
                assert problem(answer, 412)["current_version"] == version + 1
        assert org.rep.get(path).json() == won[0].json()


def test_two_writers_without_if_match_both_count(org):
    account = org.rep.make("accounts", name="Contended")
    path = f"/v1/accounts/{account['id']}"
    works = [lambda i=i: org.rep.patch(path, json={"employees": i}) for i in range(1, 9)]
    works += [lambda i=i: org.manager.patch(path, json={"legal_name": f"L{i}"}) for i in range(8)]
    answers = _race(*works)
    assert {answer.status_code for answer in answers} == {200}
    final = org.rep.get(path).json()
    assert final["version"] == 17
    assert sorted(answer.json()["version"] for answer in answers) == list(range(2, 18))
    trail = org.admin.all("/v1/audit_log", object_id=account["id"], limit=200)
    assert sorted(entry["version"] for entry in trail) == list(range(1, 18))
    assert final["employees"] in range(1, 9)
    assert final["legal_name"].startswith("L")


# ---------------------------------------------------------------- text

TEXTS = {
    "emoji of four bytes": "\U0001f4a9 poop",
    "emoji of many code points": "\U0001f468\u200d\U0001f469\u200d\U0001f467\u200d\U0001f466 family",
    "flag and keycap": "\U0001f1f2\U0001f1fd 1\ufe0f\u20e3",
    "right to left": "\u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627",
    "bidirectional override": "abc\u202edef\u202c",
    "zero width": "a\u200bb\u200cc\u200dd\ufeffe",
    "combining": "Z\u0351\u036b\u0343\u036a\u0302\u036b\u033d\u034f\u0334\u0319\u0324\u031e\u0349\u035a\u032f\u031ea",
    "decomposed": "e\u0301a\u0308",
    "line breaks": "one\ntwo\r\nthree\ttab",
    "markup": "<script>alert('x')</script>&amp;",
    "formula": '=HYPERLINK("http://evil.example")',
    "private use and non-characters": "\ue000\ufdd0\U0010fffe",
    "control": "a\x7f\x80\x9fb",
    "injection": "'; DROP TABLE accounts; --",
    "injection, doubled": "\\'; SELECT pg_sleep(5); --",
    "percent": "100%_\\ $1 :name %(x)s {0}",
    "unit separator": "a\x1fb",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS.keys())
def test_text_comes_back_as_it_was_sent(crm, text):
    account = crm.manager.make("accounts", name=text, description=text, tags=[text], tax_id=secrets.token_hex(8))
    assert (account["name"], account["description"], account["tags"]) == (text, text, [text])
    assert crm.manager.get(f"/v1/accounts/{account['id']}").json() == account
    for params in ({"name": text}, {"name_contains": text[1:4]}, {"name_starts_with": text[:3]}, {"tags": text}):
        found = crm.manager.get("/v1/accounts", params=params)
        assert found.status_code == 200, found.text
        assert account["id"] in [row["id"] for row in found.json()["data"]], params
    changed = crm.manager.patch(f"/v1/accounts/{account['id']}", json={"legal_name": text})
    assert changed.json()["legal_name"] == text
    assert crm.manager.delete(f"/v1/accounts/{account['id']}").status_code == 204


def test_pattern_characters_are_literal(org):
    names = ["100%", "100x", "a_b", "axb", "back\\slash", "backslash", "%", "___", "\\\\"]
    made = {name: org.rep.make("accounts", name=name, industry=name)["id"] for name in names}
    for needle, expected in {
        "100%": {"100%"},
        "a_b": {"a_b"},
        "k\\s": {"back\\slash"},
        "___": {"___"},
        "%": {"100%", "%"},
        "_": {"a_b", "___"},
        "\\": {"back\\slash", "\\\\"},
        "\\\\": {"\\\\"},
    }.items():
        wanted = {made[name] for name in expected}
        for field in ("name", "industry"):
            found = org.rep.get("/v1/accounts", params={f"{field}_contains": needle}).json()["data"]
            assert {row["id"] for row in found} == wanted, (field, needle)
            begins = {made[name] for name in names if name.startswith(needle)}
            found = org.rep.get("/v1/accounts", params={f"{field}_starts_with": needle}).json()["data"]
            assert {row["id"] for row in found} == begins, (field, needle)
        if len(needle) >= 3:
            found = org.rep.get("/v1/accounts", params={"q": needle}).json()["data"]
            assert {row["id"] for row in found} == wanted, needle


INJECTIONS = (
    "' OR '1'='1",
    "' OR 1=1 --",
    "'; DROP TABLE accounts; --",
    "'; SELECT pg_sleep(3); --",
    '" OR ""="',
    "1) OR (1=1",
    "x' UNION SELECT secret_hash FROM api_keys --",
    "$1",
    "%(tenant)s",
    ":tenant",
    "\\x27 OR 1=1",
    "name; SELECT 1",
    "name) FROM accounts; --",
    "(SELECT version())",
    "name::text",
    "accounts.name",
    "id,(SELECT 1)",
    "*",
)


def test_injection_strings_as_values_find_nothing(crm):
    some = ("name", "industry", "domain", "tax_id", "country", "city", "tier", "source", "currency")
    for text in INJECTIONS:
        for field in some:
            answer = crm.rep.get("/v1/accounts", params={field: text})
            assert (answer.status_code, answer.json()["data"]) == (200, []), (field, text)
        for field in ("tags", "emails", "phones", "interests"):
            assert crm.rep.get("/v1/accounts", params={field: text}).json()["data"] == []
        for op in ("eq", "contains", "starts_with", "gt", "in"):
            body = {"filter": {"field": "industry", "op": op, "value": [text] if op == "in" else text}}
            answer = crm.rep.post("/v1/accounts/search", json=body)
            assert (answer.status_code, answer.json()["data"]) == (200, []), (op, text)
        if len(text) > 3:
            assert crm.rep.get("/v1/accounts", params={"q": text}).status_code in (200, 422)


def test_injection_strings_as_identifiers_are_refused(crm, untouched):
    one = crm.account["id"]
    for text in INJECTIONS:
        for params in (
            {text: "1"},
            {"sort": text},
            {"sort": f"-{text}"},
            {"expand": text},
            {"expand": f"owner.{text}"},
        ):
            problem(crm.rep.get("/v1/accounts", params=params), 422)
        for params in ({"count": text}, {"limit": text}, {"owner_id": text}, {"created_at_gt": text}):
            problem(crm.rep.get("/v1/accounts", params=params), 422)
        problem(crm.rep.get("/v1/accounts", params={"cursor": text}), 400)
        for body in (
            {"filter": {"field": text, "op": "eq", "value": "x"}},
            {"filter": {"field": f"owner.{text}", "op": "eq", "value": "x"}},
            {"filter": {"field": "name", "op": text, "value": "x"}},
            {"filter": {text: []}},
            {"sort": [text]},
            {"fields": [text]},
            {"expand": [text]},
        ):
            problem(crm.rep.post("/v1/accounts/search", json=body), 422)
        problem(crm.rep.post("/v1/accounts", json={"name": "x", text: 1}), 422)
        problem(crm.rep.post("/v1/accounts/aggregate", json={"measures": [{"op": text, "field": "employees"}]}), 422)
        problem(crm.rep.get("/v1/access/explain", params={"resource": text, "id": one}), 422)
        problem(crm.rep.get("/v1/access/explain", params={"resource": "accounts", "action": text, "id": one}), 422)
        problem(crm.rep.get("/v1/access/explain", params={"resource": "accounts", "id": text}), 422)
        problem(crm.rep.get("/v1/access/explain", params={"resource": "accounts", "id": one, "principal": text}), 422)


def test_a_group_without_values_is_a_group(org):
    org.rep.make("accounts", name="Unvalued")
    body = {"group_by": ["type"], "measures": [{"op": "sum", "field": "credit_limit"}]}
    found = org.rep.post("/v1/accounts/aggregate", json=body).json()["data"]
    assert found == [{"group": {"type": "prospect"}, "measures": [None]}]
    body["filter"] = {"field": "name", "op": "eq", "value": "nobody"}
    assert org.rep.post("/v1/accounts/aggregate", json=body).json()["data"] == []
