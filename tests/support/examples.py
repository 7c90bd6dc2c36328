"""Bodies for any resource, from its create schema and its references; nothing here knows a resource."""

import itertools
import time
from collections import deque
from dataclasses import replace
from datetime import UTC, date, datetime
from functools import cache
from typing import Any
from uuid import UUID

from pydantic import BaseModel, TypeAdapter
from starlette.requests import Request

from crm_api.catalog import CATALOG
from crm_api.domains.identity.principal import UserCreate
from crm_api.domains.oauth import family
from crm_api.domains.oauth.authenticate_client import find_client
from crm_api.domains.oauth.client import OAUTH_CLIENTS
from crm_api.domains.oauth.family import Grant
from crm_api.domains.opportunities.take_snapshots import take_snapshots
from crm_api.domains.privacy.person_export import EXPORT_PERSON, PersonExportRequest
from crm_api.domains.products.percent import Adjustment, Percent
from crm_api.domains.sign_in.person import find_by_id, start_session
from crm_api.domains.sign_in.second_factor import STEP_SECONDS, code_at, enrol, factor_of
from crm_api.kernel import schema as wire
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.repository import create
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import with_defaults
from crm_api.kernel.unit_of_work import system, transact
from tests.support.customs import CUSTOMIZED, CUSTOMS, customs, declare
from tests.support.customs import VALUES as CUSTOM_VALUES
from tests.support.imports import run
from tests.support.jobs import working
from tests.support.webhooks import send_due

_serial = itertools.count(1)
SETTINGS = ("access_defaults", "duplicate_checks")
"""Resources with one record for each resource, so that few can be made."""
_AT_ONCE = 8
"""Examples are different that a test may prepare before it makes the first; there are two more."""
_CURRENCIES = ("AUD", "BRL", "CAD", "CHF", "CZK", "DKK", "GBP", "HUF", "INR", "JPY", "NOK", "NZD", "PLN", "SEK", "TRY")
OWNERSHIP = ("owner_id", "team_id", "territory_id")


def _pattern(type_: Any) -> str:
    return TypeAdapter(type_).json_schema()["pattern"]


VALUES: dict[str, tuple[str, ...]] = {
    _pattern(wire.Money): ("10.00", "-5.25", "0.00", "99999999.9999", "1234.50"),
    _pattern(wire.Quantity): ("2.5", "1", "0.000001", "999999999999.999999"),
    _pattern(wire.Country): ("DE", "MX", "FR"),
    _pattern(wire.Code): ("erp",),
    _pattern(wire.Currency): ("EUR", "USD", "MXN"),
    _pattern(wire.Language): ("en", "es", "de-AT"),
    _pattern(wire.Url): ("https://www.example.com/a", "https://example.org", "http://shop.example.net"),
    "^[0-9]{1,10}$": ("17", "4", "0"),
    _pattern(Percent): ("19", "0", "8.875"),
    _pattern(Adjustment): ("-12.5", "0", "7.5"),
    "date": ("2024-02-29", "1999-12-31", "2030-01-01"),
    "date-time": ("2026-01-02T03:04:05Z", "2025-06-07T08:09:10.123456Z"),
}
"""Example values by what a wire type is known by in its JSON schema: pattern or format."""

TEXTS = ("Ñandú & Söhne", "100%_sure\\", "zebra", "Über Größe", "alpha beta")


def _free_resource(settings: str) -> Any:
    """Gives a resource of which these settings say nothing; when few are left, the oldest are deleted.

    None whose records may be refused as duplicates: examples may be alike.
    """

    given: deque[str] = deque(maxlen=_AT_ONCE - 2)

    def free(person: Any, n: int) -> str:
        known = CATALOG.resources.items()
        open_ = [name for name, item in known if item.default_access is None and item.duplicates is None]
        taken = person.all(f"/v1/{settings}", limit=200)
        left = [name for name in open_ if name not in {row["resource"] for row in taken}]
        while len(left) < _AT_ONCE:
            row = taken.pop()
            person.delete(f"/v1/{settings}/{row['id']}")
            left.append(row["resource"])
        fresh = [name for name in left if name not in given]
        given.append(fresh[n % len(fresh)])
        return given[-1]

    return free


def _new_product(person: Any, n: int) -> str | None:
    return Examples(person).reference(CATALOG.resources["products"], fresh=True)


