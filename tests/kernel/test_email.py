"""The short way to know a plain e-mail address gives what the library gives."""

import pytest
from email_validator import SPECIAL_USE_DOMAIN_NAMES, EmailNotValidError, validate_email
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from crm_api.kernel.schema import _PLAIN_EMAIL, Email

EMAIL = TypeAdapter(Email)
LABELS = st.text("ab0-x.n_", min_size=1, max_size=70) | st.sampled_from(["xn--p1ai", "a" * 63, "a" * 64, "-a", "a-"])
TOPS = st.sampled_from(["de", "com", "d", "d1", "a" * 24, "a" * 25, *SPECIAL_USE_DOMAIN_NAMES])
DOMAINS = st.builds(lambda labels, top: ".".join([*labels, top]), st.lists(LABELS, max_size=4), TOPS)
LOCALS = st.from_regex(r"[a-zA-Z0-9._+\-%']{1,70}", fullmatch=True) | st.sampled_from(["postmaster", "Info", "ä"])


def expected(address: str) -> str | None:
    try:
        return validate_email(address, check_deliverability=False).normalized
    except EmailNotValidError:
        return None


@given(st.builds("{}@{}".format, LOCALS, DOMAINS) | st.from_regex(_PLAIN_EMAIL, fullmatch=True))
@example("a@b.de\n")
@example("jane.doe@mail.example")
def test_addresses_are_those_of_the_library(address):
    try:
        found = EMAIL.validate_python(address)
    except ValidationError:
        found = None
    assert found == (expected(address) if 3 <= len(address) <= 254 else None)


@pytest.mark.parametrize("name", SPECIAL_USE_DOMAIN_NAMES)
def test_special_domains_are_top_level(name):
    """The short way looks at the last label alone."""
    assert "." not in name
    assert expected(f"jane@mail.{name}") is None
