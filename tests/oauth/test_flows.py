"""Getting tokens and using them, as clients of others do it."""

from datetime import timedelta
from urllib.parse import urlsplit

import pytest
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from joserfc import jwt
from joserfc.jwk import KeySet
from requests_oauthlib import OAuth2Session as OAuthlibSession

from tests.sign_in.browsing import PASSWORD, handle, invited, read
from tests.support.oauth import REDIRECT, App, Browser, decide, redirected, sign_in
from tests.support.org import Org

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture(autouse=True)
def _over_http(monkeypatch):
    """The libraries insist on https, which the loopback server of the tests has not."""
    monkeypatch.setenv("AUTHLIB_INSECURE_TRANSPORT", "1")
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def test_a_person_allows_a_browser_app(org, app, browser):
    shown = browser.get(app.address(prompt="consent"))
    assert "Planner" in shown.text
    assert "See accounts" in shown.text
    assert "form-action 'self' https://app.example.com;" in shown.headers["content-security-policy"]
    told = redirected(decide(browser, app.address(prompt="consent"), "allow"))
    assert (told["state"], told["iss"]) == ("xyz", org.server.base_url)
    answer = app.redeem(told["code"])
    assert answer.headers["cache-control"] == "no-store"
    tokens = answer.json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == (
        "Bearer",
        600,
        "accounts:read contacts:read",
    )
    me = app.call(tokens["access_token"]).json()
    assert me["id"] == org.rep.id
    assert me["scopes"] == ["accounts:read", "contacts:read"]
    grant = org.rep.get(f"/v1/oauth_grants/{me['credential_id']}").json()
    assert (grant["kind"], grant["scopes"]) == ("authorization_code", me["scopes"])
    assert app.call(tokens["access_token"], "/v1/accounts").status_code == 200
    denied = app.call(tokens["access_token"], "/v1/accounts", "POST", json={"name": "No"})
    assert denied.json()["permission"] == "scope accounts:write"
    renewed = app.refresh(tokens["refresh_token"])
    assert renewed.status_code == 200, renewed.text
    assert renewed.json()["refresh_token"] != tokens["refresh_token"]
    assert app.call(renewed.json()["access_token"]).status_code == 200


def test_the_consent_page_speaks_spanish_and_can_be_refused(app, org, sql):
    browser = sign_in(sql, org, org.colleague)
    shown = browser.get(app.address(), headers={"Accept-Language": "es-MX"})
    assert "Ver cuentas" in shown.text
    assert "Permitir" in shown.text
    told = redirected(decide(browser, app.address(), "refuse"))
    assert told == {**told, "error": "access_denied", "state": "xyz", "iss": org.server.base_url}
    assert "code" not in told


def test_a_consent_is_remembered_until_the_grant_is_revoked(org, sql):
    app, browser = App.register(org, client_type="confidential"), sign_in(sql, org, org.manager)
    assert redirected(browser.get(app.address(prompt="none")))["error"] == "consent_required"
    tokens = app.tokens(browser)
    assert "code" in redirected(browser.get(app.address(prompt="none")))
    assert "code" in redirected(browser.get(app.address(scope="accounts:read")))
    assert browser.get(app.address(prompt="consent")).status_code == 200
    assert browser.get(app.address(scope="accounts:read accounts:write")).status_code == 200, "more than before"
    for row in org.manager.all("/v1/oauth_grants"):
        assert org.manager.post(f"/v1/oauth_grants/{row['id']}/revoke").status_code == 200
    assert browser.get(app.address()).status_code == 200
    assert app.call(tokens["access_token"]).status_code == 401
    assert app.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("http://127.0.0.1:49152/cb", "http://127.0.0.1:49152"),
        ("http://localhost:49152/cb", "http://localhost:49152"),
        ("http://[::1]:49152/cb", "http:"),
        ("https://[::1]:49152/cb", "https:"),
    ],
)
def test_the_page_names_the_own_machine_as_its_policy_can(org, browser, address, source):
    """A policy has no addresses of IPv6 in it: a browser drops such a source, and the form leads nowhere."""
    app = App.register(org, redirect_uris=[address])
    policy = browser.get(app.address(redirect_uri=address)).headers["content-security-policy"]
    assert f"form-action 'self' {source};" in policy


def test_a_public_client_on_the_own_machine_asks_each_time(org, sql):
    app = App.register(org, redirect_uris=["http://127.0.0.1/cb"])
    browser = sign_in(sql, org, org.rep)
    for port in (49152, 50000):
        redirect = f"http://127.0.0.1:{port}/cb"
        assert browser.get(app.address(redirect_uri=redirect)).status_code == 200
        assert "access_token" in app.tokens(browser, redirect_uri=redirect)


