"""Builds the statements that write a row, its ledger, its index values and its stored reply at once."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel import customs_index, customs_search
from crm_api.kernel.coalescing import Mode
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, PREFIX
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.external import claim, kind_of, release, settled_links
from crm_api.kernel.ledger import ACTOR, NOW, entries, image, insert_from
from crm_api.kernel.locking import as_seen
from crm_api.kernel.parts import marked_parts, written_parts
from crm_api.kernel.policy import access_version
from crm_api.kernel.projection import Projection
from crm_api.kernel.query import frame
from crm_api.kernel.record import IdempotencyKey, IdempotencyReply, Tenant, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import SEPARATOR
from crm_api.kernel.value_index import index_values, unindex_values

_ID = sa.bindparam("id", type_=sa.Uuid())


@dataclass(frozen=True, slots=True)
class Writing:
    """A compiled write; it gives the access version, and the row's image when it wrote."""

    statement: Statement
    projection: Projection

    def item(self, row: Row) -> dict[str, Any] | None:
        """The wire object of the row as it is now; None when nothing was written."""
        image = row["image"]
        return None if image is None else self.projection.from_image(orjson.loads(image))


def _bind(resource: Resource, name: str) -> Any:
    return sa.bindparam(f"v_{name}", type_=resource.table.c[name].type)


def assigned(resource: Resource, name: str) -> Any:
    """What an update sets a column to: the parameter, or for custom fields the merge of the row's and the parameter."""
    if name != CUSTOM:
        return _bind(resource, name)
    merged = resource.table.c.custom.op("||", return_type=JSONB())(_bind(resource, name))
    return sa.func.jsonb_strip_nulls(merged, type_=JSONB())


def differs(resource: Resource, name: str) -> Any:
    """Whether an update would change a field of a row, which may be a custom one."""
    if not name.startswith(PREFIX):
        return resource.table.c[name].is_distinct_from(assigned(resource, name))
    key = sa.literal(name.removeprefix(PREFIX), sa.Text())
    old, new = (
        side.op("->", return_type=JSONB())(key) for side in (resource.table.c.custom, assigned(resource, CUSTOM))
    )
    return old.is_distinct_from(new)


def source(resource: Resource, columns: frozenset[str]) -> Any:
    """A row of parameters that predicates can be asked of, as if it were in the table."""
    binds = [TENANT.label("tenant_id"), *(_bind(resource, name).label(name) for name in sorted(columns))]
    return sa.select(*binds).subquery(f"new_{resource.table.name}")


def exists(ctx: Context, resource: Resource, column: str, value: Any = None) -> Any:
    """That a reference leads to what the caller may see; locked as the foreign key locks it, so as not to be merged."""
    if (target := ctx.kernel.catalog.target(resource, column)) is None:
        return None
    table = target.table.alias(f"ref_{column}")
    gate = ctx.kernel.policy.gate(ctx.access, target, "read", table)
    value = _bind(resource, column) if value is None else value
    found = sa.select(sa.literal(1)).select_from(table).where(table.c.id == value, *gate)
    return sa.exists(found.with_for_update(read=True, key_share=True, of=table))


def for_another(ctx: Context, resource: Resource, row: Mapping[str, Any]) -> bool:
    """Whether a new row is to belong to somebody else; then it takes reach, as giving a row away does."""
    owner = row.get("owner_id") if resource.owned else None
    return owner is not None and str(owner).lower() != str(ctx.principal.id)


@dataclass(frozen=True, slots=True)
class New:
    """What the statement that creates a row depends on, besides the access: the fewer questions, the cheaper."""

    columns: frozenset[str]
    references: frozenset[str]
    """Those that lead somewhere, except to the principal itself."""
    own: bool
    """It is to belong to the principal, as reach over own rows allows without looking further."""
    reached: bool
    """It is to belong to somebody else."""
    valued: bool
    """It has values to index one by one."""
    indexed: bool
    """It has custom fields to index."""
    searched: bool
    """It has custom fields that text search looks into."""

    @classmethod
    def of(cls, ctx: Context, resource: Resource, row: Mapping[str, Any], sent: Mapping[str, Any]) -> "New":
        """The form of a row, whose parameters are sent."""
        another = for_another(ctx, resource, row)
        mine = resource.owned and row.get("owner_id") is not None and not another
        leading = {name for name in resource.references.keys() - resource.vouched if row.get(name) is not None}
        return cls(
            frozenset(row),
            frozenset(leading - {"owner_id"} if mine else leading),
            mine and not ctx.access.reach.get((resource.plural, "create"), frozenset()).isdisjoint(_OF_SELF),
            another,
            bool(sent["x_fields"]),
            bool(sent.get("cf_field_id")),
            customs_search.TEXT in sent,
        )


