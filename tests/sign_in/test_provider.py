"""Signing in by a provider: a small OpenID Connect server on loopback that can also lie."""

import base64
import hashlib
import hmac
import json
import secrets
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, parse_qsl, urlsplit

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, RSAKey

from tests.sign_in.browsing import Browser, handle, read

SECRET = "the client's secret: %&+/"


class Provider:
    """Answers code requests with what `claims` say; `sign` makes the token, `seen` are the token requests."""

    def __init__(self) -> None:
        self.key: Any = ECKey.generate_key("P-256", {"kid": "one", "use": "sig"})
        self.algorithm = "ES256"
        self.claims: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}
        self.seen: list[dict[str, str]] = []
        self.codes: dict[str, dict[str, str]] = {}
        self.token: str | None = None

    def authorize(self, address: str) -> dict[str, str]:
        """What the provider sends the browser back with."""
        asked = dict(parse_qsl(urlsplit(address).query))
        assert asked["response_type"] == "code"
        assert asked["code_challenge_method"] == "S256"
        code = secrets.token_urlsafe(8)
        self.codes[code] = asked
        return {"code": code, "state": asked["state"], "iss": self.issuer}

    def _exchange(self, form: dict[str, str], authorization: str | None) -> dict[str, Any]:
        asked = self.codes.pop(form["code"])
        verifier = base64.urlsafe_b64encode(hashlib.sha256(form["code_verifier"].encode()).digest()).decode()
        assert verifier.rstrip("=") == asked["code_challenge"]
        assert form["redirect_uri"] == asked["redirect_uri"]
        self.seen.append({**form, "authorization": authorization or ""})
        now = int(time.time())
        claims = {"iss": self.issuer, "aud": asked["client_id"], "exp": now + 300, "iat": now, "sub": "s-1"}
        claims |= {"nonce": asked["nonce"], "email_verified": True, **self.claims}
        claims = {name: value for name, value in claims.items() if value is not None}
        token = self.token or jwt.encode(
            {"alg": self.algorithm, "kid": "one"}, claims, self.key, algorithms=[self.algorithm]
        )
        return {"id_token": token, "access_token": "unused", "token_type": "Bearer"}

    def __enter__(self) -> Self:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self, document: Any) -> None:
                body = json.dumps(document).encode()
                self.send_response(200)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_GET(self) -> None:
                if self.path == "/.well-known/openid-configuration":
                    places = {"authorization_endpoint": "/authorize", "token_endpoint": "/token", "jwks_uri": "/jwks"}
                    found = {name: outer.issuer + path for name, path in places.items()}
                    self._answer({"issuer": outer.issuer, **found, **outer.metadata})
                else:
                    self._answer({"keys": [outer.key.as_dict(private=False)]})

            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["content-length"])).decode()
                form = {name: values[0] for name, values in parse_qs(raw).items()}
                self._answer(outer._exchange(form, self.headers["authorization"]))

            def log_message(self, *_: Any) -> None:
                """Says nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.02,), daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def issuer(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


@pytest.fixture
def provider():
    with Provider() as running:
        yield running


@pytest.fixture
def declared(shared_org, provider):
    """The provider as the organisation has it, with a secret."""
    made = shared_org.admin.make(
        "identity_providers",
        name=f"Provider {provider.issuer}",
        issuer=provider.issuer,
        client_id="crm",
        email_domains=["example.com"],
    )
    answer = shared_org.admin.post(
        f"/v1/identity_providers/{made['id']}/set_client_secret", json={"client_secret": SECRET}
    )
    assert answer.status_code == 200
    assert SECRET not in answer.text
    yield made
    shared_org.admin.delete(f"/v1/identity_providers/{made['id']}")


def depart(browser, org, path="/sign-in/providers"):
    """The answer to a click on the only provider."""
    page = browser.get(path, params={"organisation": handle(org), "return_to": "/account"})
    (link,) = [link for link in read(page.text).links if link.startswith("/sign-in/with")]
    return browser.get(link)


def arrive(browser, org, provider, **changes):
    """The answer to the provider's redirect."""
    back = {**provider.authorize(depart(browser, org).headers["location"]), **changes}
    return browser.get("/sign-in/callback", params={name: value for name, value in back.items() if value is not None})


def test_a_person_signs_in_by_the_provider(shared_org, provider, declared):
    provider.claims = {"email": "Rep@example.com"}
    browser = Browser(shared_org.server)
    answer = arrive(browser, shared_org, provider)
    assert answer.status_code == 303, answer.text
    assert browser.signed_in
    (session, *_) = [item for item in shared_org.rep.all("/v1/sessions") if item["methods"] == ["ext"]]
    assert session["principal_id"] == shared_org.rep.id
    expected = base64.b64encode(b"crm:the+client%27s+secret%3A+%25%26%2B%2F").decode()
    assert provider.seen[0]["authorization"] == f"Basic {expected}"
    provider.claims = {"email": "moved@example.com"}
    again = Browser(shared_org.server)
    assert arrive(again, shared_org, provider).status_code == 303, "the subject is known now, whatever its address"
    provider.claims = {"email": "rep@example.com", "sub": "s-2"}
    assert arrive(Browser(shared_org.server), shared_org, provider).status_code == 422, "another subject, same address"


