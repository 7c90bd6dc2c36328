"""Types of relations between accounts: the tenant's own words for them, from either side."""

from typing import Annotated, Literal

from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.record import Entity, sortable, unique
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Id, Input, Name, Output

_LABEL = "What the first account is to the second, e.g. `supplies`."
_INVERSE = "What the second is to the first, e.g. `is supplied by`."


class AccountRelationType(Entity):
    """A way in which two accounts may have to do with each other."""

    __tablename__ = "account_relation_types"
    __table_args__ = (
        unique("uq_account_relation_types_code", "code"),
        *sortable("account_relation_types", "code", "created_at"),
    )

    code: Mapped[str]
    label: Mapped[str]
    inverse_label: Mapped[str]


class AccountRelationTypeCreate(Input):
    """A way in which two accounts may have to do with each other."""

    id: Id | None = None
    code: Annotated[Code, Field(description="By which programs know it.")]
    label: Annotated[Name, Field(description=_LABEL)]
    inverse_label: Annotated[Name, Field(description=_INVERSE)]


class AccountRelationTypeView(Output):
    """A way in which two accounts may have to do with each other."""

    object: Literal["account_relation_type"]
    code: Code
    label: Name
    inverse_label: Name


ACCOUNT_RELATION_TYPES = Resource(
    singular="account_relation_type",
    plural="account_relation_types",
    model=AccountRelationType,
    output=AccountRelationTypeView,
    create=AccountRelationTypeCreate,
    title="label",
    default_access="read",
    filters=(AccountRelationType.code, AccountRelationType.label, AccountRelationType.created_at),
    sorts=(AccountRelationType.code, AccountRelationType.created_at),
)
