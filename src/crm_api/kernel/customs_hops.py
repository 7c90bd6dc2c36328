"""The references that a path of a filter or group follows: declared ones, and the tenant's own."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY

from crm_api.kernel.customs import PREFIX, fields_of
from crm_api.kernel.customs_expand import steps
from crm_api.kernel.customs_index import VALUES, Form, entry, expression
from crm_api.kernel.database import TENANT
from crm_api.kernel.domain import Catalog
from crm_api.kernel.filter_values import Place
from crm_api.kernel.policy import Access
from crm_api.kernel.record import among
from crm_api.kernel.resource import Resource


@dataclass(frozen=True, slots=True)
class Hop:
    """One reference of a path.

    `form` is what the SQL of a custom one depends on; the parameters `{name}_of` and `{name}_key` then say which field
    it is, as those of a comparison do.

    Attributes:
        step: as it is asked for.
        column: of the record, that has it.
        target: the plural of what it leads to.
        form: None for a declared one.
        name: of its parameters.
    """

    step: str
    column: str
    target: str
    form: Form | None = None
    name: str = field(default="", compare=False)

    def __str__(self) -> str:
        """As it is asked for."""
        return self.step

    @property
    def field(self) -> str:
        """The field that says where it leads, as field rules name it."""
        return self.column if self.form is None else self.step

    @property
    def shape(self) -> tuple[Any, ...]:
        """What the SQL depends on."""
        return (self.step,) if self.form is None else (self.target, self.form)

    @property
    def label(self) -> str:
        """What the rows that it leads to are called in SQL, together with a number."""
        return self.column.removesuffix("_id")

    def reference(self, table: Any) -> Any:
        """The id in a row that it leads to."""
        if self.form is None:
            return table.c[self.column]
        key = sa.bindparam(f"{self.name}_key", type_=sa.Text())
        return sa.cast(expression(table, self.form[0], key), sa.Uuid())

    def referring(self, table: Any, ids: Any, alias: str) -> Any:
        """The ids of rows that refer to some records; None where no index finds them."""
        if self.form is not None:
            rows = VALUES.alias(alias)
            values = among(rows.c.text_value, sa.cast(ids, ARRAY(sa.Text())))
            found = sa.select(rows.c.object_id).where(*entry(None, f"{self.name}_of", rows), values)
            return found if self.form[1] else None
        if not any(index.columns.keys()[:2] == ["tenant_id", self.column] for index in table.indexes):
            return None
        other = table.alias(alias)
        return sa.select(other.c.id).where(other.c.tenant_id == TENANT, among(other.c[self.column], ids))


def hop_of(
    catalog: Catalog, access: Access, resource: Resource, step: str, name: str, place: Place
) -> tuple[Hop, dict[str, Any]]:
    """(a reference of a resource, the values of its parameters).

    Raises:
        Problem: 422 for what is no reference, or may not be filtered by.
    """
    custom = fields_of(access, resource).get(step.removeprefix(PREFIX)) if step.startswith(PREFIX) else None
    found = steps(catalog, access, resource, first=False).get(step)
    if found is None:
        reason = f"There is no relation {step!r}" if custom is None else f"{step!r} is no reference"
        raise place.fault("unknown_field", f"{reason} to filter through.")
    if custom is None:
        return Hop(step, found.column, found.target), {}
    if not custom.filterable:
        raise place.fault("unknown_field", f"{step!r} is not a filter of {resource.plural}.")
    form = (custom.kind.name, custom.indexed)
    values = {f"{name}_of": custom.place, f"{name}_key": custom.key}
    return Hop(step, found.column, found.target, form, name), values


def end_of(catalog: Catalog, resource: Resource, hops: Sequence[Hop]) -> Resource:
    """The resource that references lead to from another one."""
    return catalog.resources[hops[-1].target] if hops else resource
