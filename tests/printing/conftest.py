"""Orders to print, and what is read in a PDF."""

import io
import itertools
import struct
import zlib
from collections.abc import Callable
from typing import Any

import pypdf
import pytest


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _grey(size: int) -> bytes:
    return b"\x80" * size


def png(width: int, height: int, dots: Callable[[int], bytes] = _grey) -> bytes:
    """A picture, grey unless told."""
    rows = zlib.compress(b"".join(b"\x00" + dots(width) for _ in range(height)))
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", head) + _chunk(b"IDAT", rows) + _chunk(b"IEND", b"")


_numbers = itertools.count(811569869)
PNG = png(8, 8)


@pytest.fixture(scope="module")
def org(shared_org):
    return shared_org


@pytest.fixture
def account(shared_org) -> dict[str, Any]:
    return shared_org.rep.make(
        "accounts", name="Kaufmann", legal_name="Kaufmann & Söhne KG", tax_id=f"DE{next(_numbers):09d}"
    )


def pages(answer) -> list[str]:
    """The text of each page of an answer that is a PDF, with single spaces."""
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/pdf"
    found = [page.extract_text() for page in pypdf.PdfReader(io.BytesIO(answer.content)).pages]
    return ["\n".join(" ".join(line.split()) for line in text.splitlines()) for text in found]


def text_of(answer) -> str:
    return "\n".join(pages(answer))


def template(org, source: str, **values: Any) -> dict[str, Any]:
    body = {"name": "Form", "object_type": "order", "language": "en", "source": source, **values}
    return org.admin.make("document_templates", **body)


def order(org, account, *lines: dict[str, Any], **values: Any) -> dict[str, Any]:
    given = list(lines) or [{"description": "Tea", "quantity": "2", "unit_price": "617.25", "tax_percent": "19"}]
    return org.rep.make("orders", account_id=account["id"], lines=given, **{"currency": "EUR", **values})
