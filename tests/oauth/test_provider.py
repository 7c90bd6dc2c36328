"""An installation is the provider of another: what it tells of an address is enough for a first sign-in there."""

import re

import pytest
from pydantic import SecretStr

from tests.sign_in.browsing import Browser, handle, invited, read
from tests.sign_in.letters import MailServer
from tests.support.oauth import App
from tests.support.org import Org
from tests.support.server import LiveServer

PASSWORD = "another long enough phrase"


@pytest.fixture
def mail():
    with MailServer() as server:
        yield server


@pytest.fixture
def second(database, server, mail):
    """An organisation of a second server, where somebody of the same address works."""
    url = SecretStr(mail.url)
    with LiveServer(database["app"], database["migrate"], server.settings.data_dir, smtp_url=url) as live:
        yield Org.create(live)


@pytest.fixture
def provided(org, second):
    """The application that the second is to the first."""
    back = f"{second.server.base_url}/sign-in/callback"
    app = App.register(org, client_type="confidential", redirect_uris=[back], scopes=["openid", "email", "profile"])
    made = second.admin.make(
        "identity_providers",
        name="First",
        issuer=org.server.base_url,
        client_id=app.client_id,
        email_domains=["example.com"],
    )
    path = f"/v1/identity_providers/{made['id']}/set_client_secret"
    assert second.admin.post(path, json={"client_secret": app.secret}).status_code == 200
    return app


def proven(org, mail, email):
    """Sets a password by a letter to an address."""
    browser = Browser(org.server)
    mail.arrived.clear()
    assert browser.submit(browser.get("/reset"), organisation=handle(org), email=email).status_code == 200
    letter = mail.wait()
    assert letter["To"] == email
    (link,) = re.findall(r"(/reset\?token=\S+)", letter.get_content())
    assert browser.submit(browser.get(link), password=PASSWORD).status_code == 303


def arrived(org, second, email, password=PASSWORD):
    """A browser that went from the second to the first, signed in there, allowed it and came back; and the answer."""
    there, here = Browser(second.server), Browser(org.server)
    page = there.get("/sign-in/providers", params={"organisation": handle(second), "return_to": "/account"})
    (link,) = [link for link in read(page.text).links if link.startswith("/sign-in/with")]
    asked = there.get(link).headers["location"]
    assert here.sign_in(handle(org), email, password).status_code == 303
    shown = here.get(asked)
    if shown.status_code == 200:
        shown = here.submit(shown, decision="allow")
    return there, there.get(shown.headers["location"])


def test_a_person_signs_in_for_the_first_time_by_another_installation(org, second, provided, mail):
    proven(org, mail, "rep@example.com")
    browser, answer = arrived(org, second, "rep@example.com")
    assert answer.status_code == 303, answer.text
    assert browser.signed_in
    (session,) = second.rep.all("/v1/sessions")
    assert (session["principal_id"], session["methods"]) == (second.rep.id, ["ext"])


def test_an_address_that_nobody_has_proven_lets_nobody_in(org, second, provided, mail):
    """Neither one by a link that was handed over, nor one that was changed since."""
    invited(org, "colleague", PASSWORD)
    browser, answer = arrived(org, second, "colleague@example.com")
    assert (answer.status_code, browser.signed_in) == (422, False)
    proven(org, mail, "rep@example.com")
    path = f"/v1/users/{org.rep.id}"
    assert org.admin.patch(path, json={"email": "reader2@example.com"}).status_code == 200
    assert second.admin.patch(f"/v1/users/{second.reader.id}", json={"email": "reader2@example.com"}).status_code == 200
    browser, answer = arrived(org, second, "reader2@example.com")
    assert (answer.status_code, browser.signed_in) == (422, False)
    assert org.admin.patch(path, json={"email": "rep@example.com"}).status_code == 200
    assert arrived(org, second, "rep@example.com")[0].signed_in
