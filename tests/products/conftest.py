"""A small range of products, made by the person who may."""

import itertools
from types import SimpleNamespace

import pytest

from tests.support.org import Org


@pytest.fixture(scope="module")
def firm(server) -> Org:
    return Org.create(server)


@pytest.fixture(scope="module")
def units(firm) -> SimpleNamespace:
    made = [("pcs", 0), ("box", 0), ("kg", 3), ("hour", 2)]
    return SimpleNamespace(
        **{code: firm.manager.make("units", code=code, name=code.title(), decimals=n)["id"] for code, n in made}
    )


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def product(firm, units):
    """Makes products; counted in pieces unless told."""

    def make(name: str = "Screw", **values) -> dict:
        values = {"sku": f"{name[:20]} {next(_numbers)}", "unit_id": units.pcs, **values}
        return firm.manager.make("products", name=name, **values)

    return make
