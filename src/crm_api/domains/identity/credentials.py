"""API keys: `crm_{env}_{id}_{secret}{checksum}`; the id names tenant and key, so row security holds from the start."""

import hashlib
import hmac
import secrets
import zlib
from uuid import UUID

from crm_api.settings import derive_key, load_settings

_ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_ID_LENGTH = 43
_SECRET_LENGTH = 43
_CHECK_LENGTH = 6
_ENVIRONMENTS = {"development": "dev", "production": "live"}


def _base62(data: bytes, length: int) -> str:
    number, digits = int.from_bytes(data, "big"), []
    for _ in range(length):
        number, digit = divmod(number, 62)
        digits.append(_ALPHABET[digit])
    return "".join(reversed(digits))


def _number(text: str) -> int:
    value = 0
    for character in text:
        value = value * 62 + _ALPHABET.index(character)
    return value


def _checksum(text: str) -> str:
    return _base62(zlib.crc32(text.encode()).to_bytes(4, "big"), _CHECK_LENGTH)


def hashes(secret: str) -> tuple[bytes, ...]:
    """The SHA-256 of a secret, keyed with each pepper of the server; the first is the one to keep."""
    peppers = (derive_key(master, "api-key-pepper") for master in load_settings().master_secrets())
    return tuple(hmac.new(pepper, secret.encode(), hashlib.sha256).digest() for pepper in peppers)


def new_key(tenant_id: UUID, key_id: UUID) -> tuple[str, bytes]:
    """A key and the hash to keep."""
    secret = _base62(secrets.token_bytes(32), _SECRET_LENGTH)
    public = _base62(tenant_id.bytes + key_id.bytes, _ID_LENGTH)
    head = f"crm_{_ENVIRONMENTS[load_settings().environment]}_{public}_{secret}"
    return head + _checksum(head), hashes(secret)[0]


def parse_key(text: str) -> tuple[UUID, UUID, str] | None:
    """(tenant, key id, secret) of a well-formed key; a typing error shows in the checksum, without a look-up."""
    if len(text) > 200 or not text.isascii():
        return None
    head, check = text[:-_CHECK_LENGTH], text[-_CHECK_LENGTH:]
    parts = head.split("_")
    if (
        len(parts) != 4
        or parts[0] != "crm"
        or len(parts[2]) != _ID_LENGTH
        or not parts[3].isalnum()
        or not parts[2].isalnum()
    ):
        return None
    if not hmac.compare_digest(_checksum(head), check):
        return None
    try:
        raw = _number(parts[2]).to_bytes(32, "big")
    except (ValueError, OverflowError):
        return None
    return UUID(bytes=raw[:16]), UUID(bytes=raw[16:]), parts[3]
