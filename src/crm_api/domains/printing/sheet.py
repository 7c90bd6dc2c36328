"""What is printed, on the way from a record as its caller sees it to the files that typst reads."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import orjson
from babel import Locale

from crm_api.domains.printing.formats import Formats
from crm_api.domains.printing.words import word, words_of
from crm_api.kernel.resource import Resource

_HERE = Path(__file__).parent
_MAIN = (_HERE / "main.typ").read_bytes()
SHIPPED = (_HERE / "document.typ").read_text("utf-8")
"""The form of a document for which a tenant has none of its own."""
_FORM = 2
"""Raised when the same record comes to look otherwise: it is part of the entity tag."""
LOGOS: Mapping[str, str] = {"image/png": "png", "image/jpeg": "jpg", "image/gif": "gif", "image/webp": "webp"}
"""What a logo may be, with the name's end by which typst knows it."""
_PARTS = ("lines", "account", "contact", "redacted")


@dataclass(frozen=True, slots=True)
class Logo:
    """A picture in the store."""

    key: str
    size: int
    sha256: str
    content_type: str


@dataclass(frozen=True, slots=True)
class Form:
    """How a document looks: the template, and what it brings along."""

    source: str
    language: str
    locale: Locale
    footer: str | None = None
    logo: Logo | None = None


@dataclass(frozen=True)
class Sheet:
    """One document to be set.

    Attributes:
        resource: what the record is.
        record: as the API sends it to the caller, parsed, with `account` and `contact` where he sees them.
        units: what each unit of its lines is called, by id.
        issuer: the name of the tenant.
        form: how it looks.
    """

    resource: Resource
    record: Mapping[str, Any]
    units: Mapping[str, str]
    issuer: str
    form: Form

    @cached_property
    def tag(self) -> str:
        """The entity tag: another one for whatever changes what is set."""
        form = self.form
        seen = orjson.dumps([self.record, dict(sorted(self.units.items())), self.issuer])
        logo = form.logo.sha256 if form.logo else ""
        look = orjson.dumps([_FORM, words_of(form.language), form.language, form.source, form.footer, logo])
        return f'"{hashlib.sha256(seen + look + _MAIN).hexdigest()[:20]}"'

    def files(self, logo: bytes | None) -> dict[str, bytes]:
        """The files that typst reads; this takes a moment for a long document."""
        found = {"main.typ": _MAIN, "template.typ": self.form.source.encode()}
        place = None
        if logo is not None and self.form.logo is not None:
            place = f"logo.{LOGOS[self.form.logo.content_type]}"
            found[place] = logo
        return found | {"data.json": orjson.dumps(self.data(None if place is None else f"/{place}"))}

    def data(self, logo: str | None) -> dict[str, Any]:
        """What a template reads: texts as they are written in the language, and the record beside them."""
        record, form, words = self.record, self.form, words_of(self.form.language)
        formats = Formats(form.locale, record["currency"])
        printed, lifecycle = self.resource.printed, self.resource.lifecycle
        assert printed is not None  # noqa: S101 - only such have sheets
        state = record[lifecycle.column] if lifecycle else None
        named = {name: record[name] for name in ("number", "client_reference", "payment_terms", "note")}
        return {
            **named,
            "object": self.resource.singular,
            "title": f"{word(words, self.resource.singular)} {record['number'] or ''}".rstrip(),
            "draft": state in printed.drafts,
            "language": form.language,
            "locale": {"language": form.locale.language, "region": form.locale.territory},
            "currency": record["currency"],
            "prices": record["prices"],
            "issuer": {"name": self.issuer},
            "account": _account(record.get("account")),
            "contact": _contact(record.get("contact")),
            "billing_address": formats.address(record["billing_address"]),
            "shipping_address": formats.address(record["shipping_address"]),
            "dates": [
                {"name": name, "label": word(words, name), "text": formats.day(record[name])}
                for name in printed.dates
                if record[name] is not None
            ],
            "lines": [_line(formats, line, self.units, record["prices"]) for line in record["lines"]],
            "taxes": [_tax(formats, tax) for tax in record["taxes"]],
            "totals": {
                "discount": _unless_zero(formats.money, record["discount_total"]),
                "rounding": _unless_zero(formats.money, record["rounding"]),
                **{name: formats.money(record[f"{name}_total"]) for name in ("net", "tax", "gross", "payable")},
            },
            "footer": form.footer,
            "logo": logo,
            "words": words,
            "record": {name: value for name, value in record.items() if name not in _PARTS},
        }


def _unless_zero(write: Any, text: str) -> str | None:
    return write(text) if text.strip("-0.") else None


def _account(account: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if account is None or account.get("redacted") is True:
        return None
    return {name: account[name] for name in ("name", "legal_name", "tax_id")}


def _contact(contact: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if contact is None or contact.get("redacted") is True:
        return None
    parts = (contact["salutation"], contact["first_name"], contact["last_name"])
    return {"name": " ".join(part for part in parts if part)}


def _line(formats: Formats, line: Mapping[str, Any], units: Mapping[str, str], prices: str) -> dict[str, Any]:
    amounts = {name: formats.amount(line[f"{name}_amount"]) for name in ("net", "tax", "gross")}
    return {
        "position": str(line["position"]),
        "sku": line["sku"],
        "description": line["description"],
        "quantity": formats.number(line["quantity"]),
        "unit": units.get(line["unit_id"] or ""),
        "unit_price": formats.amount(line["unit_price"]),
        "discount": _unless_zero(formats.amount, line["discount"]),
        "discount_percent": None if line["discount_percent"] is None else formats.percent(line["discount_percent"]),
        "tax": ", ".join(formats.percent(tax["percent"]) for tax in line["taxes"]),
        **{f"{name}_amount": text for name, text in amounts.items()},
        "amount": amounts[prices],
    }


def _tax(formats: Formats, tax: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "name": tax["name"],
        "percent": formats.percent(tax["percent"]),
        "net": formats.money(tax["net"]),
        "amount": formats.money(tax["amount"]),
    }
