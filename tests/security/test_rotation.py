"""The master secret is exchanged: what the old one made holds while both are known, and is made anew by use."""

import base64

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from standardwebhooks import Webhook

from crm_api import settings as settings_module
from crm_api.domains.identity import credentials
from crm_api.domains.integrations.resealing import renew_all
from crm_api.kernel.problems import ConfigurationError
from crm_api.kernel.sealing import SealError
from crm_api.settings import Settings
from tests.support.asking import code
from tests.support.org import Org, Person
from tests.support.receiver import Message, Receiver
from tests.support.server import LiveServer
from tests.support.webhooks import work

OLD, NEW = "an old secret, long enough to be one", "a new secret, long enough to be one too"


@pytest.fixture
def start(database, server, monkeypatch):
    """Starts another server over the same database, with secrets of its own."""
    for module in (settings_module, credentials):
        monkeypatch.setattr(module, "load_settings", module.load_settings)  # put back in the end

    def starting(**secrets: str) -> LiveServer:
        return LiveServer(database["app"], database["migrate"], server.settings.data_dir, **secrets)

    return starting


def keys(person: Person) -> list[dict[str, str]]:
    return person.get("/.well-known/webhooks-jwks.json").json()["keys"]


def signed_by(message: Message, key: dict[str, str]) -> bool:
    """Whether the `v1a` signature of a message is by a key of the set."""
    public = Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(key["x"] + "="))
    (text,) = [part[4:] for part in message.headers["webhook-signature"].split(" ") if part.startswith("v1a,")]
    signed = f"{message.headers['webhook-id']}.{message.headers['webhook-timestamp']}.".encode() + message.body
    try:
        public.verify(base64.b64decode(text), signed)
    except InvalidSignature:
        return False
    return True


def sent(server: LiveServer, admin: Person, receiver: Receiver, secret: str) -> Message:
    """The message of a new account, which has the endpoint's header and is signed by its secret."""
    admin.make("accounts", name="Acme")
    server.run(work(server))
    message = receiver.messages[-1]
    assert message.headers["x-token"] == "of the receiver"
    assert Webhook(secret).verify(message.body, message.headers)
    return message


def test_the_master_secret_is_exchanged_without_loss(start):
    with Receiver() as receiver:
        with start(secret=OLD) as first:
            org = Org.create(first)
            (old,) = keys(org.admin)
            made = org.admin.make("webhook_endpoints", url=receiver.url, principal_id=org.admin.id)
            path = f"/v1/webhook_endpoints/{made['id']}"
            secret = org.admin.post(f"{path}/secret/rotate").json()["secret"]
            headers = {"X-Token": "of the receiver"}
            assert org.admin.post(f"{path}/set_headers", json={"headers": headers}).status_code == 200
            for n in range(3):
                org.admin.make("accounts", name=f"Acme {n}")
            assert signed_by(sent(first, org.admin, receiver, secret), old)
            page = org.admin.get("/v1/accounts", params={"limit": 2}).json()
            following = {"limit": 2, "cursor": page["next_cursor"]}
            feed = org.admin.get("/v1/changes/cursor").json()["cursor"]
        with start(secret=NEW, secret_previous=OLD) as second:
            admin = Person(second, org.admin.id, org.admin.key)
            assert [key["kid"] for key in keys(admin)][1:] == [old["kid"]]
            assert len(admin.get("/v1/accounts", params=following).json()["data"]) == 2
            assert admin.get("/v1/changes", params={"since": feed, "wait": 0}).json()["data"] == []
            message = sent(second, admin, receiver, secret)
            assert [signed_by(message, key) for key in keys(admin)] == [True, False]
            fresh = admin.post(f"/v1/users/{admin.id}/issue_key", json={"name": "new"}).json()["key"]
            assert admin.get("/v1/me").status_code == 200
            second.run(second.kernel.authenticator.flush())
        with start(
            secret=OLD, secret_previous=NEW
        ) as before:  # the first step of an exchange knows what the second makes
            assert Person(before, org.admin.id, fresh).get("/v1/me").status_code == 200
            assert Person(before, org.admin.id, org.admin.key).get("/v1/me").status_code == 200
            before.kernel.authenticator._hashed.clear()
        with start(secret=NEW) as third:
            admin = Person(third, org.admin.id, org.admin.key)
            assert admin.get("/v1/me").status_code == 200, "it was used meanwhile"
            assert Person(third, org.admin.id, fresh).get("/v1/me").status_code == 200
            assert code(Person(third, org.rep.id, org.rep.key).get("/v1/me")) == (401, "unauthenticated")
            assert code(admin.get("/v1/accounts", params=following)) == (400, "invalid_cursor")
            assert [key["kid"] for key in keys(admin)] == [keys(admin)[0]["kid"]] != [old["kid"]]
            assert signed_by(sent(third, admin, receiver, secret), keys(admin)[0])


