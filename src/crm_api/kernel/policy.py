"""Permissions, reach, shares, defaults and field rules, compiled to one SQL predicate per resource and action."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum, auto
from functools import cached_property
from typing import Any
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.sql.visitors import replacement_traverse

from crm_api.kernel.customs import Customs, touched
from crm_api.kernel.customs_records import CIRCLE
from crm_api.kernel.database import TENANT, bound, elements
from crm_api.kernel.domain import Catalog
from crm_api.kernel.external_sources import Source
from crm_api.kernel.problems import FIELD_READ_ONLY, Fault, Problem, forbidden
from crm_api.kernel.record import Share, Tenant, among, table_of
from crm_api.kernel.resource import Resource, RowRule

REACHES = ("own", "subordinates", "team", "territory", "all")
LEVEL_OF = {"read": "read", "update": "update"}
"""Actions that a share of level read or write opens; any other action needs reach."""

SELF = sa.bindparam("p_self", type_=sa.Uuid())
_SUBORDINATES = sa.bindparam("p_subordinates", type_=ARRAY(sa.Uuid()))
_TEAMS = sa.bindparam("p_teams", type_=ARRAY(sa.Uuid()))
_TERRITORIES = sa.bindparam("p_territories", type_=ARRAY(sa.Uuid()))
_GRANTEES = sa.bindparam("p_grantees", type_=ARRAY(sa.Uuid()))
_VERSION = sa.bindparam("p_version", type_=sa.BigInteger())

_SCOPE_OF = {"read": "read", "delete": "delete"}


@dataclass(frozen=True)
class Access:
    """What one principal may do, as of one access version of the tenant.

    `suspecting` are the resources whose new records are compared with those there are, with the score that refuses one.
    `rates` are the tenant's own limits in requests each second: of one credential, and of all together.
    """

    version: int
    principal_id: UUID | None
    kind: str = "user"
    reach: Mapping[tuple[str, str], frozenset[str]] = field(default_factory=dict)
    hidden: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hidden_types: Mapping[str, frozenset[str]] = field(default_factory=dict)
    whole_types: frozenset[str] = frozenset()
    read_only: Mapping[str, frozenset[str]] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)
    subordinates: tuple[UUID, ...] = ()
    teams: tuple[UUID, ...] = ()
    territories: tuple[UUID, ...] = ()
    primary_team: UUID | None = None
    name: str = ""
    roles: tuple[str, ...] = ()
    role_ids: tuple[str, ...] = ()
    unrestricted: bool = False
    closed: frozenset[str] = frozenset()
    sources: Mapping[str, Source] = field(default_factory=dict)
    suspecting: Mapping[str, int] = field(default_factory=dict)
    customs: Customs = field(default_factory=dict)
    rates: tuple[int | None, int | None] = (None, None)
    breadth: dict[str, int] = field(default_factory=dict, compare=False)

    @cached_property
    def shape(self) -> int:
        """A number for the form of this access: equal for principals whose statements are equal."""
        form = (
            tuple(sorted((key, tuple(sorted(value))) for key, value in self.reach.items())),
            tuple(sorted((key, tuple(sorted(value))) for key, value in self.hidden.items())),
            tuple(sorted(self.defaults.items())),
            tuple(sorted(self.whole_types)),
            self.unrestricted,
        )
        return _FORMS.setdefault(form, len(_FORMS))

    @cached_property
    def values(self) -> dict[str, Any]:
        """Values of the parameters that predicates use."""
        own = [self.principal_id] if self.principal_id else []
        return {
            "p_self": self.principal_id,
            "p_subordinates": bound(self.subordinates or own),
            "p_teams": bound(self.teams),
            "p_territories": bound(self.territories),
            "p_grantees": bound([*own, *self.teams, *self.territories]),
            "p_roles": bound(UUID(id_) for id_ in self.role_ids),
            "p_version": self.version,
        }

    def may(self, resource: str, action: str) -> bool:
        """Whether any role grants the action at all."""
        return self.unrestricted or (resource, action) in self.reach

    def through(self, resource: Resource) -> None:
        """Refuses a way through a relation to a resource that the credential's scopes do not cover."""
        if resource.plural in self.closed:
            raise forbidden(f"scope {resource.domain}:read")

    def sees_all(self, type_: str) -> bool:
        """Whether every record of a type, named as in events, is open to this principal; fields may be hidden."""
        return self.unrestricted or type_ in self.whole_types

    def hides(self, resource: str) -> frozenset[str]:
        """Fields of a resource that this principal may not see."""
        return self.hidden.get(resource, frozenset())


