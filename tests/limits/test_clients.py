"""The endpoints for OAuth clients: how often a client that proved who it is may ask, and how it is told."""

import time

import httpx2
import pytest

from crm_api.domains.oauth.pace import INTROSPECTIONS
from tests.support.oauth import App
from tests.support.pace import exhausted

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def program(org):
    """`program()`: a confidential client with a service account."""

    def make(**values) -> App:
        account = org.admin.make("service_accounts", name="Program")["id"]
        grants = {"grant_types": ["client_credentials"], "scopes": ["accounts:read"], "service_account_id": account}
        return App.register(org, client_type="confidential", **grants | values)

    return make


def ask(server, app: App, path: str = "token", address: str = "192.0.2.9", **form: str) -> httpx2.Response:
    whole = {"client_id": app.client_id, **({"client_secret": app.secret} if app.secret else {}), **form}
    return httpx2.post(f"{server.base_url}/oauth/{path}", data=whole, headers={"X-Forwarded-For": address})


def exhaust(server, app: App, path: str = "token", most: int = 60, **form: str) -> httpx2.Response:
    """Asks until refused, as `exhausted`, which is after the quota and not long after it; gives the refusal."""
    began = time.monotonic()
    answer, taken = exhausted(lambda: ask(server, app, path, **form))
    assert most <= taken <= most + 2 + (time.monotonic() - began), "one comes back each second"
    assert 1 <= int(answer.headers["retry-after"]) <= 2
    assert answer.headers["cache-control"] == "no-store"
    return answer


def test_a_client_with_the_right_secret_has_the_rate_of_a_credential(org, server, limit, program):
    limit(org, credential=1)
    app, further = program(), program()
    form = {"grant_type": "client_credentials"}
    token = ask(server, app, **form).json()["access_token"]
    refusal = exhaust(server, app, most=59, **form)
    assert refusal.json()["error"] == "temporarily_unavailable"
    assert refusal.json()["error_description"].startswith("Too many requests; try again in ")
    assert ask(server, app, "revoke", token="x").status_code == 429, "all but questions count together"
    assert ask(server, app, "introspect", token=token).json()["active"]
    assert ask(server, further, **form).status_code == 200, "another client has a quota of its own"
    assert app.call(token).status_code == 200, "and so has each token"
    time.sleep(int(refusal.headers["retry-after"]) + 0.1)  # another one was refused
    assert ask(server, app, **form).status_code == 200


def test_questions_about_tokens_are_many_and_counted_by_themselves(org, server, limit, program):
    limit(org, credential=1)
    app = program()
    with httpx2.Client(base_url=server.base_url) as http:
        form = {"client_id": app.client_id, "client_secret": app.secret, "token": "x"}
        taken, began = 0, time.monotonic()
        while (status := http.post("/oauth/introspect", data=form).status_code) == 200:
            taken += 1
            assert taken <= INTROSPECTIONS * (62 + time.monotonic() - began)
    assert (status, taken >= 60 * INTROSPECTIONS) == (429, True)
    assert ask(server, app, grant_type="client_credentials").status_code == 200


@pytest.mark.broad  # it takes five seconds
def test_of_a_public_client_each_address_is_counted(org, other, limit):
    """Anybody can say that they are such a client: nobody may keep the others out of it, nor the tenant."""
    limit(org, credential=1)
    app = App.register(org)
    form = {"grant_type": "refresh_token", "refresh_token": "x"}
    assert exhaust(other, app, **form).json()["error"] == "temporarily_unavailable"
    assert ask(other, app, address="192.0.2.10", **form).json()["error"] == "invalid_grant"
    refused = ask(other, app, address="2001:db8::1", **form)
    assert refused.json()["error"] == "invalid_grant"
    assert org.rep.get("/v1/units").status_code == 200


@pytest.mark.broad  # it takes five seconds
def test_a_device_is_told_to_slow_down_and_no_more_of_them_begin(org, server, limit):
    limit(org, credential=1)
    app = App.register(org, redirect_uris=[], grant_types=[DEVICE], scopes=["accounts:read"])
    begun = ask(server, app, "device").json()
    form = {"grant_type": DEVICE, "device_code": begun["device_code"]}
    refusal = exhaust(server, app, most=59, **form)
    assert refusal.json()["error"] == "slow_down"
    begins = ask(server, app, "device")
    assert (begins.status_code, begins.json()["error"]) == (429, "temporarily_unavailable")


@pytest.mark.broad  # right ones are counted
def test_wrong_secrets_use_up_nothing_of_a_client(org, server, limit, program):
    limit(org, credential=1)
    app = program()
    right, app.secret = app.secret, "guess"
    for _ in range(70):
        assert ask(server, app, grant_type="client_credentials").status_code == 401
    app.secret = right
    exhaust(server, app, grant_type="client_credentials")


def test_processes_know_of_what_a_client_asked_the_others(org, server, other, limit, program):
    limit(org, credential=1)
    app = program()
    form = {"grant_type": "client_credentials"}
    assert ask(other, app, **form).status_code == 200
    with httpx2.Client(base_url=server.base_url) as http:
        whole = {"client_id": app.client_id, "client_secret": app.secret, **form}
        answers = [http.post("/oauth/token", data=whole).status_code for _ in range(55)]
    assert set(answers) == {200}
    deadline = time.monotonic() + 10  # by itself the other process would have requests for twice as long
    while ask(other, app, **form).status_code == 200:
        assert time.monotonic() < deadline, "the other process knows nothing of it"
        time.sleep(0.25)
