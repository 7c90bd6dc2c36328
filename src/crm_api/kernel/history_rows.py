"""Rows as they were at an instant, typed as their table is: those unchanged since, and the others folded back."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, aggregate_order_by

from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.database import TENANT
from crm_api.kernel.paging import Ordered, order
from crm_api.kernel.policy import Access, Met, Policy
from crm_api.kernel.record import AuditEntry, among, table_of
from crm_api.kernel.resource import Resource

AS_OF = sa.bindparam("as_of", type_=sa.DateTime(timezone=True))
_ENTRIES = table_of(AuditEntry)
_CONSTANT = ("tenant_id", "id", "created_at", "created_by")
"""Columns that no change touches: by those, records are found before they are folded."""


def rows_as_of(policy: Policy, access: Access, resource: Resource, met: Met = Met.ONE) -> Any:
    """What stands for the table in a statement that reads it as of the parameter `as_of`."""
    return sa.union_all(*parts_as_of(policy, access, resource, met)).subquery("was")


def in_order(rows: Any, keys: Sequence[Ordered], limit: Any) -> Any:
    """A page of what both parts have, of which each is a page in the same order; its keys are `k0`, `k1`, ..."""
    both = rows.subquery("both")
    own = [replace(key, column=both.c[f"k{i}"]) for i, key in enumerate(keys)]
    return sa.select(both).order_by(*order(own)).limit(limit)


def parts_as_of(policy: Policy, access: Access, resource: Resource, met: Met) -> tuple[Any, Any]:
    """The rows that have not changed since the parameter `as_of`, and the others as they were.

    Both have the columns that are sent, and those that stand in for them in sorts, of the rows that the caller may read
    now, deleted or not.
    """
    table = resource.table
    whole: Any = sa.literal_column(str(table.name))

    def may(rows: Any, met: Met) -> list[Any]:
        rule = policy.rows(access, resource, "read", rows, met)
        fixed = [rows.c[name] == sa.literal(value, sa.Text()) for name, value in resource.fixed.items()]
        return [rows.c.tenant_id == TENANT, *fixed, *([] if rule is None else [rule])]

    folded = {str(key.key): name for name, key in resource.keys.items()}
    names = ("tenant_id", *resource.columns, *folded)
    same = sa.select(*(table.c[name] for name in names)).where(
        *may(table, met), table.c.updated_at <= AS_OF, table.c.deleted_at.is_(None)
    )
    rows: Any = _since(table, resource.singular, whole) if met is Met.WALK else table
    last = _last(rows)
    delta = _delta(resource, rows, last)
    columns = [sa.column(column.name, column.type) for column in table.c]
    image = rows.c.whole if met is Met.WALK else whole
    old = sa.func.jsonb_populate_record(image, delta.c.delta).table_valued(*columns, name="old")
    source = sa.join(sa.join(sa.join(rows, last, sa.true()), delta, sa.true()), old, sa.true())

    def then(name: str) -> Any:
        if name in _CONSTANT:
            return rows.c[name]
        return _folded(old.c[folded[name]]) if name in folded else old.c[name]

    changed = may(rows, Met.ONE if met is Met.WALK else met)
    changed += [rows.c.updated_at > AS_OF, rows.c.created_at <= AS_OF, ~last.c.gone]
    return same, sa.select(*(then(name).label(name) for name in names)).select_from(source).where(*changed)


def _since(table: sa.Table, kind: str, whole: Any) -> Any:
    """Rows that were changed since then: those of which the audit trail tells since an hour before.

    No index has when rows were changed, but the ids of entries begin with their time. Of a range that is open the
    planner expects a third of all entries, of one between two unknown ends few; OFFSET 0 keeps it from reading all rows
    in the order of the sort, to look each up here.
    """
    change = _ENTRIES.alias("change")
    first, last = (_id_at(AS_OF + sa.literal_column(f"interval '{shift}'")) for shift in ("-1 hour", "1000000 days"))
    told = (
        sa.select(change.c.object_id).distinct().where(change.c.tenant_id == TENANT, change.c.id.between(first, last))
    )
    ids = (
        told.where(change.c.object_type == sa.literal(kind, sa.Text())).offset(sa.literal_column("0")).subquery("told")
    )
    same = sa.and_(table.c.tenant_id == TENANT, table.c.id == ids.c.object_id)
    found = sa.select(table, whole.label("whole")).select_from(sa.join(ids, table, same))
    return found.offset(sa.literal_column("0")).subquery("since")


def _id_at(instant: Any) -> Any:
    """The least UUIDv7 (RFC 9562, 5.7) of an instant."""
    seconds = sa.func.date_part(sa.literal_column("'epoch'"), instant)
    thousandths = sa.cast(sa.func.floor(seconds * sa.literal_column("1000")), sa.BigInteger())
    zero: Any = sa.literal_column("'0'")
    digits = sa.func.lpad(sa.func.to_hex(thousandths), sa.literal_column("12"), zero)
    return sa.cast(sa.func.rpad(digits, sa.literal_column("32"), zero), sa.Uuid())


def _last(table: Any) -> Any:
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


def _delta(resource: Resource, table: Any, last: Any) -> Any:
    """What later changes replaced. The first change of a field counts: the last of a key stays in an object.

    Of a person who was erased, nothing from before counts, even while it is still in the audit trail.
    """
    entry = _ENTRIES.alias("later")
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
