"""Whatever is sent to an endpoint or a page: an answer that the document declares, no failure of the server."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.sign_in.browsing import Browser, handle, read
from tests.support.forking import ROOT
from tests.support.oauth import App

_DOCUMENT = json.loads((ROOT / "openapi" / "openapi.json").read_text())
DECLARED = {
    path: {int(status) for status in _DOCUMENT["paths"][f"/oauth/{path}"]["post"]["responses"]} - {500, 503}
    for path in ("token", "revoke", "introspect", "device")
}
DEVICE = "urn:ietf:params:oauth:grant-type:device_code"
GRANTS = ["authorization_code", "refresh_token", "client_credentials", DEVICE]
_TEXT = st.text(max_size=40).filter(lambda text: text.isascii() or not any("\ud800" <= c <= "\udfff" for c in text))
_TICKET = st.text("ABCabc019-_", min_size=86, max_size=86)
_FIELDS = {
    "grant_type": st.sampled_from(GRANTS),
    "code": _TICKET,
    "code_verifier": st.text("abc-._~", min_size=43, max_size=50),
    "refresh_token": _TICKET,
    "device_code": _TICKET,
    "redirect_uri": _TEXT,
    "scope": st.sampled_from(["accounts:read", "openid email", "nonsense:read", "accounts:read accounts:read"]),
    "resource": _TEXT,
    "token": _TICKET | st.text("eyJabc.", max_size=200),
    "token_type_hint": _TEXT,
    "client_id": st.text("AZaz09-_", min_size=43, max_size=43),
    "client_secret": _TEXT,
}
FORMS = st.fixed_dictionaries({}, optional={name: values | _TEXT for name, values in _FIELDS.items()})
QUERIES = st.fixed_dictionaries(
    {},
    optional=dict.fromkeys(
        [
            "response_type",
            "client_id",
            "redirect_uri",
            "scope",
            "state",
            "nonce",
            "code_challenge",
            "prompt",
            "max_age",
            "login_hint",
            "user_code",
            "organisation",
            "return_to",
            "token",
            "provider",
            "code",
            "iss",
            "error",
            "notice",
            "response_mode",
            "resource",
        ],
        _TEXT,
    ),
)
PAGES = (
    *("/oauth/authorize", "/device", "/sign-in", "/sign-in/code", "/sign-in/enrol", "/sign-in/providers"),
    *("/sign-in/with", "/sign-in/callback", "/reset", "/account", "/account/second-factor", "/sign-out"),
)
FORMED = ("/device", "/sign-in/code", "/sign-in/enrol", "/reset", "/account/second-factor", "/account/sessions/end")
"""Those without a password, which costs a hash: what they take, other tests ask."""
STEADY = settings(
    max_examples=40, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def confidential(org):
    account = org.admin.make("service_accounts", name="Program")
    values = {"grant_types": GRANTS, "service_account_id": account["id"]}
    return App.register(org, client_type="confidential", **values)


@STEADY
@given(form=FORMS)
def test_endpoints_answer_as_declared(app, confidential, form):
    for client in (app, confidential):
        for path, declared in DECLARED.items():
            answer = client.post(path, **form)
            assert answer.status_code in declared, (path, answer.text)
            if answer.status_code >= 400:
                assert set(answer.json()) == {"error", "error_description"}, path


@pytest.mark.broad  # forms are below
@STEADY
@given(query=QUERIES)
def test_pages_take_any_query(org, app, browser, query):
    for who in (browser, Browser(org.server)):
        assert who.get(app.address(**query)).status_code < 500
        for page in PAGES:
            assert who.get(page, params=query).status_code < 500, page


@STEADY
@given(
    fields=st.fixed_dictionaries(
        {},
        optional=dict.fromkeys(
            ["organisation", "email", "code", "sealed", "return_to", "token", "user_code", "decision", "session"], _TEXT
        ),
    )
)
def test_forms_take_any_field(org, browser, fields):
    anyone = Browser(org.server)
    for who, page in ((browser, "/account"), (anyone, "/sign-in")):
        token = read(who.get(page).text).forms[0]["fields"]["csrf"]
        for path in FORMED:
            answer = who.post(path, data={"csrf": token, "organisation": handle(org), **fields})
            assert answer.status_code < 500, (path, answer.text)
