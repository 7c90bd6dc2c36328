"""Typed declarations of nouns: Resource, Action, Check. Nothing runs here."""

from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import JSONB

from crm_api.kernel.duplicates import Duplicates
from crm_api.kernel.joints import Build, Lock, Parts, Printed, telling
from crm_api.kernel.lifecycle import Lifecycle
from crm_api.kernel.record import MoneyAmount, Ratio, Record, table_of
from crm_api.kernel.schema import Input, Wire, nullable, updated_from

if TYPE_CHECKING:
    from crm_api.kernel.context import Context
    from crm_api.kernel.policy import Access, Scope

Column = sa.orm.InstrumentedAttribute[Any]
CheckFunction = Callable[["Context", "Resource", Mapping[str, Any], Mapping[str, Any] | None], Awaitable[None]]
"""(context, resource, new values, row before or None) -> raises a Problem."""
ActionFunction = Callable[["Context", "Resource", Any, Any], Awaitable[Any]]
"""(context, resource, row, body) -> what to change in the row, or the reply when the action declares one."""

READS = frozenset({"get", "list", "search", "aggregate"})
ALL = READS | {"create", "update", "delete", "restore"}
KINDS: tuple[tuple[type[Any], str], ...] = (
    (MoneyAmount, "money"),
    (Ratio, "ratio"),
    (sa.Uuid, "id"),
    (sa.Boolean, "boolean"),
    (sa.Date, "date"),
    (sa.DateTime, "instant"),
    (JSONB, "json"),
    (sa.Integer, "integer"),
    (sa.Text, "text"),
)


@dataclass(frozen=True)
class RowRule:
    """Who else may act on a row: an alternative, never a condition. `name` is what explain calls it.

    `condition` gets (scope, table, action) and gives None where it grants nobody anything. `column` is the reference
    that a rule follows, if it does.
    """

    name: str
    condition: Callable[["Scope", Any, str], sa.ColumnElement[bool] | None]
    column: str | None = None


@dataclass(frozen=True)
class Check:
    """A rule over the whole row, asked before a write that touches one of `fields`.

    A restore touches all fields that have a value, `deleted_at` too; the row is as it is stored then. To clear a field
    touches it only if it is one of `cleared`.
    """

    fields: frozenset[str]
    run: CheckFunction
    cleared: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Action:
    """A verb on one record. It runs in a transaction with the row locked, and records one business event.

    Attributes:
        verb: bare infinitive; gives path, permission and operation id.
        event: past tense; None for verbs that change nothing.
        reply: schema of the answer; None answers with the record itself.
        status: of success; 202 for a verb that starts a job, which is its reply then.
        otherwise: past tenses in place of `event`, by the state that the verb brings.
        private: fields of the reply that are shown once and not stored with an idempotency key.
        level: the row rule it is subject to (a share of that level suffices): `read` or `update`, else its own name.
        path: what follows the record's path, if not the verb.
    """

    verb: str
    summary: str
    run: ActionFunction
    event: str | None = None
    body: type[Wire] | None = None
    reply: type[Wire] | None = None
    method: str = "POST"
    status: int = 200
    level: str | None = None
    path: str | None = None
    otherwise: Mapping[str, str] = field(default_factory=dict)
    private: frozenset[str] = frozenset()


@dataclass(frozen=True)
class ToMany:
    """Children of a record that `expand` may bring along: the resource and its column that points here."""

    plural: str
    column: str


