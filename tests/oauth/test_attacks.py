"""What attackers try: forged tokens, stolen codes, addresses that are nearly right, guesses, replays."""

import base64
import hashlib
import hmac
import json
import string
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwt
from joserfc.jwk import ECKey, OctKey, RSAKey

from crm_api.catalog import CATALOG
from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.client import redirects_to
from crm_api.domains.oauth.scopes import known, words
from crm_api.domains.sign_in.words import say
from tests.support.oauth import HTTP, REDIRECT, App, Browser, redirected, sign_in
from tests.support.org import Org, Person


@pytest.fixture(scope="module")
def token(app, browser):
    return app.tokens(browser)["access_token"]


def _parts(token):
    header, payload, _ = token.split(".")
    return [json.loads(base64.urlsafe_b64decode(part + "==")) for part in (header, payload)]


def _b64(value):
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _signed(org, header, claims):
    """With the server's own key, so that only what is said in it is wrong."""
    key = org.server.run(tokens_of(org.server.kernel).keys.signing())
    return jwt.encode(
        {"alg": "ES256", "typ": "at+jwt", "kid": key.kid} | header, claims, key, ["ES256"], default_type=None
    )


def test_a_token_of_our_key_is_believed(org, app, token):
    """What the refusals below stand against."""
    assert app.call(_signed(org, {}, _parts(token)[1])).status_code == 200


@pytest.mark.parametrize(
    "change",
    [
        {"iss": "https://evil.example"},
        {"aud": "https://other.example"},
        {"aud": None},
        {"aud": ["https://other.example"]},
        {"exp": 1_000_000_000},
        {"exp": "soon"},
        {"exp": None},
        {"nbf": 4_000_000_000},
        {"iat": 4_000_000_000},
        {"sub": "019aa1d0-0000-7000-8000-000000000001"},
        {"sub": None},
        {"jti": None},
        {"grant": "019aa1d0-0000-7000-8000-000000000001"},
        {"tenant": "019aa1d0-0000-7000-8000-000000000001"},
        {"tenant": "' OR 1=1"},
        {"client_id": None},
        {"scope": None},
    ],
    ids=str,
)
def test_a_token_that_says_something_wrong_is_refused(org, app, token, change):
    claims = {name: value for name, value in (_parts(token)[1] | change).items() if value is not None}
    assert app.call(_signed(org, {}, claims)).status_code == 401


@pytest.mark.parametrize(
    "header",
    [
        {"typ": "JWT"},
        {"typ": "at+JWT "},
        {"kid": "../../dev/null"},
        {"kid": "' UNION SELECT 'x"},
        {"kid": ""},
        {"jku": "https://evil.example/jwks.json"},
        {"crit": ["exp"]},
    ],
    ids=str,
)
def test_a_token_with_another_header_is_refused(org, app, token, header):
    key = org.server.run(tokens_of(org.server.kernel).keys.signing())
    whole = {"alg": "ES256", "typ": "at+jwt", "kid": key.kid} | header
    signed = f"{_b64(whole)}.{token.split('.')[1]}"
    real = _parts(token)
    assert real[0] == {"alg": "ES256", "typ": "at+jwt", "kid": key.kid}
    signature = jwt.encode({"alg": "ES256"}, {}, key, ["ES256"]).rsplit(".", 1)[1]
    assert app.call(f"{signed}.{signature}").status_code == 401
    try:
        known = jwt.encode(whole, real[1], key, ["ES256"], default_type=None)
    except Exception:  # noqa: BLE001 - the library refuses to make some of them
        return
    assert app.call(known).status_code == 401


