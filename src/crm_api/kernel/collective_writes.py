"""Writes many rows that were locked and judged by one statement, with an audit row and an event of each."""

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY, JSONB
from sqlalchemy.dialects.postgresql import insert as upsert

from crm_api.kernel.coalescing import Emission
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Row, Statement
from crm_api.kernel.ledger import ACTOR, NOW, audit_rows, image, outbox_rows, parameters
from crm_api.kernel.policy import access_version
from crm_api.kernel.record import Share, table_of
from crm_api.kernel.resource import Resource
from crm_api.kernel.sharing import SHOWN, bind

_SHARES = table_of(Share)
_IDS = sa.bindparam("ids", type_=ARRAY(sa.Uuid()))
_OWNERS = sa.bindparam("owners", type_=ARRAY(sa.Uuid()))
_CAUSE = sa.bindparam("cause_of", type_=JSONB())
_EMPTY = sa.literal_column("'{}'::jsonb", JSONB())


async def assign(ctx: Context, resource: Resource, owners: Mapping[str, str], cause: Mapping[str, Any]) -> set[str]:
    """Gives each row an owner; the ids of those whose owner changed.

    Args:
        ctx: a job in a transaction in which the rows are locked and their change was permitted.
        resource: of the rows.
        owners: row -> its new owner.
        cause: `kind` and `job_id`, kept in the audit row and in the origin of the event.
    """
    statement = ctx.kernel.statement(("assign", resource.plural), lambda: _assign(resource))
    values = {"ids": list(owners), "owners": list(owners.values())}
    return {row["id"] for row in await write(ctx, resource, statement, "updated", cause, values)}


async def share_all(
    ctx: Context, resource: Resource, ids: Sequence[str], share: Mapping[str, Any], cause: Mapping[str, Any]
) -> set[str]:
    """Opens rows to one user, team or territory; the ids of those for which that is new.

    Args:
        ctx: as for `assign`.
        resource: of the rows.
        ids: which rows.
        share: `grantee_type`, `grantee_id`, `level`, `cause`, `expires_at`.
        cause: as for `assign`.
    """
    statement = ctx.kernel.statement(("share_all", resource.plural), lambda: _share(resource))
    values = {**share, "ids": list(ids), "granted_by": ctx.principal.id}
    return {row["id"] for row in await write(ctx, resource, statement, "shared", cause, values)}


async def unshare_all(
    ctx: Context, resource: Resource, ids: Sequence[str], wanted: Mapping[str, Any], cause: Mapping[str, Any]
) -> dict[str, int]:
    """Ends shares of rows; how many of each row.

    Args:
        ctx: as for `assign`.
        resource: of the rows.
        ids: which rows.
        wanted: columns of a share and the value that each must have.
        cause: as for `assign`.
    """
    names = tuple(sorted(wanted))
    statement = ctx.kernel.statement(("unshare_all", resource.plural, names), lambda: _unshare(resource, names))
    found: dict[str, int] = {}
    for row in await write(ctx, resource, statement, "unshared", cause, {**wanted, "ids": list(ids)}):
        found[row["id"]] = found.get(row["id"], 0) + 1
    return found


async def shared(ctx: Context, resource: Resource, ids: Sequence[str], wanted: Mapping[str, Any]) -> dict[str, int]:
    """How many shares with these values each row has; a value None is looked for as well."""
    names = tuple(sorted(wanted))

    def build() -> Statement:
        rows = sa.select(sa.cast(_SHARES.c.object_id, sa.Text()).label("id"), sa.func.count().label("number"))
        return Statement(rows.where(*_of(resource, names)).group_by(_SHARES.c.object_id))

    statement = ctx.kernel.statement(("shared", resource.plural, names), build)
    rows = await ctx.read(statement, {**wanted, "ids": list(ids)})
    return {row["id"]: int(row["number"]) for row in rows}


async def write(
    ctx: Context,
    resource: Resource,
    statement: Statement,
    event: str,
    cause: Mapping[str, Any],
    values: Mapping[str, Any],
    action: str | None = None,
) -> list[Row]:
    """Runs a statement of `recorded`; in the audit log it is called `action`, or as its cause is."""
    ledger = parameters(ctx, resource, action or cause["kind"], Emission("apart", (event,)))
    ledger["origin"] = {**ledger["origin"], "cause": dict(cause)}
    given = {**ledger, "type": ledger["e_types"][0], "cause_of": {"cause": dict(cause)}}
    return await ctx.fetch(statement, {**given, "p_version": ctx.access.version, **values})


def _assign(resource: Resource) -> Statement:
    table = resource.table
    pairs = sa.func.unnest(_IDS, _OWNERS).table_valued(
        sa.column("row_id", sa.Uuid()), sa.column("owner_id", sa.Uuid()), name="wanted"
    )
    wanted = pairs.render_derived()
    written = (
        sa.update(table)
        .where(
            table.c.tenant_id == TENANT,
            table.c.id == wanted.c.row_id,
            table.c.deleted_at.is_(None),
            table.c.owner_id.is_distinct_from(wanted.c.owner_id),
            access_version(),
        )
        .values(
            owner_id=wanted.c.owner_id,
            version=table.c.version + sa.literal_column("1"),
            updated_at=NOW,
            updated_by=ACTOR,
        )
        .returning(
            table.c.id.label("row_id"),
            table.c.version.label("row_version"),
            image(resource, "new").label("image"),
            _owner("old").label("before"),
            _owner("new").label("after"),
        )
        .cte("written")
    )
    return recorded(written, resource, written.c.before, caused(written.c.after))


