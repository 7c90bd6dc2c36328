"""Typed declarations of what nouns belong to: Domain, JobKind, Seed, and the catalogue of them all."""

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter

from crm_api.kernel.record import Record
from crm_api.kernel.resource import Resource
from crm_api.kernel.schema import Wire
from crm_api.kernel.spec_deprecated import Deprecated

if TYPE_CHECKING:
    from crm_api.kernel.context import Context
    from crm_api.kernel.running import Run

JobFunction = Callable[["Run", Any], Awaitable[Mapping[str, Any] | None]]
"""(run, body) -> the result, or raises a Problem."""
SeedFunction = Callable[["Context"], Awaitable[bool]]
"""(context of the tenant, in a transaction) -> whether it made anything."""


@dataclass(frozen=True)
class JobKind:
    """Work that outlives a request: it runs in a worker, in steps, with the rights that its originator has by then.

    Attributes:
        name: what it does, as a verb with its object; it stands in each job, so it is not changed.
        body: schema of the parameters.
        run: the work; `crm_api.kernel.running` says what it may ask of its first argument.
        permission: asked of the originator when the job is started, and again each time that it is run.
        attempts: tries in a row without a step done, after which it fails for good.
    """

    name: str
    body: type[Wire]
    run: JobFunction
    permission: str | None = None
    attempts: int = 5


@dataclass(frozen=True)
class Seed:
    """Records that a tenant begins with: given once, by `crm_api.kernel.seeds`, to those from before it existed, too.

    Attributes:
        name: by which it is known whether a tenant got it, so it is not changed.
        run: makes them, and gives whether it made any; a tenant that has such records already is left alone.
    """

    name: str
    run: SeedFunction


@dataclass(frozen=True)
class Domain:
    """A room of the house: its nouns, routers for what cannot be derived, kinds of jobs, default roles, seeds.

    `roles` maps a role's name to (permission, reach) pairs; domains add to the same role. `over` gives one more router.
    `pages` are routers beside the API, for browsers.
    """

    name: str
    resources: tuple[Resource, ...] = ()
    routers: tuple[APIRouter, ...] = ()
    pages: tuple[APIRouter, ...] = ()
    roles: Mapping[str, tuple[tuple[str, str], ...]] = field(default_factory=dict)
    jobs: tuple[JobKind, ...] = ()
    over: Callable[["Catalog"], APIRouter] | None = None
    seeds: tuple[Seed, ...] = ()
    deprecated: tuple[Deprecated, ...] = ()


class Catalog:
    """All domains, resolved: which resource a table, a plural or a reference means."""

    def __init__(self, domains: Iterable[Domain]) -> None:
        given = tuple(domains)
        for domain in given:
            for resource in domain.resources:
                object.__setattr__(resource, "domain", domain.name)
        self.resources = {resource.plural: resource for domain in given for resource in domain.resources}
        self.by_table = {resource.table.name: resource for resource in reversed(self.resources.values())}
        self.by_type = {resource.singular: resource for resource in self.resources.values()}
        self.jobs = {kind_.name: kind_ for domain in given for kind_ in domain.jobs}
        self.domains = tuple(replace(one, routers=(*one.routers, one.over(self))) if one.over else one for one in given)

    @cached_property
    def permissions(self) -> tuple[str, ...]:
        """Every permission there is, `resource:action`."""
        return tuple(
            f"{name}:{action}" for name, resource in self.resources.items() for action in resource.permitted_actions
        )

    @cached_property
    def constraints(self) -> dict[str, tuple[str, ...]]:
        """Constraint or unique index name -> the wire fields it spans, for error pointers."""
        found: dict[str, tuple[str, ...]] = {}
        for table in Record.metadata.tables.values():
            for item in [*table.constraints, *table.indexes]:
                columns = item.info.get("fields") or [str(column.name) for column in getattr(item, "columns", [])]
                found[str(getattr(item, "name", ""))] = tuple(name for name in columns if name != "tenant_id")
        return found

    def target(self, resource: Resource, column: str) -> Resource | None:
        """The resource that a reference column points to, if the API shows it."""
        return self.by_table.get(resource.references.get(column, ""))

    def meant(self, resource: Resource, column: str) -> Resource | None:
        """What the ids of a filter are of: also of its own column, and of who did something, which has no key."""
        if column == "id":
            return resource
        return self.by_table["principals"] if column in ("created_by", "actor_id") else self.target(resource, column)

    def to_one(self, resource: Resource) -> dict[str, tuple[str, Resource]]:
        """Expandable name -> (column, target): `owner_id` is expanded as `owner`."""
        found = {}
        for column in resource.references:
            target = self.target(resource, column)
            if target and column.endswith("_id") and column in resource.columns:
                found[column.removesuffix("_id")] = (column, target)
        return found
