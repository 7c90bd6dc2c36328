"""What the tests of a module share: people, and an application that one of them has allowed."""

import pytest

from tests.support.oauth import App, sign_in


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture(scope="module")
def browser(org, sql):
    """The representative's."""
    return sign_in(sql, org, org.rep)


@pytest.fixture(scope="module")
def app(org):
    """Public, as a browser app is."""
    return App.register(org)
