"""Who sent a webhook, and when: the signatures of Standard Webhooks, verified with the standard library."""

import base64
import hashlib
import hmac
from collections.abc import Iterable, Mapping

TOLERANCE = 300
"""Seconds that the time of a message may differ from our clock."""


def verified(secrets: Iterable[str], headers: Mapping[str, str], body: bytes, now: float) -> bool:
    """Whether a message was signed by who holds one of the secrets, within five minutes of `now`.

    Args:
        secrets: as the API showed them, `whsec_...`; two while one is replaced by another.
        headers: of the request, by lower-case names.
        body: the bytes as they came, before anything is made of them.
        now: seconds since 1970.
    """
    try:
        id_, timestamp, given = (headers[f"webhook-{name}"] for name in ("id", "timestamp", "signature"))
    except KeyError:
        return False
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) < 16):
        return False
    if abs(now - int(timestamp)) > TOLERANCE:
        return False
    signed = f"{id_}.{timestamp}.".encode() + body
    candidates = [item.encode() for item in given.split(" ")]
    expected = [_signature(secret, signed) for secret in secrets]
    return any(hmac.compare_digest(right, item) for right in expected for item in candidates)


def _signature(secret: str, signed: bytes) -> bytes:
    key = base64.b64decode(secret.removeprefix("whsec_"))
    return b"v1," + base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest())