_FORMS: dict[Any, int] = {}


class Met(Enum):
    """How rows come up that a condition is asked of: what is quick for one of these is slow for the others.

    Attributes:
        ONE: a few at hand, by their ids or from other rows; what opens one is looked up for it.
        OPEN: those open to the caller are few, and are found by what opens them.
        WALK: in an order, until a page is full.
        SET: all those that pass a filter.
        ALL: every row there is.
    """

    ONE = auto()
    OPEN = auto()
    WALK = auto()
    SET = auto()
    ALL = auto()


@dataclass(frozen=True)
class Scope:
    """What a row rule may ask while a statement is built."""

    policy: "Policy"
    access: Access
    met: Met

    def visible(self, plural: str, action: str, table: Any, *, reached: bool = False) -> list[sa.ColumnElement[bool]]:
        """The gate of another resource, under the same access; `reached` leaves out what was shared with the caller."""
        resource = self.policy.catalog.resources[plural]
        return self.policy.gate(self.access, resource, action, table, self.met, reached=reached)

    def all_visible(self, plural: str, action: str, *, reached: bool = False) -> bool:
        """Whether every row of the other resource is open to this principal."""
        resource = self.policy.catalog.resources[plural]
        rows = self.policy.rows(self.access, resource, action, resource.table, reached=reached)
        return rows is None and (action == "read" or self.all_visible(plural, "read"))

    def linked(self, column: Any, ids: sa.Select[Any], *, found: bool = True) -> sa.ColumnElement[bool]:
        """Whether a column is one of ids of other rows, which may be as many as those are; `found`: not all of them.

        They are gathered only where few rows are open. Else each row is asked by itself unless every row is read: the
        planner would hash all of the ids first, though a page ends long before it needs them; OFFSET 0 forbids.
        """
        if self.met is Met.OPEN and found:
            return among(column, sa.func.array(ids.scalar_subquery()))
        one = ids.where(ids.selected_columns[0] == column).correlate(column.table)
        return sa.exists(one if self.met is Met.ALL else one.offset(sa.literal_column("0")))

    def among(self, column: Any, ids: sa.Select[Any]) -> sa.ColumnElement[bool]:
        """Whether a column is one of some thousand ids at most.

        An array is compared one by one, but an index can be asked for it; a walk has them in a table.
        """
        if self.met is Met.ONE:
            return self.linked(column, ids)
        return column.in_(ids) if self.met is Met.WALK else among(column, sa.func.array(ids.scalar_subquery()))

    def may(self, plural: str, action: str) -> bool:
        """Whether any role grants the action on the other resource."""
        return self.access.may(plural, action)

    def own(self, column: Any) -> sa.ColumnElement[bool]:
        """A condition that a column names the principal."""
        return sa.cast(column == SELF, sa.Boolean)


