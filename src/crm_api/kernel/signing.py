"""The installation's Ed25519 keys, derived from its secret so that all its processes sign with the same."""

import base64
import hashlib
from typing import TypedDict

import orjson
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


class Jwk(TypedDict):
    """A public key as RFC 8037 writes it."""

    kty: str
    crv: str
    x: str
    kid: str
    alg: str
    use: str


class Jwks(TypedDict):
    """The public keys, the one that signs first."""

    keys: list[Jwk]


class Signer:
    """Signs with the first of the seeds (32 bytes each); the others are only published, for what was signed before."""

    def __init__(self, *seeds: bytes) -> None:
        if not seeds or any(len(seed) != 32 for seed in seeds):
            raise ValueError("an Ed25519 seed has 32 bytes")
        self._key = Ed25519PrivateKey.from_private_bytes(seeds[0])
        self._jwks: Jwks = {"keys": [_published(seed) for seed in seeds]}

    @property
    def key_id(self) -> str:
        """The `kid` of the key that signs: its RFC 7638 thumbprint."""
        return self._jwks["keys"][0]["kid"]

    @property
    def jwks(self) -> Jwks:
        """What `/.well-known/webhooks-jwks.json` answers."""
        return self._jwks

    def sign(self, data: bytes) -> bytes:
        """The signature, 64 bytes."""
        return self._key.sign(data)


def _published(seed: bytes) -> Jwk:
    x = _text(Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw())
    members = orjson.dumps({"crv": "Ed25519", "kty": "OKP", "x": x})  # the required ones, in their order
    thumbprint = _text(hashlib.sha256(members).digest())
    return {"kty": "OKP", "crv": "Ed25519", "x": x, "kid": thumbprint, "alg": "EdDSA", "use": "sig"}


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
