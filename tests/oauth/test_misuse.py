"""What comes of requests that are broken, of rights that changed meanwhile, and of questions about what is others'."""

import socket
from urllib.parse import urlsplit
from uuid import UUID

import pytest

from crm_api.domains.identity.tickets import Ticket
from crm_api.logging import scrub
from tests.support.oauth import REDIRECT, App, redirected, sign_in
from tests.support.org import Org


def _raw(server, target: bytes, host: bytes = b"127.0.0.1") -> bytes:
    """The first line of the answer to a request as no client library would send it."""
    address = urlsplit(server.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=10) as connection:
        connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: " + host + b"\r\nConnection: close\r\n\r\n")
        return connection.makefile("rb").readline()


@pytest.mark.parametrize("path", ["/oauth/authorize", "/device", "/sign-in", "/sign-in/with", "/sign-in/callback"])
def test_odd_hosts_and_bytes_break_no_page(server, path):
    for target, host in (
        (path.encode() + b"?x=1", b"["),
        (path.encode() + b"?x=1", b"[::1"),
        (path.encode() + b"?x=1", b"a:b:c"),
        (path.encode() + b"?client_id=\xff", b"127.0.0.1"),
        (path.encode() + b"?client_id=%ff", b"127.0.0.1"),
        (path.encode() + b"?state=%00&organisation=%00", b"127.0.0.1"),
    ):
        line = _raw(server, target, host)
        assert line.split()[1] < b"500", (target, host, line)


def test_a_guess_does_not_tell_which_scopes_somebody_granted(server, org, app, browser):
    grant = app.call(app.tokens(browser)["access_token"]).json()["credential_id"]
    foreign = App.register(Org.create(server))
    for asker in (app, foreign):
        for scope in ("accounts:read", "accounts:write", "nonsense:read"):
            guess = Ticket(org.tenant_id, UUID(grant)).text
            answer = asker.refresh(guess, scope=scope)
            assert answer.json()["error"] == "invalid_grant", scope


def test_a_consent_is_not_remembered_for_another_address(org, browser):
    """Who may change clients must not get, silently, what people allowed an application at its old address."""
    app, elsewhere = App.register(org), "https://other.example.com/callback"
    app.tokens(browser)
    assert browser.get(app.address()).status_code == 303, "it is remembered"
    path = f"/v1/oauth_clients/{app.row['id']}"
    assert org.admin.patch(path, json={"redirect_uris": [REDIRECT, elsewhere]}).status_code == 200
    assert browser.get(app.address(redirect_uri=elsewhere)).status_code == 200, "the person is asked"
    assert redirected(browser.get(app.address(redirect_uri=elsewhere, prompt="none")))["error"] == "consent_required"
    assert browser.get(app.address()).status_code == 303


DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.mark.parametrize("way", ["code", "device"])
def test_scopes_that_a_client_lost_meanwhile_are_not_given(org, browser, way):
    app = App.register(
        org, grant_types=["authorization_code", DEVICE, "refresh_token"], scopes=["accounts:read", "contacts:read"]
    )
    if way == "code":
        code = app.code(browser)
    else:
        started = app.post("device").json()
        page = browser.submit(browser.get("/device"), user_code=started["user_code"])
        assert browser.submit(page, decision="allow").status_code == 200
    narrowed = org.admin.patch(f"/v1/oauth_clients/{app.row['id']}", json={"scopes": ["contacts:read"]})
    assert narrowed.status_code == 200, narrowed.text
    answer = app.redeem(code) if way == "code" else app.post(grant_type=DEVICE, device_code=started["device_code"])
    assert answer.json()["scope"] == "contacts:read"


@pytest.mark.parametrize(
    "uri", ["https://app.example.com;sandbox/cb", "https://app.example.com,x/cb", "https://a%2ecom/cb", "https://a_b$/"]
)
def test_no_address_is_registered_that_adds_to_the_policy_of_a_page(org, uri):
    values = {"name": "x", "client_type": "public", "scopes": ["accounts:read"], "redirect_uris": [uri]}
    assert org.admin.post("/v1/oauth_clients", json=values).status_code == 422


def test_secrets_of_clients_and_tokens_are_taken_out_of_every_line(org, browser):
    app = App.register(org, client_type="confidential")
    tokens = app.tokens(browser, scope="openid accounts:read")
    for text in (app.secret, tokens["access_token"], tokens["id_token"]):
        for line in (text, f"/v1/accounts/{text}?x", f"Bearer {text}", f"refused: '{text}'"):
            scrubbed = scrub(None, "info", {"path": line})["path"]
            assert text not in scrubbed
            assert not any(part in scrubbed for part in text.split(".") if len(part) > 20), scrubbed


def test_a_token_gives_no_key_wider_scopes_than_its_own(org, sql):
    app = App.register(org, scopes=["accounts:read", "identity:admin"])
    token = app.tokens(sign_in(sql, org, org.admin), scope="accounts:read identity:admin")["access_token"]
    path = f"/v1/users/{org.admin.id}/issue_key"
    for scopes in (None, ["contacts:read"], ["accounts:write"], ["accounts:read", "orders:admin"]):
        answer = app.call(token, path, "POST", json={"name": "wide", "scopes": scopes})
        assert (answer.status_code, answer.json()["code"]) == (403, "forbidden"), scopes
    assert app.call(token, f"/v1/users/{org.rep.id}/invite", "POST", json={}).status_code == 403
