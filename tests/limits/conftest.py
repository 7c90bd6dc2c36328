"""Tenants with limits of their own, and a second process."""

from collections.abc import Callable, Iterator

import pytest

from crm_api import settings as settings_module
from crm_api.domains.identity import credentials
from tests.support.org import Org
from tests.support.server import LiveServer

FAILURES, IN_FLIGHT = 5, 2


@pytest.fixture(scope="module")
def other(database, server) -> Iterator[LiveServer]:
    """A second server over the same database, behind a proxy, that takes few requests at once and few wrong keys."""
    with pytest.MonkeyPatch.context() as patch:
        for module in (settings_module, credentials):
            patch.setattr(module, "load_settings", module.load_settings)  # put back in the end
        options = {"trusted_proxies": ("127.0.0.1",), "rate_failures": FAILURES, "in_flight": IN_FLIGHT}
        with LiveServer(database["app"], database["migrate"], server.settings.data_dir, **options) as live:
            yield live


@pytest.fixture
def limit(sql) -> Callable[..., None]:
    """Sets the requests each second of a tenant's credentials, or of all together; a minute of them may come at once.

    So at a rate of 1 the quota is 60, and hardly any comes back while a test runs.
    """

    def setting(org: Org, *, credential: int | None = None, tenant: int | None = None) -> None:
        sql(
            "UPDATE tenants SET credential_rate = $2, tenant_rate = $3, access_version = access_version + 1 "
            "WHERE tenant_id = $1",
            *(org.tenant_id, credential, tenant),
        )

    return setting
