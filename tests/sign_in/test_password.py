"""Passwords: which may be chosen, links to set one by, letters, what ends with the former one, what is never told."""

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from crm_api.domains.sign_in.password import LONGEST, SHORTEST, fault, normal
from crm_api.domains.sign_in.weak import is_weak
from crm_api.settings import Settings
from tests.security.test_keys import logs
from tests.sign_in.browsing import PASSWORD, Browser, handle, invited, problem_of, read
from tests.sign_in.letters import MailServer

OTHER = "another long enough phrase"
KNOWN = ("Margaret Hamilton", "margaret@example.com", "Apollo Guidance")


@pytest.fixture(scope="module")
def mail_server():
    with MailServer() as mail:
        yield mail


@pytest.fixture
def mail(mail_server, shared_org, monkeypatch):
    """The server sends letters, as with these settings."""
    changes = {"smtp_url": SecretStr(mail_server.url), "public_url": "http://crm.example.com"}
    with_mail = shared_org.server.settings.model_copy(update=changes)
    monkeypatch.setattr("crm_api.settings.load_settings", lambda: with_mail)
    mail_server.letters.clear()
    mail_server.arrived.clear()
    mail_server.reject = False
    return mail_server


def ask(org, email, browser=None):
    browser = browser or Browser(org.server)
    return browser.submit(browser.get("/reset"), organisation=handle(org), email=email)


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("short", "Use at least"),
        ("x" * (SHORTEST - 1), "Use at least"),
        ("é" * 1 + "correct horse ", None),
        ("correct horse battery", None),
        ("k" * 40, "easy"),
        ("abcabcabcabcabcabc", "easy"),
        ("qwertyuiopasdfghjkl", "easy"),
        ("1234567890123456", "easy"),
        ("passwordpassword", "easy"),
        ("Password123456789", "easy"),
        ("P4ssw0rd!!!!!!!!!!!!", "easy"),
        ("welcome-summer-2026", "easy"),
        ("margarethamilton1", "easy"),
        ("apollo guidance 69", "easy"),
        ("letmeinletmeinletmein", "easy"),
        ("1qaz2wsx3edc4rfv", "easy"),
        ("contraseña1234567", "easy"),
        ("qwertzuiopasdfghjkl", "easy"),
        ("                    ", "easy"),
        ("hamilton rides a purple cow", None),
        ("ñandú corre por la pampa", None),
        ("🐎🔋🧷✅🐎🔋🧷✅🐄🌍🎈🎻🧀🥕🚲", None),
        ("v" + "ab cd ef " * 20, "Use at most"),
        ("\N{ARABIC LIGATURE SALLALLAHOU ALAYHE WASALLAM}" * 8, "Use at most"),
    ],
)
def test_which_passwords_may_be_chosen(text, wrong):
    found = fault(text, SHORTEST, KNOWN)
    assert found is None if wrong is None else (found or "").count(wrong) or "easy" in (found or "") + wrong, found
    assert (found is None) == (wrong is None), found


@pytest.mark.parametrize(
    ("text", "weak"),
    [
        *((text, True) for text in ("1qaz2wsx", "starwars", "barcelona", "jennifer1", "a1b2c3d4", "Verano2026")),
        *((text, False) for text in ("tr4!kq9z", "zorro7nube")),
    ],
)
def test_short_ones_of_who_has_a_second_factor(text, weak):
    assert is_weak(text, KNOWN) == weak


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=150))
def test_any_text_is_judged(text):
    is_weak(normal(text), KNOWN)
    assert (fault(text, SHORTEST, KNOWN) is None) <= (SHORTEST <= len(normal(text)) <= LONGEST)


def test_the_same_password_from_another_keyboard(org):
    """NFKC: composed or not, full width or not."""
    email = invited(org, "rep", "Señor Müller y el café")
    typed = "Sen\u0303or Mu\u0308ller y el cafe\u0301"
    assert Browser(org.server).sign_in(handle(org), email, typed).status_code == 303
    assert Browser(org.server).sign_in(handle(org), email, "Senor Muller y el cafe").status_code == 422


