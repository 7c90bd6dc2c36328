"""What a new password and a deactivation end: sessions, grants with all their tokens, links; and API keys if wanted."""

import asyncio
import time
from typing import Any

import asyncpg
import pytest
from pydantic import SecretStr

from tests.sign_in.browsing import PASSWORD, Browser, handle, invited, read
from tests.sign_in.letters import MailServer
from tests.support.oauth import App, ask, redirected

OTHER = "a different phrase altogether"
OFFLINE = "accounts:read offline_access"


@pytest.fixture
def person(org, sql):
    """The outsider with a password, a browser, an application that outlasts it, and an API key."""
    sql("DELETE FROM sign_in_attempts WHERE tenant_id = $1", org.tenant_id)
    return Holder(org)


class Holder:
    def __init__(self, org) -> None:
        self.org, self.id = org, org.outsider.id
        self.email = invited(org, "outsider")
        self.browser = self.enter(PASSWORD)
        self.app = App.register(org, scopes=["accounts:read", "offline_access"])
        self.bound = self.app.tokens(self.browser, scope="accounts:read")
        self.offline = self.app.tokens(self.browser, scope=OFFLINE)
        for each in org.admin.all("/v1/api_keys", principal_id=self.id):
            if each["name"] == "extra" and each["revoked_at"] is None:
                org.admin.post(f"/v1/api_keys/{each['id']}/revoke")
        self.key = org.admin.post(f"/v1/users/{self.id}/issue_key", json={"name": "extra"}).json()

    def enter(self, password: str) -> Browser:
        browser = Browser(self.org.server)
        assert browser.sign_in(handle(self.org), self.email, password).status_code == 303
        return browser

    def form(self, **invite):
        """The page of a link, in a browser of nobody."""
        link = self.org.admin.post(f"/v1/users/{self.id}/invite", json=invite).json()
        browser = Browser(self.org.server)
        return browser, browser.get("/reset" + link["link"].partition("/reset")[2]), link

    @property
    def key_is_good(self) -> bool:
        return self.app.call(self.key["key"]).status_code == 200

    def nothing_of_it_is_left(self) -> None:
        assert self.app.call(self.offline["access_token"]).status_code == 401, "with the next request"
        for tokens in (self.offline, self.bound):
            assert self.app.refresh(tokens["refresh_token"]).json()["error"] == "invalid_grant"
        assert not self.browser.signed_in


def test_a_reset_ends_what_the_person_is_signed_in_by_and_leaves_the_keys(person):
    assert person.app.call(person.offline["access_token"]).status_code == 200
    browser, page, link = person.form()
    assert link["live_keys"] >= 1
    assert f"API keys that are good: {link['live_keys']}." in page.text
    assert browser.submit(page, password=OTHER).status_code == 303
    person.nothing_of_it_is_left()
    assert person.key_is_good
    (entry,) = person.org.admin.all("/v1/audit_log", object_id=person.id, action="reset_password", sort="-id")[:1]
    assert entry["after"] == {"revoke_keys": False, "live_keys": link["live_keys"]}
    rows = person.org.admin.all("/v1/oauth_grants", principal_id=person.id)
    offline = [row for row in rows if row["oauth_client_id"] == person.app.row["id"] and row["session_id"] is None]
    assert [row["revoked_at"] is not None for row in offline] == [True]


@pytest.mark.parametrize("way", ["form", "link"])
def test_a_reset_ends_the_keys_when_it_is_told_to(person, way):
    browser, page, _ = person.form(**({"revoke_keys": True} if way == "link" else {}))
    assert person.key_is_good
    assert ("revoke_keys" in read(page.text).ids) == (way == "form"), "what was decided by the link is not asked"
    fields = {"revoke_keys": "true"} if way == "form" else {}
    assert browser.submit(page, password=OTHER, **fields).status_code == 303
    person.nothing_of_it_is_left()
    assert not person.key_is_good
    key = person.org.admin.get(f"/v1/api_keys/{person.key['id']}").json()
    assert key["revoked_at"] is not None
    _, _, link = person.form()
    assert link["live_keys"] == 0
    made = person.org.admin.post(f"/v1/users/{person.id}/issue_key", json={"name": "own"}).json()
    person.org.outsider.headers["Authorization"] = f"Bearer {made['key']}"


@pytest.mark.parametrize("revoke", [False, True])
def test_a_change_keeps_the_session_it_was_made_in_alone(person, revoke):
    there = person.enter(PASSWORD)
    page = person.browser.get("/account")
    fields = {"revoke_keys": "true"} if revoke else {}
    answer = person.browser.submit(page, "/account/password", current=PASSWORD, password=OTHER, **fields)
    assert answer.status_code == 303
    assert person.browser.signed_in
    assert not there.signed_in
    said = person.browser.get(answer.headers["location"]).text
    assert ("API keys that are still good: 0." in said) == revoke
    assert person.app.call(person.offline["access_token"]).status_code == 401
    assert person.app.refresh(person.offline["refresh_token"]).json()["error"] == "invalid_grant"
    assert person.key_is_good != revoke
    if revoke:
        made = person.org.admin.post(f"/v1/users/{person.id}/issue_key", json={"name": "own"}).json()
        person.org.outsider.headers["Authorization"] = f"Bearer {made['key']}"


