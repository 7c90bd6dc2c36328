"""The pages in a real browser that runs no scripts: forms, focus, names, style, and what the policy lets through."""

import base64
import time
from urllib.parse import urljoin

import pytest

from crm_api.domains.sign_in.second_factor import STEP_SECONDS, code_at
from tests.sign_in.browsing import PASSWORD, handle
from tests.sign_in.webdriver import CHROMIUM, DRIVER, Chromium

pytestmark = [
    pytest.mark.broad,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="chromium and chromedriver are not installed (Debian: chromium-driver)",
    ),
]
TAB, ENTER = "\ue004", "\ue007"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with Chromium(tmp_path_factory.mktemp("profile")) as browser:
        yield browser


def code(secret: bytes, steps: int = 0) -> str:
    return code_at(secret, int(time.time()) // STEP_SECONDS + steps)


def test_a_person_signs_in_by_keyboard_and_looks_after_the_account(chromium, shared_org, emails, calm):
    base = shared_org.server.base_url
    chromium.open(f"{base}/account")
    assert chromium.title == "Sign in"
    assert chromium.focused() == "organisation"
    chromium.keys(handle(shared_org) + TAB + emails["rep"] + TAB + "not the password at all" + ENTER)
    chromium.wait(lambda: chromium.focused() == "errors")
    assert chromium.role(".errors")[0] == "alert"
    assert chromium.role("#password") == ("textbox", "Password")
    assert chromium.attribute("#password", "aria-invalid") == "true"
    assert chromium.attribute("#email", "value") == emails["rep"], "nothing is typed twice"
    chromium.type("#password", PASSWORD)
    chromium.press("button")
    chromium.until("Your account")
    assert chromium.address == f"{base}/account"
    cookie = chromium.cookie("crm_session")
    assert (cookie["httpOnly"], cookie["sameSite"], cookie["path"]) == (True, "Lax", "/")
    assert chromium.style("button", "background-color") == "rgba(11, 87, 208, 1)", "the style sheet is let through"
    assert chromium.attribute("html", "lang") == "en"

    chromium.press('a[href="/account/second-factor"]')
    chromium.until("Set up a second factor")
    assert chromium.role(".picture") == ("image", "QR code with the key below")
    secret = base64.b32decode(chromium.text("code"))
    chromium.type("#code", code(secret, -1))
    chromium.press("button")
    chromium.until("Keep your recovery codes")
    chromium.press("main a")
    chromium.until("Your account")
    chromium.press('a[href="/sign-out"]')
    chromium.until("Sign out")
    chromium.press("button")
    chromium.until("Sign in")
    assert "You are signed out." in chromium.text()

    assert chromium.attribute("#organisation", "value"), "it is remembered"
    chromium.type("#email", emails["rep"])
    chromium.type("#password", PASSWORD)
    chromium.press("button")
    chromium.until("Enter the code")
    assert chromium.focused() == "code"
    chromium.keys(code(secret) + ENTER)
    chromium.until("Your account")
    chromium.type("#remove", PASSWORD)
    chromium.press('form[action="/account/second-factor/remove"] button')
    chromium.wait(lambda: "You have none." in chromium.text())
    assert not [text for text in chromium.errors if "Content Security Policy" in text]


def test_a_link_sets_a_password(chromium, shared_org, calm):
    url = shared_org.admin.post(f"/v1/users/{shared_org.colleague.id}/invite").json()["link"]
    chromium.open(urljoin(shared_org.server.base_url, url))
    assert chromium.title == "Set your password"
    chromium.type("#password", PASSWORD)
    chromium.press("button")
    chromium.until("Sign in")
    assert "Your password is set" in chromium.text()


def test_pages_are_narrow_enough_for_a_phone_and_speak_spanish(tmp_path, shared_org, calm):
    with Chromium(tmp_path / "profile", "es") as browser:
        browser.open(f"{shared_org.server.base_url}/sign-in")
        assert browser.title == "Iniciar sesión"
        assert browser.attribute("html", "lang") == "es"
        assert browser.role("#password")[1] == "Contraseña"
        assert float(browser.style("main", "width").removesuffix("px")) <= 448
