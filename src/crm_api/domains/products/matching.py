"""In which ways two products may say that they are the same."""

from collections.abc import Mapping
from typing import Any

from crm_api.kernel.duplicates import Duplicates, Rule
from crm_api.kernel.schema import fold


def _skus(record: Mapping[str, Any]) -> list[str]:
    return [fold(record["sku"])] if record.get("sku") else []


def _names(record: Mapping[str, Any]) -> list[str]:
    """The name, with what tells a variant from its sisters."""
    told = record.get("attributes") or {}
    return [fold(" ".join([record["name"], *(told[name] for name in sorted(told))]))] if record.get("name") else []


def _specifications(record: Mapping[str, Any]) -> list[str]:
    return [fold(record["specification"])] if record.get("specification") else []


PRODUCT_DUPLICATES = Duplicates(
    rules=(
        Rule("sku", "sku", 95, "text", _skus),
        Rule("name", "name", 80, "similar", _names, fuzzy=True, more=("attributes",)),
        Rule("specification", "specification", 60, "text", _specifications),
    ),
)