@pytest.fixture(scope="module")
def outside(shared_org):
    """Somebody whose address is of no domain that the provider speaks for."""
    return shared_org.admin.make("users", name="Outside", email=OUTSIDE)


OUTSIDE = "outside@elsewhere.example"
WRONG = {
    "no address": {"email": None},
    "not verified": {"email": "rep@example.com", "email_verified": False},
    "verified as text": {"email": "rep@example.com", "email_verified": "true"},
    "another domain": {"email": "rep@example.com.evil.example"},
    "nobody here": {"email": "nobody@example.com"},
    "another nonce": {"email": "rep@example.com", "nonce": "x"},
    "no nonce": {"email": "rep@example.com", "nonce": None},
    "another audience": {"email": "rep@example.com", "aud": "other"},
    "several audiences": {"email": "rep@example.com", "aud": ["crm", "other"]},
    "another party": {"email": "rep@example.com", "azp": "other"},
    "another issuer": {"email": "rep@example.com", "iss": "http://127.0.0.1:1"},
    "expired": {"email": "rep@example.com", "exp": 1_000_000_000},
    "from the future": {"email": "rep@example.com", "iat": 4_000_000_000},
    "no end": {"email": "rep@example.com", "exp": None},
    "no subject": {"email": "rep@example.com", "sub": None},
    "a number for a subject": {"email": "rep@example.com", "sub": 1},
    "a list for a subject": {"email": "rep@example.com", "sub": ["s-1"]},
    "a subject that begins as another's": {"email": "rep@example.com", "sub": "s" * 256},
    "a subject with odd characters": {"email": "rep@example.com", "sub": "s\x00"},
    "an address with odd characters": {"email": "rep\x00@example.com"},
    "an address of another domain and one of its own": {"email": f"{OUTSIDE:<254}@example.com"},
    "the same in front": {"email": f"{OUTSIDE},x@example.com"},
}


@pytest.mark.parametrize("claims", WRONG.values(), ids=WRONG.keys())
def test_a_token_that_does_not_hold_opens_nothing(shared_org, provider, declared, outside, claims):
    provider.claims = claims
    browser = Browser(shared_org.server)
    answer = arrive(browser, shared_org, provider)
    assert answer.status_code == 422
    assert not browser.signed_in
    assert "did not say who you are" in answer.text


@pytest.mark.parametrize("says", [True, False, "true", None])
def test_a_provider_that_always_names_itself_does_so(shared_org, provider, declared, says):
    """RFC 9207, 2.4: an answer without a name may be another provider's."""
    provider.claims = {"email": "rep@example.com"}
    if says is not None:
        provider.metadata = {"authorization_response_iss_parameter_supported": says}
    for named, status in ((None, 422 if says is True else 303), (provider.issuer, 303)):
        browser = Browser(shared_org.server)
        assert arrive(browser, shared_org, provider, iss=named).status_code == status
        assert browser.signed_in == (status == 303)


def test_signatures_of_others_open_nothing(shared_org, provider, declared):
    published, provider.claims = provider.key, {"email": "rep@example.com"}
    browser = Browser(shared_org.server)

    def forged(algorithm: str, key: bytes) -> str:
        now = int(time.time())
        claims = {"iss": provider.issuer, "aud": "crm", "sub": "s-1", "iat": now, "exp": now + 60, "nonce": nonce}
        parts = [
            base64.urlsafe_b64encode(json.dumps(part).encode()).decode().rstrip("=")
            for part in ({"alg": algorithm, "kid": "one"}, claims | provider.claims)
        ]
        signed = hmac.digest(key, ".".join(parts).encode(), "sha256") if key else b""
        return ".".join([*parts, base64.urlsafe_b64encode(signed).decode().rstrip("=")])

    public = published.as_pem(private=False)
    for algorithm, key in (("none", b""), ("HS256", public), ("ES256", public)):
        back = provider.authorize(depart(browser, shared_org).headers["location"])
        nonce = provider.codes[back["code"]]["nonce"]
        provider.token = forged(algorithm, key)
        assert browser.get("/sign-in/callback", params=back).status_code == 422, algorithm
    provider.token = "a.b"
    assert arrive(browser, shared_org, provider).status_code == 422
    provider.token = "x" * 9000
    assert arrive(browser, shared_org, provider).status_code == 422
    provider.token = None
    provider.key, provider.algorithm = ECKey.generate_key("P-384", {"kid": "one"}), "ES384"
    assert arrive(browser, shared_org, provider).status_code == 422
    assert not browser.signed_in
    provider.key, provider.algorithm = RSAKey.generate_key(2048, {"kid": "one"}), "RS256"
    assert arrive(browser, shared_org, provider).status_code == 303, "a new key is published"


