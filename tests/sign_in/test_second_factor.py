"""The second factor: set up, asked for, each code once; recovery codes; rules that ask for it; its removal."""

import base64
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from crm_api.domains.sign_in.attempts import ACCOUNT
from crm_api.domains.sign_in.second_factor import STEP_SECONDS, code_at, otpauth, step_of
from tests.sign_in.browsing import PASSWORD, Browser, handle, invited, problem_of, read

SHORT = "nine bees"


def secret_of(page) -> bytes:
    return base64.b32decode(re.search(r"<code>([A-Z2-7]+)</code>", page.text)[1])


def code(secret: bytes, steps: int = 0) -> str:
    return code_at(secret, int(time.time()) // STEP_SECONDS + steps)


@pytest.fixture
def careful(org):
    """(organisation, e-mail, secret, recovery codes) of a person with a second factor."""
    email = invited(org, "rep")
    browser = Browser(org.server)
    browser.sign_in(handle(org), email)
    page = browser.get("/account/second-factor")
    secret = secret_of(page)
    done = browser.submit(page, code=code(secret, -1))
    assert done.status_code == 200, problem_of(done)
    return org, email, secret, re.findall(r"<li><code>([0-9a-f-]+)</code>", done.text)


def half(org, email, password=PASSWORD) -> Browser:
    """A browser whose person has given the password."""
    browser = Browser(org.server)
    answer = browser.sign_in(handle(org), email, password)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in/code")
    assert not browser.signed_in
    return browser


# RFC 6238, appendix B, the last six digits of its eight
@pytest.mark.parametrize(
    ("at", "expected"),
    [(59, "287082"), (1111111109, "081804"), (1111111111, "050471"), (1234567890, "005924"), (20000000000, "353130")],
)
def test_codes_are_those_of_the_standard(at, expected):
    secret = b"12345678901234567890"
    assert code_at(secret, at // STEP_SECONDS) == expected
    assert step_of(secret, expected, at) == at // STEP_SECONDS
    assert step_of(secret, expected, at + STEP_SECONDS) == at // STEP_SECONDS
    assert step_of(secret, expected, at + 2 * STEP_SECONDS + STEP_SECONDS) is None


def test_apps_read_the_address():
    address = otpauth(b"12345678901234567890", "Müller & Söhne: ñ", "a+b@example.com")
    assert address.startswith("otpauth://totp/M%C3%BCller%20%26%20S%C3%B6hne%3A%20%C3%B1%3Aa%2Bb%40example.com?secret=")
    assert "&issuer=M%C3%BCller%20%26" in address


def test_a_code_is_asked_for_and_good_once(careful, sql):
    org, email, secret, _ = careful
    browser = half(org, email)
    page = browser.get("/sign-in/code?return_to=/account")
    assert browser.submit(page, code="000000" if code(secret) != "000000" else "111111").status_code == 422
    assert browser.submit(page, code=code(secret, -1)).status_code == 422, "it was used to set the app up"
    right = code(secret)
    answer = browser.submit(page, code=f" {right[:3]} {right[3:]} ")
    assert answer.status_code == 303
    assert browser.signed_in
    (session,) = [item for item in org.rep.all("/v1/sessions") if "otp" in item["methods"]]
    assert session["methods"] == ["pwd", "otp"]
    again = half(org, email)
    assert again.submit(again.get("/sign-in/code"), code=right).status_code == 422
    kept = sql("SELECT sealed_secret FROM second_factors WHERE tenant_id = $1", org.tenant_id)
    assert all(secret not in bytes(row["sealed_secret"]) for row in kept)


def test_a_code_raced_has_one_success(careful):
    org, email, secret, _ = careful
    browsers = [half(org, email) for _ in range(4)]
    pages = [browser.get("/sign-in/code") for browser in browsers]
    right = code(secret, 1)
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda pair: pair[0].submit(pair[1], code=right), zip(browsers, pages, strict=True)))
    assert sorted(answer.status_code for answer in answers) == [303, 422, 422, 422]


def test_guessing_codes_becomes_slow(careful):
    org, email, secret, _ = careful
    browser = half(org, email)
    page = browser.get("/sign-in/code")
    for n in range(ACCOUNT.free):
        assert browser.submit(page, code=f"{n}" * 6).status_code == 422
    assert browser.submit(page, code=code(secret, 1)).status_code == 422


def test_a_recovery_code_stands_in_once(careful):
    org, email, _, codes = careful
    assert len(set(codes)) == 10
    browser = half(org, email)
    assert browser.submit(browser.get("/sign-in/code"), code=f" {codes[0].upper()}").status_code == 303
    assert browser.signed_in
    again = half(org, email)
    assert again.submit(again.get("/sign-in/code"), code=codes[0]).status_code == 422
    assert again.submit(again.get("/sign-in/code"), code=codes[1]).status_code == 303


def test_the_second_step_needs_the_first(careful, sql):
    """The cookie between them is sealed, is for this person and password, and ends."""
    org, email, secret, _ = careful
    stranger = Browser(org.server)
    page = stranger.get("/sign-in")
    csrf = read(page.text).forms[0]["fields"]["csrf"]
    answer = stranger.post("/sign-in/code", data={"csrf": csrf, "code": code(secret)})
    assert answer.headers["location"].startswith("/sign-in?")
    browser = half(org, email)
    step = browser.cookies["crm_step"]
    for name in ("crm_session", "crm_provider"):
        stranger.cookies.set(name, step)
    assert not stranger.signed_in
    page = browser.get("/sign-in/code")
    sql("UPDATE passwords SET changed_at = changed_at + interval '1 s' WHERE principal_id = $1", org.rep.id)
    assert browser.submit(page, code=code(secret)).headers["location"].startswith("/sign-in?")
    for altered in (step[:-2] + "xx", step[:40], "\xe9", "x" * 4000):
        other = Browser(org.server)
        answer = other.get("/sign-in/code", headers={"cookie": b"crm_step=" + altered.encode("latin-1")})
        assert answer.status_code == 303


