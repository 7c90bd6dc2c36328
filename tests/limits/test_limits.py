"""Limits over HTTP: who is refused, how, what the answers say, and that nobody else notices."""

import re
import time
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from crm_api.domains.limits.fixed import fixed
from crm_api.domains.limits.limiter import REFUSALS
from crm_api.kernel.context import Principal
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import Problem
from tests.limits.conftest import FAILURES, IN_FLIGHT
from tests.sign_in.browsing import Browser
from tests.support.oauth import App
from tests.support.org import Org, Person
from tests.support.pace import exhausted
from tests.support.problems import problem
from tests.support.waiting import behind

POLICY = re.compile(r'"(\w+)";q=(\d+)(?:;w=(\d+))?(?:;qu="concurrent-requests")?')
LIMIT = re.compile(r'"(\w+)";r=(\d+)(?:;t=(\d+))?')


def left(answer: httpx2.Response, policy: str = "credential") -> int:
    """What an answer says is left of a policy; fails unless both headers are as the draft says and fit together."""
    policies, limits = answer.headers["ratelimit-policy"].split(", "), answer.headers["ratelimit"].split(", ")
    quotas = {match[1]: int(match[2]) for match in map(POLICY.fullmatch, policies) if match}
    found = {match[1]: int(match[2]) for match in map(LIMIT.fullmatch, limits) if match}
    assert list(quotas) == list(found) == ["credential", "tenant", "in_flight"], answer.headers
    assert all(found[name] <= quotas[name] for name in quotas)
    return found[policy]


def exhaust(person: Person, policy: str = "credential") -> httpx2.Response:
    """Asks until refused, as `exhausted`; gives the refusal, which says all there is to say."""
    answer, _ = exhausted(lambda: person.get("/v1/units"))
    told = problem(answer, 429, code="rate_limited")
    assert (told["retryable"], told["violated_policies"]) == (True, [policy])
    assert left(answer, policy) == 0
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    return answer


def test_a_credential_beyond_its_rate_is_refused_until_it_has_waited(org, limit):
    limit(org, credential=1)
    first = org.rep.get("/v1/units")
    assert left(first) == 59
    began = time.monotonic()
    refusal = exhaust(org.rep)
    assert left(org.manager.get("/v1/units")) == 59, "another credential has a quota of its own"
    time.sleep(int(refusal.headers["retry-after"]))
    assert org.rep.get("/v1/units").status_code == 200
    assert time.monotonic() - began < 30


def test_credentials_of_a_tenant_share_its_rate_and_other_tenants_do_not(org, server, limit):
    limit(org, tenant=1)
    for _ in range(30):
        assert org.rep.get("/v1/units").status_code == 200
    assert left(org.manager.get("/v1/units"), "tenant") <= 29 + 5
    exhaust(org.manager, "tenant")
    problem(org.rep.get("/v1/units"), 429, code="rate_limited")
    assert Org.create(server).rep.get("/v1/units").status_code == 200


def test_what_was_refused_was_not_done_and_is_done_once_by_a_retry(org, limit):
    limit(org, credential=1)
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    refusal = exhaust(org.rep)
    problem(org.rep.post("/v1/accounts", json={"name": "Later"}, headers=headers), 429, code="rate_limited")
    large = org.rep.post("/v1/accounts", content=b"x" * 900_000, headers={"Content-Type": "application/json"})
    problem(large, 429, code="rate_limited")
    assert org.admin.get("/v1/accounts").json()["data"] == []
    time.sleep(int(refusal.headers["retry-after"]) + 2)  # two more were refused
    made = org.rep.post("/v1/accounts", json={"name": "Later"}, headers=headers)
    assert made.status_code == 201
    limit(org)
    again = org.rep.post("/v1/accounts", json={"name": "Later"}, headers=headers)
    assert (again.json()["id"], again.headers["idempotency-replayed"]) == (made.json()["id"], "true")


