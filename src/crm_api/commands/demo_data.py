"""Makes up a company with customers: the same one each time, with e-mails under .example that nobody receives."""

import random
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from importlib.resources import files
from typing import Any
from uuid import UUID

from crm_api.kernel.schema import fold

SEED = 20_261_123
ACCOUNTS, CONTACTS = 2_000, 3_000
START, DAYS = datetime(2025, 1, 6, 8, tzinfo=UTC), 660

_DATA = tomllib.loads(files("crm_api.commands").joinpath("demo.toml").read_text(encoding="utf-8"))
PEOPLE: list[dict[str, str]] = _DATA["person"]
TEAMS: dict[str, str] = _DATA["team"]
_COUNTRIES: dict[str, dict[str, Any]] = _DATA["country"]
_TRADES: dict[str, str] = _DATA["trade"]


@dataclass(frozen=True)
class Step:
    """One record to create, when and as whose, with the verbs that are applied to it afterwards."""

    values: dict[str, Any]
    at: datetime
    verbs: tuple[str, ...] = ()
    helper: str | None = None
    shared_with: str | None = None


class Company:
    """The generator. `ids` are the principals by key, `teams` the teams by name, known once those are created."""

    def __init__(self, ids: dict[str, str], teams: dict[str, str]) -> None:
        self._random = random.Random(SEED)  # noqa: S311 - made-up data, the same on each run
        self._ids = ids
        self._teams = {person["key"]: teams.get(person.get("team", "")) for person in PEOPLE}
        self.accounts: list[tuple[str, str, str, str]] = []
        self._taken: set[str] = set()

    def roots(self) -> list[Step]:
        """Accounts that stand alone or lead a group."""
        return [self._account(None) for _ in range(ACCOUNTS * 9 // 10)]

    def branches(self) -> list[Step]:
        """Accounts that belong to one of the roots."""
        return [self._account(self._random.choice(self.accounts[: ACCOUNTS // 5])) for _ in range(ACCOUNTS // 10)]

    def contacts(self) -> Iterator[Step]:
        """People at the accounts; the larger half has most of them."""
        pick = self._random
        for _ in range(CONTACTS):
            account, seller, country, domain = pick.choice(self.accounts[: pick.choice((200, ACCOUNTS, ACCOUNTS))])
            first, last, at = pick.choice(_DATA["first"]), pick.choice(_DATA["last"]), self._moment()
            email = f"{_plain(first)}.{_plain(last)}{pick.randrange(100)}@{domain}"
            values = {
                "id": self._id(at),
                "first_name": first,
                "last_name": last,
                "title": pick.choice(_DATA["title"]),
                "account_id": account,
                "language": _COUNTRIES[country]["language"],
                "owner_id": self._ids[seller],
                "team_id": self._teams[seller],
                "emails": [{"address": email, "kind": "work", "is_primary": True}],
                "phones": [
                    {"number": self._phone(country), "kind": pick.choice(("work", "mobile")), "is_primary": True}
                ],
                "addresses": [self._address(country)] if pick.random() < 0.3 else [],
                "tags": self._tags(),
            }
            yield Step(values, at)

    def _account(self, parent: tuple[str, str, str, str] | None) -> Step:
        pick = self._random
        country = parent[2] if parent else pick.choice(tuple(_COUNTRIES))
        seller = parent[1] if parent else pick.choice(_COUNTRIES[country]["sellers"])
        trade = pick.choice(tuple(_TRADES))
        name = f"{pick.choice(_DATA['lead'])} {trade}"
        city = self._address(country)
        if name in self._taken:
            name = f"{name} {city['city']}"
        while name in self._taken:
            name = f"{pick.choice(_DATA['lead'])} {pick.choice(_DATA['lead'])} {trade}"
        self._taken.add(name)
        domain, at = f"{_plain(name)}.example", self._moment()
        values = {
            "id": self._id(at),
            "name": name,
            "legal_name": " ".join((name, pick.choice(_COUNTRIES[country]["forms"]))),
            "tax_id": f"{country}{pick.randrange(10**8, 10**9)}",
            "type": pick.choice(("prospect", "customer", "customer", "partner", "supplier", "reseller")),
            "industry": _TRADES[trade],
            "website": f"https://www.{domain}",
            "employees": int(pick.lognormvariate(4, 1.4)),
            "annual_revenue": f"{int(pick.lognormvariate(15, 1.6))}.{pick.randrange(100):02d}",
            "currency": _COUNTRIES[country]["currency"],
            "payment_terms": pick.choice(("net 14", "net 30", "net 60", "prepaid")),
            "source": pick.choice(("referral", "web", "trade fair", "cold call", "partner")),
            "tier": pick.choice(("A", "B", "B", "C", "C", "C")),
            "risk": pick.choice(("low", "low", "medium", "high")),
            "parent_id": parent[0] if parent else None,
            "owner_id": self._ids[seller],
            "team_id": self._teams[seller],
            "addresses": [{**city, "is_primary": True}],
            "emails": [{"address": f"info@{domain}", "kind": "work", "is_primary": True}],
            "phones": [{"number": self._phone(country), "kind": "work", "is_primary": True}],
            "tags": self._tags(),
        }  # fmt: skip
        self.accounts.append((values["id"], seller, country, domain))
        verbs = pick.choices(((), ("activate",), ("activate", "mark_at_risk"), ("deactivate",)), (45, 12, 5, 3))[0]
        others = [person["key"] for person in PEOPLE if person["key"] not in (seller, "analyst")]
        return Step(
            values,
            at,
            verbs,
            pick.choice(others) if pick.random() < 0.04 else None,
            pick.choice(others) if pick.random() < 0.03 else None,
        )

    def _address(self, country: str) -> dict[str, Any]:
        city, region, code = self._random.choice(_COUNTRIES[country]["places"])
        street = f"{self._random.choice(_DATA['last'])} {self._random.randrange(1, 180)}"
        return {
            "kind": "billing",
            "line1": street,
            "city": city,
            "region": region,
            "postal_code": self._digits(code),
            "country": country,
        }

    def _phone(self, country: str) -> str:
        return self._digits(_COUNTRIES[country]["phone"])

    def _digits(self, pattern: str) -> str:
        return "".join(self._random.choice("12345678") if mark == "#" else mark for mark in pattern)

    def _tags(self) -> list[str]:
        return self._random.sample(_DATA["tag"], self._random.choice((0, 0, 1, 2)))

    def _moment(self) -> datetime:
        return START + timedelta(days=self._random.randrange(DAYS), seconds=self._random.randrange(36_000))

    def _id(self, at: datetime) -> str:
        """A UUIDv7 of that moment."""
        number = int(at.timestamp() * 1000) << 80 | self._random.getrandbits(80)
        return str(UUID(int=number & ~(0xF << 76) & ~(0x3 << 62) | 0x7 << 76 | 0x2 << 62))


def _plain(text: str) -> str:
    """Text as it may stand in a domain or address."""
    return "".join(mark for mark in fold(text).replace(" ", "-") if mark.isascii() and (mark.isalnum() or mark == "-"))
