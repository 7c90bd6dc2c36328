"""What a declaration of something deprecated does: in the document, in replies, in the caller's own list.

Nothing is deprecated today, so the declarations here are of a catalog of the test's own.
"""

import copy
import json
from datetime import UTC, date, datetime
from email.utils import parsedate_to_datetime

import httpx2
import orjson
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from crm_api import settings as settings_module
from crm_api.catalog import CATALOG
from crm_api.domains.deprecation import use
from crm_api.domains.deprecation.notice import Notices
from crm_api.domains.identity import credentials
from crm_api.excerpt import excerpt
from crm_api.kernel.domain import Catalog, Domain
from crm_api.kernel.spec import document
from crm_api.kernel.spec_deprecated import Deprecated
from crm_api.kernel.spec_deprecation import mark, watch
from tests.support.contract import OPENAPI
from tests.support.org import Org
from tests.support.server import LiveServer

SINCE, LATER, SUNSET = date(2026, 11, 1), date(2026, 12, 1), date(2027, 11, 1)
OPERATION = Deprecated("list_units", SINCE, SUNSET, "Use `GET /v1/products`.")
PARAMETER = Deprecated("list_accounts?count", LATER, None, "Use `aggregate`.")
FIELD = Deprecated("Account.legal_name", LATER, SUNSET, "Use `name`.")


def with_deprecated(*declared):
    return Catalog([*CATALOG.domains, Domain("old", deprecated=declared)])


@pytest.fixture(scope="module")
def told():
    catalog = with_deprecated(OPERATION, PARAMETER, FIELD)
    return catalog, json.loads(orjson.dumps(document(catalog)))


def test_the_document_marks_what_is_declared_and_nothing_else(told):
    _, whole = told
    for tag in ("products", "accounts"):  # of the whole the validator takes ten seconds
        assert [error.message for error in OpenAPIV31SpecValidator(excerpt(whole, tag)).iter_errors()] == []
    listed = whole["paths"]["/v1/units"]["get"]
    assert listed["deprecated"] is True
    assert listed["description"].endswith("Deprecated since 2026-11-01, until 2027-11-01. Use `GET /v1/products`.")
    (count,) = [item for item in whole["paths"]["/v1/accounts"]["get"]["parameters"] if item.get("name") == "count"]
    assert count["deprecated"] is True
    assert count["description"].endswith("Deprecated since 2026-12-01. Use `aggregate`.")
    assert "deprecated" not in whole["components"]["parameters"]["Count"], "other lists go on with it"
    schemas = {
        name
        for name, schema in whole["components"]["schemas"].items()
        if schema.get("properties", {}).get("legal_name", {}).get("deprecated")
    }
    assert schemas == {"Account", "SparseAccount", "AccountCreate", "AccountUpdate"}
    assert (
        whole["components"]["schemas"]["SparseAccount"]["properties"]["legal_name"]["description"].count("since") == 1
    )
    assert json.dumps(whole).count('"deprecated": true') == 2 + len(schemas)
    assert '"deprecated"' not in json.dumps(OPENAPI["paths"])


def test_a_server_of_a_catalog_with_something_deprecated_says_so(org, database, told, monkeypatch):
    """As all do once something is declared, so the other tests go on with it."""
    for module in (settings_module, credentials):
        monkeypatch.setattr(module, "load_settings", module.load_settings)  # put back in the end
    monkeypatch.setattr("crm_api.app.CATALOG", told[0])
    with LiveServer(database["app"], database["migrate"], org.server.settings.data_dir) as live:
        there = Org.create(live)
        assert "deprecation" in there.rep.get("/v1/units").headers
        assert "deprecation" not in there.rep.get("/v1/products").headers


@pytest.mark.parametrize("name", ["list_nothing", "list_accounts?nothing", "Account.nothing", "Nothing.name"])
def test_a_declaration_of_what_is_not_there_is_refused(name):
    with pytest.raises(ValueError, match="not in the contract"):
        mark(with_deprecated(Deprecated(name, SINCE, None, "Nothing.")), copy.deepcopy(OPENAPI))


class Asked:
    """Requests as a person through the notices, before the live server's application."""

    def __init__(self, org, told, uses):
        self.server, self.key = org.admin.server, org.admin.key
        catalog, whole = told
        self.app = Notices(self.server.edge, watch(catalog, whole), uses)

    def __call__(self, method, path, key=None, **options):
        async def ask():
            transport = httpx2.ASGITransport(self.app)
            headers = {"Authorization": f"Bearer {key or self.key}", **options.pop("headers", {})}
            async with httpx2.AsyncClient(transport=transport, base_url="http://test", headers=headers) as client:
                return await client.request(method, path, **options)

        return self.server.run(ask())


