"""What docs/webhooks.md shows is run, and what it lists is what there is."""

import typing
from datetime import UTC, datetime, timedelta

from crm_api.adapters import destination, egress, http_exchange, keep_alive
from crm_api.domains.integrations.signing import new_secret, sign
from crm_api.kernel.signing import Signer
from tests.docs.test_docs import DOCS, _names, _table
from tests.support.documents import blocks

PAGE = DOCS / "webhooks.md"


def _shown() -> dict:
    names: dict = {}
    for block in blocks(PAGE, "python"):
        exec(block.text, names)  # noqa: S102 - our own page
    return names


def test_the_example_verifies_what_is_sent():
    verify = _shown()["verify"]
    secrets = [new_secret(), new_secret()]
    body, now = b'{"id":"evt_1"}', datetime.now(UTC)
    headers = sign(Signer(b"s" * 32), secrets, "evt_1", now, body)
    assert all(verify(secret, headers, body) for secret in secrets)
    assert not verify(new_secret(), headers, body)
    assert not verify(secrets[0], headers, body + b" ")
    assert not verify(secrets[0], headers | {"webhook-id": "evt_2"}, body)
    assert not verify(secrets[0], headers | {"webhook-timestamp": "soon"}, body)
    assert not verify(secrets[0], headers | {"webhook-signature": "v1,\xff v2,abc"}, body)
    for minutes in (-6, 6):
        assert not verify(secrets[0], sign(None, secrets, "evt_1", now + timedelta(minutes=minutes), body), body)


def test_the_example_verifies_by_the_published_key():
    verify = _shown()["verify_by_key"]
    signer, other = Signer(b"s" * 32), Signer(b"t" * 32)
    body = b'{"id":"evt_1"}'
    headers = sign(signer, [new_secret()], "evt_1", datetime.now(UTC), body)
    assert verify(signer.jwks["keys"], headers, body)
    assert verify(Signer(b"t" * 32, b"s" * 32).jwks["keys"], headers, body)
    assert not verify(other.jwks["keys"], headers, body)
    assert not verify(signer.jwks["keys"], headers, body + b" ")
    assert not verify(signer.jwks["keys"], sign(None, [new_secret()], "evt_1", datetime.now(UTC), body), body)


def test_every_code_of_a_failed_attempt_is_documented():
    documented = {name for cell in _table(PAGE, "code") for name in _names([cell])}
    assert documented == set(typing.get_args(destination.Code))


def test_every_bound_is_documented_as_it_is():
    assert [int(cells[0]) for cells in _table(PAGE, "bound").values()] == [
        egress.CONNECT_SECONDS,
        egress.TOTAL_SECONDS,
        http_exchange.MAX_REPLY,
        http_exchange.MAX_HEAD,
        http_exchange.MAX_WIRE,
        keep_alive.MAX_IDLE,
        keep_alive.IDLE_SECONDS,
        keep_alive.AGE_SECONDS,
    ]
