"""People with a password, of one organisation for each module."""

import pytest

from tests.sign_in.browsing import Browser, handle, invited


@pytest.fixture(scope="module")
def emails(shared_org) -> dict[str, str]:
    """E-mail of the people who have a password."""
    return {who: invited(shared_org, who) for who in ("admin", "rep", "colleague", "outsider", "reader")}


@pytest.fixture
def calm(sql, shared_org):
    """Forgets all attempts of the organisation, before a test and whenever it is called."""

    def forget() -> None:
        sql("DELETE FROM sign_in_attempts WHERE tenant_id = $1", shared_org.tenant_id)

    forget()
    return forget


@pytest.fixture
def enter(shared_org, emails, calm):
    """`enter("rep")`: a browser in which that person is signed in."""

    def sign_in(who: str) -> Browser:
        browser = Browser(shared_org.server)
        answer = browser.sign_in(handle(shared_org), emails[who])
        assert answer.status_code == 303, answer.text
        return browser

    return sign_in
