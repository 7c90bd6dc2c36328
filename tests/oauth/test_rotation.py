"""The master secret is exchanged while clients and tokens are in use."""

import pytest

from crm_api import settings as settings_module
from crm_api.domains.identity import access, credentials
from tests.support.oauth import HTTP, App, sign_in
from tests.support.org import Org
from tests.support.server import LiveServer

OLD, NEW = "an old secret, long enough to be one", "a new secret, long enough to be one too"
ISSUER = "https://crm.example.com"


@pytest.fixture
def start(database, server, monkeypatch, sql):
    """Starts another server over the same database, with secrets of its own."""
    for module in (settings_module, credentials):
        monkeypatch.setattr(module, "load_settings", module.load_settings)  # put back in the end
    before = {row["kid"] for row in sql("SELECT kid FROM oauth_signing_keys")}

    def starting(**secrets: str) -> LiveServer:
        options = {"public_url": ISSUER, **secrets}
        return LiveServer(database["app"], database["migrate"], server.settings.data_dir, **options)

    yield starting
    sql("DELETE FROM oauth_signing_keys WHERE kid <> ALL ($1)", list(before))


@pytest.mark.broad  # security/test_rotation has it, of keys
def test_the_master_secret_is_exchanged_without_loss(start, sql):
    with start(secret=OLD) as first:
        org = Org.create(first)
        account = org.admin.make("service_accounts", name="ERP")
        app = App.register(
            org,
            client_type="confidential",
            grant_types=["client_credentials"],
            scopes=["accounts:read"],
            service_account_id=account["id"],
        )

    def ask(server, token=None):
        """A new token, and how an earlier one is answered."""
        form = {"grant_type": "client_credentials", "client_id": app.client_id, "client_secret": app.secret}
        answer = HTTP.post(f"{server.base_url}/oauth/token", data=form)
        headers = {"Authorization": f"Bearer {token}"}
        return answer.json().get("access_token"), HTTP.get(f"{server.base_url}/v1/me", headers=headers).status_code

    with start(secret=OLD) as first:
        old, _ = ask(first)
        assert ask(first, old)[1] == 200
    with start(secret=NEW, secret_previous=OLD) as second:
        assert ask(second, old)[1] == 200, "the key is opened by the old secret"
    with start(secret=NEW) as third:
        new, status = ask(third, old)
        assert new is not None, "the client's secret was hashed anew, and there is a new key"
        assert status == 401
        assert ask(third, new)[1] == 200


def test_without_its_address_the_server_gives_no_tokens_in_production(start):
    with start(secret=OLD, public_url=None) as nameless:
        assert (
            HTTP.get(f"{nameless.base_url}/.well-known/openid-configuration").json()["issuer"]
            == "http://127.0.0.1:8000"
        )
        settings = nameless.settings.model_copy(update={"environment": "production"})
        assert settings.issuer is None


def test_what_one_process_ends_another_refuses(start, sql, monkeypatch):
    monkeypatch.setattr(access, "CREDENTIAL_SECONDS", 0.0)  # in place of waiting for five seconds
    plain = {"secret": OLD, "public_url": "http://crm.example.com"}  # or the cookie is one of https alone
    with start(**plain) as one, start(**plain) as two:
        org = Org.create(one)
        app = App.register(org)

        def me(server, token):
            headers = {"Authorization": f"Bearer {token}"}
            return HTTP.get(f"{server.base_url}/v1/me", headers=headers)

        for end in ("grant", "session"):
            browser = sign_in(sql, org, org.rep)
            token = app.tokens(browser)["access_token"]
            found = me(two, token).json()
            ended = {"grant": f"oauth_grants/{found['credential_id']}", "session": f"sessions/{browser.ticket.id}"}
            assert org.admin.post(f"/v1/{ended[end]}/revoke").status_code == 200
            assert me(two, token).status_code == 401, end