@dataclass(frozen=True, eq=False)
class Resource:
    """A noun. Everything that is true of each resource is derived from this.

    Attributes:
        title: the column that people call it by.
        keys: folded columns that stand in for a text column in sorts and text comparison.
        search: fields whose folded text is found by `q`, in a fixed order.
        values: multi-valued fields, each with the function that gives the values to index.
        derive: field -> function of its value that gives further columns.
        builds: what is worked out from the values that were sent.
        lock: when a record can no longer be changed by a body, nor deleted.
        parts: lists whose items are rows, too.
        printed: how records are printed, if they are.
        deletable: asked before a deletion, with no new values and the row.
        fixed: column values that make rows of a shared table this resource.
        owner: the column that says whose a row is; None when rows belong to nobody.
        rows: further row rules, united with owner, team, shares and default.
        default_access: what everyone in the tenant may do unless the tenant says otherwise.
        mask: takes out of a row, before its values become JSON, what field rules of other resources hide.
        access_fields: columns whose change moves the tenant's access version.
        once: fields that a create sets and nothing changes.
        vouched: references that only our own code sets, so that nobody who writes need see what they lead to.
        within: references below whose records the rows are listed, too, each with the last step of that path.
        further: actions that hand-written routes ask for, beside those that follow from the rest.
        notices: past tenses of events of no operation and no verb, such as what a worker finds out.
        rights: whether an event on such a row may change what a principal sees of other rows, from the past tense, the
            fields that changed, the row and the principal's id.
        in_whole: its fields stand in a list of another record, too, so no rule hides one of them alone.
        duplicates: how records that may mean the same are found and merged.
        history: its records can be read as they were, by `as_of`.
        personal: fields that tell something of a person, with what stands there after an erasure.
        domain: set by the catalog.
    """

    singular: str
    plural: str
    model: type[Record]
    output: type[Wire]
    create: type[Input] | None = None
    title: str = "name"
    filters: tuple[Column, ...] = ()
    sorts: tuple[Column, ...] = ()
    keys: Mapping[str, Column] = field(default_factory=dict)
    search: tuple[str, ...] = ()
    values: Mapping[str, Callable[[Any], Iterable[str]]] = field(default_factory=dict)
    derive: Mapping[str, Callable[[Any], Mapping[str, Any]]] = field(default_factory=dict)
    fixed: Mapping[str, str] = field(default_factory=dict)
    owner: Column | None = None
    rows: tuple[RowRule, ...] = ()
    default_access: str | None = None
    lifecycle: Lifecycle | None = None
    checks: tuple[Check, ...] = ()
    builds: tuple[Build, ...] = ()
    lock: Lock | None = None
    parts: Mapping[str, Parts] = field(default_factory=dict)
    printed: Printed | None = None
    deletable: CheckFunction | None = None
    actions: tuple[Action, ...] = ()
    many: Mapping[str, ToMany] = field(default_factory=dict)
    operations: frozenset[str] = ALL
    require_match: bool = False
    mask: Callable[["Access", dict[str, Any]], None] | None = None
    access_fields: frozenset[str] = frozenset()
    once: frozenset[str] = frozenset()
    vouched: frozenset[str] = frozenset()
    within: Mapping[str, str] = field(default_factory=dict)
    further: tuple[str, ...] = ()
    notices: tuple[str, ...] = ()
    rights: Callable[[str, frozenset[str], Mapping[str, Any], str], bool] | None = None
    in_whole: bool = False
    duplicates: Duplicates | None = None
    history: bool = False
    personal: Mapping[str, Any] = field(default_factory=dict)
    domain: str = ""

    @cached_property
    def table(self) -> sa.Table:
        """The SQLAlchemy table."""
        return table_of(self.model)

    @cached_property
    def update(self) -> type[Input] | None:
        """The PATCH schema, derived from the create schema."""
        return updated_from(self.create, self.once) if self.create and "update" in self.operations else None

    @property
    def upserts(self) -> bool:
        """Whether records are created and changed by an external id, too."""
        return self.update is not None and "create" in self.operations

    @cached_property
    def columns(self) -> tuple[str, ...]:
        """Columns that are sent, in the order of the output schema."""
        return tuple(name for name in self.output.model_fields if name in self.table.c)

    @cached_property
    def hideable(self) -> frozenset[str]:
        """Fields that a role may hide: those that are nullable in the output schema, and not what policies stand on."""
        kept = {"created_by", "updated_by", "owner_id", "team_id", "territory_id"}
        names = {name for name, info in self.output.model_fields.items() if nullable(info.annotation)}
        return frozenset() if self.in_whole else frozenset(names - kept)

    def with_derived(self, fields: frozenset[str]) -> frozenset[str]:
        """Fields and the columns and lists that tell their values: hiding a website hides the domain taken from it."""
        return fields.union(telling(self.parts, fields), *(self.derive[each](None) for each in fields & {*self.derive}))

    @cached_property
    def owned(self) -> bool:
        """Whether rows carry owner, team and territory, so that reach and shares apply in full."""
        return {"owner_id", "team_id", "territory_id"} <= set(self.table.c.keys())

    @cached_property
    def parents(self) -> frozenset[str]:
        """References that alone say whose a row is; to change one is to move the row to another record."""
        return frozenset() if self.owner is not None else frozenset(rule.column for rule in self.rows if rule.column)

    @cached_property
    def circles(self) -> frozenset[str]:
        """References of a row with an owner that open it to others as well; to change one is to share the row."""
        return frozenset() if self.owner is None else frozenset(rule.column for rule in self.rows if rule.column)

    @cached_property
    def deciding(self) -> frozenset[str]:
        """Columns that decide who may see a row: a change of one may open the row to some and close it to others."""
        own = {"owner_id", "team_id", "territory_id"} & set(self.table.c.keys()) if self.owned else set()
        own |= {str(self.owner.key)} if self.owner is not None else set()
        return self.parents | self.circles | own

    @cached_property
    def references(self) -> dict[str, str]:
        """Column -> table it points to, from the foreign keys."""
        keys = self.table.foreign_key_constraints
        pairs = [pair for key in keys for pair in zip(key.columns, key.elements, strict=True)]
        return {str(own.name): str(its.column.table.name) for own, its in pairs if own.name != "tenant_id"}

    @cached_property
    def sortable(self) -> dict[str, Any]:
        """Sort name -> column; `id` always."""
        names = {str(column.key): column for column in self.sorts}
        return {"id": self.table.c.id} | {
            name: self.table.c[self.keys.get(name, column).key] for name, column in names.items()
        }

    @cached_property
    def filterable(self) -> dict[str, str]:
        """Filter field -> kind of value; multi-valued fields are of kind `values`."""
        kinds = {str(column.key): kind(self.table.c[column.key]) for column in self.filters}
        return {"id": "id"} | {name: "values" if name in self.values else value for name, value in kinds.items()}

    @cached_property
    def any_reference(self) -> tuple[str, str] | None:
        """The columns (type, id) that name a record of any kind together, where rows have them."""
        pair = ("object_type", "object_id")
        return pair if self.filterable.keys() >= set(pair) else None

    @cached_property
    def read_only(self) -> frozenset[str]:
        """Output fields that no body may set."""
        return frozenset(self.output.model_fields) - frozenset(self.create.model_fields if self.create else ())

    def touched(self, values: Mapping[str, Any]) -> tuple[Check, ...]:
        """The checks that a write of these values asks."""
        given = {name for name, value in values.items() if value is not None}
        return tuple(check for check in self.checks if check.fields & given or check.cleared & values.keys())

    def reads_first(self, values: Collection[str]) -> bool:
        """Whether an update by these fields looks at the row before it writes."""
        locked = self.lock is not None and not self.lock.free.issuperset(values)
        return locked or any(not build.fields.isdisjoint(values) for build in self.builds)

    @property
    def guarded(self) -> bool:
        """Whether a deletion looks at the row first."""
        return self.deletable is not None or self.lock is not None

    @cached_property
    def verbs(self) -> dict[str, Action]:
        """Actions by verb."""
        return {action.verb: action for action in self.actions}

    @cached_property
    def permitted_actions(self) -> tuple[str, ...]:
        """Actions that a permission may name, e.g. `read`, `update`, `transfer`, `activate`."""
        names = ["read"] if self.operations & READS else []
        names += [name for name in ("create", "update", "delete") if name in self.operations]
        names += ["transfer", "share"] if self.owned else []
        names += [edge.verb for edge in self.lifecycle.offered] if self.lifecycle else []
        return tuple(dict.fromkeys([*names, *(act.verb for act in self.actions if act.level is None), *self.further]))

    @cached_property
    def events(self) -> tuple[str, ...]:
        """Event types this resource emits."""
        generic = {"create": "created", "update": "updated", "delete": "deleted", "restore": "restored"}
        past = [name for operation, name in generic.items() if operation in self.operations]
        edges = self.lifecycle.edges if self.lifecycle else ()
        past += [event for edge in edges for event in (edge.event, *edge.otherwise.values())]
        past += [action.event for action in self.actions if action.event]
        past += ["shared", "unshared"] if self.owned else []
        past += self.notices
        past += ["updated"] if self.lifecycle or any(action.reply is None for action in self.actions) else []
        return tuple(f"{self.singular}.{name}" for name in dict.fromkeys(past))


def kind(column: sa.Column[Any]) -> str:
    """The wire kind of a column."""
    return next(name for type_, name in KINDS if isinstance(column.type, type_))