def test_who_is_not_signed_in_signs_in_first(org, app, sql):
    stranger = Browser(org.server)
    answer = stranger.get(app.address(prompt="login", login_hint="rep@example.com"))
    place = urlsplit(answer.headers["location"])
    assert place.path == "/sign-in"
    assert "login_hint=rep%40example.com" in place.query
    assert "prompt%3Dlogin" not in place.query, "else it would never end"
    assert redirected(stranger.get(app.address(prompt="none")))["error"] == "login_required"
    early = sign_in(sql, org, org.rep, age=timedelta(minutes=10))
    assert redirected(early.get(app.address(prompt="none", max_age="60")))["error"] == "login_required"
    assert "prompt=login" in early.get(app.address(max_age="60")).headers["location"]
    assert early.get(app.address(max_age="3600", prompt="consent")).status_code == 200


def _signing_in(browser, org, address, email):
    """Where a person goes on to after the form."""
    sent = browser.submit(browser.get(address), organisation=handle(org), email=email, password=PASSWORD)
    page = browser.get(sent.headers["location"])
    (link,) = [link for link in read(page.text).links if link.startswith("/oauth/")]
    return link


def test_from_the_application_by_the_sign_in_page_to_the_consent(org, app):
    email = invited(org, "reader")
    browser = Browser(org.server)
    address = browser.get(app.address()).headers["location"]
    told = redirected(decide(browser, _signing_in(browser, org, address, email), "allow"))
    assert app.redeem(told["code"]).status_code == 200
    again = browser.get(app.address(prompt="login")).headers["location"]
    tokens = app.redeem(redirected(browser.get(_signing_in(browser, org, again, email)))["code"]).json()
    assert app.call(tokens["access_token"]).json()["id"] == org.reader.id


def test_someone_of_another_tenant_signs_in_anew(org, app, sql, server):
    other = Org.create(server)
    answer = sign_in(sql, other, other.rep).get(app.address())
    assert answer.headers["location"].startswith("/sign-in?")


def test_authlib_gets_tokens_and_knows_who_signed_in(org, browser):
    app = App.register(org, client_type="confidential")
    session = AuthlibSession(
        app.client_id,
        app.secret,
        scope="openid email profile accounts:read",
        redirect_uri=REDIRECT,
        code_challenge_method="S256",
    )
    base = org.server.base_url
    address, state = session.create_authorization_url(
        f"{base}/oauth/authorize", code_verifier=app.verifier, nonce="n-0S6"
    )
    answer = browser.submit(browser.get(address.removeprefix(base)), decision="allow")
    token = session.fetch_token(
        f"{base}/oauth/token",
        authorization_response=answer.headers["location"],
        code_verifier=app.verifier,
        state=state,
    )
    assert session.get(f"{base}/v1/me").json()["id"] == org.rep.id
    keys = KeySet.import_key_set(session.get(f"{base}/.well-known/jwks.json", withhold_token=True).json())
    claims = jwt.decode(token["id_token"], keys, ["ES256"]).claims
    assert claims["iss"] == base
    assert claims["aud"] == app.client_id
    assert (claims["sub"], claims["nonce"], claims["amr"]) == (org.rep.id, "n-0S6", ["pwd"])
    assert claims["email"] == "rep@example.com"
    assert claims["sid"] == str(browser.ticket.id)
    known = session.get(f"{base}/oauth/userinfo").json()
    assert known == {**known, "sub": org.rep.id, "name": "Rep", "email": "rep@example.com"}
    session.refresh_token(f"{base}/oauth/token")
    assert session.get(f"{base}/v1/me").status_code == 200
    assert session.revoke_token(f"{base}/oauth/revoke", token=session.token["refresh_token"]).status_code == 200
    assert session.get(f"{base}/v1/me").status_code == 401


def test_oauthlib_gets_tokens(org, browser, app):
    base = org.server.base_url
    session = OAuthlibSession(app.client_id, redirect_uri=REDIRECT, scope=["accounts:read"], pkce="S256")
    address, _ = session.authorization_url(f"{base}/oauth/authorize")
    answer = browser.submit(browser.get(f"{address.removeprefix(base)}&prompt=consent"), decision="allow")
    session.fetch_token(
        f"{base}/oauth/token", authorization_response=answer.headers["location"], include_client_id=True
    )
    assert session.get(f"{base}/v1/accounts").status_code == 200
    session.refresh_token(f"{base}/oauth/token", client_id=app.client_id)
    assert session.get(f"{base}/v1/accounts").status_code == 200


def test_a_program_acts_as_its_service_account(org):
    account = org.admin.make("service_accounts", name="ERP")
    org.admin.make("role_assignments", role_id=org.roles["Reader"], principal_id=account["id"])
    app = App.register(
        org,
        client_type="confidential",
        redirect_uris=[],
        grant_types=["client_credentials"],
        service_account_id=account["id"],
        scopes=["accounts:read", "contacts:read"],
    )
    base = org.server.base_url
    session = AuthlibSession(app.client_id, app.secret, scope="accounts:read")
    token = session.fetch_token(f"{base}/oauth/token", grant_type="client_credentials")
    assert "refresh_token" not in token
    me = session.get(f"{base}/v1/me").json()
    assert (me["id"], me["kind"], me["scopes"]) == (account["id"], "service", ["accounts:read"])
    assert session.get(f"{base}/v1/contacts").status_code == 403
    again = app.post(grant_type="client_credentials").json()
    assert again["scope"] == "accounts:read contacts:read"
    assert app.call(again["access_token"]).json()["credential_id"] == me["credential_id"], "one standing grant"
    org.admin.patch(f"/v1/service_accounts/{account['id']}", json={"is_active": False})
    assert session.get(f"{base}/v1/me").status_code == 401
    assert app.post(grant_type="client_credentials").json()["error"] == "invalid_grant"