def _owner(side: str) -> Any:
    return sa.literal_column(f"jsonb_build_object('owner_id', {side}.owner_id)", JSONB())


def _share(resource: Resource) -> Statement:
    wanted = sa.func.unnest(_IDS).table_valued(sa.column("row_id", sa.Uuid()), name="wanted").render_derived()
    columns: dict[str, Any] = {
        "tenant_id": TENANT,
        "id": sa.func.uuidv7(),
        "object_type": sa.literal(resource.singular, sa.Text()),
        "object_id": wanted.c.row_id,
        "created_at": NOW,
        **{name: bind(name) for name in ("grantee_type", "grantee_id", "level", "cause", "granted_by", "expires_at")},
    }
    rows = sa.select(*columns.values()).select_from(wanted).where(access_version())
    insert = upsert(_SHARES).from_select(list(columns), rows)
    compared = ("grantee_type", "level", "cause", "expires_at")
    made = (
        insert.on_conflict_do_update(
            index_elements=["tenant_id", "object_id", "grantee_id"],
            set_={name: insert.excluded[name] for name in (*compared, "granted_by")},
            where=sa.and_(
                _SHARES.c.object_type == insert.excluded["object_type"],
                sa.or_(*(_SHARES.c[name].is_distinct_from(insert.excluded[name]) for name in compared)),
            ),
        )
        .returning(*(_SHARES.c[name] for name in ("object_id", *SHOWN)))
        .cte("made")
    )
    written = _beside(resource, made, with_share=True)
    return recorded(written, resource, _EMPTY, caused(written.c.share), previous=_EMPTY)


def _unshare(resource: Resource, names: tuple[str, ...]) -> Statement:
    ended = (
        sa.delete(_SHARES)
        .where(*_of(resource, names), access_version())
        .returning(*(_SHARES.c[name] for name in ("object_id", *SHOWN)))
        .cte("ended")
    )
    written = _beside(resource, ended, with_share=False)
    return recorded(written, resource, written.c.share, caused(_EMPTY))


def _of(resource: Resource, names: tuple[str, ...]) -> list[Any]:
    """Shares of some rows whose columns have the wanted values."""
    return [
        _SHARES.c.tenant_id == TENANT,
        sa.cast(_SHARES.c.object_id == sa.any_(_IDS), sa.Boolean),
        _SHARES.c.object_type == sa.literal(resource.singular, sa.Text()),
        *(_SHARES.c[name].is_not_distinct_from(bind(name)) for name in names),
    ]


def _beside(resource: Resource, shares: Any, *, with_share: bool) -> Any:
    """The rows of some shares, each with its share beside it, as `repository.record` has it."""
    table = resource.table
    pairs: list[Any] = []
    for name in SHOWN:
        pairs += [sa.literal_column(f"'{name}'"), shares.c[name]]
    told = sa.func.jsonb_build_object(
        sa.literal_column("'share'"), sa.func.jsonb_build_object(*pairs, type_=JSONB()), type_=JSONB()
    )
    row = image(resource, str(table.name))
    columns = [
        table.c.id.label("row_id"),
        table.c.version.label("row_version"),
        (row.op("||", return_type=JSONB())(told) if with_share else row).label("image"),
        told.label("share"),
    ]
    joined = sa.join(shares, table, table.c.id == shares.c.object_id)
    return sa.select(*columns).select_from(joined).where(table.c.tenant_id == TENANT).cte("written")


def caused(after: Any) -> Any:
    """New values for the audit row, with the cause beside them."""
    return after.op("||", return_type=JSONB())(_CAUSE)


def recorded(
    written: Any, resource: Resource, before: Any, after: Any, previous: Any = None, beside: Sequence[Any] = ()
) -> Statement:
    """The statement that writes the rows in the CTE `written` with an audit row and an event of each; gives their ids.

    Args:
        written: row_id, row_version and image of each row; one row may stand in it several times.
        resource: of the rows.
        before: old values, for the audit row.
        after: new values, for the audit row.
        previous: old values as the event tells them; None for `before`.
        beside: further CTEs that write.
    """
    fresh, type_ = sa.func.uuidv7(), sa.bindparam("type", type_=sa.Text())
    one: Any = sa.literal_column("1")
    audit = audit_rows(written, resource, fresh, before, after)
    told = before if previous is None else previous
    outbox = outbox_rows(written, resource, fresh, type_, told, written)
    ctes = [audit.returning(one).cte("audited"), outbox.returning(one).cte("emitted"), *beside]
    return Statement(sa.select(sa.cast(written.c.row_id, sa.Text()).label("id")).select_from(written).add_cte(*ctes))
