"""What of the contract will go: declared once, marked in the document, and found in requests."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from crm_api.kernel.domain import Catalog
from crm_api.kernel.spec_deprecated import Deprecated
from crm_api.kernel.spec_style import REF, JsonSchema

_FORMS = ("{}", "Sparse{}", "{}Create", "{}Update")
"""The schemas of a record and of what is written to it."""


@dataclass(frozen=True, slots=True)
class Watched:
    """An operation with what is deprecated of it: all of it, parameters of the query, members of the body."""

    method: str
    path: re.Pattern[str]
    whole: Deprecated | None
    parameters: Mapping[str, Deprecated]
    fields: Mapping[str, Deprecated]


def deprecations(catalog: Catalog) -> dict[str, Deprecated]:
    """Everything that is declared deprecated, by name."""
    return {one.name: one for domain in catalog.domains for one in domain.deprecated}


def mark(catalog: Catalog, document: dict[str, Any]) -> None:
    """Says in the document what is deprecated, since when, until when and what to use instead.

    Raises:
        ValueError: the contract has nothing of such a name.
    """
    for watched, operation in _found(deprecations(catalog), document):
        if watched.whole:
            operation.update(_told(operation, watched.whole))
        for place, item in enumerate(operation.get("parameters", ())):
            parameter = _resolved(document, item)
            if gone := watched.parameters.get(parameter["name"]):  # a shared one goes on elsewhere
                operation["parameters"][place] = parameter | _told(parameter, gone)
    for name, gone in deprecations(catalog).items():
        for schema, field in _places(name, document):
            part = document["components"]["schemas"][schema]["properties"][field]
            part.update(_told(part, gone))


def watch(catalog: Catalog, document: dict[str, Any]) -> list[Watched]:
    """The operations in whose requests something deprecated can be found."""
    return [watched for watched, _ in _found(deprecations(catalog), document)]


def _found(names: Mapping[str, Deprecated], document: dict[str, Any]) -> Iterator[tuple[Watched, dict[str, Any]]]:
    fields: dict[str, dict[str, Deprecated]] = {}
    known = set()
    for name, gone in names.items():
        for schema, field in _places(name, document):
            fields.setdefault(schema, {})[field] = gone
            known.add(name)
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            id_ = operation["operationId"]
            parameters = {
                name: names[f"{id_}?{name}"]
                for item in operation.get("parameters", ())
                if f"{id_}?{(name := _resolved(document, item)['name'])}" in names
            }
            known |= {f"{id_}?{name}" for name in parameters} | ({id_} & names.keys())
            sent = fields.get(_body(operation), {})
            if id_ in names or parameters or sent:
                pattern = re.compile(re.sub(r"\\\{\w+\\\}", "[^/]+", re.escape(path)))
                yield Watched(method.upper(), pattern, names.get(id_), parameters, sent), operation
    if unknown := names.keys() - known:
        raise ValueError(f"deprecated, but not in the contract: {', '.join(sorted(unknown))}")


def _places(name: str, document: dict[str, Any]) -> list[tuple[str, str]]:
    """The schemas, with the property, that a name such as `Account.domain` means; none for other names."""
    noun, _, field = name.partition(".")
    schemas: dict[str, JsonSchema] = document["components"]["schemas"]
    forms = [form.format(noun) for form in _FORMS] if field else []
    return [(form, field) for form in forms if field in schemas.get(form, {}).get("properties", ())]


def _body(operation: dict[str, Any]) -> str:
    content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    return str(content.get("schema", {}).get("$ref", "")).removeprefix(REF)


def _resolved(document: dict[str, Any], item: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (
        document["components"]["parameters"][item["$ref"].rsplit("/", 1)[1]] if "$ref" in item else item
    )
    return found


def _told(part: dict[str, Any], gone: Deprecated) -> dict[str, Any]:
    until = f", until {gone.sunset}" if gone.sunset else ""
    note = f"Deprecated since {gone.since}{until}. {gone.instead}"
    return {"deprecated": True, "description": f"{part.get('description', '')} {note}".strip()}