def test_who_must_have_one_sets_it_up_before_going_in(org):
    role = org.role("Careful", ("users:read", "all"))
    person = org.person("dora", role)
    assert person.get("/v1/me").status_code == 200
    rule = org.admin.make("second_factor_rules", role_id=role)
    email, other = invited(org, "dora", SHORT), invited(org, "rep")
    assert Browser(org.server).sign_in(handle(org), other).headers["location"].startswith("/sign-in?")
    browser = Browser(org.server)
    answer = browser.sign_in(handle(org), email, SHORT)
    assert answer.headers["location"].startswith("/sign-in/enrol")
    assert not browser.signed_in
    page = browser.get(answer.headers["location"])
    assert "<svg" in page.text
    assert browser.submit(page, code="123").status_code == 422
    secret = secret_of(browser.submit(page, code="123456"))
    assert secret == secret_of(page), "the form again is for the same app"
    done = browser.submit(page, code=code(secret))
    assert done.status_code == 200
    assert browser.signed_in
    account = browser.get("/account")
    assert "your organisation asks for it" in account.text
    assert not [form for form in read(account.text).forms if form["action"].endswith("remove")]
    assert org.admin.delete(f"/v1/second_factor_rules/{rule['id']}").status_code == 204
    account = browser.get("/account")
    refused = browser.submit(account, "/account/second-factor/remove", remove=SHORT)
    assert "15 characters or more" in problem_of(refused)


def test_a_rule_for_all_asks_everybody(org):
    email = invited(org, "rep")
    org.admin.make("second_factor_rules")
    answer = Browser(org.server).sign_in(handle(org), email)
    assert answer.headers["location"].startswith("/sign-in/enrol")


def test_it_is_removed_with_the_password(careful):
    org, email, _, codes = careful
    browser = half(org, email)
    browser.submit(browser.get("/sign-in/code"), code=codes[0])
    page = browser.get("/account")
    remove = "/account/second-factor/remove"
    assert browser.get("/account/second-factor").status_code == 303
    assert browser.submit(page, remove, remove="not the password at all").status_code == 422
    assert browser.submit(page, remove, remove=PASSWORD).status_code == 303
    answer = Browser(org.server).sign_in(handle(org), email)
    assert answer.headers["location"].startswith("/sign-in?")
    page = browser.get("/account/second-factor")
    assert browser.submit(page, code=code(secret_of(page))).status_code == 200, "and set up anew"


def test_an_administrator_resets_it(careful):
    org, email, _, _ = careful
    (mine,) = org.rep.all("/v1/second_factors")
    assert set(mine) >= {"id", "principal_id"}
    assert "sealed_secret" not in mine
    assert org.rep.delete(f"/v1/second_factors/{mine['id']}").status_code == 403, "a stolen key does not take it away"
    assert org.colleague.get(f"/v1/second_factors/{mine['id']}").status_code == 404
    assert org.admin.delete(f"/v1/second_factors/{mine['id']}").status_code == 204
    assert Browser(org.server).sign_in(handle(org), email).headers["location"].startswith("/sign-in?")


def test_the_account_page_changes_the_password(org):
    email, other = invited(org, "rep"), "a different phrase altogether"
    here, there = Browser(org.server), Browser(org.server)
    for browser in (here, there):
        browser.sign_in(handle(org), email)
    page, change = here.get("/account"), "/account/password"
    before = here.cookies["crm_session"]
    assert here.submit(page, change, current="not it, sorry to say", password=other).status_code == 422
    assert "at least 15" in problem_of(here.submit(page, change, current=PASSWORD, password="short"))
    assert here.submit(page, change, current=PASSWORD, password=other).status_code == 303
    assert here.signed_in
    assert here.cookies["crm_session"] != before
    assert not there.signed_in
    assert Browser(org.server).sign_in(handle(org), email).status_code == 422
    assert Browser(org.server).sign_in(handle(org), email, other).status_code == 303


def test_the_account_page_ends_sessions(org):
    email = invited(org, "rep")
    here, there, third = (Browser(org.server) for _ in range(3))
    for browser in (here, there, third):
        browser.sign_in(handle(org), email)
    page = here.get("/account")
    forms = [form for form in read(page.text).forms if form["action"] == "/account/sessions/end"]
    assert len(forms) == 4
    others = [form for form in forms if "session" in form["fields"]]
    here.post("/account/sessions/end", data=others[1]["fields"])
    assert sorted(browser.signed_in for browser in (here, there, third)) == [False, True, True]
    everything = next(form for form in forms if "session" not in form["fields"])
    here.post("/account/sessions/end", data=everything["fields"])
    assert [browser.signed_in for browser in (here, there, third)] == [True, False, False]
    csrf = {"csrf": everything["fields"]["csrf"]}
    assert here.post("/account/sessions/end", data={**csrf, "session": "nonsense"}).status_code == 404
    invited(org, "colleague")
    colleague = Browser(org.server)
    colleague.sign_in(handle(org), org.admin.get(f"/v1/users/{org.colleague.id}").json()["email"])
    (theirs,) = org.colleague.all("/v1/sessions")
    here.post("/account/sessions/end", data={**csrf, "session": theirs["id"]})
    assert colleague.signed_in, "nobody else's"