_OF_SELF = ("own", "subordinates")


def compile_create(ctx: Context, resource: Resource, form: New, mode: Mode, *, linked: bool = False) -> Writing:
    """Guard, key, external id, row, index values, audit, outbox and reply in one statement."""
    columns = form.columns
    new = source(resource, columns)
    conditions = [access_version()]
    if not form.own:
        rule = ctx.kernel.policy.rows(ctx.access, resource, "create", new, reached=form.reached)
        if rule is not None:
            conditions.append(rule)
    conditions += [found for name in sorted(form.references) if (found := exists(ctx, resource, name)) is not None]
    guarded = sa.select(*new.c).where(*conditions).cte("guarded")
    ctes: list[Any] = []
    feed: Any = guarded
    if ctx.idempotency is not None:
        key = _key(guarded)
        ctes.append(key)
        feed = sa.join(guarded, key, sa.true())
    if linked:
        ctes.append(claim(kind_of(ctx.kernel.catalog, resource), guarded))
        feed = sa.join(feed, ctes[-1], sa.true())
    names = ["tenant_id", *sorted(columns)]
    chosen: list[Any] = [guarded.c[name] for name in names]
    if resource.search:
        names.append("search_text")
        pieces = [
            sa.bindparam(f"s_{i}", type_=sa.Text()) if name in columns else sa.literal_column("''")
            for i, name in enumerate(resource.search)
        ]
        if form.searched:
            pieces.append(sa.bindparam(customs_search.TEXT, type_=sa.Text()))
        chosen.append(sa.func.concat_ws(sa.literal(SEPARATOR, sa.Text()), *pieces))
    insert = sa.insert(resource.table).from_select(names, sa.select(*chosen).select_from(feed))
    written = insert.returning(*facts(resource)).cte("written")
    if form.valued:
        ctes.append(index_values(written))
    if form.indexed:
        ctes.append(customs_index.kept(written))
    ctes += written_parts(resource, columns, written, new=True)
    recorded, place = entries(written, resource, after=written.c.image, mode=mode)
    ctes += recorded
    if resource.access_fields:
        ctes.append(_raise_version(written))
    if ctx.idempotency is not None:
        ctes.append(_reply(resource, written))
    return _writing(ctx, resource, written, ctes, place)


def facts(resource: Resource) -> list[Any]:
    """What a statement that writes a row tells of it: `row_id`, `row_version`, `image`."""
    table = resource.table
    return [table.c.id.label("row_id"), table.c.version.label("row_version"), image(resource, "new").label("image")]


def _key(guarded: Any) -> Any:
    table = table_of(IdempotencyKey)
    rows = sa.select(
        TENANT, sa.bindparam("scope", type_=sa.LargeBinary()), sa.bindparam("fingerprint", type_=sa.LargeBinary()), NOW
    )
    insert = upsert(table).from_select(["tenant_id", "scope", "fingerprint", "created_at"], rows.select_from(guarded))
    return insert.on_conflict_do_nothing().returning(table.c.scope).cte("key")


def _reply(resource: Resource, written: Any) -> Any:
    columns = {
        "tenant_id": TENANT,
        "scope": sa.bindparam("scope", type_=sa.LargeBinary()),
        "status": sa.literal_column("201"),
        "object_type": sa.literal(resource.singular, sa.Text()),
        "object_id": written.c.row_id,
        "raw": sa.true(),
        "image": written.c.image,
        "created_at": NOW,
    }
    return insert_from(table_of(IdempotencyReply), columns, written).returning(sa.literal_column("1")).cte("replied")


def found_under_parent(ctx: Context, resource: Resource, columns: frozenset[str], action: str) -> Any:
    """A query that finds something when a row with its new parent is open to the caller; None when any would be."""
    if not resource.parents & columns:
        return None
    new = source(resource, columns)
    rule = ctx.kernel.policy.rows(ctx.access, resource, action, new)
    return None if rule is None else sa.select(sa.literal(1)).select_from(new).where(rule)


