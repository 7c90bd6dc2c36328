"""Fails when `redocly diff` finds a break of the contract that openapi/changes.md does not declare below `Breaking:`.

Redocly sees what the list of differences does not: patterns, bounds, lengths. Such a break is declared by hand, as
``- `! AccountCreate .name`: why``.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any


def main(report: str, before: str, after: str, history: str) -> int:
    """Prints what is not declared; the number of it, at most 1."""
    documents = [json.loads(Path(path).read_text(encoding="utf-8")) for path in (before, after)]
    known = declared(Path(history).read_text(encoding="utf-8"))
    found: dict[str, str] = {}
    for change in json.loads(Path(report).read_text(encoding="utf-8"))["changes"]:
        if change["impact"] == "major":
            names = [
                name_of(change[side]["pointer"], document)
                for side, document in zip(("base", "revision"), documents, strict=True)
                if side in change
            ]
            if not any(covers(one, name) for one in known for name in names):
                found[names[-1]] = "; ".join(verdict["message"] for verdict in change["verdicts"])
    for name, message in sorted(found.items()):
        print(f"breaks clients, and openapi/changes.md does not say why: `! {name}`: {message}")
    return min(len(found), 1)


def declared(history: str) -> set[str]:
    """The names of the breaks that the history gives a reason for."""
    unreleased = history.partition("## Unreleased\n")[2].partition("\n## ")[0]
    part = unreleased.partition("\nBreaking:\n")[2].partition("\nBesides:\n")[0]
    return set(re.findall(r"^- `[-+~!] ([^`]+?)(?:: [^`]*)?`: .", part, re.MULTILINE))


def covers(one: str, name: str) -> bool:
    """Whether what is declared is the thing or holds it."""
    return name == one or name.startswith(f"{one} ")


def name_of(pointer: str, document: Any) -> str:
    """What the history calls a place of a document: `Schema .field`, `operation ?parameter`, `operation 200`."""
    steps = [step.replace("~1", "/").replace("~0", "~") for step in pointer.removeprefix("#/").split("/")]
    match steps:
        case ["components", "schemas", schema, "properties", field, *_]:
            return f"{schema} .{field}"
        case ["components", "schemas", schema, *_]:
            return schema
        case ["paths", path, method, *rest]:
            operation = document["paths"][path][method]
            return " ".join([operation["operationId"], *_part(operation, rest, document)])
    return pointer


def _part(operation: Any, rest: list[str], document: Any) -> list[str]:
    match rest:
        case ["parameters", number, *_]:
            found = operation["parameters"][int(number)]
            while "$ref" in found:
                _, kind, name = found["$ref"].rsplit("/", 2)
                found = document["components"][kind][name]
            return [f"?{found['name']}"]
        case ["responses", status, *_]:
            return [status]
        case ["requestBody", *_]:
            return ["body"]
    return []


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
