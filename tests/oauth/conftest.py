"""What the tests of a module share: people, and an application that one of them has allowed."""

import os
from types import SimpleNamespace

import pytest

from tests.faults.conftest import Process
from tests.support.forking import ROOT
from tests.support.oauth import App, sign_in
from tests.support.server import UNHURRIED


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


@pytest.fixture(scope="module")
def others(database, server, tmp_path_factory):
    """Two processes beside the one of the test."""
    settings = {
        "database_url": database["app"],
        "data_dir": server.settings.data_dir,
        "public_url": server.base_url,
        "log_level": "error",
        "worker": "false",
        **UNHURRIED,
    }
    environment = {name: value for name, value in os.environ.items() if not name.startswith("CRM_")}
    environment |= {f"CRM_{name.upper()}": str(value) for name, value in settings.items()}
    environment["PYTHONPATH"] = f"{ROOT / 'src'}{os.pathsep}{ROOT}"
    place = SimpleNamespace(folder=tmp_path_factory.mktemp("processes"), environment=environment)
    with Process(place) as first, Process(place) as second:
        yield first, second
