"""Settings of a tenant: what is done with a new record that may mean the same as one there is."""

from typing import Annotated, Literal

from pydantic import Field

from crm_api.domains.identity.role import KNOWN_RESOURCE
from crm_api.kernel.duplicates_check import DuplicateCheck
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Code, Id, Input, Output

Score = Annotated[int, Field(ge=1, le=100, description="The least score that counts.")]
What = Annotated[Literal["allow", "refuse"], Field(description="Whether such a record is refused with 409.")]


class DuplicateCheckCreate(Input):
    """What is done with new records of a resource that may mean the same as others."""

    id: Id | None = None
    resource: Annotated[Code, Field(description="Records of one that has no rules are not compared.")]
    on_create: What = "refuse"
    score: Score = 80


class DuplicateCheckView(Output):
    """What is done with new records of a resource that may mean the same as others."""

    object: Literal["duplicate_check"]
    resource: Code
    on_create: What
    score: Score


DUPLICATE_CHECKS = Resource(
    singular="duplicate_check",
    plural="duplicate_checks",
    model=DuplicateCheck,
    output=DuplicateCheckView,
    create=DuplicateCheckCreate,
    title="resource",
    filters=(DuplicateCheck.resource,),
    sorts=(DuplicateCheck.created_at,),
    checks=(KNOWN_RESOURCE,),
    operations=frozenset({"get", "list", "create", "update", "delete"}),
    access_fields=frozenset({"resource", "on_create", "score"}),
)
