"""What is done again and again."""

from crm_api.domains.oauth.access_token import tokens_of
from crm_api.domains.oauth.metadata import KEPT
from crm_api.domains.oauth.signing_keys import ANNOUNCED, FRESH
from crm_api.domains.oauth.upkeep import forget_oauth, rotate_signing_keys
from tests.support.oauth import HTTP, App

DEVICE = "urn:ietf:params:oauth:grant-type:device_code"


def test_what_ended_long_ago_is_forgotten(org, app, browser, sql, server):
    ended, kept = (app.call(app.tokens(browser)["access_token"]).json()["credential_id"] for _ in range(2))
    org.rep.post(f"/v1/oauth_grants/{ended}/revoke")
    sql("UPDATE oauth_grants SET revoked_at = now() - interval '91 days' WHERE id = $1", ended)
    device = App.register(org, redirect_uris=[], grant_types=[DEVICE], scopes=["accounts:read"])
    device.post("device")
    sql("UPDATE oauth_device_codes SET expires_at = now() - interval '91 days'")
    server.run(forget_oauth(server.kernel))
    assert [org.rep.get(f"/v1/oauth_grants/{id_}").status_code for id_ in (ended, kept)] == [404, 200]
    assert sql("SELECT count(*) AS n FROM oauth_device_codes")[0]["n"] == 0


def test_a_key_is_announced_for_longer_than_others_may_be_without_it():
    assert ANNOUNCED.total_seconds() > FRESH + KEPT


def test_a_key_of_a_month_is_followed_and_later_forgotten(server, app, browser, sql):
    keys = tokens_of(server.kernel).keys
    app.tokens(browser)
    old = {key["kid"] for key in server.run(keys.published())}
    sql(
        "UPDATE oauth_signing_keys SET created_at = now() - interval '31 days', signs_from = now() - interval '31 days'"
    )
    keys._known.clear()
    assert server.run(rotate_signing_keys(server.kernel))
    assert not server.run(rotate_signing_keys(server.kernel))
    (new,) = {key["kid"] for key in server.run(keys.published())} - old
    assert server.run(keys.signing()).kid in old, "the new one is published before it signs"
    (row,) = sql("SELECT signs_from - now() AS ahead FROM oauth_signing_keys WHERE kid = $1", new)
    told = HTTP.get(f"{server.base_url}/.well-known/jwks.json").headers["cache-control"]
    kept = int(told.removeprefix("public, max-age="))
    assert row["ahead"].total_seconds() > FRESH + kept, "no cache is without it then"
    sql("UPDATE oauth_signing_keys SET signs_from = now() - interval '61 minutes' WHERE kid = $1", new)
    sql("UPDATE oauth_signing_keys SET created_at = now() - interval '31 days' WHERE kid = $1", new)
    sql("UPDATE oauth_signing_keys SET created_at = now() - interval '62 days' WHERE kid <> $1", new)
    keys._known.clear()
    assert server.run(rotate_signing_keys(server.kernel))
    left = {key["kid"] for key in server.run(keys.published())}
    assert new in left
    assert not old & left
