"""The hand-written part of the contract: routers of domains as FastAPI describes them, and the probes."""

from collections.abc import Callable
from typing import Any, TypeVar

import orjson
from fastapi import APIRouter, FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute
from pydantic import BaseModel

from crm_api.kernel.spec_parameters import headers, problems, reply
from crm_api.kernel.spec_security import needs
from crm_api.kernel.spec_style import REF, JsonSchema, normal, without

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])
_BODIES: dict[Any, tuple[type[BaseModel], dict[str, Any]]] = {}


def takes(model: type[BaseModel], **example: Any) -> Callable[[Endpoint], Endpoint]:
    """Says which JSON body a hand-written endpoint reads that takes the request itself."""

    def decorate(endpoint: Endpoint) -> Endpoint:
        _BODIES[endpoint] = (model, example)
        return endpoint

    return decorate


def _bodies(routes: dict[str, dict[str, Any]], schemas: dict[str, JsonSchema], router: APIRouter) -> None:
    for route in router.routes:
        if isinstance(route, APIRoute) and route.endpoint in _BODIES:
            model, example = _BODIES[route.endpoint]
            whole = _apart(model.model_json_schema(ref_template=REF + "{model}"), schemas)
            for name, inner in whole.pop("$defs", {}).items():
                _add(schemas, name, normal(inner))
            _add(schemas, model.__name__, normal(whole))
            content = {"schema": {"$ref": REF + model.__name__}, "examples": {"example": {"value": example}}}
            for method in route.methods or ():
                body = {"required": True, "content": {"application/json": content}}
                routes[route.path][method.lower()]["requestBody"] = body


def merge(routes: dict[str, dict[str, Any]], schemas: dict[str, JsonSchema], router: APIRouter, tag: str) -> None:
    """Adds a hand-written router; which problems it can send beside the usual it declares by `responses`."""
    app = FastAPI()
    app.include_router(router, tags=[tag])
    written = get_openapi(title="", version="", routes=app.routes)
    for name, schema in written.get("components", {}).get("schemas", {}).items():
        if name not in ("HTTPValidationError", "ValidationError"):
            _add(schemas, _name(name), without(normal(schema), "additionalProperties"))
    for path, methods in written["paths"].items():
        for method, operation in methods.items():
            declared = {int(status) for status in operation["responses"]}
            good = {
                str(status): _headed(_media(operation["responses"][str(status)])) for status in declared if status < 400
            }
            for item in operation.get("parameters", ()):
                item["schema"] = _present(normal(item["schema"]))
            operation["responses"] = {
                **good,
                **problems(*{s for s in declared if s >= 400}, 400, 401, 414, 429, 500, 503),
            }
            operation["security"] = needs()
            routes.setdefault(path, {})[method] = operation
    _bodies(routes, schemas, router)


def _apart(whole: JsonSchema, schemas: dict[str, JsonSchema]) -> JsonSchema:
    """The schema of a body, with names of their own for parts that replies tell with more required."""
    parts = whole.get("$defs", {})
    text = orjson.dumps(whole).decode()
    for name in [name for name in parts if schemas.get(name, normal(parts[name])) != normal(parts[name])]:
        for form in ('"{}":', f'"{REF}{{}}"'):
            text = text.replace(form.format(name), form.format(f"{name}Input"))
    found: JsonSchema = orjson.loads(text)
    return found


def _add(schemas: dict[str, JsonSchema], name: str, schema: JsonSchema) -> None:
    """What is known already stays: of parts that are sent, it knows better what is always there.

    Raises:
        ValueError: what is known is something else; a fault of ours.
    """
    known = schemas.setdefault(name, schema)
    if {**known, "required": ()} != {**schema, "required": ()}:
        raise ValueError(f"two schemas of the contract are called {name}")


def _name(name: str) -> str:
    """The public name of a schema that FastAPI named."""
    return str(normal({"$ref": REF + name})["$ref"]).removeprefix(REF)


def _media(response: dict[str, Any]) -> dict[str, Any]:
    """A response with its schemas in the contract's style."""
    content = {media: {**item, "schema": normal(item["schema"])} for media, item in response.get("content", {}).items()}
    return {**response, "content": content}


def _headed(response: dict[str, Any]) -> dict[str, Any]:
    """A response with the headers that it names, and those that are on every one."""
    return {**response, "headers": headers(*response.get("headers", ()))}


def _present(schema: JsonSchema) -> JsonSchema:
    """The schema of an optional parameter: it may be absent, but it cannot be null."""
    kinds = schema.get("type")
    if not isinstance(kinds, list):
        return schema
    found = {**schema, "type": next(kind for kind in kinds if kind != "null")}
    return found | {"enum": [value for value in schema["enum"] if value is not None]} if "enum" in schema else found


def probes() -> dict[str, Any]:
    """The two paths for those who run the server."""
    found = {}
    for path, name, summary in (
        ("/healthz", "get_health", "Whether the process lives"),
        ("/readyz", "get_readiness", "Whether the process reaches its database"),
    ):
        responses = {"200": reply("Yes.", "Health")}
        if name == "get_readiness":
            responses["503"] = reply("No.", "Health", "Retry-After")
        found[path] = {
            "get": {
                "operationId": name,
                "summary": summary,
                "description": "Takes no credential; for load balancers and supervisors.",
                "tags": ["operations"],
                "security": [],
                "responses": responses,
            }
        }
    return found
