"""An import while a job works on it: its settings, checked again, and what the job may change in it."""

import hashlib
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
from pydantic import TypeAdapter

from crm_api import settings
from crm_api.adapters.storage import MissingError, StoreError, storage
from crm_api.domains.exchange.importing import ColumnMapping, MatchRule
from crm_api.domains.exchange.mapping import Plan
from crm_api.domains.exchange.matching import check_match, check_references, unknown_source
from crm_api.domains.exchange.reading import Source
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CUSTOM, fields_of
from crm_api.kernel.external_sources import EXTERNAL_IDS, known, may_name
from crm_api.kernel.jobs import trusted
from crm_api.kernel.problems import invalid, meant, not_found, unavailable
from crm_api.kernel.repository import load, update
from crm_api.kernel.resource import Resource
from crm_api.kernel.unit_of_work import transact

SETTINGS = (
    *("resource", "format", "encoding", "delimiter", "sheet", "mapping", "match_on", "mode", "nulls", "defaults"),
    *("allow_duplicates",),
)
"""What a validation holds for."""
_ENTRIES, _RULES = TypeAdapter(list[ColumnMapping]), TypeAdapter(list[MatchRule])


@dataclass(frozen=True)
class Subject:
    """An import and what its settings mean under the rights of now."""

    id: str
    row: Any
    resource: Resource
    plan: Plan
    rules: list[MatchRule]

    @property
    def mode(self) -> str:
        """`create`, `skip`, `update` or `upsert`."""
        return str(self.row["mode"])

    @property
    def digest(self) -> str:
        """Changes with the file and with every setting that validation depends on."""
        told = [str(self.row[name]) for name in (*SETTINGS, "sha256")]
        return hashlib.sha256(orjson.dumps(told)).hexdigest()

    def permit(self, ctx: Context) -> None:
        """403 for whoever may not write such records, or one of the fields that are set."""
        actions = {"update": ("update",), "upsert": ("create", "update")}.get(self.mode, ("create",))
        for action in actions:
            ctx.kernel.policy.require(ctx.access, ctx.principal.scopes, self.resource, action)
        defaults = orjson.loads(self.row["defaults"])
        keys = {way.path[1] for way in self.plan.ways if way.path[0] == CUSTOM}
        if isinstance(custom := defaults.get(CUSTOM), dict):
            keys.update(custom)
        fields = {way.path[0] for way in self.plan.ways}.union(defaults)
        touched = {name: dict.fromkeys(keys) if name == CUSTOM else None for name in fields}
        ctx.kernel.policy.writable(ctx.access, self.resource, touched)

    async def name(self, ctx: Context) -> None:
        """Refuses external ids of sources that are unknown, or that the caller may not give."""
        for i, way in enumerate(self.plan.ways):
            if way.path[0] == EXTERNAL_IDS:
                await known(ctx, way.path[1], unknown_source(f"/mapping/{i}/field", way.path[1]))
                await may_name(ctx, self.resource, way.path[1])


async def subject(ctx: Context, imports: Resource, id_: str, *, lock: bool = False) -> Subject:
    """An import that the caller started.

    Raises:
        Problem: 404 when there is none, 403 and 422 when its settings are not possible (any more).
    """
    row = await load(trusted(ctx), imports, id_, "update", lock=lock)
    if row["created_by"] != str(ctx.principal.id):
        raise not_found("import")
    found = await of_row(ctx, row)
    found.permit(ctx)
    return found


async def of_row(ctx: Context, row: Any) -> Subject:
    """What the settings of an import mean; 422 when they do not fit."""
    resource = importable(ctx, row["resource"])
    entries = _ENTRIES.validate_json(row["mapping"])
    if not entries and row["format"] != "ndjson":
        entries = _ENTRIES.validate_json(row["suggestions"])
    customs = fields_of(ctx.access, resource)
    plan = Plan(resource, customs, entries, orjson.loads(row["nulls"]), orjson.loads(row["defaults"]))
    rules = _RULES.validate_json(row["match_on"])
    await check_references(ctx, resource, entries)
    await check_match(ctx, resource, rules)
    return Subject(str(row["id"]), row, resource, plan, rules)


def importable(ctx: Context, plural: str) -> Resource:
    """The resource that is meant; 422 for one whose records are not imported."""
    resource = ctx.kernel.catalog.resources.get(plural)
    if resource is None or not resource.upserts or plural == "imports":
        raise invalid(
            "/resource",
            "invalid_value",
            f"There are no such records to import.{meant(plural, ctx.kernel.catalog.resources)}",
        )
    return resource


async def note(
    ctx: Context,
    imports: Resource,
    id_: str,
    changes: Mapping[str, Any],
    event: str | None = None,
    verb: str = "update",
) -> None:
    """Changes the record of an import on behalf of its job, or of the verb that starts one."""
    events = ("updated", event) if event else ("updated",)

    async def work(inner: Context) -> None:
        await update(trusted(inner), imports, id_, changes, by_verb=True, events=events, recorded=verb)

    await (work(ctx) if ctx.link is not None else transact(ctx, work))


@asynccontextmanager
async def file_of(found: Subject) -> AsyncIterator[Source]:
    """The file of an import, on this machine for as long as the block runs."""
    row = found.row
    with tempfile.TemporaryDirectory(prefix="crm-import-") as folder:
        path = Path(folder) / "import"
        try:
            with path.open("wb") as file:
                async for part in await storage(settings.load_settings()).open(row["storage_key"], 0, row["size"]):
                    file.write(part)
        except MissingError:
            raise invalid("", "file_gone", "The file of the import is not kept any more; send it again.") from None
        except StoreError as error:
            raise unavailable("The file cannot be read now.") from error
        yield Source(path, row["format"], row["encoding"], row["delimiter"], row["sheet"])
