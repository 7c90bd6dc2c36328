"""Every way to write a record, declared once: an endpoint runs one of them, a batch several in one transaction."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from crm_api.kernel import repository, upsert
from crm_api.kernel.collections import record_id
from crm_api.kernel.context import Context
from crm_api.kernel.domain import Catalog
from crm_api.kernel.external_links import link_actions
from crm_api.kernel.headers import parse
from crm_api.kernel.lifecycle import Edge
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import PRECONDITION_REQUIRED, TRANSITION_REFUSED, Problem
from crm_api.kernel.resource import Action, Resource
from crm_api.kernel.schema import Wire
from crm_api.kernel.sharing import share_actions
from crm_api.kernel.stale import stale
from crm_api.kernel.unit_of_work import Outcome, Work, as_system, write

Prepare = Callable[[str, Any, int | None, bool], tuple[Work, bool]]


class Nothing(Wire):
    """The body of a verb without input: absent or {}."""


@dataclass(frozen=True, eq=False)
class Write:
    """One way to write a record of a resource.

    Attributes:
        kind: `create`, `update`, `upsert`, `delete`, `restore`, `edge` or `action`.
        permission: the action of the resource that the caller must be permitted.
        status: of a success.
        prepare: (id, body, expected version, whether a version or any was expected) -> the work, and whether it is
            one statement, which needs no transaction.
        model: the schema of the body; None when there is none to read.
        optional: the body may be left out when nothing in it is required.
        keyed: the one statement takes an idempotency key, too.
    """

    resource: Resource
    kind: str
    method: str
    path: str
    operation_id: str
    permission: str
    status: int
    prepare: Prepare
    model: type[Wire] | None = None
    optional: bool = False
    keyed: bool = False
    action: Action | None = None

    @cached_property
    def creates(self) -> bool:
        """Whether there is no record yet, and so no id in the path."""
        return self.kind == "create"

    @cached_property
    def matches(self) -> bool:
        """Whether the version that the caller expects is looked at."""
        return self.kind in ("update", "upsert", "delete", "edge", "action")

    @cached_property
    def strict(self) -> bool:
        """Whether the caller must say which version they expect."""
        return self.resource.require_match and self.kind in ("update", "delete")

    @cached_property
    def replies(self) -> bool:
        """Whether it answers with something else than the record."""
        return self.action is not None and self.action.reply is not None

    def kept(self, item: dict[str, Any]) -> dict[str, Any]:
        """What of its answer is kept with an idempotency key: not what is shown once."""
        if self.action is None or not self.action.private:
            return item
        return {name: value for name, value in item.items() if name not in self.action.private}

    def permit(self, ctx: Context) -> None:
        """403 unless the caller may write so at all."""
        if self.kind == "upsert":
            upsert.permit(ctx, self.resource)
        else:
            ctx.require(self.resource, self.permission)

    def address(self, text: str) -> str:
        """The id or external id by which the record is named; an upsert says itself what is wrong with it."""
        return text if self.kind == "upsert" else record_id(text, self.resource)

    def read(self, raw: bytes) -> Any:
        """The body that was sent, as its schema; raises what `parse` does."""
        assert self.model is not None  # noqa: S101 - otherwise nothing is read
        if self.optional and not raw:
            return None if self.model is Nothing else parse(b"{}", self.model)
        return parse(raw, self.model, self._read_only)

    @cached_property
    def _read_only(self) -> frozenset[str]:
        if self.kind == "update":
            return self.resource.read_only | self.resource.once | {"id"}
        return self.resource.read_only if self.kind in ("create", "upsert") else frozenset()

    def check(self, *, given: bool) -> None:
        """428 where the resource insists on a version and none was given."""
        if self.strict and not given:
            raise Problem(PRECONDITION_REQUIRED, "Send If-Match with the ETag of the version you read.")

    def shown(self, status: int, access: Access, *, minimal: bool) -> tuple[int, bool]:
        """(status, whether with a body) of its answer; those who may write but not read get no body."""
        if status == 204:
            return 204, False
        if self.replies or not (minimal or self.resource.plural in access.closed):
            return status, True
        return status if status == 201 else 204, False


def actions_of(resource: Resource) -> tuple[Action, ...]:
    """The verbs of a resource: its own and those that follow from what it is."""
    links = link_actions() if resource.update else ()
    return (*resource.actions, *(share_actions() if resource.owned else ()), *links)


async def carry_out(ctx: Context, declared: Write, work: Work, *, single: bool) -> Outcome:
    """Runs a prepared write by itself; `single` when its one statement needs no transaction."""
    if declared.kind == "upsert":
        return await upsert.patiently(lambda: write(ctx, work, declared.status, single=single, kept=declared.kept))
    return await write(ctx, work, declared.status, single=single, kept=declared.kept)


@cache
def writes(resource: Resource) -> tuple[Write, ...]:
    """Every way to write records of a resource."""
    one, base, record = resource.singular, f"/v1/{resource.plural}", f"/v1/{resource.plural}/{{id}}"
    derived = (
        ("create", "POST", base, "create", 201, _create(resource), resource.create),
        ("update", "PATCH", record, "update", 200, _update(resource), resource.update),
        ("delete", "DELETE", record, "delete", 204, _delete(resource), None),
        ("upsert", "PUT", record, "create", 200, upsert.prepared(resource), resource.create),
        ("restore", "POST", f"{record}/restore", "delete", 200, _restore(resource), None),
    )
    found = [
        Write(resource, name, method, path, f"{name}_{one}", needs, status, prepare, model, keyed=name == "create")
        for name, method, path, needs, status, prepare, model in derived
        if name in resource.operations or (name == "upsert" and resource.upserts)
    ]
    edges = resource.lifecycle.offered if resource.lifecycle else ()
    verbs = [("edge", edge_action(resource, edge)) for edge in edges]
    verbs += [("action", action) for action in actions_of(resource)]
    for kind, verb in verbs:
        if verb.method != "GET":
            path, name, needs = f"{record}/{verb.path or verb.verb}", f"{verb.verb}_{one}", verb.level or verb.verb
            body, work, told = verb.body or Nothing, _act(resource, verb), verb if kind == "action" else None
            way = (resource, kind, verb.method, path, name, needs, verb.status, work, body, True, False, told)
            found.append(Write(*way))
    return tuple(found)


@cache
def writes_by_name(catalog: Catalog) -> dict[str, Write]:
    """Every way to write anything, by operation id."""
    return {write.operation_id: write for resource in catalog.resources.values() for write in writes(resource)}


def _create(resource: Resource) -> Prepare:
    def prepare(_: str, body: Any, __: int | None, ___: bool) -> tuple[Work, bool]:
        values, given = body.model_dump(), body.model_fields_set
        return lambda ctx: repository.create(ctx, resource, values, given=given), not resource.touched(values)

    return prepare


def _update(resource: Resource) -> Prepare:
    def prepare(id_: str, body: Any, expected: int | None, _: bool) -> tuple[Work, bool]:
        whole = body.model_dump()  # exclude_unset would leave out the defaults of parts, too
        values = {name: whole[name] for name in whole if name in body.model_fields_set}
        if not values:
            return lambda ctx: repository.get(ctx, resource, id_), True
        return (
            lambda ctx: repository.update(ctx, resource, id_, values, if_match=expected),
            not (resource.touched(values) or resource.reads_first(values)),
        )

    return prepare


def _delete(resource: Resource) -> Prepare:
    def prepare(id_: str, _: Any, expected: int | None, __: bool) -> tuple[Work, bool]:
        async def work(ctx: Context) -> dict[str, Any]:
            await repository.delete(ctx, resource, id_, if_match=expected)
            return {}

        return work, not resource.guarded

    return prepare


def _restore(resource: Resource) -> Prepare:
    def prepare(id_: str, _: Any, __: int | None, ___: bool) -> tuple[Work, bool]:
        return lambda ctx: repository.restore(ctx, resource, id_), not resource.checks

    return prepare


def _act(resource: Resource, action: Action) -> Prepare:
    """Locks the row, runs the verb, records what it changed and its event."""
    permission = action.level or action.verb
    column = resource.lifecycle.column if resource.lifecycle else ""
    update = partial(repository.update, action=permission, recorded=action.verb, by_verb=True)

    def prepare(id_: str, body: Any, expected: int | None, _: bool) -> tuple[Work, bool]:
        async def work(ctx: Context) -> dict[str, Any]:
            row = await repository.load(ctx, resource, id_, permission)
            if expected is not None and row["version"] != expected:
                raise await stale(ctx, resource, row["id"], expected, row["version"])
            result = await action.run(ctx, resource, row, None if isinstance(body, Nothing) else body)
            if action.reply is not None:
                return dict(result or {})
            event = action.otherwise.get(result.get(column), action.event)
            return await update(ctx, resource, row["id"], result, events=("updated", event) if event else ("updated",))

        return work, False

    return prepare


async def run_edge(ctx: Context, resource: Resource, id_: str, verb: str, body: Any = None) -> dict[str, Any]:
    """Moves a record in the open transaction by our own code, whatever the caller may do to it; the ledger names them.

    Raises:
        Problem: what the verb refuses; 404 when the record is gone.
    """
    edge = resource.lifecycle.edge(verb) if resource.lifecycle else None
    assert edge is not None  # noqa: S101 - our own code knows the graph
    work, _ = _act(resource, edge_action(resource, edge))(id_, body, None, False)
    return await work(as_system(ctx)) or {}


def edge_action(resource: Resource, edge: Edge) -> Action:
    """The verb that moves a record along one edge of its graph."""
    assert resource.lifecycle is not None  # noqa: S101 - the caller found the edge in it
    column = resource.lifecycle.column

    async def run(ctx: Context, resource: Resource, row: Any, body: Any) -> dict[str, Any]:
        if row[column] not in edge.sources:
            raise Problem(
                TRANSITION_REFUSED,
                f"The {resource.singular} is {row[column]}; {edge.verb} takes {' or '.join(sorted(edge.sources))}.",
                extra={"state": row[column], "allowed_from": sorted(edge.sources)},
            )
        for obstacle in edge.blocked:
            if obstacle is not edge.run:
                await obstacle(ctx, resource, row, body)
        further = {} if edge.run is None else await edge.run(ctx, resource, row, body)
        return {column: edge.target, **further}

    return Action(edge.verb, "", run, event=edge.event, body=edge.body, otherwise=edge.otherwise)
