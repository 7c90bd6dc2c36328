"""Writes the OpenAPI document of the catalog to its file, or says how the file differs from it."""

import difflib
from itertools import islice
from pathlib import Path

import orjson

from crm_api.catalog import CATALOG
from crm_api.kernel.spec import document

_SHOWN = 40


def render() -> bytes:
    """The document as it is committed: sorted, indented, one trailing newline."""
    return orjson.dumps(
        document(CATALOG), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS | orjson.OPT_APPEND_NEWLINE
    )


def write(path: Path) -> None:
    """Writes the file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(render())


def drift(path: Path) -> list[str]:
    """The first lines in which the file and the catalog differ; none when they agree."""
    wanted = render()
    present = path.read_bytes() if path.exists() else b""
    if present == wanted:
        return []
    old, new = present.decode(errors="replace").splitlines(), wanted.decode().splitlines()
    lines = difflib.unified_diff(old, new, str(path), "catalog", n=1, lineterm="")
    return list(islice(lines, _SHOWN)) or ["the bytes differ, in line ends or the last newline"]