def test_a_change_ends_links_that_were_given_before(person):
    browser, page, _ = person.form()
    own = person.browser.get("/account")
    assert person.browser.submit(own, "/account/password", current=PASSWORD, password=OTHER).status_code == 303
    assert browser.submit(page, password=PASSWORD).status_code == 422
    assert person.enter(OTHER).signed_in


@pytest.mark.parametrize("way", ["inactive", "deleted"])
def test_who_was_away_is_not_signed_in_when_they_are_back(person, way):
    admin, path = person.org.admin, f"/v1/users/{person.id}"
    browser, page, _ = person.form()
    gone = admin.patch(path, json={"is_active": False}) if way == "inactive" else admin.delete(path)
    assert gone.is_success, gone.text
    assert not person.key_is_good
    back = admin.patch(path, json={"is_active": True}) if way == "inactive" else admin.post(f"{path}/restore")
    assert back.is_success, back.text
    person.nothing_of_it_is_left()
    assert browser.submit(page, password=OTHER).status_code == 422, "links are no way back either"
    assert person.key_is_good, "keys were refused meanwhile, and are not ended"
    assert person.enter(PASSWORD).signed_in


def test_it_holds_in_another_process_within_five_seconds(person, others):
    token, key = person.offline["access_token"], person.key["key"]
    assert {ask(others[0], each).status_code for each in (token, key)} == {200}, "remembered there from now on"
    browser, page, _ = person.form(revoke_keys=True)
    assert browser.submit(page, password=OTHER).status_code == 303
    began = time.monotonic()
    while 200 in {ask(others[0], each).status_code for each in (token, key)}:
        assert time.monotonic() < began + 5.2
        time.sleep(0.05)
    made = person.org.admin.post(f"/v1/users/{person.id}/issue_key", json={"name": "own"}).json()
    person.org.outsider.headers["Authorization"] = f"Bearer {made['key']}"


@pytest.mark.parametrize(
    ("language", "subject"), [("en", "Your password was changed"), ("es", "Se cambió su contraseña")]
)
def test_the_person_is_told_by_letter_how_many_keys_remain(person, monkeypatch, language, subject):
    person.org.admin.patch(f"/v1/users/{person.id}", json={"language": language})
    browser, page, link = person.form()
    with MailServer() as mail:
        changes = {"smtp_url": SecretStr(mail.url), "public_url": "http://crm.example.com"}
        settings = person.org.server.settings.model_copy(update=changes)
        monkeypatch.setattr("crm_api.settings.load_settings", lambda: settings)
        assert browser.submit(page, password=OTHER).status_code == 303
        letter = mail.wait()
    person.org.admin.patch(f"/v1/users/{person.id}", json={"language": None})
    assert (letter["To"], letter["Subject"]) == (person.email, subject)
    assert f": {link['live_keys']}." in letter.get_content()


class Meanwhile:
    """A transaction of somebody else, who changes a row and commits once another waits for it."""

    def __init__(self, database, change: str, *values) -> None:
        self.database, self.change, self.values = database, change, values

    async def during(self, work) -> Any:
        mine, watching = [await asyncpg.connect(self.database["admin"]) for _ in range(2)]
        try:
            await mine.execute("BEGIN")
            await mine.execute(self.change, *self.values)
            waits = asyncio.create_task(asyncio.to_thread(work))
            waiting = "SELECT 1 FROM pg_stat_activity WHERE $1 = ANY (pg_blocking_pids(pid))"
            while not await watching.fetch(waiting, mine.get_server_pid()):
                assert not waits.done(), "it did not wait"
                await asyncio.sleep(0.01)
            await mine.execute("COMMIT")
            return await waits
        finally:
            await mine.close()
            await watching.close()

    def run(self, work) -> Any:
        return asyncio.run(asyncio.wait_for(self.during(work), 30))


def test_who_signs_in_while_the_password_is_changed_is_not_signed_in(person, database, sql):
    change = "UPDATE passwords SET changed_at = now() WHERE principal_id = $1"
    browser = Browser(person.org.server)
    before = sql("SELECT id FROM sessions WHERE principal_id = $1", person.id)
    answer = Meanwhile(database, change, person.id).run(
        lambda: browser.sign_in(handle(person.org), person.email, PASSWORD)
    )
    assert answer.status_code == 403
    assert not browser.signed_in
    assert sql("SELECT id FROM sessions WHERE principal_id = $1", person.id) == before


def test_what_is_allowed_while_the_session_is_ended_is_not_granted(person, database, sql):
    session = person.org.admin.all("/v1/sessions", principal_id=person.id, revoked_at_is_null=True)[0]
    page = person.browser.get(person.app.address(scope=OFFLINE, prompt="consent"))
    assert page.status_code == 200, page.text
    grants = "SELECT id FROM oauth_grants WHERE principal_id = $1"
    before = sql(grants, person.id)
    change = "UPDATE sessions SET revoked_at = now() WHERE id = $1"
    answer = Meanwhile(database, change, session["id"]).run(lambda: person.browser.submit(page, decision="allow"))
    assert redirected(answer)["error"] == "access_denied"
    assert sql(grants, person.id) == before