def test_each_write_of_a_batch_counts_and_what_does_not_fit_is_owed(org, limit):
    limit(org, credential=1)
    assert left(org.rep.get("/v1/units")) == 59
    items = [{"op": "create", "body": {"name": f"Acme {n}"}} for n in range(40)]
    for _ in range(2):
        assert org.rep.post("/v1/accounts/batch", json={"items": items}).status_code == 200
    refused = org.rep.get("/v1/units")
    problem(refused, 429, code="rate_limited")
    assert 15 <= int(refused.headers["retry-after"]) <= 23


def test_a_long_page_counts_by_its_rows(org, limit):
    limit(org, credential=1)
    items = [{"op": "create", "body": {"name": f"Acme {n}"}} for n in range(101)]
    assert org.admin.post("/v1/accounts/batch", json={"items": items}).status_code == 200
    assert left(org.reader.get("/v1/accounts", params={"limit": 50})) == 59
    assert left(org.reader.get("/v1/accounts", params={"limit": 200})) == 58
    assert left(org.reader.get("/v1/units")) == 55, "101 rows were three requests"


def test_a_page_counts_as_it_was_asked_for_until_it_is_found(org, limit, database):
    """So that many that come at the same time are not all let in for what is left for one."""
    limit(org, credential=1)
    seen: list[int] = []
    page = behind(
        database["admin"],
        lambda: org.reader.get("/v1/accounts", params={"limit": 200, "expand": "owner"}),
        ("LOCK TABLE accounts IN ACCESS EXCLUSIVE MODE",),
        meanwhile=lambda: seen.append(left(org.reader.get("/v1/units"))),
    )
    assert page.json()["data"] == []
    assert seen == [60 - 8 - 1], "400 records, expanded ones too"
    assert left(org.reader.get("/v1/units")) == 57


def test_what_is_expanded_counts_like_rows(org, limit):
    limit(org, credential=1)
    items = [{"op": "create", "body": {"name": f"Acme {n}"}} for n in range(20)]
    made = org.rep.post("/v1/accounts/batch", json={"items": items}).json()["results"]
    people = [
        {"op": "create", "body": {"last_name": "P", "account_id": made[0]["body"]["id"]}},
    ] * 15
    assert org.rep.post("/v1/contacts/batch", json={"items": people}).status_code == 200
    assert left(org.reader.get("/v1/accounts", params={"expand": "owner"})) == 59
    assert left(org.reader.get("/v1/accounts", params={"expand": "owner,contacts"})) == 58, "40 records were one"
    assert left(org.reader.get("/v1/units")) == 56, "55 records, with 15 contacts, were two"


def test_every_kind_of_answer_tells_and_what_needs_no_credential_does_not(shared_org):
    rep = shared_org.rep
    account = rep.make("accounts", name="Acme")
    path = f"/v1/accounts/{account['id']}"
    answers = [
        rep.get("/v1/accounts"),
        rep.get(path),
        rep.head(path),
        rep.head("/v1/me"),
        rep.get(path, headers={"If-None-Match": f'"{account["version"]}"'}),
        rep.get(f"/v1/accounts/{uuid.uuid4()}"),
        rep.get("/v1/accounts", params={"nonsense": 1}),
        rep.post("/v1/accounts", json={"name": "Beta"}),
        rep.post("/v1/accounts", json={}),
        rep.post("/v1/accounts", content=b"{", headers={"Content-Type": "application/json"}),
        rep.post("/v1/accounts/search", json={}),
        rep.post("/v1/accounts/aggregate", json={"measures": [{"op": "count"}]}),
        rep.post("/v1/batch", json={"operations": [{"operation": "delete_account", "id": account["id"]}]}),
        rep.post(f"{path}/restore"),
        rep.post("/v1/roles", json={}),
        rep.get("/v1/me"),
        rep.get("/v1/search", params={"q": "acme"}),
        rep.get("/v1/changes"),
        rep.get("/v1/limits"),
    ]
    assert {answer.status_code for answer in answers} >= {200, 201, 304, 400, 403, 404, 422}
    for answer in answers:
        left(answer)
    assert left(answers[0]) > 0
    for path in ("/healthz", "/readyz", "/openapi.json", "/problems"):
        assert "ratelimit" not in rep.get(path).headers
    anyone = httpx2.get(f"{rep.server.base_url}/v1/me")
    assert (anyone.status_code, "ratelimit" in anyone.headers) == (401, False)


