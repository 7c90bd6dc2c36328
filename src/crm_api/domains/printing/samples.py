"""A made-up record of any printed resource: what a template is tried with, and what its preview shows."""

from decimal import Decimal
from typing import Any

from crm_api.domains.printing.sheet import Form, Sheet
from crm_api.kernel.examples import SAMPLE_ID
from crm_api.kernel.resource import Resource

_LINES = (
    ("CHAI", "Chai, first flush", "3", "18.00", "10", "5.40", "48.60", "9.23", "57.83"),
    (None, "Delivery", "1", "4.99", None, "0.00", "4.99", "0.95", "5.94"),
    ("POT-2", "Teapot #2 of cast iron, *with* a lid", "1.5", "20.0025", None, "0.00", "30.00", "5.70", "35.70"),
)
_ADDRESS = {
    "kind": "billing",
    "line1": "Hauptstraße 1",
    "line2": "2. OG",
    "city": "Berlin",
    "region": None,
    "postal_code": "10115",
    "country": "DE",
    "is_primary": True,
}
_DAYS = ("2026-01-31", "2026-02-14", "2026-02-28")


def sample(resource: Resource, form: Form) -> Sheet:
    """A document with lines, taxes, addresses and terms."""
    assert resource.printed is not None  # noqa: S101 - only such have templates
    lines = [_line(i, *line) for i, line in enumerate(_LINES, 1)]
    sums = {name: str(sum(Decimal(line[f"{name}_amount"]) for line in lines)) for name in ("net", "tax", "gross")}
    record: dict[str, Any] = dict.fromkeys(resource.output.model_fields) | {
        "id": SAMPLE_ID,
        "object": resource.singular,
        "version": 1,
        "updated_at": "2026-01-31T12:00:00Z",
        "number": "2026-00001",
        "client_reference": "PO 4711",
        "currency": "EUR",
        "prices": "net",
        "payment_terms": "30 days net",
        "billing_address": _ADDRESS,
        "shipping_address": {**_ADDRESS, "kind": "shipping", "line1": "Lagerweg 7", "line2": None},
        "note": "Thank you.\nPlease deliver in the morning.",
        "lines": lines,
        "taxes": [_tax("VAT", sums["net"], sums["tax"])],
        "discount_total": "5.40",
        "rounding": "0.03",
        "payable_total": str(Decimal(sums["gross"]) + Decimal("0.03")),
        **{f"{name}_total": text for name, text in sums.items()},
        **{name: _DAYS[min(i, 2)] for i, name in enumerate(resource.printed.dates)},
        "account": {"name": "Kaufmann", "legal_name": "Kaufmann & Söhne KG", "tax_id": "DE123456789"},
        "contact": {"salutation": None, "first_name": "Ana", "last_name": "Gómez"},
    }
    return Sheet(resource, record, {SAMPLE_ID: "pcs"}, "Sample Ltd.", form)


def _tax(name: str, net: str, amount: str) -> dict[str, Any]:
    return {"name": name, "percent": "19", "is_compound": False, "net": net, "amount": amount}


def _line(
    position: int,
    sku: str | None,
    description: str,
    quantity: str,
    unit_price: str,
    percent: str | None,
    discount: str,
    net: str,
    tax: str,
    gross: str,
) -> dict[str, Any]:
    return {
        "position": position,
        "sku": sku,
        "description": description,
        "quantity": quantity,
        "unit_id": SAMPLE_ID if sku else None,
        "unit_price": unit_price,
        "discount_percent": percent,
        "discount": discount,
        "taxes": [_tax("VAT", net, tax)],
        "net_amount": net,
        "tax_amount": tax,
        "gross_amount": gross,
    }
