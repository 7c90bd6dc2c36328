"""What the endpoints of OAuth take and answer, for the OpenAPI document; libraries know it by the standards."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from crm_api.kernel.schema import Wire

_Text = Annotated[str, Field(max_length=8192)]
_Short = Annotated[str, Field(max_length=255)]
_Scope = Annotated[str, Field(max_length=8192, description="Names separated by spaces.")]
_Seconds = Annotated[int, Field(ge=0, le=31_536_000)]
_Texts = Annotated[list[_Text], Field(max_length=1000)]


class _Form(Wire):
    client_id: _Short | None = None
    client_secret: _Short | None = None


class TokenRequest(_Form):
    """Which fields are needed depends on `grant_type`. A confidential client may use HTTP Basic instead."""

    grant_type: _Short
    code: _Text | None = None
    redirect_uri: Annotated[str, Field(max_length=2000)] | None = None
    code_verifier: Annotated[str, Field(max_length=128)] | None = None
    refresh_token: _Text | None = None
    device_code: _Text | None = None
    scope: _Scope | None = None
    resource: Annotated[str, Field(max_length=2000)] | None = None


class TokenForm(_Form):
    """A token of the client."""

    token: _Text
    token_type_hint: _Short | None = None


class DeviceRequest(_Form):
    """What the device would like to do."""

    scope: _Scope | None = None


class _Reply(BaseModel):
    model_config = ConfigDict(extra="allow")


class Tokens(_Reply):
    """Tokens; `refresh_token` and `id_token` where the client and the scopes ask for them."""

    access_token: _Text
    token_type: _Short
    expires_in: _Seconds
    scope: _Scope


class Introspection(_Reply):
    """Whether a token is good; what it says, if it is."""

    active: bool


class DeviceAuthorization(_Reply):
    """What to show, and what to ask with."""

    device_code: _Text
    user_code: _Short
    verification_uri: _Text
    verification_uri_complete: _Text
    expires_in: _Seconds
    interval: _Seconds


class UserInfo(_Reply):
    """Who the token acts as."""

    sub: _Short


class ServerMetadata(_Reply):
    """Of RFC 8414 and OpenID Connect Discovery."""

    issuer: _Text
    authorization_endpoint: _Text
    token_endpoint: _Text
    jwks_uri: _Text
    scopes_supported: _Texts


class ResourceMetadata(_Reply):
    """Of RFC 9728."""

    resource: _Text
    authorization_servers: _Texts
    scopes_supported: _Texts


class SigningKeySet(_Reply):
    """Of RFC 7517."""

    keys: Annotated[list[dict[str, Any]], Field(max_length=100)]


class OAuthProblem(BaseModel):
    """Of RFC 6749, 5.2."""

    error: _Short
    error_description: _Text