def test_a_person_who_forgot_gets_a_letter(shared_org, emails, calm, mail, enter):
    session, with_link = enter("colleague"), Browser(shared_org.server)
    answer = ask(shared_org, emails["colleague"].upper(), with_link)
    assert answer.status_code == 200
    letter = mail.wait()
    assert letter["To"] == emails["colleague"]
    assert letter["Auto-Submitted"] == "auto-generated"
    (link,) = re.findall(r"http://crm\.example\.com(/reset\?token=\S+)", letter.get_content())
    assert link.split("=")[1] not in answer.text
    page = with_link.get(link)
    assert emails["colleague"] in page.text
    assert problem_of(with_link.submit(page, password="short")).startswith("There is a problem Use at least 15")
    assert "easy to guess" in problem_of(with_link.submit(page, password="passwordpassword1"))
    assert session.signed_in, "nothing has changed yet"
    assert with_link.submit(page, password=OTHER).status_code == 303
    assert not session.signed_in, "all sessions end with the password"
    assert Browser(shared_org.server).sign_in(handle(shared_org), emails["colleague"], PASSWORD).status_code == 422
    assert Browser(shared_org.server).sign_in(handle(shared_org), emails["colleague"], OTHER).status_code == 303
    assert with_link.submit(page, password=PASSWORD).status_code == 422, "the link is used"
    assert with_link.get(link).status_code == 422
    actions = {entry["action"] for entry in shared_org.admin.all("/v1/audit_log", object_id=shared_org.colleague.id)}
    assert {"ask_reset", "reset_password"} <= actions
    invited(shared_org, "colleague")
    subjects = [letter["Subject"] for letter in mail.all(3)]
    assert subjects == ["Your new password", *["Your password was changed"] * 2]


def test_whether_there_is_such_a_person_is_not_told(shared_org, emails, calm, mail):
    pages = [ask(shared_org, email) for email in (emails["rep"], "nobody@example.com", "a\r\nBcc: x@example.com", "")]
    browser = Browser(shared_org.server)
    pages.append(browser.submit(browser.get("/reset"), organisation="no-such", email=emails["rep"]))
    assert {page.status_code for page in pages} == {200}
    assert len({page.text for page in pages}) == 1
    mail.wait()
    time.sleep(0.2)
    assert [letter["To"] for letter in mail.letters] == [emails["rep"]]


def test_letters_to_one_account_are_few(shared_org, emails, calm, mail):
    for _ in range(6):
        assert ask(shared_org, emails["rep"]).status_code == 200
    mail.wait()
    time.sleep(0.3)
    assert len(mail.letters) == 3


def test_a_letter_that_is_not_taken_is_logged_without_its_link(shared_org, emails, calm, mail, monkeypatch):
    mail.reject = True
    with logs("info") as canary:
        assert ask(shared_org, emails["rep"]).status_code == 200
        mail.wait() if mail.letters else mail.arrived.wait(10)
        end = time.monotonic() + 5
        while "left_undone" not in canary.text:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert "token" not in canary.text


def test_without_a_mail_server_development_says_so(shared_org, emails, calm):
    with logs("info") as canary:
        assert ask(shared_org, emails["rep"]).status_code == 200
        end = time.monotonic() + 5
        while "mail_not_sent" not in canary.text:
            assert time.monotonic() < end
            time.sleep(0.02)
    assert "token" not in canary.text


def test_the_letter_is_in_the_language_of_the_person(shared_org, emails, calm, mail):
    path = f"/v1/users/{shared_org.rep.id}"
    assert shared_org.admin.patch(path, json={"language": "es"}).status_code == 200
    ask(shared_org, emails["rep"])
    letter = mail.wait()
    assert letter["Subject"] == "Su contraseña nueva"
    assert letter.get_content().startswith("Hola, Rep:")
    assert shared_org.admin.patch(path, json={"language": None}).status_code == 200


def test_a_link_is_good_once_however_many_use_it(org):
    url = org.admin.post(f"/v1/users/{org.rep.id}/invite").json()["link"]
    browsers = [Browser(org.server) for _ in range(50)]
    pages = [browser.get(url) for browser in browsers]
    with ThreadPoolExecutor(50) as pool:
        work = zip(browsers, pages, range(50), strict=True)
        answers = list(pool.map(lambda item: item[0].submit(item[1], password=f"{OTHER} {item[2]}"), work))
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(303) == 1
    assert set(statuses) <= {303, 422, 503}
    winner = statuses.index(303)
    email = org.admin.get(f"/v1/users/{org.rep.id}").json()["email"]
    assert Browser(org.server).sign_in(handle(org), email, f"{OTHER} {winner}").status_code == 303


def test_a_link_ends(org, sql):
    answer = org.admin.post(f"/v1/users/{org.rep.id}/invite", json={"minutes": 60})
    url, browser = answer.json()["link"], Browser(org.server)
    second = org.admin.post(f"/v1/users/{org.rep.id}/invite").json()["link"]
    page = browser.get(url)
    assert page.status_code == 200
    (row,) = sql(
        "SELECT extract(epoch FROM max(expires_at) - now()) AS left FROM password_links WHERE tenant_id = $1",
        org.tenant_id,
    )
    assert 3500 < row["left"] <= 3600
    token = read(page.text).forms[0]["fields"]["token"]
    for wrong in (token[:-1] + ("A" if token[-1] != "A" else "B"), token[:85], "x" * 86, "é" * 86, ""):
        assert browser.submit(page, token=wrong, password=OTHER).status_code == 422
    assert browser.submit(page, password=OTHER).status_code == 303
    assert browser.get(second).status_code == 422, "one that was not used ends with it"
    third = org.admin.post(f"/v1/users/{org.rep.id}/invite").json()["link"]
    sql("UPDATE password_links SET expires_at = now() WHERE tenant_id = $1", org.tenant_id)
    assert browser.get(third).status_code == 422


