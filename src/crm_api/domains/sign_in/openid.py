"""The other side of a sign-in by a provider: its metadata and keys, the code exchanged for an ID token, and that token.

OpenID Connect Core 1.0 (3.1) and Discovery 1.0, with PKCE (RFC 7636). What is fetched goes through the guarded egress.
"""

import base64
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote_plus, urlencode

import orjson
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from crm_api import settings as process
from crm_api.adapters import egress
from crm_api.adapters.egress import Egress, Failure

ALGORITHMS = ("ES256", "RS256")
LEEWAY = 60
"""Seconds that the provider's clock may be wrong by."""
_LONGEST_TOKEN = 8_192
LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core 1.0, 2); what is longer is refused, since a part of it may be another's."""
_MOST_KNOWN, _KNOWN_SECONDS = 1_000, 600.0


class ProviderError(Exception):
    """The provider did not answer as it should; the text says how, and nothing of what it sent."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a provider says of itself, checked. `tells_issuer`: it names itself in each answer (RFC 9207)."""

    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    jwks_uri: str
    tells_issuer: bool


@dataclass(frozen=True, slots=True)
class Client:
    """What we are to a provider. `secret` is None for a public client."""

    issuer: str
    id: str
    secret: str | None
    redirect_uri: str


async def discover(issuer: str) -> Metadata:
    """The metadata of a provider.

    Raises:
        ProviderError: there is none, it is of another issuer, or it leads to addresses that are not connected to.
    """
    known, until = _known.get(issuer, (None, 0.0))
    if known is not None and until > time.monotonic():
        return known
    found = await _ask("GET", f"{issuer.rstrip('/')}/.well-known/openid-configuration", {}, b"")
    if found.get("issuer") != issuer:
        raise ProviderError("The metadata is of another issuer.")
    names = ("authorization_endpoint", "token_endpoint", "jwks_uri")
    places = {name: found.get(name) for name in names}
    for name, place in places.items():
        if not isinstance(place, str) or egress.check(place) is not None:
            raise ProviderError(f"The metadata has no {name} that may be used.")
    told = found.get("authorization_response_iss_parameter_supported") is True
    known = Metadata(issuer, **places, tells_issuer=told)  # type: ignore[arg-type] # checked just now
    if len(_known) >= _MOST_KNOWN:
        _known.clear()
    _known[issuer] = known, time.monotonic() + _KNOWN_SECONDS
    return known


_known: dict[str, tuple[Metadata, float]] = {}


def authorization(metadata: Metadata, client: Client, **asked: str) -> str:
    """Where to send the browser."""
    separator = "&" if "?" in metadata.authorization_endpoint else "?"
    values = {"response_type": "code", "client_id": client.id, "redirect_uri": client.redirect_uri}
    values |= {"scope": "openid email", "code_challenge_method": "S256", **asked}
    return f"{metadata.authorization_endpoint}{separator}{urlencode(values)}"


async def claims(metadata: Metadata, client: Client, code: str, verifier: str, nonce: str) -> dict[str, Any]:
    """Who signed in: the claims of the ID token that the code is good for.

    Raises:
        ProviderError: the code is refused, or the token does not hold.
    """
    form = {"grant_type": "authorization_code", "code": code, "redirect_uri": client.redirect_uri}
    form["code_verifier"] = verifier
    headers = {"Content-Type": "application/x-www-form-urlencoded", "Accept": "application/json"}
    if client.secret is None:
        form["client_id"] = client.id
    else:  # RFC 6749, 2.3.1: both are form-encoded before they are joined
        pair = f"{quote_plus(client.id)}:{quote_plus(client.secret)}"
        headers["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    answer = await _ask("POST", metadata.token_endpoint, headers, urlencode(form).encode())
    token = answer.get("id_token")
    if not isinstance(token, str) or len(token) > _LONGEST_TOKEN:
        raise ProviderError("There is no ID token.")
    return _verified(token, await _ask("GET", metadata.jwks_uri, {}, b""), client, nonce)


def _verified(token: str, jwks: dict[str, Any], client: Client, nonce: str) -> dict[str, Any]:
    rules = jwt.JWTClaimsRegistry(
        leeway=LEEWAY,
        iss={"essential": True, "value": client.issuer},
        aud={"essential": True, "value": client.id},
        exp={"essential": True},
        iat={"essential": True},
        sub={"essential": True},
        nonce={"essential": True, "value": nonce},
    )
    try:
        keys = KeySet.import_key_set({"keys": [key for key in jwks["keys"] if key.get("kty") in ("EC", "RSA")]})
        found = jwt.decode(token, keys, algorithms=list(ALGORITHMS)).claims
        rules.validate(found)
    except (JoseError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ProviderError(f"The ID token does not hold: {type(error).__name__}.") from None
    subject = found["sub"]
    if not (isinstance(subject, str) and 0 < len(subject) <= LONGEST_SUBJECT and subject.isprintable()):
        raise ProviderError("The ID token names no subject.")
    several = isinstance(found["aud"], list) and len(found["aud"]) > 1
    if (several or "azp" in found) and found.get("azp") != client.id:
        raise ProviderError("The ID token was given to another client.")
    return dict(found)


async def _ask(method: str, url: str, headers: dict[str, str], body: bytes) -> dict[str, Any]:
    client = Egress.of(process.load_settings())
    try:
        answer = await client.send(method, url, headers, body)
    finally:
        await client.aclose()
    if isinstance(answer, Failure):
        raise ProviderError(f"The provider is not reached: {answer.code}.")
    try:
        found = orjson.loads(answer.body) if answer.status == 200 and not answer.truncated else None
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise ProviderError(f"The provider answers {answer.status} without what was asked for.")
    return found