def opens_circle(ctx: Context, resource: Resource, columns: frozenset[str], action: str) -> Any:
    """A condition that the caller may open the row to the circle of its new parent; None when nothing asks for it."""
    names = resource.circles & columns
    if action != "update" or not names:
        return None
    rule = ctx.kernel.policy.opening(ctx.access, resource, resource.table)
    same = sa.and_(*(resource.table.c[name].is_not_distinct_from(_bind(resource, name)) for name in sorted(names)))
    return None if rule is None else sa.or_(same, rule)


@dataclass(frozen=True, slots=True)
class Change:
    """What the statement that updates a row depends on, besides the access.

    Attributes:
        columns: that it sets.
        references: those of them that are to lead somewhere.
        actions: permissions whose gates all apply.
        match: the row must have the version that is the parameter `if_match`.
        mode: how its event joins those of the transaction.
        owned: fields that other systems own, on records that are linked to one of the parameters `o_{i}`, by name.
        indexes: of values that it writes; see `touched_indexes`.
    """

    columns: frozenset[str]
    references: frozenset[str]
    actions: tuple[str, ...]
    match: bool
    mode: Mode
    owned: frozenset[str] = frozenset()
    indexes: frozenset[str] = frozenset()


def compile_update(ctx: Context, resource: Resource, change: Change) -> Writing:
    """A merge with its ledger in one statement; no row comes back when nothing is permitted, or nothing differs.

    Nor when an owned field differs and the record is linked to one of its owners.
    """
    columns, actions = change.columns, change.actions
    table = resource.table
    ordered = sorted(columns)
    gate = ctx.kernel.policy.gate(ctx.access, resource, actions[0], table)
    for action in actions[1:]:
        if (rule := ctx.kernel.policy.rows(ctx.access, resource, action, table)) is not None:
            gate.append(rule)
    gate += [found for name in change.references if (found := exists(ctx, resource, name)) is not None]
    if (new := found_under_parent(ctx, resource, columns, actions[0])) is not None:
        gate.append(sa.exists(new))
    if (opening := opens_circle(ctx, resource, columns, actions[0])) is not None:
        gate.append(opening)
    for i, name in enumerate(sorted(change.owned)):
        theirs = table.c.external_ids.has_any(sa.bindparam(f"o_{i}", type_=ARRAY(sa.Text())))
        gate.append(~sa.and_(differs(resource, name), theirs))
    if differences := [differs(resource, name) for name in ordered]:
        gate.append(sa.or_(*differences))
    assignments: dict[str, Any] = {name: assigned(resource, name) for name in ordered}
    if columns.intersection(resource.search) or "searched" in change.indexes:
        assignments["search_text"] = _search_text(resource, columns, replacing="searched" in change.indexes)
    public = [name for name in ordered if name in resource.columns]
    ctes: list[Any] = []
    if not change.indexes.isdisjoint(_TAKEN_OUT):
        gate.append(as_seen(resource.table))
    written = _update(resource, gate, assignments, match=change.match, public=public)
    if "lists" in change.indexes:
        ctes += [unindex_values(written), index_values(written)]
    ctes += [make(written) for name, make in _CUSTOM_INDEXES.items() if name in change.indexes]
    ctes += written_parts(resource, columns, written, new=False)
    recorded, place = entries(written, resource, written.c.before, written.c.after, change.mode)
    ctes += recorded
    if resource.access_fields & columns:
        ctes.append(_raise_version(written))
    return _writing(ctx, resource, written, ctes, place)


_TAKEN_OUT = ("lists", "cleared")
"""Indexes from which an update takes what is no more."""
_CUSTOM_INDEXES = {"cleared": customs_index.dropped, "kept": customs_index.kept}


def touched_indexes(sent: Mapping[str, Any]) -> frozenset[str]:
    """Which indexes of values an update writes, from its parameters: statements without them are cheaper."""
    asked = {"lists": "x_lists", "cleared": "cf_cleared", "kept": "cf_field_id", "searched": customs_search.GONE}
    return frozenset(name for name, parameter in asked.items() if sent.get(parameter))


