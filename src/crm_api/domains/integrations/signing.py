"""Signs a webhook as Standard Webhooks has it: `v1` with each live secret of the endpoint, `v1a` with our own key."""

import base64
import hashlib
import hmac
import secrets as random
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache

from crm_api.kernel.signing import Signer

PREFIX = "whsec_"
_RANDOM = 32
_LEAST, _MOST = 24, 64


def new_secret() -> str:
    """A secret for one endpoint: `whsec_` and 32 random bytes in base64."""
    return PREFIX + base64.b64encode(random.token_bytes(_RANDOM)).decode()


@lru_cache(maxsize=1024)
def secret_key(secret: str) -> bytes:
    """The bytes of a secret.

    Raises:
        ValueError: it is not `whsec_` with 24 to 64 bytes in base64.
    """
    if not secret.startswith(PREFIX):
        raise ValueError("a secret begins with whsec_")
    key = base64.b64decode(secret.removeprefix(PREFIX), validate=True)
    if not _LEAST <= len(key) <= _MOST:
        raise ValueError("a secret has 24 to 64 bytes")
    return key


def sign(signer: Signer | None, secrets: Sequence[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers of one attempt.

    Args:
        signer: signs `v1a`; None leaves it out.
        secrets: the live secrets of the endpoint, each of which signs.
        message_id: `webhook-id`, the same for each attempt. It has no dot, which separates what is signed.
        at: when the attempt is made, with its time zone; sent as seconds since 1970.
        body: the bytes that are sent.

    Raises:
        ValueError: the id, the time or a secret is not what it must be, or there is nothing to sign with.
    """
    if not message_id or "." in message_id or not message_id.isascii() or not message_id.isprintable():
        raise ValueError("an id is printable ASCII without a dot")
    if at.tzinfo is None:
        raise ValueError("a time has its time zone")
    timestamp = str(int(at.timestamp()))
    signed = b".".join((message_id.encode(), timestamp.encode(), body))
    made = [f"v1,{_text(hmac.digest(secret_key(secret), signed, hashlib.sha256))}" for secret in secrets]
    if signer is not None:
        made.append(f"v1a,{_text(signer.sign(signed))}")
    if not made:
        raise ValueError("there is nothing to sign with")
    return {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": " ".join(made)}


def _text(data: bytes) -> str:
    return base64.b64encode(data).decode()
