"""Northwind Traders as data: its people, customers and who looks after whom, computed from the files alone."""

import csv
import os
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = Path(os.environ.get("CRM_SHARED") or REPOSITORY.parent / "shared") / "data" / "northwind"
VICE_PRESIDENT, SALES_MANAGER = 2, 5

COUNTRIES = {
    "Argentina": "AR",
    "Austria": "AT",
    "Belgium": "BE",
    "Brazil": "BR",
    "Canada": "CA",
    "Denmark": "DK",
    "Finland": "FI",
    "France": "FR",
    "Germany": "DE",
    "Ireland": "IE",
    "Italy": "IT",
    "Mexico": "MX",
    "Norway": "NO",
    "Poland": "PL",
    "Portugal": "PT",
    "Spain": "ES",
    "Sweden": "SE",
    "Switzerland": "CH",
    "UK": "GB",
    "USA": "US",
    "Venezuela": "VE",
}


@dataclass(frozen=True)
class Employee:
    number: int
    first_name: str
    last_name: str
    title: str
    reports_to: int | None

    @property
    def name(self) -> str:
        return f"{self.first_name} {self.last_name}"


@dataclass(frozen=True)
class Customer:
    code: str
    company: str
    contact: str
    contact_title: str
    street: str
    city: str
    region: str | None
    postal_code: str | None
    country: str
    phone: str


def _rows(name: str) -> list[list[str | None]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))[1:]
    return [[None if cell == "NULL" else cell for cell in row] for row in rows]


def _customer(row: list[str | None]) -> Customer:
    code, company, contact, title, *street, city, region, postal_code, country, phone, _ = row
    whole = ",".join(part or "" for part in street)  # some streets have a comma that the file does not quote
    return Customer(
        code, company, contact, title, " ".join(whole.split()), city, region, postal_code, COUNTRIES[country], phone
    )


class Northwind:
    """What the files say."""

    @cached_property
    def employees(self) -> dict[int, Employee]:
        found = {}
        for row in _rows("employees.csv"):
            number, last_name, first_name, title, boss = row[0], row[1], row[2], row[3], row[16]
            found[int(number)] = Employee(int(number), first_name, last_name, title, int(boss) if boss else None)
        return found

    @cached_property
    def customers(self) -> dict[str, Customer]:
        return {customer.code: customer for customer in map(_customer, _rows("customers.csv"))}

    @cached_property
    def owners(self) -> dict[str, int]:
        """Customer -> the employee with most orders for it (ties: lowest number); without orders the vice president."""
        orders: dict[str, Counter[int]] = {code: Counter() for code in self.customers}
        for row in _rows("orders.csv"):
            orders[row[1]][int(row[2])] += 1
        return {
            code: min(counted, key=lambda number: (-counted[number], number)) if counted else VICE_PRESIDENT
            for code, counted in orders.items()
        }

    def tree(self, number: int) -> set[int]:
        """An employee and everyone below."""
        below = {other.number for other in self.employees.values() if other.reports_to == number}
        return {number}.union(*(self.tree(other) for other in below))

    def seen_by(self, number: int) -> set[str]:
        """The customers of an employee and of everyone below."""
        return {code for code, owner in self.owners.items() if owner in self.tree(number)}

    def by_country(self, number: int) -> dict[str, int]:
        """How many of those customers are in each country."""
        return dict(Counter(self.customers[code].country for code in self.seen_by(number)))
