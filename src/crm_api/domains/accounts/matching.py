"""In which ways two accounts may say that they are the same."""

from collections.abc import Mapping
from typing import Any

from crm_api.domains.accounts.contact_points import addresses_of, numbers_of
from crm_api.domains.duplicates.names import bare_name
from crm_api.kernel.duplicates import Duplicates, Rule
from crm_api.kernel.schema import fold


def _names(record: Mapping[str, Any]) -> list[str]:
    return [name for name in map(bare_name, (record.get("name"), record.get("legal_name"))) if name]


def _domains(record: Mapping[str, Any]) -> list[str]:
    return [fold(record["domain"])] if record.get("domain") else []


def _tax_ids(record: Mapping[str, Any]) -> list[str]:
    return [record["tax_id"]] if record.get("tax_id") else []


def emails(record: Mapping[str, Any]) -> list[str]:
    """The addresses of a record, as they are compared."""
    return [fold(address) for address in addresses_of(record.get("emails") or ())]


def phones(record: Mapping[str, Any]) -> list[str]:
    """The numbers of a record, as they are compared: E.164."""
    return numbers_of(record.get("phones") or ())


ACCOUNT_DUPLICATES = Duplicates(
    rules=(
        Rule("tax_id", "tax_id", 95, "column", _tax_ids),
        Rule("name", "name", 80, "similar", _names, fuzzy=True, more=("legal_name",)),
        Rule("email", "emails", 75, "values", emails),
        Rule("domain", "domain", 70, "text", _domains),
        Rule("phone", "phones", 60, "values", phones),
    ),
    greater={"level": ("read", "write"), "is_active": (False, True)},
    barring=("is_blocked",),
)