def test_a_token_without_our_signature_is_refused(org, app, token):
    header, claims = _parts(token)
    public = org.server.run(tokens_of(org.server.kernel).keys.signing())
    pem = public.as_pem(private=False)
    stranger = ECKey.generate_key("P-256")
    rsa = RSAKey.generate_key(2048)
    head, payload, signature = token.split(".")
    forged = [
        f"{_b64({**header, 'alg': 'none'})}.{payload}.",
        f"{_b64({**header, 'alg': 'None'})}.{payload}.{signature}",
        f"{head}.{payload}.",
        f"{head}.{payload}",
        f"{head}.{_b64(claims | {'scope': 'accounts:admin'})}.{signature}",
        f"{head}.{payload}.{signature[:-4]}AAAA",
        jwt.encode({**header, "alg": "ES256"}, claims, stranger, ["ES256"]),
        jwt.encode({**header, "alg": "ES256", "jwk": stranger.as_dict(private=False)}, claims, stranger, ["ES256"]),
        jwt.encode({**header, "alg": "RS256"}, claims, rsa, ["RS256"]),
        jwt.encode({**header, "alg": "HS256"}, claims, OctKey.import_key(b"secret" * 8), ["HS256"]),
    ]
    signed = f"{_b64({**header, 'alg': 'HS256'})}.{payload}"
    for secret in (
        pem,
        public.public_key.public_bytes(serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint),
    ):
        forged.append(f"{signed}.{_b64(hmac.new(secret, signed.encode(), hashlib.sha256).digest())}")
    forged += [
        "eyJ",
        "eyJ.",
        "eyJ..",
        "eyJ" + "A" * 8000,
        "eyJhbGciOiJFUzI1NiJ9.e30.",
        "eyJhbGciOiJub25lIn0.e30.\u00e9",
    ]
    for text in forged:
        answer = app.call(text)
        assert answer.status_code == 401, text
        assert answer.json()["detail"] == "The credential is not valid.", text


def test_an_id_token_is_no_access_token(app, browser):
    tokens = app.tokens(browser, scope="openid")
    assert app.call(tokens["id_token"]).status_code == 401
    assert app.call(tokens["refresh_token"]).status_code == 401


def test_clocks_may_differ_by_seconds_only(org, app, token):
    claims, now = _parts(token)[1], int(time.time())
    assert app.call(_signed(org, {}, claims | {"nbf": now + 3, "iat": now + 3})).status_code == 200
    assert app.call(_signed(org, {}, claims | {"nbf": now + 60})).status_code == 401
    assert app.call(_signed(org, {}, claims | {"exp": now - 2})).status_code == 200
    assert app.call(_signed(org, {}, claims | {"exp": now - 60})).status_code == 401


@given(place=st.integers(0, len(REDIRECT)), new=st.sampled_from([*string.printable, ""]))
def test_one_character_more_less_or_other_makes_another_address(place, new):
    for changed in (REDIRECT[:place] + new + REDIRECT[place:], REDIRECT[:place] + new + REDIRECT[place + 1 :]):
        assert redirects_to(REDIRECT, changed) == (changed == REDIRECT)


@given(
    port=st.integers(0, 99999), rest=st.sampled_from(["/cb", "/cb/", "/CB", "/cb?x", "", "/cb#x", "@evil.example/cb"])
)
def test_only_the_port_of_the_own_machine_is_free(port, rest):
    assert redirects_to("http://127.0.0.1/cb", f"http://127.0.0.1:{port}{rest}") == (rest == "/cb")
    assert redirects_to("http://[::1]:1/cb", f"http://[::1]:{port}{rest}") == (rest == "/cb")
    assert not redirects_to("http://localhost/cb", f"http://localhost:{port}/cb")
    assert not redirects_to("http://127.0.0.1/cb", f"http://127.0.0.2:{port}/cb")


@pytest.mark.parametrize(
    "address",
    [
        REDIRECT + "/",
        REDIRECT[:-1],
        REDIRECT + "?",
        REDIRECT + "?a=b",
        REDIRECT + "#x",
        REDIRECT.replace("https", "http"),
        REDIRECT.replace("app.", "App."),
        REDIRECT.replace("callback", "Callback"),
        REDIRECT.replace("callback", "%63allback"),
        REDIRECT.replace("example.com", "example.com."),
        REDIRECT.replace("example.com", "example.com:443"),
        REDIRECT.replace("example.com", "example.com@evil.example"),
        REDIRECT.replace("https://", "https://x@"),
        "https://evil.example/callback",
        "//app.example.com/callback",
        "javascript:alert(1)",
        "",
    ],
)
def test_an_address_that_is_nearly_registered_is_never_gone_to(app, browser, address):
    for changed in ({}, {"response_type": "token"}):
        answer = browser.get(app.address(redirect_uri=address, **changed))
        assert answer.status_code == 400, answer.headers
        assert "location" not in answer.headers
        assert "none of its redirect URIs" in answer.text


