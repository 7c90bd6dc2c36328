"""Lists in which an older OpenAPI document and the present one differ: what to tell in openapi/changes.md."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

Facts = dict[str, str]
"""What a client can rely on, by name: an operation, a parameter, a body, a reply, a property, a value."""


def changes(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """One line for each difference, sorted: `+` is new, `-` is gone, `~` is another now.

    What belongs to an operation, parameter or schema that is new or gone as a whole is not listed again.
    """
    before, after = dict(_facts(old)), dict(_facts(new))
    found = [f"+ {name}" for name in after.keys() - before.keys() if not _above(name, after, before)]
    found += [f"- {name}" for name in before.keys() - after.keys() if not _above(name, before, after)]
    found += [
        f"~ {name}: {before[name]} -> {after[name]}"
        for name in before.keys() & after.keys()
        if before[name] != after[name]
    ]
    return sorted(found, key=lambda line: (line[2:], line))


def breaking(lines: list[str], old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """Those of the differences that a client may stumble over: what it used is gone, narrower, or another now.

    A new value or member of a reply is none (the contract says that clients take them); a new member of a body is one
    when it is required.
    """
    taken = _taken(new) | _taken(old)
    facts = dict(_facts(new))
    return [line for line in lines if _breaks(line, facts.get(line[2:], ""), taken)]


def _breaks(line: str, fact: str, taken: set[str]) -> bool:
    sign, (owner, *rest) = line[0], line[2:].partition(": ")[0].split(" ")
    place = rest[0] if rest else ""
    if sign == "-":
        return not (place.isdigit() and int(place) >= 400)
    if sign == "+":
        asked = place[:1] == "?" or place == "body" or (place[:1] == "." and owner in taken)
        return asked and len(rest) == 1 and not fact.startswith("optional ") and " optional " not in fact
    before, _, after = line.partition(": ")[2].partition(" -> ")
    if place.isdigit() or place == "body" or before.partition(" ")[0].isupper():  # a reply, a body, a path
        return True
    inward = not place or place[:1] == "?" or owner in taken  # of a union there may be more kinds
    wide, narrow = (after, before) if inward else (before, after)
    return not (_options(narrow) <= _options(wide))


def _options(kind: str) -> set[str]:
    """What a value may be, absent included."""
    optional = kind.startswith("optional ")
    return {*kind.removeprefix("optional ").split(" or "), *(("absent",) if optional else ())}


def _taken(document: Mapping[str, Any]) -> set[str]:
    """The schemas that bodies of requests are made of."""
    schemas, found = document["components"]["schemas"], set()
    waiting = [
        operation["requestBody"]
        for methods in document["paths"].values()
        for operation in methods.values()
        if "requestBody" in operation
    ]
    while waiting:
        for name in re.findall(r"'#/components/schemas/([^']+)'", str(waiting.pop())):
            if name not in found:
                found.add(name)
                waiting.append(schemas.get(name, {}))
    return found


def _above(name: str, here: Facts, there: Facts) -> bool:
    """Whether something that the name belongs to is here and not there."""
    steps = name.split(" ")
    above = [" ".join(steps[:length]) for length in range(1, len(steps))]
    return any(one in here and one not in there for one in above)


def _facts(document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    components = document["components"]
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            name = operation["operationId"]
            yield name, f"{method.upper()} {path}"
            for item in operation.get("parameters", ()):
                parameter = _at(components, item)
                yield (
                    f"{name} ?{parameter['name']}",
                    _kind(parameter["schema"], required=parameter.get("required", False)),
                )
                yield from _values(f"{name} ?{parameter['name']}", parameter["schema"])
            if "requestBody" in operation:
                yield f"{name} body", _content(operation["requestBody"])
            for status, response in operation["responses"].items():
                yield f"{name} {status}", _content(_at(components, response))
    for name, schema in components["schemas"].items():
        yield name, _kind(schema, required=False)
        for field, part in schema.get("properties", {}).items():
            yield f"{name} .{field}", _kind(part, required=field in schema.get("required", ()))
            yield from _values(f"{name} .{field}", part)


def _at(components: Mapping[str, Any], item: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in item:
        return item
    kind, name = item["$ref"].split("/")[-2:]
    found: Mapping[str, Any] = components[kind][name]
    return found


def _content(holder: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{media} {_kind(content['schema'], required=holder.get('required', True))}"
        for media, content in sorted(holder.get("content", {}).items())
    )


def _kind(schema: Mapping[str, Any], *, required: bool) -> str:
    """The type of a value in a word or two: `[string]`, `integer or null`, `Account`."""
    if "$ref" in schema:
        word = schema["$ref"].rsplit("/", 1)[1]
    elif options := schema.get("anyOf", schema.get("oneOf")):
        word = " or ".join(dict.fromkeys(_kind(option, required=True) for option in options))
    elif schema.get("type") == "array":
        word = f"[{_kind(schema['items'], required=True)}]"
    else:
        kinds = schema.get("type", "any")
        word = kinds if isinstance(kinds, str) else " or ".join(kinds)
    return word if required else f"optional {word}"


def _values(name: str, schema: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Those that are named, in whichever alternative: others may be taken besides."""
    yield from ((f"{name} ={value}", "a value") for value in schema.get("enum", ()) if value is not None)
    for part in (
        *schema.get("anyOf", ()),
        *schema.get("oneOf", ()),
        *(schema[key] for key in ("items",) if key in schema),
    ):
        yield from _values(name, part)