def _dozen(person: Any, n: int) -> list[dict[str, str]]:
    if n % 2:
        return []
    unit = Examples(person).make(CATALOG.resources["units"], n)
    return [{"unit_id": unit["id"], "factor": "12"}]


def _one_line(person: Any, n: int) -> list[dict[str, str]]:
    return [{"description": f"Item {n}", "unit_price": f"{n}.50", "tax_percent": "19"}]


MEANT: dict[tuple[str, str], Any] = {
    ("products", "conversions"): _dozen,
    ("products", "kind"): lambda *_: "bundle",
    ("products", "currency"): lambda *_: "EUR",  # those that differ are not merged
    ("products", "variant_of_id"): lambda person, n: _new_product(person, n) if n % 3 == 2 else None,
    ("product_components", "component_id"): _new_product,
    ("approval_rules", "object_type"): lambda _, n: ("order", "quote")[n % 2],
    ("approval_rules", "is_active"): lambda *_: False,  # or documents of all examples wait
    ("approval_rules", "steps"): lambda *_: [{"kind": "manager", "remind_after_hours": 24}],
    ("approval_rules", "exempt_role_ids"): lambda *_: [],
    ("number_ranges", "document"): lambda *_: f"document_{next(_serial)}",
    ("number_ranges", "prefix"): lambda _, n: ("A-{year}-", "B{year}/")[n % 2],
    **dict.fromkeys((("orders", "lines"), ("quotes", "lines")), _one_line),
    **dict.fromkeys((("orders", "discount_amount"), ("quotes", "discount_amount")), lambda *_: None),  # or a percentage
    **dict.fromkeys((("orders", "round_to"), ("quotes", "round_to")), lambda _, n: ("0.05", "0.10", "1.00")[n % 3]),
    ("opportunities", "lines"): lambda *_: [],  # or the amount follows from them
    ("quotes", "quoted_on"): lambda _, n: ("1999-12-31", "2024-02-29")[n % 2],
    ("quotes", "valid_until"): lambda _, n: ("2090-01-01", "2099-12-31", None)[n % 3],
    ("document_templates", "object_type"): lambda *_: "order",
    ("document_templates", "source"): lambda _, n: ("= Form", '#let doc = json("/data.json")\n= #doc.title')[n % 2],
    ("pipelines", "is_active"): lambda *_: True,
    ("forecast_quotas", "period_start"): lambda _, n: ("2026-01-01", "2026-04-01", "2025-10-01")[n % 3],
    ("access_defaults", "resource"): _free_resource("access_defaults"),
    ("duplicate_checks", "resource"): _free_resource("duplicate_checks"),
    ("duplicate_checks", "on_create"): lambda *_: "allow",  # examples may be alike
    ("sources", "code"): lambda *_: f"source_{next(_serial)}",
    ("sources", "service_account_id"): lambda person, n: person.make("service_accounts", name=f"Robot {n}")["id"],
    ("sources", "owned_fields"): lambda *_: [{"resource": "accounts", "field": "legal_name"}],
    ("imports", "resource"): lambda *_: "accounts",
    ("imports", "mapping"): lambda *_: [{"column": "name", "field": "name"}],
    ("imports", "match_on"): lambda *_: [{"by": "field", "field": "tax_id"}],
    ("imports", "defaults"): lambda *_: {"tier": "A"},
    ("imports", "format"): lambda *_: "csv",
    ("imports", "encoding"): lambda *_: None,
    ("imports", "delimiter"): lambda *_: None,
    ("imports", "mode"): lambda *_: "create",
    ("custom_fields", "resource"): lambda _, n: ("quotes", "leads")[n % 2],
    ("custom_fields", "key"): lambda *_: f"field_{next(_serial)}",
    ("custom_fields", "kind"): lambda *_: "text",  # each is tried in tests/customs
    ("custom_fields", "labels"): lambda _, n: ({"es": f"Campo {n}"}, {})[n % 2],
    ("custom_fields", "default_value"): lambda _, n: (f"Default {n}", None)[n % 2],
    ("custom_fields", "is_required"): lambda *_: False,  # or no example of its resource has what it must
    **dict.fromkeys((("custom_fields", "is_unique"), ("custom_fields", "is_open")), lambda *_: False),
    **dict.fromkeys((("custom_fields", "target"), ("custom_fields", "currency")), lambda *_: None),
    ("custom_fields", "choices"): lambda *_: [],
    ("saved_views", "resource"): lambda _, n: ("products", "units")[n % 2],  # which everyone may read
    ("saved_views", "filter"): lambda _, n: (
        {"field": "created_at", "op": "gt", "value": "2020-01-01T00:00:00Z"},
        None,
    )[n % 2],
    ("saved_views", "sort"): lambda _, n: (["-created_at"], [])[n % 2],
    ("saved_views", "columns"): lambda *_: ["created_at", "name"],
    ("saved_views", "q"): lambda _, n: ("bolt", None)[n % 2],
    ("saved_views", "expand"): lambda _, n: (["variant_of"], [])[n % 2],
    ("saved_views", "visibility"): lambda *_: "private",
    ("saved_views", "team_id"): lambda *_: None,
    ("webhook_endpoints", "filter"): lambda *_: None,
    ("webhook_endpoints", "url"): lambda _, n: f"http://127.0.0.1:65001/events/{n}",
    ("identity_providers", "issuer"): lambda _, n: f"http://127.0.0.1:65001/{n}",
    ("identity_providers", "client_id"): lambda _, n: f"client-{n}",
    ("identity_providers", "email_domains"): lambda _, n: [f"example{n}.com"],
    ("currency_rates", "quote_currency"): lambda _, n: ("JPY", "CHF", "KWD")[n % 3],
    ("currency_rates", "valid_from"): lambda *_: date.fromordinal(700_000 + next(_serial)).isoformat(),
    ("base_currencies", "valid_from"): lambda *_: date.fromordinal(600_000 + next(_serial)).isoformat(),
    ("price_books", "is_default"): lambda *_: False,
    ("price_books", "code"): lambda *_: f"book_{next(_serial)}",
    ("price_books", "currency"): lambda *_: "EUR",  # a parent has the same
    ("price_books", "valid_from"): lambda _, n: ("1990-01-01", "1999-12-31")[n % 2],
    ("price_books", "valid_until"): lambda _, n: ("2031-12-31", "2040-02-29")[n % 2],
    ("price_entries", "category_id"): lambda *_: None,  # it is for a product, and says a price
    ("price_entries", "adjustment_percent"): lambda *_: None,
    ("price_entries", "price"): lambda _, n: ("10.00", "0.00", "99999999.9999")[n % 3],
    ("price_entries", "rounding_step"): lambda _, n: ("0.05", "10.00")[n % 2],
    ("price_entries", "valid_until"): lambda _, n: ("2031-12-31", "2040-02-29")[n % 2],
    ("tax_profiles", "is_default"): lambda *_: False,  # at most one is
    ("tax_profiles", "code"): lambda *_: f"profile_{next(_serial)}",
    ("tax_rates", "name"): lambda *_: f"VAT {next(_serial)}",
    ("tax_rates", "region"): lambda *_: None,
    ("tax_rates", "valid_until"): lambda _, n: ("2031-12-31", "2040-02-29")[n % 2],
    ("oauth_clients", "redirect_uris"): lambda _, n: ["https://app.example.com/callback", "http://127.0.0.1/cb"][
        n % 2 :
    ],
    ("oauth_clients", "client_type"): lambda *_: "confidential",  # others have no secret to rotate
    ("oauth_clients", "grant_types"): lambda *_: ["authorization_code", "refresh_token"],
    ("oauth_clients", "scopes"): lambda _, n: [["openid"], ["openid", "email"]][n % 2],  # any credential covers these
    ("oauth_clients", "service_account_id"): lambda person, n: person.make("service_accounts", name=f"App {n}")["id"],
    ("territories", "code"): lambda *_: f"territory_{next(_serial)}",
    ("territory_rules", "is_active"): lambda *_: False,  # or records of all examples go where they say
    ("territory_rules", "countries"): lambda _, n: [["DE"], ["FR", "MX"]][n % 2],
    ("territory_rules", "postal_codes"): lambda _, n: [[{"first": "8", "last": None}], []][n % 2],
    ("territory_rules", "employees_max"): lambda _, n: 1_000 + n,
    ("account_relations", "to_account_id"): lambda person, _: Examples(person).reference(
        CATALOG.resources["accounts"], fresh=True
    ),
    ("account_relations", "valid_until"): lambda _, n: ("2031-12-31", "2040-02-29")[n % 2],
    ("account_relation_types", "code"): lambda *_: f"relation_{next(_serial)}",
    ("retention_policies", "resource"): lambda *_: "leads",
    ("retention_policies", "filter"): lambda _, n: [None, {"field": "score", "op": "lt", "value": 0}][n % 2],
    ("roles", "field_rules"): lambda *_: [{"resource": "accounts", "field": "legal_name", "rule": "hidden"}],
}
"""Values whose meaning no schema tells: names of resources and fields."""


