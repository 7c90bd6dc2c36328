"""OAuth clients and signing keys, as an operator has them."""

import httpx2

from tests.cli.test_commands import settings


def _token(server, client_id, secret):
    form = {"grant_type": "client_credentials", "client_id": client_id, "client_secret": secret}
    return httpx2.post(f"{server.base_url}/oauth/token", data=form).json()


def test_a_client_is_registered_listed_and_revoked(server, database, here, refused, org):
    where, tenant = settings(server, database), str(org.tenant_id)
    account = org.admin.make("service_accounts", name="ERP")["id"]
    made = here(
        "clients",
        "create",
        "ERP",
        "--tenant",
        tenant,
        "--scope",
        "accounts:read",
        "--service-account",
        account,
        **where,
    )
    assert made.code == 0, made.err
    client_id, secret = (line.split()[1] for line in made.out.splitlines())
    token = _token(server, client_id, secret)["access_token"]
    bearer = {"Authorization": f"Bearer {token}"}
    assert httpx2.get(f"{server.base_url}/v1/me", headers=bearer).json()["id"] == account
    browser = ("--redirect-uri", "https://app.example.com/cb", "--public")
    public = here("clients", "create", "App", "--tenant", tenant, "--scope", "openid", *browser, **where)
    assert "client_secret" not in public.out
    listed = here("clients", "list", "--tenant", tenant, **where).out
    assert f"{client_id}  confidential  ERP" in listed
    assert "public  App" in listed
    assert here("clients", "revoke", client_id, **where).code == 0
    assert httpx2.get(f"{server.base_url}/v1/me", headers=bearer).status_code == 401
    assert _token(server, client_id, secret)["error"] == "invalid_client"
    assert "(inactive) ERP" in here("clients", "list", "--tenant", tenant, **where).out
    for wrong in (("--scope", "nonsense:read"), ("--scope", "openid", "--redirect-uri", "javascript:x")):
        refused("clients", "create", "X", "--tenant", tenant, *wrong, **where)
    refused("clients", "revoke", "nonsense", **where)


def test_a_signing_key_follows_another_at_once(server, database, here):
    rotated = here("keys", "rotate-signing", **settings(server, database))
    assert rotated.code == 0, rotated.err
    kid = rotated.out.split()[-1]
    server.run(_read_again(server))
    keys = httpx2.get(f"{server.base_url}/.well-known/jwks.json").json()["keys"]
    assert keys[0]["kid"] == kid


async def _read_again(server):
    from crm_api.domains.oauth.access_token import tokens_of

    await tokens_of(server.kernel).keys._read(0)