@pytest.mark.parametrize(
    "uri",
    [
        "http://app.example.com/callback",
        "https://*.example.com/callback",
        "https://app.example.com/callback#fragment",
        "https://user@app.example.com/callback",
        "https://app.example.com/call back",
        "https://app.example.com\\@evil.example/",
        "javascript:alert(document.cookie)",
        "data:text/html,x",
        "https:///callback",
        "https://app.example.com:99999/callback",
        "http://127.0.0.1.evil.example/cb",
    ],
)
def test_no_dangerous_address_is_registered(org, uri):
    values = {"name": "x", "client_type": "public", "scopes": ["accounts:read"], "redirect_uris": [uri]}
    answer = org.admin.post("/v1/oauth_clients", json=values)
    assert answer.status_code == 422, answer.text
    assert answer.json()["errors"][0]["pointer"] == "/redirect_uris/0"


@pytest.mark.parametrize(
    ("changed", "error"),
    [
        ({"code_challenge": None}, "invalid_request"),
        ({"code_challenge_method": "plain"}, "invalid_request"),
        ({"code_challenge_method": None}, "invalid_request"),
        ({"code_challenge": "short"}, "invalid_request"),
        ({"response_type": "token"}, "unsupported_response_type"),
        ({"response_type": None}, "invalid_request"),
        ({"response_mode": "fragment"}, "invalid_request"),
        ({"scope": "accounts:read nonsense:read"}, "invalid_scope"),
        ({"scope": "orders:read"}, "invalid_scope"),
        ({"scope": "accounts:admin"}, "invalid_scope"),
        ({"resource": "https://other.example"}, "invalid_target"),
        ({"prompt": "none login"}, "invalid_request"),
        ({"prompt": "often"}, "invalid_request"),
        ({"max_age": "-1"}, "invalid_request"),
        ({"request": "eyJ"}, "request_not_supported"),
        ({"request_uri": "https://evil.example"}, "request_uri_not_supported"),
    ],
    ids=str,
)
def test_a_wrong_request_goes_back_with_an_error(org, app, browser, changed, error):
    told = redirected(browser.get(app.address(**changed)))
    assert told["error"] == error
    assert (told["state"], told["iss"]) == ("xyz", org.server.base_url)


def test_parameters_are_given_once(app, browser):
    assert browser.get(app.address() + "&client_id=" + app.client_id).status_code == 400
    assert browser.get(app.address() + "&state=a&state=b").status_code == 400


@pytest.mark.parametrize(
    "changed",
    [
        {"code_verifier": "A" * 43},
        {"redirect_uri": REDIRECT + "/"},
        {"redirect_uri": None},
    ],
    ids=str,
)
def test_a_code_in_wrong_hands_is_used_up(app, browser, changed):
    code = app.code(browser)
    assert app.redeem(code, **changed).json()["error"] == "invalid_grant"
    assert app.redeem(code).json()["error"] == "invalid_grant"


def test_a_code_without_its_verifier_is_not_looked_at(app, browser):
    for verifier in (None, "short", app.challenge[:42]):
        assert app.redeem(app.code(browser), code_verifier=verifier).json()["error"] == "invalid_request"
    code = app.code(browser)
    assert app.redeem(code, code_verifier=app.challenge).json()["error"] == "invalid_grant", "plain"


def test_a_code_of_another_client_is_none(org, app, browser):
    other = App.register(org, client_type="confidential")
    other.verifier = app.verifier
    code = app.code(browser)
    assert other.redeem(code).json()["error"] == "invalid_grant"
    assert app.redeem(code).json()["error"] == "invalid_grant", "it leaked, so it is good no more"


def test_a_code_is_good_for_a_minute(app, browser, sql):
    code = app.code(browser)
    sql("UPDATE oauth_grants SET code_expires_at = now() - interval '1 second' WHERE code_used_at IS NULL")
    assert app.redeem(code).json()["error"] == "invalid_grant"


def test_a_code_that_comes_again_ends_what_came_of_it(app, browser):
    code = app.code(browser)
    tokens = app.redeem(code).json()
    assert app.call(tokens["access_token"]).status_code == 200
    assert app.redeem(code).json()["error"] == "invalid_grant"
    assert app.call(tokens["access_token"]).status_code == 401
    assert app.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


def test_an_earlier_refresh_token_ends_the_family(app, browser):
    first = app.tokens(browser)
    second = app.refresh(first["refresh_token"]).json()
    assert app.refresh(first["refresh_token"]).json()["error"] == "invalid_grant"
    assert app.refresh(second["refresh_token"]).json()["error"] == "invalid_grant"
    assert app.call(second["access_token"]).status_code == 401