class Policy:
    """The compiler. One instance for the catalog; it keeps no state of requests."""

    def __init__(self, catalog: Catalog) -> None:
        self.catalog = catalog

    def require(self, access: Access, scopes: frozenset[str] | None, resource: Resource, action: str) -> None:
        """Refuses with 403 unless the token's scope and a role both allow the action."""
        if scopes is not None:
            needed = f"{resource.domain}:{_SCOPE_OF.get(action, 'write')}"
            if needed not in scopes and f"{resource.domain}:admin" not in scopes:
                raise forbidden(f"scope {needed}")
        if not access.may(resource.plural, action):
            raise forbidden(f"{resource.plural}:{action}")

    def gate(
        self,
        access: Access,
        resource: Resource,
        action: str,
        table: Any,
        met: Met = Met.ONE,
        *,
        deleted: bool = False,
        reached: bool = False,
    ) -> list[sa.ColumnElement[bool]]:
        """The one gate: tenant AND not deleted AND kind of row AND row policy."""
        conditions = _kind(resource, table, deleted=deleted)
        rows = self.rows(access, resource, action, table, met, reached=reached)
        if rows is not None:
            conditions.append(rows)
        if action not in ("read", "create"):
            conditions += self._seen(access, resource, action, table, met)
        return conditions

    def apart(self, access: Access, resource: Resource, table: Any) -> list[list[sa.ColumnElement[bool]]]:
        """The gate of one who reads every row, as gates that together are it, and no row passes two of them.

        An OR of what is looked up in different ways is one pass over all rows of the tenant, whoever sees few of them;
        by itself each is looked up in its own way, and EXISTS becomes a join.
        """
        kind = _kind(resource, table)
        ways = list(self.rules(access, resource, "read", table, Met.ALL))
        if access.unrestricted or any(way is None for _, way in ways):
            return [kind]
        others = {rule.name for rule in resource.rows}
        each = [sa.or_(sa.false(), *(way for name, way in ways if name not in others))]  # type: ignore[arg-type]
        each += [way for name, way in ways if name in others and way is not None]
        return [[*kind, way, *(before.is_not(sa.true()) for before in each[:i])] for i, way in enumerate(each)]

    def _seen(
        self, access: Access, resource: Resource, action: str, table: Any, met: Met
    ) -> list[sa.ColumnElement[bool]]:
        """Who may not read a row may not act on it, or the answer would show it; nothing where acting implies it."""
        acting, reading = (access.reach.get((resource.plural, name)) for name in (action, "read"))
        if acting is not None and reading is not None and acting <= reading:
            return []
        rows = self.rows(access, resource, "read", table, met)
        return [] if rows is None else [rows]

    def beside(self, access: Access, resource: Resource, values: Any) -> list[sa.ColumnElement[bool]]:
        """The gate as it can be asked of `values`, rows of the index of custom fields, before records are looked up.

        Empty where it asks more than stands there, or other tables for each row. What has no owner there passes.
        """
        table = resource.table
        rule = self.rows(access, resource, "read", table, Met.SET)
        if rule is None:
            return []
        asked = [*elements(rule)]
        own = {each for each in asked if isinstance(each, sa.Column) and each.table is table}
        stands: dict[Any, Any] = {table.c[name]: values.c[name] for name in CIRCLE if name in table.c}
        stands[table.c.id] = values.c.object_id
        if own - stands.keys() or any(isinstance(each, sa.Exists) for each in asked):
            return []
        open_ = replacement_traverse(rule, {}, lambda element, **_: stands.get(element))
        return [sa.or_(values.c.owner_id.is_(None), open_)]

    def opening(self, access: Access, resource: Resource, table: Any) -> sa.ColumnElement[bool] | None:
        """Whose rows a caller may open to the circle of another record: reach, or the right to share; never a share."""
        ways = [
            self.rows(access, resource, action, table, reached=action == "update") for action in ("update", "share")
        ]
        return None if any(way is None for way in ways) else sa.or_(*ways)  # type: ignore[arg-type]

    def rows(
        self,
        access: Access,
        resource: Resource,
        action: str,
        table: Any,
        met: Met = Met.ONE,
        *,
        reached: bool = False,
    ) -> sa.ColumnElement[bool] | None:
        """Who may act on which rows; None when all rows are open. Decided here, never as `OR true` in SQL.

        With `reached`, rows that were shared with the caller or come with another record do not count.
        """
        if access.unrestricted:
            return None
        conditions = []
        for name, condition in self.rules(access, resource, action, table, met):
            if reached and not name.startswith(("default", "reach:")):
                continue
            if condition is None:
                return None
            conditions.append(condition)
        return sa.or_(sa.false(), *conditions)

    def rules(
        self, access: Access, resource: Resource, action: str, table: Any, met: Met = Met.ONE
    ) -> Iterator[tuple[str, sa.ColumnElement[bool] | None]]:
        """Each rule that grants, by name, with its condition (None: every row). Rows open to anyone are their union."""
        if not access.may(resource.plural, action):
            return
        scope = Scope(self, access, met)
        default = access.defaults.get(resource.plural, resource.default_access)
        if (default == "write" and action in LEVEL_OF) or (default == "read" and action == "read"):
            yield "default", None
        for reach in sorted(access.reach.get((resource.plural, action), frozenset())):
            if reach == "all":
                yield "reach:all", None
            elif (condition := _reach(resource, reach, table)) is not None:
                yield f"reach:{reach}", condition
        if resource.owned and action in LEVEL_OF:
            yield "share", scope.among(table.c.id, _shared(resource, action))
        for rule in resource.rows:
            if (condition := rule.condition(scope, table, action)) is not None:
                yield rule.name, condition

    def writable(self, access: Access, resource: Resource, fields: Mapping[str, Any]) -> None:
        """Refuses a write that touches a field which is hidden or read-only for this principal."""
        closed = access.hides(resource.plural) | access.read_only.get(resource.plural, frozenset())
        if closed and (refused := closed.intersection(touched(fields))):
            faults = [
                Fault("field_read_only", "You may not change this field.", pointer=f"/{name.replace('.', '/')}")
                for name in sorted(refused)
            ]
            raise Problem(FIELD_READ_ONLY, "You may not change some of these fields.", faults)