def test_who_may_invite_whom(org):
    for person in (org.rep, org.manager, org.reader):
        refused = person.post(f"/v1/users/{org.colleague.id}/invite")
        assert (refused.status_code, refused.json()["permission"]) == (403, "users:invite")
    role = org.role("Inviter", ("users:*", "all"), ("users:invite", "all"))
    inviter = org.person("inviter", role)
    refused = inviter.post(f"/v1/users/{org.admin.id}/invite")
    assert refused.status_code == 403, "an invitation is a way to become the person"
    plain = org.person("plain", org.role("Plain", ("users:read", "all")))
    assert inviter.post(f"/v1/users/{plain.id}/invite").status_code == 201
    key = org.admin.post(f"/v1/users/{org.admin.id}/issue_key", json={"name": "n", "scopes": ["identity:admin"]})
    headers = {"Authorization": f"Bearer {key.json()['key']}"}
    refused = org.admin.post(f"/v1/users/{org.rep.id}/invite", headers=headers)
    assert (refused.status_code, refused.json()["permission"]) == (403, "credential without scopes")
    org.admin.patch(f"/v1/users/{org.rep.id}", json={"is_active": False})
    assert org.admin.post(f"/v1/users/{org.rep.id}/invite").status_code == 409
    assert org.admin.post(f"/v1/service_accounts/{org.rep.id}/invite").status_code == 404


def test_the_link_is_shown_once(org, sql):
    headers = {"Idempotency-Key": "invite-1"}
    first = org.admin.post(f"/v1/users/{org.rep.id}/invite", headers=headers)
    again = org.admin.post(f"/v1/users/{org.rep.id}/invite", headers=headers)
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json() == {name: value for name, value in first.json().items() if name != "link"}
    token = first.json()["link"].split("=")[1]
    told = json.dumps([org.admin.all("/v1/audit_log", limit=200), org.admin.get("/v1/changes").json()])
    assert token not in told
    assert not sql("SELECT 1 FROM idempotency_replies WHERE image::text LIKE '%' || $1 || '%'", token)
    (event,) = [item for item in org.admin.all("/v1/audit_log", object_id=org.rep.id) if item["action"] == "invite"]
    assert set(event["after"]) == {"expires_at"}


def test_nothing_secret_is_logged_or_readable(shared_org, emails, calm, mail, sql):
    with logs("info") as canary:
        ask(shared_org, emails["rep"])
        link = re.search(r"/reset\?token=(\S+)", mail.wait().get_content())[1]
        browser = Browser(shared_org.server)
        browser.get(f"/reset?token={link}")
        browser.sign_in(handle(shared_org), emails["rep"])
        cookie = browser.cookies["crm_session"]
        browser.sign_in(handle(shared_org), emails["rep"], "wrong but also secret", path="/sign-in?prompt=login")
    secrets = (PASSWORD, "wrong but also secret", link, cookie)
    stored = "".join(
        str([dict(row) for row in sql(f"SELECT * FROM {table} WHERE tenant_id = $1", shared_org.tenant_id)])  # noqa: S608 - ours
        for table in ("sessions", "passwords", "password_links", "sign_in_attempts", "audit_entries", "outbox")
    )
    for secret in secrets:
        assert secret not in canary.text
        assert secret not in stored
    hashes = {row["hash"] for row in sql("SELECT hash FROM passwords WHERE tenant_id = $1", shared_org.tenant_id)}
    assert all(text.startswith("$argon2id$v=19$m=19456,t=2,p=1$") for text in hashes)
    told = json.dumps([shared_org.admin.all("/v1/sessions"), shared_org.admin.all("/v1/users")])
    assert "hash" not in told


def test_letters_need_to_know_where_links_lead():
    with pytest.raises(ValidationError, match="CRM_PUBLIC_URL"):
        Settings(smtp_url=SecretStr("smtp://mail.example.com"))
    with pytest.raises(ValidationError, match="smtp://"):
        Settings(smtp_url=SecretStr("http://mail.example.com"), public_url="https://crm.example.com")
    for address in ("https://crm.example.com/path", "crm.example.com", "ftp://crm.example.com"):
        with pytest.raises(ValidationError, match="CRM_PUBLIC_URL"):
            Settings(public_url=address)