def test_a_guess_does_not_end_somebody_elses_family(org, app, browser):
    from crm_api.domains.identity.tickets import Ticket, read_ticket

    tokens = app.tokens(browser)
    real = read_ticket(tokens["refresh_token"])
    assert app.refresh(Ticket(real.tenant_id, real.id).text).json()["error"] == "invalid_grant"
    assert app.refresh(tokens["refresh_token"]).status_code == 200


def test_a_refresh_token_of_another_client_is_none(org, app, browser):
    other = App.register(org, client_type="confidential")
    tokens = app.tokens(browser)
    assert other.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert app.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"


@pytest.mark.parametrize("what", ["code", "refresh"])
def test_of_fifty_at_once_one_succeeds(app, browser, what):
    if what == "code":
        code = app.code(browser)
        ask = lambda _: app.redeem(code)  # noqa: E731
    else:
        token = app.tokens(browser)["refresh_token"]
        ask = lambda _: app.refresh(token)  # noqa: E731
    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(ask, range(50)))
    good = [answer for answer in answers if answer.status_code == 200]
    assert len(good) == 1, [answer.text for answer in answers[:3]]
    assert {answer.status_code for answer in answers} == {200, 400}
    assert app.call(good[0].json()["access_token"]).status_code == 401, "somebody else had it, too"


def test_a_narrower_scope_can_be_asked_for_and_no_wider(app, browser):
    token = app.tokens(browser)["refresh_token"]
    refused = app.refresh(token, scope="accounts:read accounts:write")
    assert refused.json()["error"] == "invalid_scope"
    narrow = app.refresh(token, scope="accounts:read").json()
    assert narrow["scope"] == "accounts:read"
    assert app.call(narrow["access_token"], "/v1/contacts").status_code == 403


def test_the_scope_that_a_token_lacks_is_told_to_libraries(org, browser):
    """RFC 6750, 3.1; and not for a permission that no token would bring."""
    app = App.register(org)
    token = app.tokens(browser, scope="accounts:read")["access_token"]
    batch = {"operations": [{"operation": "create_account", "body": {"name": "x"}}]}
    for method, path, body, scope in (
        ("GET", "/v1/contacts", None, "contacts:read"),
        ("DELETE", f"/v1/accounts/{org.rep.id}", None, "accounts:delete"),
        ("POST", "/v1/batch", batch, "accounts:write"),
        ("GET", "/oauth/userinfo", None, "openid"),
    ):
        answer = app.call(token, path, method, json=body)
        assert answer.status_code == 403, answer.text
        assert answer.headers["www-authenticate"] == f'Bearer realm="crm", error="insufficient_scope", scope="{scope}"'
    lacking = org.rep.post("/v1/roles", json={"name": "x"})
    assert (lacking.status_code, "www-authenticate" in lacking.headers) == (403, False)


@pytest.mark.parametrize("what", ["grant", "inactive client", "deleted client", "inactive person"])
def test_what_ends_a_token_ends_it_at_once(org, sql, what):
    person = org.people["outsider"]
    app, browser = App.register(org), sign_in(sql, org, person)
    tokens = app.tokens(browser)
    me = app.call(tokens["access_token"]).json()
    admin, inactive = org.admin, {"is_active": False}
    answer = {
        "grant": lambda: admin.post(f"/v1/oauth_grants/{me['credential_id']}/revoke"),
        "inactive client": lambda: admin.patch(f"/v1/oauth_clients/{app.row['id']}", json=inactive),
        "deleted client": lambda: admin.delete(f"/v1/oauth_clients/{app.row['id']}"),
        "inactive person": lambda: admin.patch(f"/v1/users/{me['id']}", json=inactive),
    }[what]()
    assert answer.is_success
    assert app.call(tokens["access_token"]).status_code == 401
    assert app.refresh(tokens["refresh_token"]).status_code in (400, 401)
    admin.patch(f"/v1/users/{person.id}", json={"is_active": True})


