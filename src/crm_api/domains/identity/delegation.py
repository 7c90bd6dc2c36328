"""Nobody passes on more than he has: who gives a role, a default or a key, or moves people, holds all that it opens."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson
import sqlalchemy as sa

from crm_api.domains.identity.grants import expand, ruled
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.policy import Access
from crm_api.kernel.problems import forbidden
from crm_api.kernel.record import Share, table_of
from crm_api.kernel.resource import Resource

_SHARES = table_of(Share)
_COVERS = {"own": {"own", "subordinates", "all"}, "subordinates": {"subordinates", "all"}}
"""Reach -> the reaches that hold at least as much; any other takes itself or `all`."""
LEVELS = {"read": ("read",), "write": ("read", "update")}
"""Level of a default or share -> the actions it opens."""


def pass_on(
    ctx: Context, permissions: Sequence[Mapping[str, Any]], rules: Sequence[Mapping[str, Any]], *, scoped: bool = True
) -> None:
    """Refuses with 403 when the caller does not hold all of what a role gives, or may not see what it would show.

    With `scoped`, the scopes of the caller's key count as well; a key that is given has scopes of its own.
    """
    if ctx.access.unrestricted:
        return
    given: set[str] = set()
    for grant in permissions:
        for resource, action in expand(ctx.kernel.catalog, grant["permission"]):
            given.add(resource)
            if scoped:
                _scoped(ctx, resource, action)
            _held(ctx.access, resource, action, grant["reach"])
    role = [{"permissions": permissions, "field_rules": rules}]
    hidden = ruled(ctx.kernel.catalog, role, ("hidden",))
    closed = ruled(ctx.kernel.catalog, role, ("hidden", "read_only"))
    for resource in sorted(given):
        _open(ctx.access, resource, hidden.get(resource, frozenset()), closed.get(resource, frozenset()))


async def pass_on_role(ctx: Context, roles: Statement, values: Mapping[str, Any]) -> None:
    """The same for each role of a query for permissions and field rules; what is not there is for others to refuse."""
    if not ctx.access.unrestricted:
        for row in await ctx.fetch(roles, dict(values)):
            pass_on(ctx, parsed(row["permissions"]), parsed(row["field_rules"]))


def open_to_all(ctx: Context, resource: str, level: str) -> None:
    """Refuses a default that gives everyone what the caller does not hold for every row."""
    if not ctx.access.unrestricted:
        known = ctx.kernel.catalog.resources[resource].permitted_actions
        for action in LEVELS.get(level, ()):
            if action in known:
                _scoped(ctx, resource, action)
                _held(ctx.access, resource, action, "all")
        if level != "private":
            _open(ctx.access, resource, frozenset(), frozenset())


def _scoped(ctx: Context, resource: str, action: str) -> None:
    """A key passes on no more than its scopes cover, whatever the roles behind it hold."""
    ctx.require(ctx.kernel.catalog.resources[resource], action)


def speak_for(ctx: Context, roles: list[Any]) -> None:
    """Refuses to act as somebody to whom a default shows a field that no role of theirs hides, as one hides it here."""
    hidden, closed = (ruled(ctx.kernel.catalog, roles, rules) for rules in (("hidden",), ("hidden", "read_only")))
    for name, resource in ctx.kernel.catalog.resources.items():
        if ctx.access.defaults.get(name, resource.default_access) in ("read", "write"):
            _open(ctx.access, name, hidden.get(name, frozenset()), closed.get(name, frozenset()))


def open_rows(
    ctx: Context, roles: Iterable[Any], reach: str, by: str, shared: frozenset[tuple[str, str]] = frozenset()
) -> None:
    """Refuses to bring rows within reach of those who hold some roles, unless the caller holds as much of these rows.

    Args:
        ctx: the request.
        roles: permissions and field rules of those who get to see the rows.
        reach: by which of their reaches they do.
        by: the reach that shows the caller these rows; `all` does in any case.
        shared: (resource, action) that they get whatever their reach.
    """
    if ctx.access.unrestricted:
        return
    catalog = ctx.kernel.catalog
    for role in roles:
        opened = [
            {"permission": f"{plural}:{action}", "reach": by}
            for grant in parsed(role["permissions"])
            for plural, action in expand(catalog, grant["permission"])
            if (plural, action) in shared
            or (grant["reach"] == reach and _reaches(ctx.access, catalog.resources[plural], action, reach))
        ]
        pass_on(ctx, opened, parsed(role["field_rules"]))


def shared_with(kind: str, grantees: Any) -> Statement:
    """Types and levels of what is shared with the teams or territories of a query for ids, as of now."""
    return Statement(
        sa.select(_SHARES.c.object_type, _SHARES.c.level)
        .distinct()
        .where(
            _SHARES.c.tenant_id == TENANT,
            _SHARES.c.grantee_id.in_(grantees),
            _SHARES.c.grantee_type == sa.literal(kind, sa.Text()),
            sa.or_(_SHARES.c.expires_at.is_(None), _SHARES.c.expires_at > sa.func.now()),
        )
    )


async def opened_by_shares(
    ctx: Context, shares: Statement, values: Mapping[str, Any], *, among_them: bool
) -> frozenset[tuple[str, str]]:
    """(resource, action) of what shares open, of a statement of `shared_with`; for `open_rows`.

    With `among_them`, the caller is one of whom they are for, and what he may do himself needs no more.
    """
    types = ctx.kernel.catalog.by_type
    opened = {
        (types[row["object_type"]].plural, action)
        for row in await ctx.fetch(shares, dict(values))
        for action in LEVELS[row["level"]]
    }
    return frozenset(pair for pair in opened if not (among_them and ctx.access.may(*pair)))


def _reaches(access: Access, resource: Resource, action: str, reach: str) -> bool:
    """Whether a reach shows anybody rows of a resource that the organisation-wide default does not."""
    default = access.defaults.get(resource.plural, resource.default_access)
    belongs = resource.owned if reach in ("team", "territory") else resource.owner is not None
    return belongs and action not in LEVELS.get(default or "", ())


def _held(access: Access, resource: str, action: str, reach: str) -> None:
    if access.reach.get((resource, action), frozenset()).isdisjoint(_COVERS.get(reach, {reach, "all"})):
        raise forbidden(f"{resource}:{action}")


def _open(access: Access, resource: str, hidden: frozenset[str], closed: frozenset[str]) -> None:
    read_only = access.read_only.get(resource, frozenset())
    for name in sorted((access.hides(resource) - hidden) | (read_only - closed - hidden)):
        raise forbidden(f"field {resource}.{name}")


def for_good(ctx: Context) -> None:
    """Refuses with 403 what outlives the credential, when that ends or holds only from some networks."""
    if ctx.principal.bounded:
        raise forbidden("credential without end and networks")


def parsed(value: Any) -> Any:
    """A list as it is sent or as it is stored."""
    return (orjson.loads(value) if isinstance(value, str) else value) or []
