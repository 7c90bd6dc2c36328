"""Webhooks are signed as Standard Webhooks has it: checked by its own library, and from the published keys."""

import base64
import time
from datetime import UTC, datetime, timedelta, timezone

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks.webhooks import Webhook, WebhookVerificationError

from crm_api.domains.integrations.signing import new_secret, secret_key, sign
from crm_api.kernel.signing import Signer
from crm_api.settings import derive_key

SIGNER = Signer(derive_key(b"m" * 32, "webhook-signing"))
BODY = b'{"id":"evt_1","note":"\xc3\xa9\xf0\x9f\x8e\x89","amount":"1.50"}'


def signed(secrets, *, signer=SIGNER, body=BODY, at=None):
    return sign(signer, secrets, "evt_0190", at or datetime.now(UTC), body)


def accepted(secret, headers, body=BODY) -> bool:
    try:
        Webhook(secret).verify(body, headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def public_key(jwk) -> Ed25519PublicKey:
    assert (jwk["kty"], jwk["crv"], jwk["alg"], jwk["use"]) == ("OKP", "Ed25519", "EdDSA", "sig")
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(jwk["x"] + "="))


def asymmetric(headers) -> bytes:
    (found,) = (part[4:] for part in headers["webhook-signature"].split(" ") if part.startswith("v1a,"))
    return base64.b64decode(found, validate=True)


def test_a_signature_is_accepted_by_the_standards_library():
    secret = new_secret()
    headers = signed([secret])
    assert Webhook(secret).verify(BODY, headers) == {"id": "evt_1", "note": "é🎉", "amount": "1.50"}
    assert set(headers) == {"webhook-id", "webhook-timestamp", "webhook-signature"}
    assert abs(int(headers["webhook-timestamp"]) - time.time()) < 5
    assert not accepted(new_secret(), headers)


@given(st.text(max_size=300), st.binary(min_size=24, max_size=64))
def test_every_body_and_secret(text, key):
    secret = "whsec_" + base64.b64encode(key).decode()
    headers = signed([secret], body=text.encode(errors="replace"))
    assert accepted(secret, headers, text.encode(errors="replace"))


def test_what_was_altered_is_refused():
    secret = new_secret()
    headers = signed([secret])
    later = str(int(headers["webhook-timestamp"]) + 1)
    assert accepted(secret, headers)
    assert not accepted(secret, headers, BODY + b" ")
    assert not accepted(secret, headers, BODY.replace(b"1.50", b"9.50"))
    assert not accepted(secret, headers | {"webhook-id": "evt_0191"})
    assert not accepted(secret, headers | {"webhook-timestamp": later})
    key = public_key(SIGNER.jwks["keys"][0])
    for id_, at, body in (("evt_0191", "", BODY), ("evt_0190", later, BODY), ("evt_0190", "", BODY + b" ")):
        with pytest.raises(InvalidSignature):
            key.verify(
                asymmetric(headers), b".".join((id_.encode(), (at or headers["webhook-timestamp"]).encode(), body))
            )


def test_each_live_secret_signs():
    secrets = [new_secret() for _ in range(3)]
    headers = signed(secrets)
    versions = [part.partition(",")[0] for part in headers["webhook-signature"].split(" ")]
    assert versions == ["v1", "v1", "v1", "v1a"]
    assert all(accepted(secret, headers) for secret in secrets)
    assert not accepted(new_secret(), headers)


def test_how_old_a_message_may_be_is_the_receivers_choice():
    """The time is signed as it is given, in whatever zone; the library takes five minutes."""
    secret = new_secret()
    now = datetime.now(UTC)
    for minutes, taken in ((-6, False), (-4, True), (0, True), (4, True), (6, False)):
        at = (now + timedelta(minutes=minutes)).astimezone(timezone(timedelta(hours=-7)))
        assert accepted(secret, signed([secret], at=at)) == taken, minutes


def test_the_asymmetric_signature_is_checked_from_the_published_keys():
    headers = signed([])
    content = b".".join((headers["webhook-id"].encode(), headers["webhook-timestamp"].encode(), BODY))
    public_key(SIGNER.jwks["keys"][0]).verify(asymmetric(headers), content)
    assert headers["webhook-signature"].startswith("v1a,")
    assert "v1a" not in signed([new_secret()], signer=None)["webhook-signature"]


def test_all_processes_of_an_installation_have_one_key():
    again = Signer(derive_key(b"m" * 32, "webhook-signing"))
    assert again.jwks == SIGNER.jwks
    assert again.key_id == SIGNER.key_id
    assert Signer(derive_key(b"n" * 32, "webhook-signing")).key_id != SIGNER.key_id


def test_the_key_id_is_the_thumbprint_of_rfc_8037():
    """The key and thumbprint of its appendix A."""
    seed = base64.urlsafe_b64decode("nWGxne_9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A=")
    (jwk,) = Signer(seed).jwks["keys"]
    assert jwk["x"] == "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    assert jwk["kid"] == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_an_earlier_key_stays_published():
    earlier, later = derive_key(b"m" * 32, "webhook-signing"), derive_key(b"n" * 32, "webhook-signing")
    both = Signer(later, earlier)
    headers = sign(Signer(earlier), [], "evt_1", datetime.now(UTC), BODY)
    content = b".".join((b"evt_1", headers["webhook-timestamp"].encode(), BODY))
    first, second = both.jwks["keys"]
    assert first["kid"] == both.key_id
    public_key(second).verify(asymmetric(headers), content)
    with pytest.raises(InvalidSignature):
        public_key(first).verify(asymmetric(headers), content)


def test_nothing_private_is_published():
    seed = derive_key(b"m" * 32, "webhook-signing")
    (jwk,) = Signer(seed).jwks["keys"]
    assert set(jwk) == {"kty", "crv", "x", "kid", "alg", "use"}
    assert base64.urlsafe_b64encode(seed).rstrip(b"=").decode() not in jwk.values()


def test_secrets_have_the_form_of_the_standard():
    made = {new_secret() for _ in range(50)}
    assert len(made) == 50
    for secret in made:
        assert secret.startswith("whsec_")
        assert len(secret_key(secret)) == 32


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "whsec_",
        "abc",
        "whsec_abc",
        "whsec_" + "!" * 40,
        "whsec_" + "AAAA" * 7,
        "whsec_" + "AAAA" * 22,
        "WHSEC_AAAA",
    ],
)
def test_what_is_no_secret_is_refused(secret):
    with pytest.raises(ValueError, match=r"secret|base64|padding|Non-base64|discontinuous"):
        signed([secret])


@pytest.mark.parametrize("id_", ["", "a.b", "a\nb", "ü"])
def test_an_id_that_could_be_read_in_two_ways_is_refused(id_):
    with pytest.raises(ValueError, match="without a dot"):
        sign(SIGNER, [new_secret()], id_, datetime.now(UTC), BODY)


def test_a_time_without_zone_and_nothing_to_sign_with_are_refused():
    with pytest.raises(ValueError, match="time zone"):
        sign(SIGNER, [new_secret()], "evt_1", datetime(2026, 1, 1), BODY)  # noqa: DTZ001 - what is refused
    with pytest.raises(ValueError, match="nothing to sign"):
        sign(None, [], "evt_1", datetime.now(UTC), BODY)