def test_a_session_takes_its_tokens_along_unless_they_outlast_it(org, sql):
    app = App.register(org, scopes=["accounts:read", "offline_access"])
    browser = sign_in(sql, org, org.people["outsider"])
    bound, offline = (app.tokens(browser, scope=scope) for scope in ("accounts:read", "accounts:read offline_access"))
    assert app.call(bound["access_token"]).status_code == 200
    assert org.admin.post(f"/v1/sessions/{browser.ticket.id}/revoke").status_code == 200
    assert app.refresh(bound["refresh_token"]).json()["error"] == "invalid_grant"
    org.server.kernel.authenticator._credentials.clear()  # what five seconds do
    assert app.call(bound["access_token"]).status_code == 401
    assert app.call(offline["access_token"]).status_code == 200
    assert app.refresh(offline["refresh_token"]).status_code == 200


def test_other_clients_learn_nothing_of_a_token(org, app, browser):
    confidential = App.register(org, client_type="confidential")
    stranger = App.register(org, client_type="confidential")
    tokens = confidential.tokens(browser)
    for name in ("access_token", "refresh_token"):
        known = confidential.post("introspect", token=tokens[name]).json()
        assert (known["active"], known["sub"], known["scope"]) == (True, org.rep.id, "accounts:read contacts:read")
        assert stranger.post("introspect", token=tokens[name]).json() == {"active": False}
        assert stranger.post("revoke", token=tokens[name]).status_code == 200
        assert confidential.post("introspect", token=tokens[name]).json()["active"]
    assert app.post("introspect", token=tokens["access_token"]).status_code == 401, "a public one proves nothing"
    assert confidential.post("introspect", token="nonsense").json() == {"active": False}
    assert confidential.post("revoke", token=tokens["access_token"]).status_code == 200
    assert confidential.post("introspect", token=tokens["refresh_token"]).json() == {"active": False}


def test_clients_of_other_tenants_are_strangers(server, app, browser, sql):
    other = Org.create(server)
    foreign = App.register(other, client_type="confidential")
    tokens = app.tokens(browser)
    assert foreign.post("introspect", token=tokens["access_token"]).json() == {"active": False}
    assert foreign.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
    assert app.refresh(tokens["refresh_token"]).status_code == 200, "and cannot end what is not theirs"


def test_a_client_proves_who_it_is_in_one_way(org, browser):
    app = App.register(org, client_type="confidential")
    base = org.server.base_url
    for secret in (None, "", "wrong", app.secret + "x", app.secret.upper()):
        answer = app.post(client_secret=secret, grant_type="client_credentials")
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client"), secret
    unknown = app.post(client_id="x" * 43, grant_type="client_credentials")
    wrong = app.post(client_secret="wrong", grant_type="client_credentials")
    assert unknown.json() == wrong.json(), "nothing is told of which clients there are"
    basic = HTTP.post(
        f"{base}/oauth/token", auth=(app.client_id, app.secret), data={"grant_type": "client_credentials"}
    )
    assert basic.json()["error"] == "unauthorized_client", "it was known, and may not do that"
    both = HTTP.post(
        f"{base}/oauth/token", auth=(app.client_id, app.secret), data={"client_secret": app.secret, "grant_type": "x"}
    )
    assert both.json()["error"] == "invalid_request"


def test_guessing_the_code_of_a_device_is_stopped(org, sql):
    browser = sign_in(sql, org, org.people["other_manager"])
    app = App.register(
        org, redirect_uris=[], grant_types=["urn:ietf:params:oauth:grant-type:device_code"], scopes=["openid"]
    )
    page = browser.get("/device")
    answers = [browser.submit(page, user_code=f"BBBBBBB{letter}") for letter in "BCDFGHJKLMN"]
    assert [answer.status_code for answer in answers] == [400] * 10 + [429]
    right = app.post("device").json()["user_code"]
    assert browser.submit(page, user_code=right).status_code == 429, "the right one, too"


def test_two_secrets_are_good_while_one_replaces_the_other(org, browser):
    app = App.register(org, client_type="confidential")
    path, first = f"/v1/oauth_clients/{app.row['id']}/secret/rotate", app.secret

    def good(secret):
        return app.post(client_secret=secret, grant_type="client_credentials").json()["error"] == "unauthorized_client"

    second = org.admin.post(path, json={}).json()["secret"]
    assert good(first)
    assert good(second)
    third = org.admin.post(path, json={"grace_hours": 0}).json()["secret"]
    assert [good(each) for each in (first, second, third)] == [False, False, True]
    assert "secret" not in org.admin.get(f"/v1/oauth_clients/{app.row['id']}").text.replace("secret_changed_at", "")