def _sales(person: Any) -> None:
    """A default pipeline."""
    if not person.all("/v1/pipelines", is_default=True):
        pipeline = Examples(person).make(CATALOG.resources["pipelines"])
        assert person.post(f"/v1/pipelines/{pipeline['id']}/make_default").status_code == 200


BEFORE: dict[str, Any] = {"opportunities": _sales}
"""What a tenant has before the first of these can be made."""
NEVER = frozenset(
    {
        *(("opportunities", name) for name in ("pipeline_id", "stage_id")),
        *(
            (item, name)
            for item in ("orders", "quotes")
            for name in ("opportunity_id", "price_book_id", "tax_profile_id")
        ),
        *(("accounts", name) for name in ("price_book_id", "tax_profile_id")),
        *(("territory_rules", name) for name in ("revenue_min", "revenue_max", "currency")),
    }
)
"""Fields that no example has: each must suit the other, or refers to what not everyone may make."""
ALWAYS = frozenset(
    {
        ("orders", "currency"),
        ("quotes", "currency"),
        ("price_entries", "product_id"),
        ("price_entries", "price"),
        ("products", "kind"),
        ("duplicate_checks", "on_create"),
        ("territory_rules", "is_active"),
    }
)
"""Fields that the barest body has: of products only bundles may be referred to from everywhere."""
EITHER: dict[tuple[str, str], str] = {
    ("price_entries", one): other
    for pair in (("product_id", "category_id"), ("price", "adjustment_percent"))
    for one, other in (pair, pair[::-1])
}
"""Fields of which a record has exactly one, each with the other."""
AT_LEAST: dict[str, tuple[str, ...]] = {
    "leads": ("last_name", "company"),
    **dict.fromkeys(("consents", "legal_holds"), ("contact_id", "lead_id")),
}
"""Fields of which a body has one at least: the first, when it would have none."""
NEEDS: dict[tuple[str, str], str] = {
    **dict.fromkeys((("products", "cost"), ("products", "list_price")), "currency"),
    ("approval_rules", "amount_over"): "currency",
}
"""Fields that are left out together with another."""


