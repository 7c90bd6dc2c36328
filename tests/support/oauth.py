"""The client of an application, and browsers in which somebody is signed in."""

import base64
import hashlib
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx2

from crm_api.domains.identity.tickets import Ticket
from crm_api.kernel.context import new_id
from tests.sign_in.browsing import Browser
from tests.support.org import Org, Person
from tests.support.wire import WIRE

REDIRECT = "https://app.example.com/callback"
HTTP = httpx2.Client(timeout=60, transport=WIRE)


def sign_in(sql: Any, org: Org, person: Person, *, age: timedelta = timedelta()) -> Browser:
    """A browser with a session of a person, as signing in leaves it."""
    ticket, now = Ticket(org.tenant_id, new_id()), datetime.now(UTC)
    sql(
        "INSERT INTO sessions (tenant_id, id, principal_id, secret_hash, methods, address, user_agent, last_seen_at, "
        "expires_at, created_at, updated_at) VALUES ($1, $2, $3, $4, $5, '127.0.0.1', 'test', $6, $7, $8, $8)",
        *(org.tenant_id, ticket.id, person.id, ticket.hash, ["pwd"]),
        *(now, now + timedelta(hours=12), now - age),
    )
    browser = Browser(org.server)
    browser.cookies.set("crm_session", ticket.text)
    browser.ticket = ticket
    return browser


def decide(browser: Browser, address: str, decision: str) -> httpx2.Response:
    """What comes of the page that asks a person."""
    page = browser.get(address)
    assert page.status_code == 200, page.text
    return browser.submit(page, decision=decision)


@dataclass
class App:
    """A registered client and what it does, written by hand so that it can do it wrong."""

    org: Org
    row: dict[str, Any]
    secret: str | None = None
    verifier: str = field(default_factory=lambda: secrets.token_urlsafe(48))

    @classmethod
    def register(cls, org: Org, **values: Any) -> "App":
        """A new client; public unless told otherwise, with a secret if it can keep one."""
        whole = {
            "name": "Planner",
            "client_type": "public",
            "redirect_uris": [REDIRECT],
            "scopes": ["accounts:read", "accounts:write", "contacts:read", "openid", "email", "profile"],
            **values,
        }
        app = cls(org, org.admin.make("oauth_clients", **whole))
        if whole["client_type"] == "confidential":
            answer = org.admin.post(f"/v1/oauth_clients/{app.row['id']}/secret/rotate", json={})
            assert answer.status_code == 200, answer.text
            app.secret = answer.json()["secret"]
        return app

    @property
    def client_id(self) -> str:
        return str(self.row["client_id"])

    @property
    def challenge(self) -> str:
        return base64.urlsafe_b64encode(hashlib.sha256(self.verifier.encode()).digest()).decode().rstrip("=")

    def address(self, **changed: str | None) -> str:
        """Where it sends a browser; None leaves a parameter out."""
        given: dict[str, str | None] = {
            "response_type": "code",
            "client_id": self.client_id,
            "redirect_uri": REDIRECT,
            "scope": "accounts:read contacts:read",
            "state": "xyz",
            "code_challenge": self.challenge,
            "code_challenge_method": "S256",
            **changed,
        }
        query = httpx2.QueryParams({name: value for name, value in given.items() if value is not None})
        return f"/oauth/authorize?{query}"

    def code(self, browser: Browser, **changed: str | None) -> str:
        """The code that it gets when the person agrees."""
        answer = browser.get(self.address(**changed))
        if answer.status_code == 200:  # they did not agree to as much before
            answer = browser.submit(answer, decision="allow")
        return str(redirected(answer)["code"])

    def post(self, path: str = "token", **form: str | None) -> httpx2.Response:
        """Asks an endpoint; None leaves a field out."""
        whole: dict[str, str | None] = {"client_id": self.client_id, "client_secret": self.secret, **form}
        sent = {name: value for name, value in whole.items() if value is not None}
        return HTTP.post(f"{self.org.server.base_url}/oauth/{path}", data=sent)

    def redeem(self, code: str, **changed: str | None) -> httpx2.Response:
        """Asks for the tokens of a code."""
        given = {"code": code, "redirect_uri": REDIRECT, "code_verifier": self.verifier, **changed}
        return self.post(grant_type="authorization_code", **given)

    def refresh(self, token: str, **changed: str | None) -> httpx2.Response:
        """Asks for the next tokens."""
        return self.post(grant_type="refresh_token", refresh_token=token, **changed)

    def tokens(self, browser: Browser, **changed: str | None) -> dict[str, Any]:
        """All of it."""
        redirect = {"redirect_uri": changed["redirect_uri"]} if "redirect_uri" in changed else {}
        answer = self.redeem(self.code(browser, **changed), **redirect)
        assert answer.status_code == 200, answer.text
        return dict(answer.json())

    def call(self, token: str, path: str = "/v1/me", method: str = "GET", **options: Any) -> httpx2.Response:
        """Asks the API as who gave the token."""
        headers = {"Authorization": f"Bearer {token}".encode("latin-1")}
        return HTTP.request(method, self.org.server.base_url + path, headers=headers, **options)


def redirected(answer: httpx2.Response) -> dict[str, str]:
    """The parameters that an application is sent back with."""
    assert answer.status_code == 303, answer.text
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def ask(place, token: str) -> httpx2.Response:
    """Who one is, asked of a server."""
    return HTTP.get(f"{place.base_url}/v1/me", headers={"Authorization": f"Bearer {token}"})