def test_a_form_of_another_site_allows_nothing(app, browser):
    sent = {"decision": "allow"}
    assert browser.post(app.address(), data=sent).status_code == 403
    assert browser.post(app.address(), data={**sent, "csrf": "0" * 64}).status_code == 403
    evil = {"Sec-Fetch-Site": "cross-site"}
    assert browser.post(app.address(), data=sent, headers=evil).status_code == 403


def test_who_gives_a_client_an_account_holds_what_that_may(org):
    account = org.admin.make("service_accounts", name="Powerful")
    org.admin.make("role_assignments", role_id=org.roles["Administrator"], principal_id=account["id"])
    role = org.role("Client maker", ("oauth_clients:*", "all"), ("service_accounts:read", "all"))
    maker = org.person("maker", role)
    values = {
        "name": "Mine",
        "client_type": "confidential",
        "grant_types": ["client_credentials"],
        "service_account_id": account["id"],
        "scopes": ["accounts:read"],
    }
    assert maker.post("/v1/oauth_clients", json=values).status_code == 403
    theirs = org.admin.make("oauth_clients", **values)
    assert maker.post(f"/v1/oauth_clients/{theirs['id']}/secret/rotate", json={}).status_code == 403
    path = f"/v1/oauth_clients/{theirs['id']}"
    assert maker.patch(path, json={"scopes": ["accounts:admin"]}).status_code == 403
    assert maker.patch(path, json={"is_active": False}).status_code == 200, "but he may switch it off"
    assert maker.patch(path, json={"is_active": True}).status_code == 403
    for bounds in ({"scopes": ["oauth:admin"]}, {"scopes": None, "expires_at": "2090-01-01T00:00:00Z"}):
        issued = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "narrow", **bounds}).json()
        narrow = Person(org.server, org.admin.id, issued["key"])
        assert narrow.post(f"{path}/secret/rotate", json={}).status_code == 403, (
            "the secret outlives and outdoes the key"
        )
        assert narrow.post("/v1/oauth_clients", json=values).status_code == 403
        org.admin.post(f"/v1/api_keys/{issued['id']}/revoke")


@pytest.mark.parametrize(
    "changes", [{"redirect_uris": ["https://evil.example/cb"]}, {"redirect_uris": []}, {"name": "Other"}]
)
def test_who_changes_where_a_client_sends_tokens_could_make_it(org, changes):
    """Else a credential of narrow scopes would have people allow wider ones, and get the tokens."""
    values = {"name": "Theirs", "client_type": "public", "redirect_uris": ["https://app.example.com/cb"]}
    wide = org.admin.make("oauth_clients", **values, scopes=["accounts:admin"])
    same = org.admin.make("oauth_clients", **values, scopes=["oauth:read", "openid"])
    issued = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "narrow", "scopes": ["oauth:admin"]})
    assert issued.status_code == 201, issued.text
    narrow = Person(org.server, org.admin.id, issued.json()["key"])
    operation = {"operation": "update_oauth_client", "id": wide["id"], "body": changes}
    for answer in (
        narrow.patch(f"/v1/oauth_clients/{wide['id']}", json=changes),
        narrow.post("/v1/batch", json={"operations": [operation]}),
    ):
        assert (answer.status_code, answer.json()["permission"]) == (403, "scope accounts:admin")
    assert org.admin.get(f"/v1/oauth_clients/{wide['id']}").json() == wide
    assert narrow.patch(f"/v1/oauth_clients/{same['id']}", json=changes).status_code == 200
    assert narrow.patch(f"/v1/oauth_clients/{wide['id']}", json={"is_active": False}).status_code == 200
    assert org.admin.patch(f"/v1/oauth_clients/{wide['id']}", json=changes).status_code == 200
    org.admin.post(f"/v1/api_keys/{issued.json()['id']}/revoke")


def test_people_see_their_own_grants(org, app, sql):
    for name in ("rep", "colleague"):
        app.tokens(sign_in(sql, org, org.people[name]))
    own = {row["principal_id"] for row in org.rep.all("/v1/oauth_grants")}
    assert own == {org.rep.id}
    everyone = {row["principal_id"] for row in org.admin.all("/v1/oauth_grants")}
    assert {org.rep.id, org.colleague.id} <= everyone
    (theirs, *_) = org.colleague.all("/v1/oauth_grants")
    assert org.rep.post(f"/v1/oauth_grants/{theirs['id']}/revoke").status_code == 404


