"""Base wire types: what every schema is made of. Schemas themselves are written by hand in their resource's file."""

import re
import unicodedata
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any, Literal, LiteralString, get_args
from urllib.parse import urlsplit

import phonenumbers
from babel import Locale
from babel.numbers import get_currency_name, list_currencies
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from pydantic import (
    AfterValidator,
    AwareDatetime,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    WithJsonSchema,
    create_model,
)
from pydantic_core import PydanticCustomError

LAST = "\U0010ffff"
"""What no character comes after: text that begins with another lies between that and that with this at its end."""
UUID_PATTERN = "^[0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{4}-[0-9a-fA-F]{12}$"
SOURCE_PATTERN = "[a-z][a-z0-9_]{0,62}"
_MARK = r"\x00-\x1f\x7f\ufffd"
EXTERNAL_ID_PATTERN = rf"[^\s{_MARK}]([^{_MARK}]*[^\s{_MARK}])?"
"""What other systems call a record: any text without control characters or spaces around it."""
EXTERNAL_PATTERN = f"^ext:{SOURCE_PATTERN}:{EXTERNAL_ID_PATTERN}$"
REF_PATTERN = f"^({UUID_PATTERN[1:-1]}|{EXTERNAL_PATTERN[1:-1]})$"
LONGEST_EXTERNAL_ID = 200
MOST_SOURCES = 50
LONGEST_REF = 4 + 63 + 1 + LONGEST_EXTERNAL_ID
_MONEY_PATTERN = r"^-?[0-9]{1,14}(\.[0-9]{1,4})?$"
_QUANTITY_PATTERN = r"^[0-9]{1,12}(\.[0-9]{1,6})?$"
_EXTERNAL = re.compile(EXTERNAL_PATTERN[1:-1])
_REF = re.compile(REF_PATTERN)
_PLAIN_EMAIL = re.compile(
    r"[a-z0-9_+-]{1,32}(\.[a-z0-9_+-]{1,31})?@(([a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\.){1,3}[a-z]{2,24})"
)
"""What the library answers unchanged (unless the domain is special or encoded), and costs a twentieth to know."""
_E164 = r"^\+[1-9][0-9]{3,14}$"


class Wire(BaseModel):
    """Anything in a body: unknown fields are refused, types are not coerced."""

    model_config = ConfigDict(
        extra="forbid", strict=True, frozen=True, str_strip_whitespace=True, hide_input_in_errors=True
    )


class Input(Wire):
    """A body that creates something; `updated_from` derives the PATCH body."""


def with_defaults(model: type[Input], given: Mapping[str, Any]) -> dict[str, Any]:
    """Every field of a create body of which some are given."""
    fields = model.model_fields.items()
    return {name: info.get_default(call_default_factory=True) for name, info in fields if name not in given} | dict(
        given
    )


def text_schema(pattern: str, least: int, most: int, **more: Any) -> dict[str, Any]:
    """The schema of text of a pattern and a length, with `more` of its members."""
    return {"type": "string", "pattern": pattern, "minLength": least, "maxLength": most, **more}


def decimal_of(pattern: str, code: LiteralString, told: LiteralString) -> BeforeValidator:
    """Takes a decimal string of a pattern, or says by code and words what it takes."""
    known = re.compile(pattern)

    def read(value: Any) -> Decimal:
        if isinstance(value, Decimal):
            return value
        if not isinstance(value, str) or not known.fullmatch(value):
            raise PydanticCustomError(code, told)
        return Decimal(value)

    return BeforeValidator(read)


def _positive(value: Decimal) -> Decimal:
    if value <= 0:
        raise PydanticCustomError("not_positive", "This is greater than zero.")
    return value


def _email(value: str) -> str:
    plain = _PLAIN_EMAIL.fullmatch(value)
    if plain and "--" not in plain[2] and plain[2].rpartition(".")[2] not in SPECIAL_USE_DOMAIN_NAMES:
        return value
    try:
        return validate_email(value, check_deliverability=False).normalized
    except EmailNotValidError as error:
        raise PydanticCustomError("invalid_email", "This is not an e-mail address.") from error


def _url(value: str) -> str:
    try:
        if urlsplit(value).hostname:
            return value
    except ValueError:
        pass
    raise PydanticCustomError("invalid_url", "This is not a web address.")


