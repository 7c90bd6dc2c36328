"""The page at /docs/try: who is signed in calls the API as himself, by a client that nobody had to register."""

import httpx2
import pytest

from crm_api.catalog import CATALOG
from crm_api.domains.oauth.client import read_public_id
from crm_api.domains.oauth.explorer import ID, RETURN
from crm_api.domains.oauth.scopes import known
from tests.sign_in.webdriver import CHROMIUM, DRIVER, Chromium
from tests.support.oauth import sign_in

CLIENT = f"/v1/oauth_clients/{ID}"


@pytest.fixture
def browser(org, sql):
    """The representative's."""
    return sign_in(sql, org, org.rep)


def test_it_begins_with_signing_in(server, browser):
    answer = httpx2.get(f"{server.base_url}/docs/try", params={"tag": "accounts"})
    assert "/sign-in?return_to=%2Fdocs%2Ftry%3Ftag%3Daccounts" in answer.text
    assert "data-client" not in answer.text
    assert answer.headers["cache-control"] == "no-store"


def test_each_tenant_gets_its_client_by_the_first_visit(org, browser, server):
    assert org.admin.get(CLIENT).status_code == 404
    assert browser.get("/docs/try").status_code == 200
    made = org.admin.get(CLIENT).json()
    assert read_public_id(made["client_id"])[0] == org.tenant_id
    assert (made["client_type"], made["version"], made["grant_types"]) == ("public", 1, ["authorization_code"])
    assert made["redirect_uris"] == [server.base_url + RETURN]
    assert {scope for scope in known(CATALOG) if ":" in scope} == set(made["scopes"])
    assert f'data-client="{made["client_id"]}"' in browser.get("/docs/try").text
    assert org.admin.get(CLIENT).json()["version"] == 1, "a later visit changes nothing"


def test_it_follows_the_server_and_the_administrators(org, browser, server):
    browser.get("/docs/try")
    org.admin.patch(CLIENT, json={"redirect_uris": ["https://elsewhere.example.com/cb"], "scopes": ["accounts:read"]})
    browser.get("/docs/try")
    mended = org.admin.get(CLIENT).json()
    assert (mended["redirect_uris"], len(mended["scopes"]) > 20) == ([server.base_url + RETURN], True)
    org.admin.patch(CLIENT, json={"is_active": False})
    off = browser.get("/docs/try")
    assert "switched off" in off.text
    assert "data-client" not in off.text
    assert org.admin.get(CLIENT).json()["is_active"] is False
    org.admin.delete(CLIENT)
    assert "data-client" not in browser.get("/docs/try").text, "what was deleted stays away"


@pytest.mark.broad
@pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed (Debian: chromium-driver)"
)
def test_a_person_authorizes_and_calls(org, sql, tmp_path):
    org.rep.post("/v1/accounts", json={"name": "Seen in the reference"})
    base, dialog = org.server.base_url, ".modal-ux .auth-container:nth-of-type(2)"
    with Chromium(tmp_path, scripts=True) as chromium:
        chromium.open(f"{base}/sign-in")
        ticket = sign_in(sql, org, org.rep).ticket
        chromium._do("POST", "/cookie", cookie={"name": "crm_session", "value": ticket.text, "path": "/"})
        chromium.open(f"{base}/docs/try?tag=accounts")
        chromium.wait(lambda: chromium.there("#operations-accounts-list_accounts"))
        (first,) = chromium.windows
        chromium.press(".auth-wrapper .authorize")
        chromium.wait(lambda: chromium.there(dialog))
        chromium.press('label[for="accounts:read-authorizationCode-checkbox-oauth2"]')
        chromium.press(f"{dialog} .authorize")
        chromium.wait(lambda: len(chromium.windows) == 2)
        chromium.switch(next(window for window in chromium.windows if window != first))
        chromium.until("Allow access")
        assert "See accounts" in chromium.text()
        assert "Create" not in chromium.text(), "what was chosen, and no more"
        chromium.press('button[value="allow"]')
        chromium.wait(lambda: chromium.windows == [first])
        chromium.switch(first)
        chromium.wait(lambda: "Authorized" in chromium.text(dialog))
        chromium.press(".close-modal")
        operation = "#operations-accounts-list_accounts"
        chromium.press(f"{operation} .opblock-summary-control")
        chromium.wait(lambda: chromium.there(f"{operation} .try-out__btn"))
        chromium.press(f"{operation} .try-out__btn")
        chromium.press(f"{operation} .execute")
        chromium.wait(lambda: chromium.there(f"{operation} .live-responses-table .response"))
        reply = chromium.text(f"{operation} .live-responses-table .response")
        bad = ("Content Security Policy", "Failed to load", "Uncaught")
        assert [error for error in chromium.errors if any(text in error for text in bad)] == []
    assert reply.startswith("200")
    assert "Seen in the reference" in reply
    (grant,) = org.rep.get("/v1/oauth_grants").json()["data"]
    assert (grant["kind"], grant["scopes"]) == ("authorization_code", ["accounts:read"])