def test_keys_change_while_requests_run(org, app, browser):
    before = app.tokens(browser)["access_token"]
    keys = tokens_of(org.server.kernel).keys
    known = {key["kid"] for key in Browser(org.server).get("/.well-known/jwks.json").json()["keys"]}
    from datetime import UTC, datetime

    now = datetime.now(UTC)
    assert org.server.run(keys.add(now, unless_since=now))
    assert not org.server.run(keys.add(now, unless_since=now - timedelta(minutes=1))), "one at a time"
    after = app.tokens(browser)["access_token"]
    assert _parts(before)[0]["kid"] != _parts(after)[0]["kid"]
    published = {key["kid"] for key in Browser(org.server).get("/.well-known/jwks.json").json()["keys"]}
    assert known < published
    for token in (before, after):
        assert app.call(token).status_code == 200
    assert not org.server.run(keys.rotate()), "it is young"


def test_a_key_that_only_the_database_knows_is_not_believed(org, app, token, sql):
    key = ECKey.generate_key("P-256", {"use": "sig", "alg": "ES256"})
    key.ensure_kid()
    sealed = json.dumps(key.as_dict(private=True)).encode()
    sql("INSERT INTO oauth_signing_keys VALUES ($1, $2, '2020-01-01', '2020-01-01')", key.kid, sealed)
    header, claims = _parts(token)
    forged = jwt.encode({**header, "kid": key.kid}, claims, key, ["ES256"])
    org.server.run(tokens_of(org.server.kernel).keys._read(0))
    assert app.call(forged).status_code == 401
    sql("DELETE FROM oauth_signing_keys WHERE kid = $1", key.kid)


def test_a_browser_app_of_an_allowed_origin_may_ask(app, server, monkeypatch):
    origin = "https://app.example.com"
    monkeypatch.setattr(server.edge, "_origins", frozenset({origin}))
    url, headers = f"{server.base_url}/oauth/token", {"Origin": origin}
    asked = {**headers, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "content-type"}
    preflight = HTTP.request("OPTIONS", url, headers=asked)
    assert preflight.headers["access-control-allow-origin"] == origin
    answer = HTTP.post(url, data={"client_id": app.client_id, "grant_type": "refresh_token"}, headers=headers)
    assert answer.headers["access-control-allow-origin"] == origin
    assert "access-control-allow-credentials" not in answer.headers
    assert "WWW-Authenticate" in answer.headers["access-control-expose-headers"].split(", ")
    foreign = HTTP.post(url, data={"client_id": app.client_id}, headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in foreign.headers


def test_when_a_token_was_last_used_is_noted(org, app, browser):
    me = app.call(app.tokens(browser)["access_token"]).json()
    org.server.run(org.server.kernel.authenticator.flush())
    assert org.rep.get(f"/v1/oauth_grants/{me['credential_id']}").json()["last_used_at"] is not None


@pytest.mark.parametrize("language", ["en", "es"])
def test_every_scope_is_said_in_words(language):
    said = {say(language, words(scope)) for scope in known(CATALOG)}
    assert len(said) == len(known(CATALOG))


def test_bodies_that_are_no_forms_are_refused(org, app):
    url = f"{org.server.base_url}/oauth/token"
    for content, media, status in (
        (b"{}", "application/json", 415),
        (b"a=%ff", "application/x-www-form-urlencoded", 400),
        (b"\xff", "application/x-www-form-urlencoded", 400),
        (b"grant_type=a&grant_type=b", "application/x-www-form-urlencoded", 400),
        (b"a" * 70_000, "application/x-www-form-urlencoded", 413),
        (b"client_id=%00", "application/x-www-form-urlencoded", 400),
        (b"", "application/x-www-form-urlencoded", 401),
    ):
        answer = HTTP.post(url, content=content, headers={"Content-Type": media})
        assert answer.status_code == status, (content[:20], answer.text)
        assert "error" in answer.json()
    assert app.post().json()["error"] == "invalid_request"
    assert app.post(grant_type="password").json()["error"] == "unsupported_grant_type"
    assert app.post(grant_type="client_credentials").json()["error"] == "unauthorized_client"
    assert HTTP.get(url).status_code == 405