@pytest.fixture
def uses(monkeypatch):
    counted = use.Uses()
    monkeypatch.setattr("crm_api.domains.deprecation.show.USES", counted)
    return counted


@pytest.fixture
def ask(org, told, uses, monkeypatch):
    monkeypatch.setattr(
        "crm_api.domains.deprecation.show.deprecations",
        lambda _: {one.name: one for one in (OPERATION, PARAMETER, FIELD)},
    )
    return Asked(org, told, uses)


def stamp(day):
    return datetime(day.year, day.month, day.day, tzinfo=UTC)


def test_an_operation_says_since_when_and_until_when(ask):
    for method in ("GET", "HEAD"):
        answer = ask(method, "/v1/units", params={"limit": 1})
        assert answer.headers["deprecation"] == f"@{int(stamp(SINCE).timestamp())}", "RFC 9745: a date of RFC 9651"
        assert parsedate_to_datetime(answer.headers["sunset"]) == stamp(SUNSET), "RFC 8594: an HTTP date"
        assert 'rel="deprecation"' in answer.headers["link"]
    for path in ("/v1/products", "/v1/units/search", "/openapi.json"):
        assert "deprecation" not in ask("GET", path).headers


def test_only_who_uses_a_parameter_or_field_is_told(ask):
    assert "deprecation" not in ask("GET", "/v1/accounts").headers
    counted = ask("GET", "/v1/accounts", params={"count": "exact"})
    assert counted.headers["deprecation"] == f"@{int(stamp(LATER).timestamp())}"
    assert "sunset" not in counted.headers, "no day is set"
    made = ask("POST", "/v1/accounts", json={"name": "New"})
    assert made.status_code == 201
    assert "deprecation" not in made.headers
    changed = ask("PATCH", made.headers["location"], json={"legal_name": "Old"})
    assert (changed.status_code, changed.json()["legal_name"]) == (200, "Old")
    assert parsedate_to_datetime(changed.headers["sunset"]) == stamp(SUNSET)
    refused = ask("POST", "/v1/accounts", json={"legal_name": "Old", "name": ""})
    assert (refused.status_code, "sunset" in refused.headers) == (422, True)
    assert ask("POST", "/v1/accounts", content=b"{", headers={"Content-Type": "application/json"}).status_code == 400


def test_a_credential_is_told_what_it_used(ask, org):
    listed = ask("GET", "/v1/me/deprecations")
    assert listed.json() == {"object": "deprecations", "data": []}
    for _ in range(3):
        ask("GET", "/v1/units")
    assert ask("GET", "/v1/units", key="crm_wrong").status_code == 401
    ask("GET", "/v1/accounts", params={"count": "estimate"})
    first, second = ask("GET", "/v1/me/deprecations").json()["data"]
    assert (first["name"], first["uses"], first["sunset"]) == ("list_accounts?count", 1, None)
    assert (second["name"], second["uses"], second["sunset"]) == ("list_units", 3, "2027-11-01")
    assert second["instead"] == OPERATION.instead
    ask("GET", "/v1/units")
    assert [item["uses"] for item in ask("GET", "/v1/me/deprecations").json()["data"]] == [4, 1]
    assert ask("GET", "/v1/me/deprecations", key=org.rep.key).json()["data"] == []
    assert ask("GET", "/v1/me/deprecations", params={"x": "1"}).status_code == 422


def test_counters_are_bounded_and_nothing_is_lost_while_the_database_is_away(org, uses, monkeypatch):
    principal = org.admin.server.run(org.admin.server.kernel.authenticator.authenticate(f"Bearer {org.admin.key}", ""))
    monkeypatch.setattr(use, "MOST", 2)
    for name in ("one", "two", "three", "one"):
        uses.note(principal, name)
    assert {key[2]: count for key, (count, _) in uses._counted.items()} == {"one": 2, "two": 1}

    class Away:
        async def fetch(self, *_):
            raise ConnectionError

    with pytest.raises(ConnectionError):
        org.admin.server.run(uses.flush(Away()))
    org.admin.server.run(uses.flush(org.admin.server.kernel.database))
    rows = org.admin.server.run(use.used(org.admin.server.kernel.database, principal))
    assert {row["name"]: row["uses"] for row in rows} == {"one": 2, "two": 1}
    assert uses._counted == {}