def _tried(person: Any, endpoint: dict[str, Any]) -> None:
    """Deliveries and attempts are made by the worker alone: a test event to an address where nobody listens."""
    assert person.post(f"/v1/webhook_endpoints/{endpoint['id']}/test").status_code == 201
    person.server.run(send_due(person.server))


def _opened(person: Any, pipeline: dict[str, Any]) -> None:
    """The stages that an opportunity goes through."""
    for i, (code, kind) in enumerate((("new", "open"), ("offered", "open"), ("won", "won"), ("lost", "lost"))):
        person.make("stages", pipeline_id=pipeline["id"], name=code.title(), code=code, kind=kind, position=i)


AFTER: dict[str, Any] = {"webhook_endpoints": _tried, "pipelines": _opened}
"""What follows the making of a record, so that there are rows of what no client makes."""


def _job(person: Any, n: int) -> dict[str, Any]:
    from tests.support.jobs import UNKNOWN, Nothing, start

    return start(person, UNKNOWN, Nothing())


def _file(person: Any, n: int) -> dict[str, Any]:
    account = person.make("accounts", name=f"With a file {n}")
    return attach(person, "account", account["id"], f"Notes {n}.txt", b"Notes %d" % n)


def _export(person: Any, n: int) -> dict[str, Any]:
    answer = person.post("/v1/exports", json={"resource": ("accounts", "contacts")[n % 2]})
    assert answer.status_code == 202, answer.text
    return person.get(f"/v1/exports/{answer.json()['id']}").json()


def _erasure(person: Any, n: int) -> dict[str, Any]:
    """Of a contact of the person; recorded as by the job, since not everyone may ask for one."""
    contact = person.make("contacts", last_name=f"Forgotten {n}")["id"]
    ctx = system(person.server.kernel, UUID(person.get("/v1/me").json()["tenant_id"]), "test")
    values = {"object_type": "contact", "object_id": contact, "basis": "request", "reference": f"DSR-{n}"}
    state = {"state": "done", "objects": [contact], "kinds": {}, "counts": {"contacts": n}, "policy_id": None}
    made = person.server.run(create(ctx, CATALOG.resources["erasures"], values | state))
    return person.get(f"/v1/erasures/{(made or {})['id']}").json()