def test_a_device_waits_until_somebody_types_in_its_code(org, browser):
    app = App.register(org, redirect_uris=[], grant_types=[DEVICE, "refresh_token"], scopes=["accounts:read"])
    begun = app.post("device", scope="accounts:read").json()
    assert begun["verification_uri"] == f"{org.server.base_url}/device"

    def ask():
        return app.post(grant_type=DEVICE, device_code=begun["device_code"])

    assert ask().json()["error"] == "authorization_pending"
    assert ask().json()["error"] == "slow_down"
    wrong = browser.submit(browser.get("/device"), user_code="BBBB-BBBB")
    assert "There is no such code" in wrong.text
    shown = browser.submit(browser.get("/device"), user_code=begun["user_code"].lower())
    assert "See accounts" in shown.text
    page = f"/device?user_code={begun['user_code']}"
    assert "is connected" in browser.submit(browser.get(page), user_code=begun["user_code"], decision="allow").text
    tokens = ask().json()
    assert app.call(tokens["access_token"]).json()["id"] == org.rep.id
    assert app.call(app.refresh(tokens["refresh_token"]).json()["access_token"]).status_code == 200
    assert ask().json()["error"] == "invalid_grant", "it is good once"
    refused = app.post("device").json()
    browser.submit(browser.get("/device"), user_code=refused["user_code"], decision="refuse")
    assert app.post(grant_type=DEVICE, device_code=refused["device_code"]).json()["error"] == "access_denied"


def test_metadata_is_what_the_standard_asks_for(org):
    from authlib.oauth2.rfc8414 import AuthorizationServerMetadata
    from authlib.oidc.discovery import OpenIDProviderMetadata

    client = Browser(org.server)
    found = client.get("/.well-known/oauth-authorization-server").json()
    assert found["issuer"] == org.server.base_url
    assert found["code_challenge_methods_supported"] == ["S256"]
    # the checks of a library, which want https of everything
    AuthorizationServerMetadata(_https(found)).validate()
    provider = client.get("/.well-known/openid-configuration").json()
    assert provider.pop("id_token_signing_alg_values_supported") == ["ES256"]
    # the standard wants RS256 there, too: see docs/decisions
    OpenIDProviderMetadata(_https({**provider, "id_token_signing_alg_values_supported": ["RS256"]})).validate()
    resource = client.get("/.well-known/oauth-protected-resource").json()
    assert resource["authorization_servers"] == [resource["resource"]] == [org.server.base_url]
    (key, *_) = client.get("/.well-known/jwks.json").json()["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}, "and no private part"
    refused = client.get("/v1/me").headers["www-authenticate"]
    assert (
        refused == f'Bearer realm="crm", resource_metadata="{org.server.base_url}/.well-known/oauth-protected-resource"'
    )


def _https(found):
    def changed(value):
        return value.replace("http://", "https://") if isinstance(value, str) else value

    return {name: changed(value) for name, value in found.items()}


def test_another_organisation_signs_in_by_this_one(org, server, browser, sql):
    """The server as provider of its own sign-in: two readings of OpenID Connect that were written apart."""
    other, callback = Org.create(server), f"{server.base_url}/sign-in/callback"
    app = App.register(org, client_type="confidential", redirect_uris=[callback], scopes=["openid", "email", "profile"])
    declared = other.admin.make(
        "identity_providers",
        name="Parent company",
        issuer=server.base_url,
        client_id=app.client_id,
        email_domains=["example.com"],
    )
    path = f"/v1/identity_providers/{declared['id']}/set_client_secret"
    assert other.admin.post(path, json={"client_secret": app.secret}).status_code == 200
    sql(  # addresses here are an administrator's word, so they are not verified; somebody has linked the accounts
        "INSERT INTO provider_links (tenant_id, provider_id, subject, principal_id, created_at) "
        "VALUES ($1, $2, $3, $4, now())",
        *(other.tenant_id, declared["id"], org.rep.id, other.rep.id),
    )
    guest = Browser(server)
    page = guest.get("/sign-in/providers", params={"organisation": handle(other), "return_to": "/account"})
    (link,) = [link for link in read(page.text).links if link.startswith("/sign-in/with")]
    leaving = guest.get(link).headers["location"].removeprefix(server.base_url)
    answer = decide(browser, leaving, "allow")
    arrived = guest.get(answer.headers["location"].removeprefix(server.base_url))
    assert arrived.status_code == 303, arrived.text
    assert guest.signed_in
    assert [row["methods"] for row in other.rep.all("/v1/sessions")] == [["ext"]]
