"""What tests of security take from elsewhere."""

from tests.laws.conftest import unchanged

__all__ = ["unchanged"]
