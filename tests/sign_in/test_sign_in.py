"""Signing in with a password, and out: cookies, rotation, where it goes on to, what other sites may do."""

import re
from base64 import urlsafe_b64encode
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import Request

import crm_api.domains.sign_in as room
from crm_api.domains.identity.tickets import read_ticket
from crm_api.domains.sign_in import words
from crm_api.domains.sign_in.browser import own_path, secure, sign_in_address
from crm_api.domains.sign_in.words import language_of
from tests.sign_in.browsing import PAGES, PASSWORD, Browser, handle, problem_of, read
from tests.support.server import LiveServer

ELSEWHERE = (
    *("https://evil.example", "//evil.example", "/\\evil.example", "\\\\evil.example", "javascript:alert(1)"),
    *("/%0d%0aSet-Cookie:x=1\r\nX: y", "/a b", "", "evil", "http:evil", "/\tx", "///evil.example", "/\x00"),
)


def test_a_person_signs_in_and_out(shared_org, emails, calm):
    browser = Browser(shared_org.server)
    assert not browser.signed_in
    answer = browser.sign_in(handle(shared_org), emails["rep"].upper())
    assert answer.status_code == 303, problem_of(answer)
    page = browser.get("/account")
    assert emails["rep"] in page.text
    ask = browser.get("/sign-out")
    assert browser.signed_in, "a link alone ends nothing"
    assert browser.submit(ask).status_code == 303
    assert not browser.signed_in
    (entry,) = shared_org.admin.all("/v1/audit_log", object_id=shared_org.rep.id, action="sign_in")
    assert entry["after"]["methods"] == ["pwd"]


def test_the_organisation_is_known_by_its_handle_and_then_remembered(shared_org, emails, calm, sql):
    (row,) = sql("SELECT handle FROM organisations WHERE tenant_id = $1", shared_org.tenant_id)
    browser = Browser(shared_org.server)
    assert browser.sign_in(f" {row['handle'].upper().replace('-', ' ')} ", emails["rep"]).status_code == 303
    browser.submit(browser.get("/sign-out"))
    assert read(browser.get("/sign-in").text).forms[0]["fields"]["organisation"] == row["handle"]


def test_cookies_are_out_of_reach(shared_org, emails, calm, monkeypatch):
    browser = Browser(shared_org.server)
    answer = browser.sign_in(handle(shared_org), emails["rep"])
    cookies = answer.headers.get_list("set-cookie")
    assert any(text.startswith("crm_session=") for text in cookies)
    for text in cookies:
        assert "HttpOnly" in text
        assert "SameSite=lax" in text
        assert "Path=/" in text
        assert "domain" not in text.lower()
    live = shared_org.server.settings.model_copy(update={"environment": "production"})
    monkeypatch.setattr("crm_api.settings.load_settings", lambda: live)
    assert secure()
    page = Browser(shared_org.server).get("/sign-in")
    (text,) = page.headers.get_list("set-cookie")
    assert text.startswith("__Host-crm_form=")
    assert "Secure" in text


def test_a_session_begins_with_a_cookie_of_its_own(shared_org, emails, calm, sql):
    """No fixation: what the browser had before is worth nothing after, and a session is not continued."""
    victim, planted = Browser(shared_org.server), "A" * 86
    victim.cookies.set("crm_session", planted)
    assert not victim.signed_in
    victim.cookies.clear()
    victim.sign_in(handle(shared_org), emails["rep"])
    first = victim.cookies["crm_session"]
    assert first != planted
    assert len(first) == 86
    answer = victim.sign_in(handle(shared_org), emails["rep"], path="/sign-in?prompt=login")
    assert answer.status_code == 303
    assert victim.cookies["crm_session"] != first
    with Browser(shared_org.server) as thief:
        thief.cookies.set("crm_session", first)
        assert not thief.signed_in, "the former session of this browser is over"
    kept = sql("SELECT secret_hash FROM sessions WHERE tenant_id = $1", shared_org.tenant_id)
    assert all(len(row["secret_hash"]) == 32 for row in kept)


@pytest.mark.parametrize(
    "change", [lambda c: c[:-1] + ("A" if c[-1] != "A" else "B"), lambda c: c + "=", lambda c: c[:50]]
)
def test_an_altered_cookie_is_none(enter, change):
    browser = enter("rep")
    text = change(browser.cookies["crm_session"])
    browser.cookies.clear()
    browser.cookies.set("crm_session", text)
    assert browser.get("/account").status_code == 303


def test_a_session_ends(shared_org, enter, sql):
    for column, age in (("last_seen_at", "61 minutes"), ("expires_at", "0 minutes"), ("revoked_at", "0 minutes")):
        browser = enter("colleague")
        sql(
            f"UPDATE sessions SET {column} = now() - interval '{age}' WHERE principal_id = $1 AND revoked_at IS NULL",  # noqa: S608 - ours
            shared_org.colleague.id,
        )
        assert not browser.signed_in, column