def test_the_overview_is_what_the_answers_say_and_what_holds(org, server, limit):
    limit(org, credential=2, tenant=10)
    answer = org.rep.get("/v1/limits")
    found = answer.json()
    told = {policy["name"]: policy for policy in found["policies"]}
    assert {name: policy["remaining"] for name, policy in told.items()} == {
        name: left(answer, name) for name in ("credential", "tenant", "in_flight")
    }
    assert [(told[name]["quota"], told[name]["window"]) for name in ("credential", "tenant")] == [(120, 60), (600, 60)]
    most = {limit_["name"]: limit_["most"] for limit_ in found["fixed"]}
    assert most == {name: number for name, (number, _) in fixed(server.settings).items()}
    for limit_, status in ((most["page_rows"], 200), (most["page_rows"] + 1, 422)):
        assert org.admin.get("/v1/accounts", params={"limit": limit_}).status_code == status
    for number, status in ((most["expand_paths"], 200), (most["expand_paths"] + 1, 422)):
        names = ["owner", "parent", "owner.manager", "parent.owner", "parent.parent", "owner.team"][:number]
        assert org.admin.get("/v1/accounts", params={"expand": ",".join(names)}).status_code == status
    problem(org.rep.get("/v1/limits", params={"of": "me"}), 422)


def test_two_processes_know_of_each_other_within_two_seconds(org, server, other, limit):
    limit(org, credential=1)
    there = Person(other, org.rep.id, org.rep.key)
    assert left(there.get("/v1/units")) == 59
    for _ in range(50):
        assert org.rep.get("/v1/units").status_code == 200
    deadline = time.monotonic() + 2
    while (rest := left(there.get("/v1/units"))) > 12 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert rest <= 12
    while left(org.rep.get("/v1/units")) > 5 and time.monotonic() < deadline + 2:
        time.sleep(0.2)
    assert 429 in [there.get("/v1/units").status_code for _ in range(20)]


def test_what_a_dead_process_told_limits_nobody_for_long(org, server, limit, sql):
    limit(org, credential=1)
    org.rep.get("/v1/units")
    sql(
        "INSERT INTO limit_usage VALUES ($1, $2, now(), now() + interval '1 year') ON CONFLICT (tenant_id, id) "
        "DO UPDATE SET due = excluded.due",
        *(org.tenant_id, uuid.UUID(org.rep.get("/v1/me").json()["credential_id"])),
    )
    deadline = time.monotonic() + 3
    while org.rep.get("/v1/units").status_code == 200:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert int(org.rep.get("/v1/units").headers["retry-after"]) <= 61


def test_as_many_requests_at_once_as_allowed_and_no_more(org, other):
    rep = Person(other, org.rep.id, org.rep.key)
    cursor = rep.get("/v1/changes/cursor").json()["cursor"]
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        waiting = [pool.submit(rep.get, "/v1/changes", params={"wait": 2, "since": cursor}) for _ in range(IN_FLIGHT)]
        deadline = time.monotonic() + 2
        while not any(caller.in_flight == IN_FLIGHT for caller in other.kernel.limiter.since(0)):
            assert time.monotonic() < deadline
            time.sleep(0.01)
        answer = rep.get("/v1/units")
        told = problem(answer, 429, code="rate_limited")
        assert told["violated_policies"] == ["in_flight"]
        assert answer.headers["retry-after"] == "1"
        assert left(answer, "in_flight") == 0
        assert Person(other, org.manager.id, org.manager.key).get("/v1/units").status_code == 200
        assert [future.result().status_code for future in waiting] == [200] * IN_FLIGHT
    assert left(rep.get("/v1/units"), "in_flight") == IN_FLIGHT - 1


