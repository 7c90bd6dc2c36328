"""Addresses, e-mails and phones as parts of a record, and what is derived from them."""

from collections.abc import Mapping
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm_api.kernel.schema import Country, Email, Line, PhoneNumber, Wire, e164

MOST = 50


class EmailAddress(Wire):
    """One e-mail address."""

    address: Email
    kind: Literal["work", "home", "billing", "support", "other"] = "work"
    is_primary: bool = False
    opted_out: bool = False


class Phone(Wire):
    """One phone number, in E.164; a national number is taken when its country is given."""

    number: PhoneNumber
    extension: Annotated[str, Field(pattern="^[0-9]{1,10}$", max_length=10)] | None = None
    kind: Literal["work", "mobile", "home", "fax", "other"] = "work"
    is_primary: bool = False
    opted_out: bool = False


class PhoneInput(Wire):
    """A phone number as dialled: with + and country code, or national with `country`."""

    number: Annotated[str, Field(min_length=3, max_length=40, examples=["+4930123456"])]
    country: Country | None = None
    extension: Annotated[str, Field(pattern="^[0-9]{1,10}$", max_length=10)] | None = None
    kind: Literal["work", "mobile", "home", "fax", "other"] = "work"
    is_primary: bool = False
    opted_out: bool = False

    @model_validator(mode="after")
    def _normalise(self) -> "PhoneInput":
        object.__setattr__(self, "number", e164(self.number, self.country))
        return self


class Address(Wire):
    """One postal address and when it holds."""

    kind: Literal["billing", "shipping", "visiting", "registered", "other"] = "billing"
    line1: Line | None = None
    line2: Line | None = None
    city: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    region: Annotated[str, Field(min_length=1, max_length=100)] | None = None
    postal_code: Annotated[str, Field(min_length=1, max_length=20)] | None = None
    country: Country | None = None
    is_primary: bool = False
    valid_from: date | None = None
    valid_until: date | None = None

    @model_validator(mode="after")
    def _ordered(self) -> "Address":
        if self.valid_from and self.valid_until and self.valid_until < self.valid_from:
            raise PydanticCustomError("invalid_period", "valid_until is before valid_from.")
        return self


EmailList = Annotated[list[EmailAddress], Field(max_length=MOST)]
PhoneInputList = Annotated[list[PhoneInput], Field(max_length=MOST)]
PhoneList = Annotated[list[Phone], Field(max_length=MOST)]
AddressList = Annotated[list[Address], Field(max_length=MOST)]


def primary_address(addresses: Any) -> Mapping[str, Any]:
    """Country, region, city and postal code of the primary address, or of the first."""
    chosen = next((item for item in addresses or () if item.get("is_primary")), (addresses or [{}])[0])
    return {name: chosen.get(name) for name in ("country", "region", "city", "postal_code")}


def stored_phones(phones: Any) -> Mapping[str, Any]:
    """Phones without the country that helped to read them."""
    return {"phones": [{name: value for name, value in phone.items() if name != "country"} for phone in phones or ()]}


def addresses_of(emails: Any) -> list[str]:
    """The values by which e-mails are found."""
    return [item["address"] for item in emails]


def numbers_of(phones: Any) -> list[str]:
    """The values by which phones are found."""
    return [item["number"] for item in phones]
