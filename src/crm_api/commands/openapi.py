"""Writes the documents of the catalog, OpenAPI and AsyncAPI, to their files, or says how the files differ from it."""

import difflib
import gzip
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import Any

import orjson

from crm_api.catalog import CATALOG
from crm_api.commands.contract_changes import changes
from crm_api.commands.contract_history import baseline, released, section, undeclared
from crm_api.kernel.domain import Catalog
from crm_api.kernel.problems import ConfigurationError
from crm_api.kernel.spec import document
from crm_api.kernel.spec_asyncapi import asyncapi

_SHOWN = 40
_COMPARED = 400
"""Lines from the first that differs: to compare all of a long document takes longer than to write it."""


def files(path: Path) -> dict[Path, Callable[[Catalog], dict[str, Any]]]:
    """Which file holds which document; that of AsyncAPI stands beside the other."""
    return {path: document, path.with_name("asyncapi.json"): asyncapi}


def render(make: Callable[[Catalog], dict[str, Any]]) -> bytes:
    """A document as it is committed: sorted, indented, one trailing newline."""
    return orjson.dumps(make(CATALOG), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE)


def write(path: Path) -> None:
    """Writes the files."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for file, make in files(path).items():
        file.write_bytes(render(make))
    if (history := path.with_name("changes.md")).exists():
        history.write_text(_history(path), encoding="utf-8")


def release(path: Path, version: str) -> None:
    """Keeps the present document as that of a release, and calls what was unreleased by its version."""
    write(path)
    path.with_name("baseline.json.gz").write_bytes(gzip.compress(path.read_bytes(), mtime=0))
    history = path.with_name("changes.md")
    history.write_text(released(history.read_text(encoding="utf-8"), version), encoding="utf-8")
    write(path)


def drift(path: Path) -> list[str]:
    """The first lines in which the files and the catalog differ, and breaks without a reason; none when they agree."""
    lines = [line for file, make in files(path).items() for line in _difference(file, render(make))]
    if (history := path.with_name("changes.md")).exists():
        text = _history(path)
        lines += _difference(history, text.encode())
        lines += [f"{history}: `{line}` breaks clients; say why after a colon." for line in undeclared(text)]
    return lines


def _history(path: Path) -> str:
    text = path.with_name("changes.md").read_text(encoding="utf-8")
    return section(text, baseline(path.parent), orjson.loads(render(document)))


def since(path: Path) -> list[str]:
    """In what the contract differs from an older document; raises `ConfigurationError` when that is none."""
    try:
        return changes(orjson.loads(path.read_bytes()), document(CATALOG))
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ConfigurationError(f"{path} is not an OpenAPI document of this product.") from error


def _difference(file: Path, wanted: bytes) -> list[str]:
    present = file.read_bytes() if file.exists() else b""
    if present == wanted:
        return []
    old, new = present.decode(errors="replace").splitlines(), wanted.decode().splitlines()
    pairs = enumerate(zip(old, new, strict=False))
    first = next((i for i, (one, other) in pairs if one != other), min(len(old), len(new)))
    part = slice(max(first - 1, 0), first + _COMPARED)
    lines = difflib.unified_diff(old[part], new[part], f"{file}:{first + 1}", "catalog", n=1, lineterm="")
    return list(islice(lines, _SHOWN)) or [f"{file}: the bytes differ, in line ends or the last newline"]
