"""How a domain declares that something of the contract will go; `spec_deprecation` says it to callers."""

from dataclasses import dataclass
from datetime import date


@dataclass(frozen=True)
class Deprecated:
    """Something of the contract that will go.

    Attributes:
        name: an operation, `list_accounts`; a parameter of its query, `list_accounts?domain`; or a field of a record,
            `Account.domain`, wherever it is sent or taken.
        since: the day of the release that told of it.
        sunset: the day from which on it may be gone, or None while that is not settled.
        instead: what to use, as a sentence.
    """

    name: str
    since: date
    sunset: date | None
    instead: str
