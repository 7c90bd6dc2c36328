"""Row rule of files: a file is open to whoever the record it hangs on is open to."""

from typing import Any

import sqlalchemy as sa

from crm_api.kernel.policy import Scope, needs_reach
from crm_api.kernel.resource import Resource, RowRule


def attachable(resource: Resource) -> bool:
    """Whether files may hang on such records: those that can be read one by one, and changed."""
    return "get" in resource.operations and "update" in resource.permitted_actions


def _of_record(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
    level = "read" if action == "read" else "update"
    reached = needs_reach(action)
    found = []
    for plural, resource in scope.policy.catalog.resources.items():
        if not attachable(resource) or not scope.may(plural, level):
            continue
        record = resource.table.alias(f"record_{plural}")
        ids = sa.select(record.c.id).where(*scope.visible(plural, level, record, reached=reached))
        # Where all records are open, one may be deleted.
        open_ = scope.linked(table.c.object_id, ids, found=not scope.all_visible(plural, level, reached=reached))
        found.append(sa.and_(table.c.object_type == sa.literal(resource.singular, sa.Text()), open_))
    return sa.or_(*found) if found else None


OF_RECORD = RowRule("record", _of_record)
