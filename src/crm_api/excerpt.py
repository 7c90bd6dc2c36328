"""A part of the OpenAPI document: the operations of one tag, and what these refer to."""

from collections.abc import Iterator, Mapping
from typing import Any

_COMPONENTS = "#/components/"


def excerpt(whole: Mapping[str, Any], tag: str) -> dict[str, Any]:
    """The document of the operations with this tag; complete in itself, like the whole."""
    paths: dict[str, Any] = {}
    for path, item in whole["paths"].items():
        told = {method: operation for method, operation in item.items() if tag in operation.get("tags", ())}
        if told:
            paths[path] = told
    components: dict[str, dict[str, Any]] = {"securitySchemes": whole["components"]["securitySchemes"]}
    waiting = list(_references(paths))
    while waiting:
        section, name = waiting.pop().removeprefix(_COMPONENTS).split("/", 1)
        if name not in components.setdefault(section, {}):
            components[section][name] = whole["components"][section][name]
            waiting += _references(components[section][name])
    tags = [each for each in whole["tags"] if each["name"] == tag]
    kept = {name: part for name, part in whole.items() if name != "webhooks"}
    return {**kept, "tags": tags, "paths": paths, "components": components}


def _references(part: Any) -> Iterator[str]:
    if isinstance(part, dict):
        if isinstance(part.get("$ref"), str) and part["$ref"].startswith(_COMPONENTS):
            yield part["$ref"]
        part = list(part.values())
    if isinstance(part, list):
        for each in part:
            yield from _references(each)