def test_what_silent_endpoints_keep_is_sealed_anew(start, sql):
    """In every tenant, paused and deleted ones too; without the old secret they are sent to afterwards."""
    with Receiver() as receiver:
        with start(secret=OLD) as first:
            org, other = Org.create(first), Org.create(first)
            secrets = {}
            for admin in (org.admin, other.admin):
                for kind in ("silent", "paused", "deleted", "bare"):
                    made = admin.make(
                        "webhook_endpoints", url=receiver.url, principal_id=admin.id, event_types=["account.created"]
                    )
                    path = f"/v1/webhook_endpoints/{made['id']}"
                    if kind != "bare":
                        secrets[path] = admin.post(f"{path}/secret/rotate").json()["secret"]
                        admin.post(f"{path}/set_headers", json={"headers": {"X-Token": "of the receiver"}})
                    if kind == "paused":
                        assert admin.post(f"{path}/pause").status_code == 200
                    if kind == "deleted":
                        assert admin.delete(path).status_code == 204
            assert first.run(renew_all(first.kernel)) == 0, "nothing is of another secret"
        ours = "FROM webhook_endpoints WHERE tenant_id = ANY ($1) ORDER BY id"
        tenants = [org.tenant_id, other.tenant_id]
        (broken,) = sql(f"SELECT id, sealed_secrets {ours} LIMIT 1", tenants)
        damaged = broken["sealed_secrets"][:-1] + bytes([broken["sealed_secrets"][-1] ^ 1])
        set_ = "UPDATE webhook_endpoints SET sealed_secrets = $2 WHERE id = $1"
        sql(set_, broken["id"], damaged)
        with start(secret=NEW, secret_previous=OLD) as second:
            with pytest.raises(SealError, match="altered"):
                second.run(renew_all(second.kernel))
            sql(set_, broken["id"], broken["sealed_secrets"])
            assert second.run(renew_all(second.kernel)) == 1, "one that cannot be opened keeps no other"
            heads = sql(
                f"SELECT substring(sealed_secrets FOR 5) AS secrets, substring(sealed_headers FOR 5) AS headers {ours}",
                tenants,
            )
            assert len(heads) == 8
            assert len({value for row in heads for value in row.values() if value is not None}) == 1
            admin = Person(second, org.admin.id, org.admin.key)
            assert admin.get("/v1/me").status_code == 200
            second.run(second.kernel.authenticator.flush())
        with start(secret=NEW) as third:
            admin = Person(third, org.admin.id, org.admin.key)
            mine = list(secrets)[:3]
            admin.post(f"{mine[1]}/resume")
            admin.post(f"{mine[2]}/restore")
            for path in mine:
                assert admin.post(f"{path}/test").status_code == 201
                third.run(work(third))
                message = receiver.messages.pop()
                assert message.headers["x-token"] == "of the receiver"
                assert Webhook(secrets[path]).verify(message.body, message.headers)


def test_a_short_secret_is_refused_by_name():
    for given in ({"secret": "short"}, {"secret": OLD, "secret_previous": "short"}):
        with pytest.raises(ConfigurationError, match=f"CRM_{list(given)[-1].upper()} must have"):
            Settings(**given).master_secrets()
    assert Settings(secret=OLD, secret_previous=OLD).master_secrets() == (OLD.encode(),)