def _person_export(person: Any, n: int) -> dict[str, Any]:
    """Started as by who may, since not everyone may."""
    from tests.support.jobs import start

    contact = person.make("contacts", last_name=f"Curious {n}")
    job = start(person, replace(EXPORT_PERSON, permission=None), PersonExportRequest(contact_id=contact["id"]))
    return person.get(f"/v1/person_exports/{job['id']}").json()


def attach(person: Any, type_: str, id_: str, name: str, content: bytes) -> dict[str, Any]:
    """Uploads a file; fails the test unless it is 201."""
    answer = person.post("/v1/files", params={"object_type": type_, "object_id": id_, "name": name}, content=content)
    assert answer.status_code == 201, answer.text
    return answer.json()


def _sent(person: Any, made: dict[str, Any], *verbs: str) -> dict[str, Any]:
    """An import with its file, after these verbs."""
    answer = person.put(f"/v1/imports/{made['id']}/content", content=b"name\nOne\n")
    assert answer.status_code == 200, answer.text
    with working(person.server):
        for verb in verbs:
            run(person, made, verb)
    return made


def _with_line(person: Any, made: dict[str, Any], *verbs: str) -> dict[str, Any]:
    """An order that can be confirmed, after these verbs."""
    body = {"lines": [{"description": "Tea", "unit_price": "5"}]}
    assert person.patch(f"/v1/orders/{made['id']}", json=body).status_code == 200
    for verb in verbs:
        sent = {"reason": "Because."} if verb == "hold" else None
        assert person.post(f"/v1/orders/{made['id']}/{verb}", json=sent).status_code == 200
    return made


def _opportunity_line(person: Any, n: int) -> dict[str, Any]:
    given = {"amount": None, "currency": "EUR", "lines": _one_line(person, n)}
    made = Examples(person).make(CATALOG.resources["opportunities"], n, given=given)
    return person.get(f"/v1/opportunity_lines/{made['lines'][0]['id']}").json()


def _line_of(documents: str) -> Any:
    """The line of a new document."""

    def make(person: Any, n: int) -> dict[str, Any]:
        made = Examples(person).make(CATALOG.resources[documents], n)
        return person.get(f"/v1/{documents[:-1]}_lines/{made['lines'][0]['id']}").json()

    return make


def _moved(documents: str, *verbs: str) -> Any:
    """A record after these verbs."""

    def move(person: Any, made: dict[str, Any]) -> dict[str, Any]:
        for verb in verbs:
            answer = person.post(f"/v1/{documents}/{made['id']}/{verb}")
            assert answer.status_code == 200, answer.text
        return made

    return move


@cache
def _watched_account(person: Any, type_: str, steps: int) -> str:
    """An account whose documents need approval."""
    account = person.make("accounts", name=f"Watched {next(_serial)}")["id"]
    step = {"kind": "manager", "principal_id": None, "role_id": None, "remind_after_hours": None}
    rules = CATALOG.resources["approval_rules"]
    name, given = f"Rule {next(_serial)}", {"object_type": type_, "account_id": account}
    rule = with_defaults(rules.create, {"name": name, "steps": [step] * steps, **given})
    tenant = UUID(person.get("/v1/me").json()["tenant_id"])
    person.server.run(create(system(person.server.kernel, tenant, "test"), rules, rule))
    return account


def _watched(person: Any, made: dict[str, Any]) -> dict[str, Any]:
    """A document that needs approval."""
    account = _watched_account(person, made["object"], 1)
    answer = person.patch(f"/v1/{made['object']}s/{made['id']}", json={"account_id": account})
    assert answer.status_code == 200, answer.text
    return answer.json()


@cache
def _somebody(person: Any) -> Any:
    """Another administrator, below the person."""
    user = person.make("users", name="Asker", email=f"asker{next(_serial)}@example.com", manager_id=person.id)["id"]
    (role,) = person.all("/v1/roles", name="Administrator")
    person.make("role_assignments", principal_id=user, role_id=role["id"])
    answer = person.post(f"/v1/users/{user}/issue_key", json={"name": "Asker"})
    return type(person)(person.server, user, answer.json()["key"])


