"""Secrets at rest: AES-256-GCM under a key of the tenant, bound to the tenant and to what the secret is for.

A sealed value is `version (1 byte) | key (4) | nonce (12) | ciphertext and tag`. `key` names the key of the
installation, so that a wrong one is told from an altered value.
"""

import hashlib
import hmac
import os
from functools import lru_cache
from typing import Final
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_VERSION: Final = b"\x01"
_KEY, _NONCE, _TAG = 4, 12, 16
_HEAD = len(_VERSION) + _KEY + _NONCE


class SealError(Exception):
    """The value cannot be opened; the text says why, and nothing of the value."""


class WrongKeyError(SealError):
    """It was sealed under another CRM_SECRET."""


class Sealer:
    """Seals and opens. `keys` are 32 bytes each: the first seals, the others only open what an earlier one sealed."""

    def __init__(self, *keys: bytes) -> None:
        if not keys or any(len(key) < 32 for key in keys):
            raise ValueError("a sealing key has 32 bytes")
        self._ids = tuple(hmac.new(key, b"id", hashlib.sha256).digest()[:_KEY] for key in keys)
        self._keys = dict(zip(self._ids, keys, strict=True))
        self._cipher = lru_cache(maxsize=1024)(self._make)

    def _make(self, key_id: bytes, tenant_id: UUID) -> AESGCM:
        return AESGCM(hmac.new(self._keys[key_id], b"tenant\x00" + tenant_id.bytes, hashlib.sha256).digest())

    def seal(self, tenant_id: UUID, purpose: str, plain: bytes) -> bytes:
        """The plain bytes, encrypted: 33 bytes longer, and different each time."""
        key_id, nonce = self._ids[0], os.urandom(_NONCE)
        cipher = self._cipher(key_id, tenant_id)
        return _VERSION + key_id + nonce + cipher.encrypt(nonce, plain, _bound(key_id, tenant_id, purpose))

    def unseal(self, tenant_id: UUID, purpose: str, sealed: bytes) -> bytes:
        """The plain bytes of what `seal` made for this tenant and purpose.

        Raises:
            WrongKeyError: it was sealed under another secret of the installation.
            SealError: it was altered, or sealed for another tenant or purpose, or is nothing of ours.
        """
        sealed = bytes(sealed)
        if len(sealed) < _HEAD + _TAG or sealed[:1] != _VERSION:
            raise SealError("This is not a sealed value of a known version.")
        key_id, nonce = sealed[1 : 1 + _KEY], sealed[1 + _KEY : _HEAD]
        if key_id not in self._keys:
            raise WrongKeyError("The value was sealed under another CRM_SECRET.")
        try:
            return self._cipher(key_id, tenant_id).decrypt(nonce, sealed[_HEAD:], _bound(key_id, tenant_id, purpose))
        except InvalidTag:
            raise SealError("The value was altered, or sealed for another tenant or purpose.") from None

    @property
    def earlier(self) -> list[bytes]:
        """How the values begin that an earlier key has sealed."""
        return [_VERSION + key_id for key_id in self._ids[1:]]

    def renewed(self, tenant_id: UUID, purpose: str, sealed: bytes) -> bytes | None:
        """What an earlier key has sealed, sealed by the present one; None for what that one has. Raises as `unseal`."""
        if bytes(sealed[1 : 1 + _KEY]) == self._ids[0]:
            return None
        return self.seal(tenant_id, purpose, self.unseal(tenant_id, purpose, sealed))


def _bound(key_id: bytes, tenant_id: UUID, purpose: str) -> bytes:
    return _VERSION + key_id + tenant_id.bytes + purpose.encode()