def test_an_inactive_person_is_out_at_once_and_cannot_come_back(shared_org, enter, emails):
    browser, path = enter("outsider"), f"/v1/users/{shared_org.outsider.id}"
    assert shared_org.admin.patch(path, json={"is_active": False}).status_code == 200
    try:
        assert not browser.signed_in
        other = Browser(shared_org.server).sign_in(handle(shared_org), emails["outsider"])
        wrong = Browser(shared_org.server).sign_in(handle(shared_org), emails["rep"], "nothing like it, sorry")
        assert (other.status_code, problem_of(other)) == (422, problem_of(wrong))
    finally:
        assert shared_org.admin.patch(path, json={"is_active": True}).status_code == 200


def test_a_revoked_session_is_over_in_a_second_process_too(shared_org, enter, database, emails):
    browser = enter("rep")
    with LiveServer(database["app"], database["migrate"], shared_org.server.settings.data_dir) as second:
        there = Browser(second)
        there.cookies.set("crm_session", browser.cookies["crm_session"])
        assert there.signed_in
        live = [item for item in shared_org.rep.all("/v1/sessions") if item["revoked_at"] is None]
        assert all(item["principal_id"] == shared_org.rep.id for item in live)
        for item in live:
            assert shared_org.rep.post(f"/v1/sessions/{item['id']}/revoke").status_code == 200
        assert not there.signed_in
        assert not browser.signed_in
        again = shared_org.rep.post(f"/v1/sessions/{live[0]['id']}/revoke")
        assert (again.status_code, again.json()["code"]) == (409, "conflict")
        colleague = enter("colleague")
        (theirs, *_) = [
            item
            for item in shared_org.admin.all("/v1/sessions", principal_id=shared_org.colleague.id)
            if item["revoked_at"] is None
        ]
        assert shared_org.rep.post(f"/v1/sessions/{theirs['id']}/revoke").status_code == 404
        assert colleague.signed_in


@pytest.mark.parametrize("target", ELSEWHERE)
def test_nobody_is_led_away(shared_org, enter, target):
    assert own_path(target) is None
    assert "return_to" not in sign_in_address(target)
    browser = enter("rep")
    page = browser.get("/sign-in", params={"return_to": target})
    assert read(page.text).links == ["/account"]
    assert "x-frame-options" in page.headers
    answer = browser.submit(browser.get("/sign-in?prompt=login"), return_to=target, organisation="x", email="y")
    assert answer.status_code == 422
    assert "set-cookie" not in answer.headers or "x=1" not in answer.headers["set-cookie"]


def test_who_has_signed_in_goes_on_to_the_page_asked_for(shared_org, emails, calm):
    browser, target = Browser(shared_org.server), "/oauth/authorize?client_id=a&scope=b%20c"
    page = browser.get(sign_in_address(target, login_hint=emails["rep"], tenant=handle(shared_org)))
    answer = browser.submit(page, password=PASSWORD)
    assert answer.status_code == 303
    page = browser.get(answer.headers["location"])
    assert read(page.text).links == [target]
    assert 'http-equiv="refresh"' in page.text


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text("/\\\\.:@?#a%09\t\r\n ", max_size=12).map("/".__add__))
def test_a_path_of_ours_stays_here(text):
    if (path := own_path(text)) is not None:
        parts = urlsplit(urljoin("https://crm.example.com/sign-in", path))
        assert (parts.scheme, parts.netloc) == ("https", "crm.example.com")
        assert path.isascii()
        assert path.isprintable()
        assert "\\" not in path[:2]


@settings(max_examples=200, deadline=None)
@given(
    st.text(max_size=100) | st.binary(min_size=64, max_size=64).map(lambda raw: urlsafe_b64encode(raw).decode()[:86])
)
def test_any_text_is_a_ticket_or_none(text):
    ticket = read_ticket(text)
    assert ticket is None or ticket.text == text


def test_another_person_at_the_same_browser_ends_the_session_of_the_first(shared_org, enter, emails):
    browser = enter("rep")
    first = browser.cookies["crm_session"]
    answer = browser.sign_in(handle(shared_org), emails["reader"], path="/sign-in?prompt=login")
    assert answer.status_code == 303
    assert emails["reader"] in browser.get("/account").text
    other = Browser(shared_org.server)
    other.cookies.set("crm_session", first)
    assert not other.signed_in


