"""Sources: systems that know our records by ids of their own, and own some of their fields."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from uuid import UUID

from crm_api.kernel.context import Context, refuse
from crm_api.kernel.customs import fields_of, touched, without
from crm_api.kernel.problems import FIELD_OWNED, Fault, Problem
from crm_api.kernel.resource import Resource

if TYPE_CHECKING:
    from crm_api.kernel.policy import Access

EXTERNAL_IDS = "external_ids"


@dataclass(frozen=True, slots=True)
class Source:
    """A source as the rights of a principal know it.

    Attributes:
        code: its name in external ids.
        account: the principal that writes as the source; None when nobody does.
        owned: by resource, the fields that only it writes on records that are linked to it.
        ignores: others' writes to those are left out; otherwise they are refused.
    """

    code: str
    account: UUID | None
    owned: Mapping[str, frozenset[str]] = field(default_factory=dict)
    ignores: bool = False


def ownable(access: "Access", resource: Resource) -> frozenset[str]:
    """Fields of a resource that a source may own: what can be changed, and which external id of it a record has."""
    if resource.update is None:
        return frozenset()
    customs = (custom.name for custom in fields_of(access, resource).values())
    return frozenset({EXTERNAL_IDS, *resource.update.model_fields, *customs})


def contested(access: "Access", resource: Resource, values: Mapping[str, Any]) -> dict[str, tuple[Source, ...]]:
    """Of the fields with these values those that sources own as which the caller does not write.

    For `external_ids` see `may_name`.
    """
    if not access.sources:
        return {}
    found: dict[str, tuple[Source, ...]] = {}
    for source in access.sources.values():
        if source.account != access.principal_id:
            for name in source.owned.get(resource.plural, frozenset()).intersection(touched(values)) - {EXTERNAL_IDS}:
                found[name] = (*found.get(name, ()), source)
    return found


async def may_name(ctx: Context, resource: Resource, code: str) -> None:
    """Refuses who may not say what a source calls a record: a field rule, or a source that alone gives its ids."""
    ctx.kernel.policy.writable(ctx.access, resource, {EXTERNAL_IDS: None})
    source = ctx.access.sources.get(code)
    if source is None or source.account == ctx.access.principal_id:
        return
    if EXTERNAL_IDS in source.owned.get(resource.plural, frozenset()):
        await without_owned(ctx, {EXTERNAL_IDS: None}, {EXTERNAL_IDS: (source,)}, whole=True)


async def without_owned(
    ctx: Context, values: Mapping[str, Any], owners: Mapping[str, tuple[Source, ...]], *, whole: bool
) -> dict[str, Any]:
    """Values less the fields that sources own which let others' writes be ignored.

    Args:
        ctx: the request; what is left out is noted in it.
        values: what the write would set.
        owners: by field, the sources that own it and that the record is linked to.
        whole: the write makes no sense in part, as that of a verb; then nothing is left out.

    Raises:
        Problem: 409 `field_owned`, for the fields of a source that refuses.
    """
    kept, refusing = dict(values), {}
    for name, sources in sorted(owners.items()):
        refuses = next((source for source in sources if whole or not source.ignores), None)
        if refuses is not None:
            refusing[name] = refuses.code
        else:
            kept = without(kept, name)
            ctx.ignored[name] = sources[0].code
    if refusing:
        first = next(iter(refusing.values()))
        faults = [
            Fault("field_owned", f"The source {code} owns this field.", pointer=f"/{name.replace('.', '/')}")
            for name, code in refusing.items()
        ]
        detail = f"Only {first} changes some of these fields, on records that are linked to it."
        await refuse(ctx, Problem(FIELD_OWNED, detail, faults, extra={"source": first}))
    return kept


def ignored_fields(ignored: Mapping[str, str]) -> str:
    """The header that names fields left out of a write, with the source that owns each (RFC 9651)."""
    return ", ".join(f"{name};source={code}" for name, code in sorted(ignored.items()))


async def known(ctx: Context, code: str, unknown: Problem) -> Source:
    """The source with a code; the given problem when there is none."""
    source = ctx.access.sources.get(code)
    return source if source is not None else await refuse(ctx, unknown)