def _ref(value: Any) -> Any:
    if isinstance(value, str) and not _REF.fullmatch(value.strip()):
        raise PydanticCustomError("invalid_reference", "This is neither an id (a UUID) nor ext:source:external_id.")
    return value


def _country(value: str) -> str:
    if value not in _COUNTRIES:
        raise PydanticCustomError("invalid_country", 'A country is an ISO 3166-1 alpha-2 code such as "DE".')
    return value


def _currency(value: str) -> str:
    if value not in _CURRENCIES:
        raise PydanticCustomError("invalid_currency", 'A currency is an ISO 4217 code such as "EUR".')
    return value


_COUNTRIES = frozenset(code for code in map(str, Locale("en").territories) if re.fullmatch("[A-Z]{2}", code)) - {
    "EU",
    "EZ",
    "UN",
    "XA",
    "XB",
    "ZZ",
    "QO",
}
_CURRENCIES = frozenset(code for code in list_currencies() if get_currency_name(code, locale="en"))

Id = Annotated[
    str, Field(pattern=UUID_PATTERN, min_length=36, max_length=36, examples=["019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"])
]
Ref = Annotated[
    str,
    Field(
        pattern=REF_PATTERN,
        min_length=7,
        max_length=LONGEST_REF,
        examples=["019aa1c2-7d3e-7c41-b1f2-3f6d1b0a9e55"],
        description="An id, or an external id: `ext:{source}:{external_id}`.",
    ),
    BeforeValidator(_ref),
]
"""A reference in a body: the id of a record, or what another system calls it."""
ExternalIdText = Annotated[
    str, Field(pattern=f"^{EXTERNAL_ID_PATTERN}$", min_length=1, max_length=LONGEST_EXTERNAL_ID, examples=["4711"])
]
Name = Annotated[str, Field(min_length=1, max_length=200)]
Line = Annotated[str, Field(min_length=1, max_length=500)]
Paragraph = Annotated[str, Field(min_length=1, max_length=10_000)]
Code = Annotated[str, Field(pattern="^[a-z][a-z0-9_]{0,62}$", min_length=1, max_length=63)]
Tag = Annotated[str, Field(min_length=1, max_length=60)]
Url = Annotated[str, Field(pattern=r"^https?://[^\s<>\x22]+$", min_length=8, max_length=2000), AfterValidator(_url)]
Email = Annotated[
    str, Field(min_length=3, max_length=254, json_schema_extra={"format": "email"}), AfterValidator(_email)
]
Country = Annotated[str, WithJsonSchema(text_schema("^[A-Z]{2}$", 2, 2)), AfterValidator(_country)]
Currency = Annotated[str, WithJsonSchema(text_schema("^[A-Z]{3}$", 3, 3)), AfterValidator(_currency)]
Language = Annotated[str, Field(pattern="^[a-z]{2,3}(-[A-Z]{2})?$", min_length=2, max_length=6)]
PhoneNumber = Annotated[str, Field(pattern=_E164, min_length=5, max_length=16)]
Instant = Annotated[AwareDatetime, WithJsonSchema({"type": "string", "format": "date-time", "maxLength": 40})]
Money = Annotated[
    Decimal,
    decimal_of(
        _MONEY_PATTERN, "invalid_money", 'An amount is a decimal string such as "1234.50", with at most 4 decimals.'
    ),
    WithJsonSchema(text_schema(_MONEY_PATTERN, 1, 20, examples=["1234.50"])),
]
Quantity = Annotated[
    Decimal,
    decimal_of(
        _QUANTITY_PATTERN,
        "invalid_quantity",
        'A quantity is a decimal string such as "2.5", not negative, with at most 6 decimals.',
    ),
    WithJsonSchema(text_schema(_QUANTITY_PATTERN, 1, 19, examples=["2.5"])),
]
"""How much or how many, never negative; a column of type `Ratio` keeps it."""
PositiveQuantity = Annotated[Quantity, AfterValidator(_positive)]
Count = Annotated[int, Field(ge=0, le=2_000_000_000)]

Total = Annotated[str, Field(max_length=40, pattern=r"^-?[0-9]+\.[0-9]{2,4}$", examples=["1234.50"])]
"""A sum of money, however large."""