def _kind(resource: Resource, table: Any, *, deleted: bool = False) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [table.c.tenant_id == TENANT]
    if "deleted_at" in table.c:
        conditions.append(table.c.deleted_at.is_not(None) if deleted else table.c.deleted_at.is_(None))
    return conditions + [table.c[name] == sa.literal(value, sa.Text()) for name, value in resource.fixed.items()]


def _reach(resource: Resource, reach: str, table: Any) -> sa.ColumnElement[bool] | None:
    if reach in ("own", "subordinates") and resource.owner is not None:
        owner = table.c[resource.owner.key]
        return sa.cast(owner == (SELF if reach == "own" else sa.any_(_SUBORDINATES)), sa.Boolean)
    if reach in ("team", "territory") and resource.owned:
        return among(table.c[f"{reach}_id"], _TEAMS if reach == "team" else _TERRITORIES)
    return None


def _shared(resource: Resource, action: str) -> sa.Select[Any]:
    shares = table_of(Share).alias(f"shares_{resource.plural}")
    who = {"user": SELF, "team": sa.any_(_TEAMS), "territory": sa.any_(_TERRITORIES)}
    mine = {kind: shares.c.grantee_id == ids for kind, ids in who.items()}
    rows = sa.select(shares.c.object_id).where(
        shares.c.tenant_id == TENANT,
        shares.c.object_type == sa.literal(resource.singular, sa.Text()),
        shares.c.grantee_id == sa.any_(_GRANTEES),
        sa.case(mine, value=shares.c.grantee_type),  # an OR would be looked up once for each
        sa.or_(shares.c.expires_at.is_(None), shares.c.expires_at > sa.func.now()),
    )
    return rows if action == "read" else rows.where(shares.c.level == sa.literal("write", sa.Text()))


def needs_reach(action: str) -> bool:
    """Whether an action on what belongs to another record takes more than a share of that record."""
    return action != "create" and action not in LEVEL_OF


def through(column: str, plural: str, *, grants: bool = False) -> RowRule:
    """A row is open to whoever the record in `column` is open to: read for read, update for anything else.

    Args:
        column: the reference.
        plural: the resource it points to.
        grants: the row gives somebody access to that record, so that writing it takes more than a share of it.
    """

    def rule(scope: Scope, table: Any, action: str) -> sa.ColumnElement[bool] | None:
        level = "read" if action == "read" else "update"
        if not scope.may(plural, level):
            return None
        reached = needs_reach(action) or (grants and action != "read")
        own = table.c[column]
        if scope.all_visible(plural, level, reached=reached):
            return sa.cast(own.is_not(None), sa.Boolean)
        parent = scope.policy.catalog.resources[plural].table.alias(f"{plural}_of_{table.name}")
        return scope.linked(own, sa.select(parent.c.id).where(*scope.visible(plural, level, parent, reached=reached)))

    return RowRule(f"through:{plural}", rule, column)


def access_version() -> sa.ColumnElement[bool]:
    """The condition of a write that its rights are still those it was compiled for."""
    tenants = table_of(Tenant)
    current = sa.select(tenants.c.access_version).where(tenants.c.tenant_id == TENANT).scalar_subquery()
    return current == _VERSION