def test_only_an_answer_to_this_browser_counts(shared_org, provider, declared):
    provider.claims = {"email": "rep@example.com"}
    for changes in ({"state": "x"}, {"state": None}, {"iss": "http://other.example"}, {"code": None}):
        browser = Browser(shared_org.server)
        assert arrive(browser, shared_org, provider, **changes).status_code == 422, changes
        assert not browser.signed_in
    attacker, victim = Browser(shared_org.server), Browser(shared_org.server)
    back = provider.authorize(depart(attacker, shared_org).headers["location"])
    assert victim.get("/sign-in/callback", params=back).status_code == 422, "login CSRF"
    depart(victim, shared_org)
    assert victim.get("/sign-in/callback", params=back).status_code == 422
    assert not victim.signed_in
    assert attacker.get("/sign-in/callback", params=back).status_code == 303
    assert attacker.get("/sign-in/callback", params=back).status_code == 422, "once"


@pytest.mark.parametrize(
    "metadata",
    [
        {"issuer": "http://127.0.0.1:9"},
        {"token_endpoint": "http://169.254.169.254/latest"},
        {"jwks_uri": None},
        {"authorization_endpoint": "javascript:alert(1)"},
    ],
)
def test_metadata_that_leads_astray_is_refused(shared_org, provider, declared, metadata):
    provider.metadata = metadata
    assert depart(Browser(shared_org.server), shared_org).status_code == 422


def test_a_provider_that_is_away_or_unknown(shared_org, declared, provider):
    browser = Browser(shared_org.server)
    page = browser.get("/sign-in/providers", params={"organisation": "no-such"})
    assert "Nothing is set up" in page.text
    query = {"provider": "nonsense", "organisation": handle(shared_org)}
    assert browser.get("/sign-in/with", params=query).status_code == 422
    assert browser.get("/sign-in/with").status_code == 422
    assert browser.get("/sign-in/callback").status_code == 422
    path = f"/v1/identity_providers/{declared['id']}"
    assert shared_org.admin.patch(path, json={"is_active": False}).status_code == 200
    query = {"provider": declared["id"], "organisation": handle(shared_org)}
    assert browser.get("/sign-in/with", params=query).status_code == 422
    assert shared_org.admin.patch(path, json={"is_active": True}).status_code == 200
    provider.__exit__()
    assert browser.get("/sign-in/with", params=query).status_code == 422
    provider.__enter__()


def test_who_may_declare_a_provider(shared_org, declared):
    role = shared_org.role("Providers", ("identity_providers:*", "all"))
    person = shared_org.person("provider_person", role)
    body = {"name": "Mine", "issuer": "https://evil.example", "client_id": "x", "email_domains": ["example.com"]}
    path = f"/v1/identity_providers/{declared['id']}"
    assert person.post("/v1/identity_providers", json=body).status_code == 403, "it could sign in as anybody"
    assert person.patch(path, json={"email_domains": ["example.org"]}).status_code == 403
    assert person.post(f"{path}/set_client_secret", json={"client_secret": None}).status_code == 403
    moved = shared_org.admin.patch(path, json={"issuer": "https://login.example.com"})
    assert (moved.status_code, moved.json()["errors"][0]["code"]) == (422, "secret_set")
    refused = shared_org.admin.post("/v1/identity_providers", json={**body, "issuer": "https://10.0.0.1"})
    assert (refused.status_code, refused.json()["errors"][0]["code"]) == (422, "refused_address")
    assert SECRET not in json.dumps(shared_org.admin.all("/v1/audit_log"))


def test_subjects_of_one_issuer_are_not_those_of_another(shared_org, provider, declared):
    """The links stay with the issuer: its `sub` is somebody else's at the next."""
    provider.claims = {"email": "colleague@example.com", "sub": "s-9"}
    admin, path = shared_org.admin, f"/v1/identity_providers/{declared['id']}"
    assert admin.post(f"{path}/set_client_secret", json={"client_secret": None}).status_code == 200
    elsewhere = {"issuer": "https://login.example.com"}
    assert admin.patch(path, json=elsewhere, params={"dry_run": "true"}).status_code == 200, "nobody came by it yet"
    assert arrive(Browser(shared_org.server), shared_org, provider).status_code == 303
    moved = admin.patch(path, json=elsewhere)
    assert (moved.status_code, moved.json()["errors"][0]["code"]) == (422, "people_linked")


@pytest.mark.parametrize(("iat", "exp", "status"), [(50, 350, 303), (-350, -50, 303), (75, 350, 422), (-350, -75, 422)])
def test_the_clock_of_a_provider_may_be_wrong_by_a_minute(shared_org, provider, declared, iat, exp, status):
    now = int(time.time())
    provider.claims = {"email": "rep@example.com", "iat": now + iat, "exp": now + exp}
    assert arrive(Browser(shared_org.server), shared_org, provider).status_code == status
