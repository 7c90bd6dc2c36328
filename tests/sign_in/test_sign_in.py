"""Signing in with a password, and out: cookies, rotation, where it goes on to, what other sites may do."""

from tests.sign_in.browsing import Browser, handle, invited, problem_of


def test_a_person_signs_in_and_out(org):
    email = invited(org, "rep")
    browser = Browser(org.server)
    assert not browser.signed_in
    answer = browser.sign_in(handle(org), email)
    assert answer.status_code == 303, problem_of(answer)
    assert browser.signed_in
    page = browser.get("/account")
    assert "Rep" in page.text
    assert email in page.text
    assert browser.submit(browser.get("/sign-out")).status_code == 303
    assert not browser.signed_in
