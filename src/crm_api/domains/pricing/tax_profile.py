"""Tax profiles: how a sale is taxed, such as at home, abroad or not at all."""

from typing import Annotated, Literal

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.domains.pricing.default_one import only_default
from crm_api.kernel.record import Entity, one_of, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Id, Input, Name, Output

_ROUNDING = Annotated[
    Literal["line", "document"],
    Field(description="`line` rounds each tax of each line, `document` the sum of each tax over the document."),
]
_EXEMPT = Annotated[bool, Field(description="No taxes at all; its rates are not asked for.")]
_DEFAULT = Annotated[bool, Field(description="It is taken where no other is named; at most one is.")]
_INCLUDED = Annotated[bool, Field(description="List prices of products are gross.")]


class TaxProfile(Entity):
    """How a sale is taxed."""

    __tablename__ = "tax_profiles"
    __table_args__ = (
        one_of("rounding", ("line", "document")),
        unique("uq_tax_profiles_code", "code"),
        sa.Index(
            "ix_tax_profiles_default",
            "tenant_id",
            postgresql_where=sa.and_(sa.column("is_default"), sa.column("deleted_at").is_(None)),
        ),
        *sortable("tax_profiles", "name_key", "created_at"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    code: Mapped[str]
    rounding: Mapped[str]
    prices_include_tax: Mapped[bool]
    exempt: Mapped[bool]
    is_default: Mapped[bool]


class TaxProfileCreate(Input):
    """How a sale is taxed."""

    id: Id | None = None
    name: Name
    code: Code
    rounding: _ROUNDING = "line"
    prices_include_tax: _INCLUDED = False
    exempt: _EXEMPT = False
    is_default: _DEFAULT = False


class TaxProfileView(Output):
    """How a sale is taxed."""

    object: Literal["tax_profile"]
    name: Name
    code: Code
    rounding: _ROUNDING
    prices_include_tax: _INCLUDED
    exempt: _EXEMPT
    is_default: _DEFAULT


TAX_PROFILES = Resource(
    singular="tax_profile",
    plural="tax_profiles",
    model=TaxProfile,
    output=TaxProfileView,
    create=TaxProfileCreate,
    keys={"name": TaxProfile.name_key},
    filters=(TaxProfile.name, TaxProfile.code, TaxProfile.exempt, TaxProfile.is_default),
    sorts=(TaxProfile.name, TaxProfile.created_at),
    default_access="read",
    checks=(only_default(),),
)
