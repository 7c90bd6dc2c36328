"""How the contract says what an operation needs: an API key, or an access token with a scope."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from fastapi import APIRouter
from fastapi.routing import APIRoute
from pydantic import BaseModel

from crm_api.kernel.domain import Catalog
from crm_api.kernel.spec_parameters import problems, reply
from crm_api.kernel.spec_style import JsonSchema, components, name_of, ref

Security = list[dict[str, list[str]]]
_LEVELS = {"read": "Read", "write": "Create and change", "delete": "Delete", "admin": "Read, change and delete"}


def needs(*scopes: str) -> Security:
    """Any of the ways to be known; where it is a token, with these scopes."""
    return [{"bearer": []}, {"oauth2": list(scopes)}, {"openIdConnect": list(scopes)}]


def schemes(catalog: Catalog) -> dict[str, Any]:
    """The ways to be known."""
    names = [domain.name for domain in catalog.domains if domain.resources]
    scopes = {f"{name}:{level}": f"{words} what is of `{name}`." for name in names for level, words in _LEVELS.items()}
    token = {"tokenUrl": "/oauth/token", "refreshUrl": "/oauth/token", "scopes": scopes}
    return {
        "bearer": {"type": "http", "scheme": "bearer", "description": "An API key: `crm_…`, as bearer token."},
        "oauth2": {
            "type": "oauth2",
            "description": "An access token, a JWT handled as RFC8725 says; PKCE with S256 is needed.",
            "flows": {
                "authorizationCode": {"authorizationUrl": "/oauth/authorize", **token},
                "clientCredentials": token,
            },
        },
        "openIdConnect": {
            "type": "openIdConnect",
            "openIdConnectUrl": "/.well-known/openid-configuration",
            "description": "The same, found by itself.",
        },
    }


@dataclass(frozen=True, slots=True)
class Told:
    """What an endpoint beside the API takes and answers; `refusal` is the JSON of these statuses."""

    reply: type[BaseModel] | None
    form: type[BaseModel] | None
    refusal: type[BaseModel] | None
    statuses: tuple[int, ...]
    known: bool
    example: Mapping[str, str]


Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_TOLD: dict[Any, Told] = {}


def tells(
    reply: type[BaseModel] | None,
    form: type[BaseModel] | None = None,
    refusal: type[BaseModel] | None = None,
    *statuses: int,
    known: bool = False,
    example: Mapping[str, str] | None = None,
) -> Callable[[Endpoint], Endpoint]:
    """Says of an endpoint beside the API what it takes and answers; `known` if it takes a credential of the API.

    `example` are fields of its form.
    """

    def decorate(endpoint: Endpoint) -> Endpoint:
        _TOLD[endpoint] = Told(reply, form, refusal, statuses, known, example or {})
        return endpoint

    return decorate


def merge_pages(routes: dict[str, dict[str, Any]], schemas: dict[str, JsonSchema], router: APIRouter, tag: str) -> None:
    """Adds the routes of a router beside the API that tell of themselves."""
    for route in router.routes:
        if not isinstance(route, APIRoute) or (told := _TOLD.get(route.endpoint)) is None:
            continue
        models = ((told.form, "validation"), (told.reply, "serialization"), (told.refusal, "serialization"))
        schemas |= components((model, mode) for model, mode in models if model is not None)
        responses = {"200": _reply("Done.", told.reply)}
        for status in told.statuses:
            responses[str(status)] = _reply("Refused.", told.refusal, *(("Retry-After",) if status == 429 else ()))
        operation: dict[str, Any] = {
            "operationId": route.operation_id,
            "summary": route.summary,
            "description": (route.endpoint.__doc__ or "").strip(),
            "tags": [tag],
            "security": needs() if told.known else [],
            "responses": {**responses, **problems(414, 500, 503, *((400, 401, 403, 429) if told.known else ()))},
        }
        if told.form is not None:
            media = {"schema": ref(name_of(told.form)), "examples": {"example": {"value": told.example}}}
            operation["requestBody"] = {"required": True, "content": {"application/x-www-form-urlencoded": media}}
        for number, method in enumerate(sorted(route.methods or ())):
            by = f"_by_{method.lower()}" if number else ""
            whole = {**operation, "operationId": f"{route.operation_id}{by}"}
            routes.setdefault(route.path, {})[method.lower()] = whole


def _reply(description: str, model: type[BaseModel] | None, *headers: str) -> dict[str, Any]:
    return reply(description, None if model is None else name_of(model), *headers)