def _approval(person: Any, n: int, *, steps: int = 1) -> dict[str, Any]:
    """What an order of somebody below waits for."""
    asker = _somebody(person) if person.post("/v1/users", params={"dry_run": "true"}).status_code != 403 else person
    account = _watched_account(asker, "order", steps)
    order = asker.make("orders", account_id=account, currency="EUR", lines=_one_line(asker, n))
    answer = asker.post(f"/v1/orders/{order['id']}/confirm")
    assert answer.json()["state"] == "pending_approval", answer.text
    (found,) = person.all("/v1/approvals", object_id=order["id"])
    return found


def _snapshot(person: Any, n: int) -> dict[str, Any]:
    """Of the person's own opportunities in a currency; taken as by the schedule, since not everyone may."""
    currency = _CURRENCIES[next(_serial) % len(_CURRENCIES)]
    me, kernel = person.get("/v1/me").json(), person.server.kernel
    account = person.make("accounts", name=f"Forecast {n}")["id"]
    values = {"amount": f"{n + 1}.50", "currency": currency, "close_date": datetime.now(UTC).date().isoformat()}
    person.make("opportunities", name=f"Forecast {n}", account_id=account, **values)
    person.server.run(take_snapshots(system(kernel, UUID(me["tenant_id"]), "test")))
    return person.all("/v1/forecast_snapshots", principal_id=me["id"], currency=currency)[0]


def _session(person: Any, n: int) -> dict[str, Any]:
    """The person signed in with a browser, as after the right password."""
    kernel, me = person.server.kernel, person.get("/v1/me").json()

    async def start() -> str:
        found = await find_by_id(kernel, UUID(me["tenant_id"]), UUID(me["id"]))
        scope = {"type": "http", "crm.kernel": kernel, "crm.request_id": "example", "crm.address": f"192.0.2.{n}"}
        ticket = await start_session(Request({**scope, "headers": []}), found, ("pwd",))
        return str(ticket.id)

    return person.get(f"/v1/sessions/{person.server.run(start())}").json()


