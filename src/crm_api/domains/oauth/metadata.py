"""What clients read first: who issues tokens, where and how (RFC 8414, 9728, OpenID Connect Discovery), the keys."""

from typing import Any

import orjson
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from crm_api.domains.oauth.access_token import ALGORITHM, tokens_of
from crm_api.domains.oauth.client import CODE, CREDENTIALS, DEVICE, REFRESH
from crm_api.domains.oauth.contract import ResourceMetadata, ServerMetadata, SigningKeySet
from crm_api.domains.oauth.scopes import known
from crm_api.kernel.spec_security import tells

router = APIRouter()
KEPT = 300
"""Seconds for which clients keep what they read: with `FRESH`, less than a key is announced."""


def _json(body: dict[str, Any], media: str = "application/json") -> Response:
    return Response(orjson.dumps(body), media_type=media, headers={"Cache-Control": f"public, max-age={KEPT}"})


def _server(request: Request) -> dict[str, Any]:
    kernel = request.scope["crm.kernel"]
    issuer = tokens_of(kernel).issuer
    methods = ["client_secret_basic", "client_secret_post"]
    return {
        "issuer": issuer,
        "authorization_endpoint": f"{issuer}/oauth/authorize",
        "token_endpoint": f"{issuer}/oauth/token",
        "revocation_endpoint": f"{issuer}/oauth/revoke",
        "introspection_endpoint": f"{issuer}/oauth/introspect",
        "device_authorization_endpoint": f"{issuer}/oauth/device",
        "jwks_uri": f"{issuer}/.well-known/jwks.json",
        "scopes_supported": sorted(known(kernel.catalog)),
        "response_types_supported": ["code"],
        "response_modes_supported": ["query"],
        "grant_types_supported": [CODE, REFRESH, CREDENTIALS, DEVICE],
        "code_challenge_methods_supported": ["S256"],
        "token_endpoint_auth_methods_supported": [*methods, "none"],
        "revocation_endpoint_auth_methods_supported": [*methods, "none"],
        "introspection_endpoint_auth_methods_supported": methods,
        "authorization_response_iss_parameter_supported": True,
        "ui_locales_supported": ["en", "es"],
        "service_documentation": f"{issuer}/docs",
    }


@tells(ServerMetadata)
async def authorization_server(request: Request) -> Response:
    """The authorization server (RFC 8414)."""
    return _json(_server(request))


@tells(ServerMetadata)
async def openid_configuration(request: Request) -> Response:
    """The same as an OpenID provider."""
    found = _server(request)
    return _json(
        {
            **found,
            "userinfo_endpoint": f"{found['issuer']}/oauth/userinfo",
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": [ALGORITHM],
            "claims_supported": [
                *("iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "amr", "sid", "at_hash"),
                *("name", "locale", "zoneinfo", "updated_at", "email", "email_verified"),
            ],
            "request_uri_parameter_supported": False,
        }
    )


@tells(ResourceMetadata)
async def protected_resource(request: Request) -> Response:
    """The API as what tokens are for (RFC 9728)."""
    kernel = request.scope["crm.kernel"]
    issuer = tokens_of(kernel).issuer
    return _json(
        {
            "resource": issuer,
            "authorization_servers": [issuer],
            "scopes_supported": sorted(scope for scope in known(kernel.catalog) if ":" in scope),
            "bearer_methods_supported": ["header"],
            "resource_documentation": f"{issuer}/docs",
        }
    )


@tells(SigningKeySet)
async def jwks(request: Request) -> Response:
    """The keys that tokens are verified with (RFC 7517)."""
    keys = await tokens_of(request.scope["crm.kernel"]).keys.published()
    return _json({"keys": keys}, "application/json")


router.add_api_route(
    "/.well-known/oauth-authorization-server",
    authorization_server,
    methods=["GET"],
    operation_id="get_authorization_server",
    summary="What the authorization server can do",
)
router.add_api_route(
    "/.well-known/openid-configuration",
    openid_configuration,
    methods=["GET"],
    operation_id="get_openid_configuration",
    summary="What the OpenID provider can do",
)
router.add_api_route(
    "/.well-known/oauth-protected-resource",
    protected_resource,
    methods=["GET"],
    operation_id="get_protected_resource",
    summary="Where tokens for the API come from",
)
router.add_api_route(
    "/.well-known/jwks.json",
    jwks,
    methods=["GET"],
    operation_id="get_signing_keys",
    summary="The keys that tokens are signed with",
)
