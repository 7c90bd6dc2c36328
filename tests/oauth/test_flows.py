"""Getting tokens and using them."""

from tests.support.browser import App, redirected, sign_in


def test_a_person_allows_a_browser_app(shared_org, sql):
    org = shared_org
    app, browser = App.register(org), sign_in(sql, org, org.rep)
    shown = browser.get(app.address())
    assert "Planner" in shown.text
    assert "See accounts" in shown.text
    answer = browser.send_form(app.address(), decision="allow")
    told = redirected(answer)
    assert (told["state"], told["iss"]) == ("xyz", org.server.base_url)
    tokens = app.redeem(told["code"]).json()
    assert (tokens["token_type"], tokens["expires_in"], tokens["scope"]) == (
        "Bearer",
        600,
        "accounts:read contacts:read",
    )
    me = app.call(tokens["access_token"]).json()
    assert me["id"] == org.rep.id
    assert me["scopes"] == ["accounts:read", "contacts:read"]
    assert app.call(tokens["access_token"], "/v1/accounts").status_code == 200
    denied = app.call(tokens["access_token"], "/v1/accounts", "POST", json={"name": "No"})
    assert denied.json()["permission"] == "scope accounts:write"
    renewed = app.refresh(tokens["refresh_token"])
    assert renewed.status_code == 200, renewed.text
    assert renewed.json()["refresh_token"] != tokens["refresh_token"]
    assert app.call(renewed.json()["access_token"]).status_code == 200