def _search_text(resource: Resource, columns: frozenset[str], *, replacing: bool) -> Any:
    separator = sa.literal(SEPARATOR, sa.Text())
    old = resource.table.c.search_text
    pieces = [
        sa.bindparam(f"s_{i}", type_=sa.Text())
        if name in columns
        else sa.func.split_part(old, separator, sa.literal_column(str(i + 1)))
        for i, name in enumerate(resource.search)
    ]
    return sa.func.concat_ws(separator, *pieces, *customs_search.pieces(resource, resource.table, replacing=replacing))


def _update(
    resource: Resource, gate: list[Any], assignments: Mapping[str, Any], *, match: bool, public: list[str]
) -> Any:
    table = resource.table
    conditions = [table.c.id == _ID, *gate, access_version()]
    if match:
        conditions.append(table.c.version == sa.bindparam("if_match", type_=sa.BigInteger()))
    stamp = {"version": table.c.version + sa.literal_column("1"), "updated_at": NOW, "updated_by": ACTOR}
    returning = [*facts(resource), _delta(public, "old").label("before"), _delta(public, "new").label("after")]
    return sa.update(table).where(*conditions).values(**assignments, **stamp).returning(*returning).cte("written")


def _delta(columns: list[str], side: str) -> Any:
    parts = [
        sa.literal_column(
            f"CASE WHEN old.{name} IS DISTINCT FROM new.{name} "
            f"THEN jsonb_build_object('{name}', {side}.{name}) ELSE '{{}}'::jsonb END",
            JSONB(),
        )
        for name in columns
    ]
    found: Any = parts[0] if parts else sa.literal_column("'{}'::jsonb", JSONB())
    for part in parts[1:]:
        found = found.op("||", return_type=JSONB())(part)
    return found


def compile_mark(
    ctx: Context, resource: Resource, *, deleted: bool, match: bool, mode: Mode, unique: bool = False
) -> Writing:
    """Deletion or restoration with its ledger; `unique`: some custom fields of the resource are."""
    gate = ctx.kernel.policy.gate(ctx.access, resource, "delete", resource.table, deleted=not deleted)
    linkable = "external_ids" in resource.table.c
    kind = kind_of(ctx.kernel.catalog, resource)
    if linkable:
        gate.append(settled_links(kind, resource.table))
    if unique and deleted:
        gate.append(as_seen(resource.table))
    stamp = NOW if deleted else sa.null()
    written = _update(resource, gate, {"deleted_at": stamp}, match=match, public=[])
    before = written.c.image if deleted else sa.literal_column("'{}'::jsonb", JSONB())
    after = sa.literal_column("'{}'::jsonb", JSONB()) if deleted else written.c.image
    ctes, place = entries(written, resource, before, after, mode)
    if linkable:
        ctes.append(release(kind, written, deleted=deleted))
    ctes += marked_parts(resource, written, stamp)
    if unique:
        ctes.append(customs_index.released(written, deleted=deleted))
    if resource.access_fields:
        ctes.append(_raise_version(written))
    return _writing(ctx, resource, written, ctes, place)


def _raise_version(written: Any) -> Any:
    """Raises the tenant's access version with a write that changes who may see what."""
    tenants = table_of(Tenant)
    moved = sa.update(tenants).where(tenants.c.tenant_id == TENANT, sa.exists(sa.select(written.c.row_id)))
    return (
        moved.values(access_version=tenants.c.access_version + sa.literal_column("1"))
        .returning(sa.literal_column("1"))
        .cte("moved")
    )


def _writing(ctx: Context, resource: Resource, written: Any, ctes: list[Any], place: list[Any]) -> Writing:
    outer = frame()
    statement = sa.select(outer.c.access_version, written.c.image, *place)
    joined = statement.select_from(outer.outerjoin(written, sa.true())).add_cte(*ctes)
    return Writing(Statement(joined), Projection(resource, ctx.access))


def compile_record(resource: Resource) -> Statement:
    """Ledger rows for an event that leaves the row as it is; what it brought stands beside the row in the event."""
    table, after = resource.table, sa.bindparam("after", type_=JSONB())
    columns = [
        table.c.id.label("row_id"),
        table.c.version.label("row_version"),
        image(resource, str(table.name)).op("||", return_type=JSONB())(after).label("image"),
    ]
    found = sa.select(*columns).where(table.c.tenant_id == TENANT, table.c.id == _ID).cte("written")
    ctes, _ = entries(found, resource, sa.bindparam("before", type_=JSONB()), after)
    return Statement(sa.select(found.c.row_id).add_cte(*ctes))
