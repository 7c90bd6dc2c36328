"""In which ways two contacts may say that they are the same person."""

from collections.abc import Mapping
from typing import Any

from crm_api.domains.accounts.matching import emails, phones
from crm_api.kernel.duplicates import Duplicates, Rule
from crm_api.kernel.schema import fold


def _names(record: Mapping[str, Any]) -> list[str]:
    name = fold(" ".join(filter(None, (record.get("first_name"), record.get("last_name")))))
    return [name] if name else []


CONTACT_DUPLICATES = Duplicates(
    rules=(
        Rule("email", "emails", 90, "values", emails),
        Rule("name", "last_name", 80, "column", _names, fuzzy=True, found_by="account_id", more=("first_name",)),
        Rule("phone", "phones", 70, "values", phones),
    ),
    greater={"is_active": (False, True)},
)
