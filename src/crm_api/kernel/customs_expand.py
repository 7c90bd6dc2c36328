"""What `expand` may follow from a record: references and lists of its resource, and the tenant's own references."""

import re
from typing import Any, NamedTuple

import sqlalchemy as sa

from crm_api.kernel.customs import CUSTOM, fields_of
from crm_api.kernel.domain import Catalog
from crm_api.kernel.policy import Access
from crm_api.kernel.resource import Resource

_BETWEEN = re.compile(r"(?<!\bcustom)\.")


class Step(NamedTuple):
    """One step of an expanded path.

    Attributes:
        name: as it is asked for, and where the record that it leads to stands.
        target: the resource that it leads to.
        column: that has the reference, of the record, or for a list of each child.
        key: of a custom field, whose values are in `column`.
        many: it is a list of children.
    """

    name: str
    target: str
    column: str
    key: str = ""
    many: bool = False

    @property
    def field(self) -> str:
        """The field that says where it leads, as field rules name it."""
        return self.name if self.key else self.column

    def reference(self, table: Any) -> Any:
        """The id in a row that it leads to."""
        column = table.c[self.column]
        return column.op("->>", return_type=sa.Text())(sa.literal(self.key, sa.Text())) if self.key else column


Path = tuple[Step, ...]
"""What one path follows."""


def step_names(path: str) -> list[str]:
    """The steps of a path: `account.custom.partner` has two."""
    return _BETWEEN.split(path)


def steps(catalog: Catalog, access: Access, resource: Resource, *, first: bool) -> dict[str, Step]:
    """What may be followed from records of a resource, by name; lists only as the `first` step and the last."""
    found = {name: Step(name, target.plural, column) for name, (column, target) in catalog.to_one(resource).items()}
    for custom in fields_of(access, resource).values():
        if custom.target is not None:
            found[custom.name] = Step(custom.name, custom.target, CUSTOM, custom.key)
    if first:
        found |= {name: Step(name, many.plural, many.column, many=True) for name, many in resource.many.items()}
    return found