def _second_factor(person: Any, n: int) -> dict[str, Any]:
    """The person's own factor; when they have one, that of a new user."""
    me = person.get("/v1/me").json()
    ctx, secret = system(person.server.kernel, UUID(me["tenant_id"]), "test"), b"example"
    code = code_at(secret, int(time.time()) // STEP_SECONDS)

    async def start() -> str:
        who = UUID(me["id"])
        if await factor_of(ctx, who) is not None:
            user = {"name": f"Careful {n}", "email": f"careful{next(_serial)}@example.com"}
            made = await create(ctx, CATALOG.resources["users"], with_defaults(UserCreate, user))
            who = UUID(str((made or {})["id"]))
        await transact(ctx, lambda inner: enrol(inner, who, secret, code))
        return str(await factor_of(ctx, who))

    return person.get(f"/v1/second_factors/{person.server.run(start())}").json()


def _active(person: Any, made: dict[str, Any]) -> dict[str, Any]:
    answer = person.patch(f"/v1/{made['object']}s/{made['id']}", json={"is_active": True})
    assert answer.status_code == 200, answer.text
    return answer.json()


def _grant(person: Any, n: int) -> dict[str, Any]:
    """What the person allowed a client."""
    me, kernel = person.get("/v1/me").json(), person.server.kernel
    tenant, principal = UUID(me["tenant_id"]), UUID(me["id"])
    values = {
        "name": f"Planner {n}",
        "client_type": "public",
        "redirect_uris": ["https://app.example.com/"],
        "scopes": ["openid"],
    }

    async def give() -> UUID:
        made = await create(system(kernel, tenant, "test"), OAUTH_CLIENTS, with_defaults(OAUTH_CLIENTS.create, values))
        client = await find_client(kernel, str((made or {})["client_id"]))
        assert client is not None
        grant = Grant(client, principal, "authorization_code", ["openid"])
        await family.give(system(kernel, tenant, "test"), grant)
        return grant.id

    return person.get(f"/v1/oauth_grants/{person.server.run(give())}").json()


def _begun_with(person: Any, view: dict[str, Any]) -> dict[str, Any]:
    """A view that the person begins with, of other records than `make_default` is tried with: it would replace it."""
    path = f"/v1/saved_views/{view['id']}"
    assert person.patch(path, json={"resource": "products"}).status_code == 200
    assert person.post(f"{path}/make_default").status_code == 200
    return person.get(path).json()


READY: dict[tuple[str, str], Any] = {
    ("users", "invite"): _active,
    ("orders", "confirm"): _with_line,
    ("orders", "hold"): lambda person, made: _with_line(person, made, "confirm"),
    ("orders", "progress"): lambda person, made: _with_line(person, made, "confirm"),
    ("orders", "amend"): lambda person, made: _with_line(person, made, "confirm"),
    ("orders", "close"): lambda person, made: _with_line(person, made, "confirm"),
    ("orders", "release"): lambda person, made: _with_line(person, made, "confirm", "hold"),
    ("quotes", "convert"): _moved("quotes", "send", "accept"),
    ("saved_views", "end_default"): _begun_with,
    ("imports", "validate"): _sent,
    ("imports", "apply"): lambda person, made: _sent(person, made, "validate"),
    ("imports", "revert"): lambda person, made: _sent(person, made, "validate", "apply"),
}
"""What brings a record where a verb can be asked of it."""
OTHERWISE: dict[tuple[str, str, str], Any] = {
    ("orders", "confirm", "pending_approval"): _watched,
    ("quotes", "submit", "pending_approval"): _watched,
    ("approvals", "approve", "pending"): lambda person, _: _approval(person, 0, steps=2),
}
"""What brings a record where a verb of it leads to another state than its target."""
FOLLOWED: dict[tuple[str, str], tuple[str, ...]] = {
    ("approvals", "approve"): ("order.confirmed",),
    ("approvals", "reject"): ("order.rejected",),
    ("approvals", "withdraw"): ("order.rejected",),
    ("orders", "reopen"): ("approval.withdrawn",),
}
"""Events of other records that a verb moves, too."""
MADE: dict[str, Any] = {
    "opportunity_lines": _opportunity_line,
    "order_lines": _line_of("orders"),
    "quote_lines": _line_of("quotes"),
    "jobs": _job,
    "files": _file,
    "exports": _export,
    "erasures": _erasure,
    "person_exports": _person_export,
    "forecast_snapshots": _snapshot,
    "approvals": _approval,
    "oauth_grants": _grant,
    "sessions": _session,
    "second_factors": _second_factor,
}
"""How rows come about that no create makes."""


@cache
def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """The JSON schema of a wire schema; to be read only."""
    return model.model_json_schema()


def claims(resource: Resource) -> bool:
    """Whether a client can send a value that no other live row may have."""
    if not any(index.unique for index in resource.table.indexes):
        return False
    return bool(unique_columns(resource) & set(resource.create.model_fields))


def unique_columns(resource: Resource, *, every: bool = False) -> set[str]:
    """Wire fields of which a live row needs its own value, unless a verb sets it; of several columns one is enough."""
    found = set()
    keys = {str(key.key): name for name, key in resource.keys.items()}
    by_verb = {
        column
        for name, derived in resource.derive.items()
        if name not in resource.create.model_fields
        for column in derived(None)
    }
    for index in resource.table.indexes:
        if index.unique and by_verb.isdisjoint(str(column.name) for column in index.columns):
            names = [keys.get(str(column.name), str(column.name)) for column in index.columns][1:]
            if every:
                found.update(names)
            found.add(next((name for name in names if name in resource.create.model_fields), names[0]))
    return found


def nullable_inputs(resource: Resource) -> list[str]:
    return [name for name, info in resource.create.model_fields.items() if wire.nullable(info.annotation)]


def sample(part: dict[str, Any], defs: dict[str, Any], name: str, n: int, *, unique: bool = False) -> Any:
    """A value that the schema admits; it varies with n."""
    if "$ref" in part:
        part = defs[part["$ref"].rsplit("/", 1)[1]]
    if "allOf" in part:
        part = part["allOf"][0]
    if "anyOf" in part:
        part = next(option for option in part["anyOf"] if option.get("type") != "null")
        return sample(part, defs, name, n, unique=unique)
    if "const" in part:
        return part["const"]
    if "enum" in part:
        return part["enum"][n % len(part["enum"])]
    match part.get("type"):
        case "boolean":
            return n % 2 == 0
        case "integer":
            low = part.get("minimum", 0)
            return low + n % (part["maximum"] - low + 1) if "maximum" in part else low + n
        case "array":
            return [
                sample(part["items"], defs, f"{name}{i}", n + i) for i in range(max(n % 3, part.get("minItems", 0)))
            ]
        case "object" if part.get("examples"):
            return part["examples"][n % len(part["examples"])]
        case "object":
            return {
                key: sample(value, defs, key, n)
                for key, value in part.get("properties", {}).items()
                if key in part.get("required", ()) or n % 2
            }
    known = VALUES.get(part.get("pattern", ""), ()) or VALUES.get(part.get("format", ""), ())
    if known:
        return known[n % len(known)]
    if part.get("format") == "email":
        return f"{name.replace('_', '')}.{next(_serial)}.{n}@example.com".lower()
    if part.get("examples"):
        return part["examples"][0]
    text = f"{TEXTS[n % len(TEXTS)]} {name} {n % 2}" + (f" {next(_serial)}" if unique else "")
    return text[-part["maxLength"] :].strip() if part.get("maxLength", 500) < len(text) else text


class Examples:
    """Makes records through a person, and whatever they refer to."""

    def __init__(self, person: Any, *, customs: bool = False) -> None:
        """With `customs`, some records have a custom field of each kind, which are declared now."""
        self.person = person
        self._customs = customs
        self._partners: list[str] = []
        if customs:
            declare(person)
        self._known: dict[str, str] = {}
        self._settled: set[str] = set()

    def creatable(self, target: Resource) -> Resource | None:
        """The resource by which rows of the target's table are made."""
        same = [target, *(other for other in CATALOG.resources.values() if other.table is target.table)]
        return next((other for other in same if "create" in other.operations and other.create), None)

    def reference(self, target: Resource, *, fresh: bool) -> str | None:
        maker = self.creatable(target)
        if maker is None:
            return None
        if fresh or maker.plural not in self._known:
            made = self.make(maker, next(_serial), bare=True)["id"]
            if fresh:
                return made
            self._known[maker.plural] = made
        return self._known[maker.plural]

    def body(
        self,
        resource: Resource,
        n: int = 1,
        *,
        bare: bool = False,
        without: tuple[str, ...] = (),
        fresh: bool = False,
        given: tuple[str, ...] = (),
    ) -> dict[str, Any]:
        """A create body; `bare` has only what is required, `fresh` refers to records of its own in every unique key."""
        assert resource.create is not None
        if resource.plural in BEFORE and resource.plural not in self._settled:
            BEFORE[resource.plural](self.person)
            self._settled.add(resource.plural)
        whole = schema_of(resource.create)
        unique = unique_columns(resource, every=fresh)
        found: dict[str, Any] = {}
        for name, part in whole["properties"].items():
            required = name in whole.get("required", ())
            required |= (resource.plural, name) in ALWAYS
            if EITHER.get((resource.plural, name)) in given:
                continue
            required |= bare and name == next(iter(AT_LEAST.get(resource.plural, ())), None) and name not in given
            if (
                name in ("id", *given)
                or (resource.plural, name) in NEVER
                or (not required and (bare or name in without or name in OWNERSHIP))
            ):
                continue
            target = CATALOG.target(resource, name)
            if name == CUSTOM and self._customs and resource is CUSTOMIZED:
                found[name] = self._custom(n, without)
            elif (resource.plural, name) in MEANT:
                found[name] = MEANT[resource.plural, name](self.person, n)
            elif target is not None:
                found[name] = self.reference(target, fresh=name in unique)
            else:
                found[name] = sample(part, whole.get("$defs", {}), name, n, unique=name in unique)
        lacking = [name for name in found if NEEDS.get((resource.plural, name), name) not in (*found, *given)]
        return {name: value for name, value in found.items() if name not in lacking}

    def _custom(self, n: int, without: tuple[str, ...]) -> dict[str, Any]:
        """A value of each custom field; it varies with n."""
        while len(self._partners) < 3:
            self._partners.append(self.make(CUSTOMIZED, next(_serial), bare=True)["id"])
        found = {}
        for name, field in CUSTOMS.items():
            values = CUSTOM_VALUES.get(field.key, self._partners)
            if name not in without:
                found[field.key] = values[n % len(values)]
        return found

    def make(self, resource: Resource, n: int = 1, **options: Any) -> dict[str, Any]:
        if resource.plural in MADE:
            return MADE[resource.plural](self.person, n)
        given = options.pop("given", {})
        made = self.person.make(resource.plural, **{**self.body(resource, n, given=tuple(given), **options), **given})
        if resource.plural in AFTER:
            AFTER[resource.plural](self.person, made)
        return made

    def sparse(self, resource: Resource, n: int) -> dict[str, Any]:
        """The n-th of a varied set: every third is bare, others miss a changing part of what may be null."""
        names = [*nullable_inputs(resource), *customs(resource)]
        gone = tuple(name for i, name in enumerate(names) if (i + n) % 3 == 0)
        return self.make(resource, n, bare=n % 3 == 0, without=gone)
