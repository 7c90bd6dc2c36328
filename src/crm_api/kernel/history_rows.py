"""Rows as they were at an instant, typed as their table is: those unchanged since, and the others folded back."""

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by

from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.database import TENANT
from crm_api.kernel.policy import Access, Met, Policy
from crm_api.kernel.record import AuditEntry, among, table_of
from crm_api.kernel.resource import Resource

AS_OF = sa.bindparam("as_of", type_=sa.DateTime(timezone=True))
_ENTRIES = table_of(AuditEntry)
_CONSTANT = ("tenant_id", "id", "created_at", "created_by")
"""Columns that no change touches: by those, records are found before they are folded."""


def rows_as_of(policy: Policy, access: Access, resource: Resource, met: Met) -> Any:
    """What stands for the table in a statement that reads it as of the parameter `as_of`.

    It has the columns that are sent, and those that stand in for them in sorts, of the rows that the caller may read
    now, deleted or not.
    """
    table = resource.table
    rule = policy.rows(access, resource, "read", table, met)
    fixed = [table.c[name] == sa.literal(value, sa.Text()) for name, value in resource.fixed.items()]
    conditions = [table.c.tenant_id == TENANT, *fixed, *([] if rule is None else [rule])]
    folded = {str(key.key): name for name, key in resource.keys.items()}
    names = ("tenant_id", *resource.columns, *folded)
    same = sa.select(*(table.c[name] for name in names)).where(
        *conditions, table.c.updated_at <= AS_OF, table.c.deleted_at.is_(None)
    )
    last = _last(table)
    delta = _delta(resource, last)
    whole: Any = sa.literal_column(str(table.name))
    columns = [sa.column(column.name, column.type) for column in table.c]
    old = sa.func.jsonb_populate_record(whole, delta.c.delta).table_valued(*columns, name="old")
    source = sa.join(sa.join(sa.join(table, last, sa.true()), delta, sa.true()), old, sa.true())

    def then(name: str) -> Any:
        if name in _CONSTANT:
            return table.c[name]
        return _folded(old.c[folded[name]]) if name in folded else old.c[name]

    changed = (
        sa.select(*(then(name).label(name) for name in names))
        .select_from(source)
        .where(*conditions, table.c.updated_at > AS_OF, table.c.created_at <= AS_OF, ~last.c.gone)
    )
    return sa.union_all(same, changed).subquery("was")


def _last(table: sa.Table) -> Any:
    """The change that made the version of then: by version, as clocks of processes differ.

    `erased_at` is the version at which the person that it tells of was erased last.
    """
    entry = _ENTRIES.alias("entry")
    gone = sa.and_(entry.c.before.has_key("id"), ~entry.c.after.has_key("id"))
    erasure = _ENTRIES.alias("erasure")
    erased = sa.select(sa.func.max(erasure.c.version)).where(
        erasure.c.tenant_id == TENANT,
        erasure.c.object_id == table.c.id,
        erasure.c.action == sa.literal("erase", sa.Text()),
    )
    erased_at = erased.correlate(table).scalar_subquery().label("erased_at")
    return (
        sa.select(entry.c.version, entry.c.at, entry.c.actor_id, gone.label("gone"), erased_at)
        .where(entry.c.tenant_id == TENANT, entry.c.object_id == table.c.id, entry.c.at <= AS_OF)
        .order_by(entry.c.version.desc(), entry.c.id)
        .limit(sa.literal_column("1"))
        .correlate(table)
        .lateral("last")
    )


def _delta(resource: Resource, last: Any) -> Any:
    """What later changes replaced. The first change of a field counts: the last of a key stays in an object.

    Of a person who was erased, nothing from before counts, even while it is still in the audit trail.
    """
    entry, table = _ENTRIES.alias("later"), resource.table
    old = (
        sa.func.jsonb_each(entry.c.before).table_valued("key", sa.column("value", JSONB()), name="was").render_derived()
    )
    value = aggregate_order_by(old.c.value, entry.c.version.desc(), entry.c.id.desc())
    replaced = sa.func.coalesce(sa.func.jsonb_object_agg(old.c.key, value), sa.literal_column("'{}'::jsonb"))
    stamp: list[Any] = []
    for name, told in (("version", last.c.version), ("updated_at", last.c.at), ("updated_by", last.c.actor_id)):
        stamp += [sa.literal_column(f"'{name}'"), told]
    stamped = sa.func.jsonb_build_object(*stamp, sa.literal_column("'deleted_at'"), sa.null())
    later: tuple[Any, ...] = (
        entry.c.tenant_id == TENANT,
        entry.c.object_id == table.c.id,
        entry.c.version > last.c.version,
    )
    if resource.personal:
        names = sa.literal([*resource.personal, CUSTOM], ARRAY(sa.Text()))
        unerased = entry.c.version > sa.func.coalesce(last.c.erased_at, sa.literal_column("0"))
        later = (*later, sa.or_(unerased, ~among(old.c.key, names)))
    return (
        sa.select(sa.type_coerce(replaced, JSONB()).op("||", return_type=JSONB())(stamped).label("delta"))
        .select_from(sa.join(entry, old, sa.true()))
        .where(*later)
        .correlate(table, last)
        .lateral("delta")
    )


def _folded(text: Any) -> Any:
    """Nearly what sorts compare: what is folded is not in the audit trail, and only our own code folds exactly."""
    marks: Any = sa.literal_column("'[\u0300-\u036f]'")
    plain = sa.func.normalize(text, sa.literal_column("NFKD"))
    return sa.func.lower(sa.func.regexp_replace(plain, marks, sa.literal_column("''"), sa.literal_column("'g'")))