def test_an_address_with_wrong_credentials_is_refused_but_for_known_ones(org, other):
    def ask(key: str | None, address: str) -> httpx2.Response:
        headers = {"X-Forwarded-For": address, **({"Authorization": f"Bearer {key}"} if key else {})}
        return httpx2.get(f"{other.base_url}/v1/me", headers=headers)

    assert ask(org.rep.key, "192.0.2.1").status_code == 200
    guesses = [f"{org.rep.key[:-8]}{n:08d}" for n in range(FAILURES)]
    assert [ask(guess, "192.0.2.1").status_code for guess in guesses] == [401] * FAILURES
    for wrong in (guesses[0], "nonsense", None, org.manager.key):
        answer = ask(wrong, "192.0.2.1")
        assert problem(answer, 429, code="rate_limited")["violated_policies"] == ["failures"]
        assert 1 <= int(answer.headers["retry-after"]) <= 60 / FAILURES
    assert ask(org.rep.key, "192.0.2.1").status_code == 200, "it was right before"
    assert ask(org.manager.key, "192.0.2.2").status_code == 200
    assert ask("nonsense", "192.0.2.2").status_code == 401


def test_wrong_keys_of_an_address_do_not_keep_new_access_tokens_out(org, other):
    def ask(credential: str) -> int:
        headers = {"X-Forwarded-For": "192.0.2.12", "Authorization": f"Bearer {credential}"}
        return httpx2.get(f"{other.base_url}/v1/me", headers=headers).status_code

    def form(path: str, **more: str) -> httpx2.Response:
        whole = {"client_id": app.client_id, "client_secret": app.secret, **more}
        return httpx2.post(f"{other.base_url}/oauth/{path}", data=whole, headers={"X-Forwarded-For": "192.0.2.13"})

    account = org.admin.make("service_accounts", name="Behind the same address")["id"]
    app = App.register(
        org,
        client_type="confidential",
        grant_types=["client_credentials"],
        scopes=["accounts:read"],
        service_account_id=account,
    )
    assert [ask(f"guess {n}") for n in range(FAILURES + 1)] == [401] * FAILURES + [429]
    token, further = (form("token", grant_type="client_credentials").json()["access_token"] for _ in range(2))
    assert [ask(token), ask(further)] == [200, 200]
    payload = token.split(".")[1]
    forged = further.replace(further.split(".")[1], payload)
    assert ask(forged) == 429, "what it says is right, but nobody signed it"
    third = form("token", grant_type="client_credentials").json()["access_token"]
    assert form("revoke", token=third).status_code == 200
    assert [ask(third), ask(third)] == [401, 429], "ours, but ended: that is learned once"


def test_guessing_the_secret_of_a_client_is_stopped_and_does_not_keep_it_out(org, other):
    grants = ["client_credentials", "urn:ietf:params:oauth:grant-type:device_code"]
    account = org.admin.make("service_accounts", name="Program")["id"]
    app = App.register(
        org, client_type="confidential", grant_types=grants, scopes=["accounts:read"], service_account_id=account
    )

    def ask(path="token", **form: str) -> httpx2.Response:
        whole = {"client_id": app.client_id, "grant_type": "client_credentials", **form}
        return httpx2.post(f"{other.base_url}/oauth/{path}", data=whole, headers={"X-Forwarded-For": "192.0.2.3"})

    answers = [ask(client_secret=f"guess {n}") for n in range(FAILURES + 1)]
    assert [answer.status_code for answer in answers] == [401] * FAILURES + [429]
    assert answers[-1].json()["error"] == "temporarily_unavailable", "as OAuth says it"
    assert int(answers[-1].headers["retry-after"]) > 0
    assert ask(client_secret=app.secret).status_code == 200, "who guesses keeps nobody out"
    assert ask("introspect", client_secret="guess", token="x").status_code == 429
    assert ask("device", client_secret=app.secret).status_code == 200, "who proved who it is may begin"
    public = App.register(org, redirect_uris=[], grant_types=grants[1:], scopes=["accounts:read"])
    assert ask("device", client_id=public.client_id).status_code == 429