def external_key(text: Any) -> tuple[str, str] | None:
    """(source, external id) of an external id as it is written in place of an id; None for anything else."""
    if not isinstance(text, str) or not text.startswith("ext:") or not _EXTERNAL.fullmatch(text):
        return None
    source, _, external_id = text[4:].partition(":")
    return (source, external_id) if len(external_id) <= LONGEST_EXTERNAL_ID else None


def e164(number: str, country: str | None) -> str:
    """A number as dialled, in E.164; `country` is needed unless it starts with +.

    Raises:
        PydanticCustomError: no such number can exist.
    """
    try:
        parsed = phonenumbers.parse(number, country)
        if phonenumbers.is_valid_number(parsed):
            return str(phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164))
    except phonenumbers.NumberParseException:
        pass
    raise PydanticCustomError(
        "invalid_phone", "This is not a valid phone number; write it as +4930123456 or give its country."
    )


def money_text(scaled: int) -> str:
    """Ten-thousandths as a decimal string with two to four decimals."""
    digits = f"{scaled:05d}" if scaled >= 0 else f"{scaled:06d}"
    end = -2 if digits.endswith("00") else -1 if digits.endswith("0") else None
    return f"{digits[:-4]}.{digits[-4:end]}"


def ratio_text(scaled: int) -> str:
    """Millionths as a decimal string without trailing zeros."""
    sign = "-" if scaled < 0 else ""
    whole, rest = divmod(abs(scaled), 1_000_000)
    return f"{sign}{whole}.{rest:06d}".rstrip("0").rstrip(".") if rest else f"{sign}{whole}"


_SPECIAL = str.maketrans({"ß": "ss", "æ": "ae", "œ": "oe", "ø": "o", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i"})  # noqa: RUF001


SEPARATOR = "\x1f"
"""Between the pieces of searched text. A space to `fold`."""


def fold(text: str) -> str:
    """Lower case without accents and with single spaces: how text is compared in search and sorted by name."""
    if text.isascii():
        return " ".join(text.lower().split())
    folded = text
    for _ in range(2):  # compatibility forms hold capitals, and capitals hold compatibility forms (Unicode D147)
        folded = unicodedata.normalize("NFKD", folded).casefold()
    folded = unicodedata.normalize("NFKD", folded).translate(_SPECIAL)
    return " ".join("".join(mark for mark in folded if not unicodedata.combining(mark)).split())


class Output(Wire):
    """A record as it is sent, everywhere the same; a field that a rule hides is null and named in `redacted`."""

    id: Id
    version: Annotated[int, Field(ge=1, le=9_007_199_254_740_991)]
    created_at: Instant
    created_by: Id | None
    updated_at: Instant
    updated_by: Id | None
    custom: Annotated[dict[str, Any], Field(description="Custom fields by their key.")]
    external_ids: Annotated[
        dict[str, Annotated[str, Field(max_length=LONGEST_EXTERNAL_ID)]],
        Field(max_length=MOST_SOURCES, description="What other systems call the record, by source."),
    ]
    redacted: Annotated[
        list[Annotated[str, Field(max_length=63)]], Field(max_length=200, description="Fields hidden from the caller.")
    ]


class OwnedOutput(Output):
    """Adds who a record belongs to."""

    owner_id: Id | None
    team_id: Id | None
    territory_id: Id | None


class Redacted(Wire):
    """Stands for a related record that the caller may not see."""

    id: Id
    object: Annotated[str, Field(max_length=63)]
    redacted: Literal[True]


def updated_from(create: type[Input], once: frozenset[str] = frozenset()) -> type[Input]:
    """The merge patch (RFC 7396) of a create body: all optional, null only where null is a value; without `once`."""
    fields: dict[str, Any] = {}
    for name, info in create.model_fields.items():
        if name != "id" and name not in once:
            fields[name] = (
                info.rebuild_annotation(),
                Field(default=None, validate_default=False, description=info.description),
            )
    name = create.__name__.removesuffix("Create") + "Update"
    model: type[Input] = create_model(
        name, __base__=Input, __doc__=f"Merge patch: absent keeps, null clears. See {create.__name__}.", **fields
    )
    return model


def nullable(annotation: Any) -> bool:
    """Whether a field's annotation admits null."""
    return type(None) in get_args(annotation)


def instant_text(value: datetime) -> str:
    """RFC 3339 in UTC with Z, as orjson writes it."""
    return value.isoformat().replace("+00:00", "Z")