def test_forms_of_other_sites_do_nothing(shared_org, enter, emails):
    browser, stranger = enter("rep"), Browser(shared_org.server)
    page, foreign = browser.get("/account"), stranger.get("/sign-in")
    for token in ("", "0" * 64, read(foreign.text).forms[0]["fields"]["csrf"]):
        answer = browser.submit(page, "/account/sessions/end", csrf=token)
        assert answer.status_code == 403
    fields = read(page.text).forms[0]["fields"]
    answer = browser.post("/account/password", data=fields, headers={"sec-fetch-site": "cross-site"})
    assert answer.status_code == 403
    assert browser.post("/account/sessions/end", json=fields).status_code == 415
    login = {"organisation": handle(shared_org), "email": emails["rep"], "password": PASSWORD}
    assert Browser(shared_org.server).post("/sign-in", data=login).status_code == 403, "login CSRF"
    assert Browser(shared_org.server).post("/sign-out").status_code == 303
    assert browser.signed_in


def test_odd_forms_are_refused(shared_org):
    browser = Browser(shared_org.server)
    csrf = read(browser.get("/sign-in").text).forms[0]["fields"]["csrf"]
    headers = {"content-type": "application/x-www-form-urlencoded"}
    bodies = (
        *("a=%ff&csrf=" + csrf, "email=a&email=b&csrf=" + csrf, "email=%00&csrf=" + csrf, "email"),
        "&".join(f"f{n}=1" for n in range(60)),
    )
    for body in bodies:
        assert browser.post("/sign-in", content=body, headers=headers).status_code == 422, body
    assert browser.post("/sign-in", content="a=" + "b" * 70_000, headers=headers).status_code == 413
    for name in ("organisation", "email", "password"):
        fields = dict.fromkeys(("organisation", "email", "password"), "x") | {"csrf": csrf}
        for value in (
            "x" * 60_000,
            "'; DROP TABLE principals; --",
            "\u202e\u0000"[:1],
            "\N{MATHEMATICAL SCRIPT CAPITAL X}" * 500,
            "<script>",
        ):
            answer = browser.post("/sign-in", data=fields | {name: value})
            assert answer.status_code == 422
            assert "<script>" not in answer.text


@pytest.mark.parametrize("language", ["en", "es"])
def test_pages_are_whole_and_closed(shared_org, enter, language):
    browser = enter("rep")
    browser.headers["accept-language"] = f"{language}-MX, fr;q=0.3"
    seen = [browser.get(path) for path in (*PAGES, "/account/second-factor", "/sign-in/providers")]
    seen += [Browser(shared_org.server, language).get("/sign-in"), Browser(shared_org.server, language).get("/reset")]
    seen.append(Browser(shared_org.server, language).sign_in("x", "y", "z"))
    for page in seen:
        parsed = read(page.text)
        assert parsed.language == language, page.url
        assert page.headers["content-language"] == language
        assert "<script" not in page.text
        assert " style=" not in page.text
        assert page.headers["cache-control"] == "no-store"
        csp = page.headers["content-security-policy"]
        assert "default-src 'none'" in csp
        assert "form-action 'self'" in csp
        assert "frame-ancestors 'none'" in csp
        assert "script-src" not in csp
        visible = {name for form in parsed.forms for name in form["fields"]} & parsed.ids.keys()
        assert visible <= parsed.labels, page.url
        for link in re.findall(r'href="#([^"]+)"', page.text):
            assert link in parsed.ids, "the summary leads to the field"
    assert browser.get("/sign-in/style.css").headers["content-type"].startswith("text/css")


def test_every_text_is_there_in_spanish():
    folder = Path(room.__file__).parent
    pattern = r'(?:\bt\(|field\(t, errors, "\w+", |field\(t, \{\}, "\w+", |hint=)"([^"]+)"'
    found = {text for path in folder.rglob("*.html") for text in re.findall(pattern, path.read_text())}
    for path in folder.glob("*.py"):
        found |= set(re.findall(r'page\(\s*request,\s*"([^"]+)"', path.read_text()))
    assert len(found) > 40
    assert not {text for text in found if text not in words._SPANISH}
    for text, spanish in words._SPANISH.items():
        assert set(re.findall(r"{\w+}", text)) == set(re.findall(r"{\w+}", spanish)), text


@pytest.mark.parametrize(
    ("header", "preferred", "language"),
    [
        ("es", None, "es"),
        ("en, es;q=0.9", None, "en"),
        ("es;q=0.1, fr", None, "es"),
        ("de", None, "en"),
        ("es;q=x, en;q=0.1", None, "en"),
        ("en", "es-MX", "es"),
        ("es", "de", "en"),
        ("", None, "en"),
    ],
)
def test_the_language_is_the_readers(header, preferred, language):
    request = Request({"type": "http", "headers": [(b"accept-language", header.encode())]})
    assert language_of(request, preferred) == language