def test_forms_of_an_address_are_few_whichever_organisation_they_name(org, other):
    """Each costs a hash: without a bound, one address could keep everybody from signing in."""

    def guess(number: int, address: str, page: str = "/sign-in") -> httpx2.Response:
        browser = Browser(other)
        browser.headers["x-forwarded-for"] = address
        named = {"organisation": f"nobody-{number}", "email": "rep@example.com"}
        secret = {"password": "x"} if page == "/sign-in" else {}
        return browser.submit(browser.get(page), **named, **secret)

    network = [f"2001:db8:1:1::{number:x}" for number in range(1, FAILURES + 1)]
    assert [guess(n, address).status_code for n, address in enumerate(network)] == [422] * FAILURES
    late = guess(99, "2001:db8:1:1:ffff::1")
    assert late.status_code == 429, "who has an address of IPv6 has as many as there are"
    assert int(late.headers["retry-after"]) > 0
    assert "too many attempts" in late.text
    assert guess(99, "2001:db8:1:1::1", "/reset").status_code == 429
    assert guess(99, "2001:db8:1:2::1").status_code == 422
    assert guess(99, "::ffff:192.0.2.9").status_code == 422
    headers = {"X-Forwarded-For": "2001:db8:1:1::1", "Authorization": f"Bearer {org.rep.key}"}
    assert httpx2.get(f"{other.base_url}/v1/me", headers=headers).status_code == 200
    letters = [guess(n, "192.0.2.10", "/reset").status_code for n in range(FAILURES + 1)]
    assert letters == [200] * FAILURES + [429]


def test_a_signed_link_makes_no_credential_a_right_one(org, other):
    gate = other.kernel.limiter
    principal = Principal(org.tenant_id, uuid.UUID(org.rep.id), "user")
    other.run(gate.admit(principal, Access(0, None, "user", unrestricted=True), None))
    for _ in range(FAILURES):
        gate.failed("192.0.2.11", "wrong")
    with pytest.raises(Problem, match="Too many wrong credentials"):
        other.run(gate.knock("192.0.2.11", None))


def test_who_asks_on_and_on_is_answered_late(org, limit):
    limit(org, credential=1)
    exhaust(org.rep)
    began, waits = time.monotonic(), []
    while time.monotonic() < began + 3 and (not waits or waits[-1] < 0.45):
        sent = time.monotonic()
        refusal = org.rep.get("/v1/units")
        waits.append(time.monotonic() - sent)
    assert waits[-1] > 0.45
    assert refusal.headers["retry-after"] == "120", "two windows, after which all of it is there"
    assert len(waits) > 5, f"the first {REFUSALS} come at once"


def test_a_late_answer_names_what_was_exhausted_when_it_was_asked(org, limit, monkeypatch):
    """By the time that it comes, there may be some of the quota again."""
    monkeypatch.setattr("crm_api.domains.limits.limiter.random.uniform", lambda _least, most: most)
    limit(org, credential=1)
    exhaust(org.rep)
    took = 0.0
    while took < 1.4:
        sent = time.monotonic()
        refusal = org.rep.get("/v1/units")
        took = time.monotonic() - sent
        assert problem(refusal, 429, code="rate_limited")["violated_policies"] == ["credential"]
    assert left(refusal) > 0, "it has come back meanwhile"
