"""What is sealed is opened by the same installation, for the same tenant and purpose, unaltered; else not at all."""

from uuid import UUID, uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_api.kernel.sealing import Sealer, SealError, WrongKeyError
from crm_api.settings import derive_key

KEY = derive_key(b"m" * 32, "sealing")
TENANT = UUID(int=1)
SEALER = Sealer(KEY)


@given(st.binary(max_size=5000), st.uuids(), st.text(max_size=50))
def test_what_was_sealed_is_opened(plain, tenant, purpose):
    sealed = SEALER.seal(tenant, purpose, plain)
    assert len(sealed) == len(plain) + 33
    assert Sealer(KEY).unseal(tenant, purpose, sealed) == plain  # by another process, too
    assert SEALER.unseal(tenant, purpose, memoryview(sealed)) == plain


def test_the_plain_text_is_not_in_it_and_no_two_are_alike():
    plain = b"whsec_a secret that is long enough to be seen"
    first, second = (SEALER.seal(TENANT, "secrets", plain) for _ in range(2))
    assert first != second
    assert plain not in first
    assert plain[:8] not in first


@given(st.data())
def test_an_altered_value_is_refused(data):
    sealed = bytearray(SEALER.seal(TENANT, "secrets", b"plain"))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(SealError):
        SEALER.unseal(TENANT, "secrets", bytes(sealed))


@given(st.binary(max_size=80))
def test_what_was_never_sealed_is_refused(text):
    with pytest.raises(SealError):
        SEALER.unseal(TENANT, "secrets", text)


@pytest.mark.parametrize("length", range(38))
def test_a_cut_value_is_refused(length):
    sealed = SEALER.seal(TENANT, "secrets", b"plain")
    assert len(sealed) == 38
    with pytest.raises(SealError):
        SEALER.unseal(TENANT, "secrets", sealed[:length])


def test_another_tenant_and_another_purpose_are_refused():
    sealed = SEALER.seal(TENANT, "secrets", b"plain")
    for tenant, purpose in ((uuid4(), "secrets"), (TENANT, "headers"), (TENANT, ""), (TENANT, "secrets ")):
        with pytest.raises(SealError, match="another tenant or purpose") as raised:
            SEALER.unseal(tenant, purpose, sealed)
        assert "plain" not in str(raised.value)


def test_another_secret_of_the_installation_is_named_as_the_cause():
    sealed = SEALER.seal(TENANT, "secrets", b"plain")
    with pytest.raises(WrongKeyError, match="sealed under another CRM_SECRET"):
        Sealer(derive_key(b"n" * 32, "sealing")).unseal(TENANT, "secrets", sealed)


def test_an_earlier_key_opens_and_does_not_seal():
    earlier, later = derive_key(b"m" * 32, "sealing"), derive_key(b"n" * 32, "sealing")
    old = Sealer(earlier).seal(TENANT, "secrets", b"plain")
    both = Sealer(later, earlier)
    assert both.unseal(TENANT, "secrets", old) == b"plain"
    assert Sealer(later).unseal(TENANT, "secrets", both.seal(TENANT, "secrets", b"plain")) == b"plain"


@pytest.mark.parametrize("keys", [(), (b"short",), (b"k" * 32, b"short")])
def test_a_key_that_is_too_short_is_refused(keys):
    with pytest.raises(ValueError, match="32 bytes"):
        Sealer(*keys)
