"""Writes the demo tenant through the repository, as fast as the pool allows."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any
from uuid import UUID

from rich.console import Console
from rich.progress import Progress

from crm_api.commands.database import Place
from crm_api.commands.demo import ADMIN_EMAIL, NAME, REPRESENTATIVE_EMAIL, TENANT, DemoKeys
from crm_api.commands.demo_data import ACCOUNTS, CONTACTS, PEOPLE, TEAMS, Company, Step
from crm_api.commands.demo_sales import Sales
from crm_api.commands.tenants import replace_key
from crm_api.domains.accounts.account import ACCOUNTS as ACCOUNT
from crm_api.domains.accounts.account import LIFECYCLE
from crm_api.domains.accounts.team_member import ACCOUNT_TEAM_MEMBERS
from crm_api.domains.contacts.contact import CONTACTS as CONTACT
from crm_api.domains.identity.credentials import parse_key
from crm_api.domains.identity.default_roles import MANAGER, READER, REPRESENTATIVE
from crm_api.domains.identity.team import TEAM_MEMBERS
from crm_api.domains.identity.team import TEAMS as TEAM
from crm_api.domains.sign_in import password
from crm_api.domains.sign_in.person import find_by_email
from crm_api.kernel import repository
from crm_api.kernel.context import Context, new_id
from crm_api.kernel.problems import ConfigurationError
from crm_api.kernel.record import Record
from crm_api.kernel.resource import Resource
from crm_api.kernel.sharing import ShareRequest, share_actions
from crm_api.kernel.unit_of_work import system, transact
from crm_api.tenants import add_user, create_tenant


async def load(place: Place) -> None:
    """The tenant is inactive until it is complete, so that an interrupted load is begun again."""
    async with place.kernel() as kernel, place.owner() as owner:
        for table in reversed(Record.metadata.sorted_tables):
            await owner.execute(f'DELETE FROM "{table.name}" WHERE tenant_id = $1', TENANT)  # noqa: S608 - our own names
        new = await create_tenant(kernel, place.migrate_url, NAME, ADMIN_EMAIL, TENANT)
        await owner.execute("UPDATE tenants SET is_active = false WHERE tenant_id = $1", TENANT)
        ctx = system(kernel, TENANT, "demo")
        ids, teams = await _staff(ctx, new.roles)
        await repository.find(ctx, TEAM, new_id())  # learns the access version, which the staff have moved
        company = Company(ids, teams)
        with Progress(console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task(
                f"Loading the demo: {ACCOUNTS} accounts, {CONTACTS} contacts", total=ACCOUNTS + CONTACTS
            )
            loader = _Loader(ctx, ids, lambda: bar.advance(task))
            await loader.each(company.roots(), loader.account)
            await loader.each(company.branches(), loader.account)
            await loader.each(company.contacts(), loader.contact)
        await Sales(ctx, [(account, ids[seller]) for account, seller, *_ in company.accounts]).load()
        await owner.execute("ANALYZE")
        await owner.execute("UPDATE tenants SET is_active = true WHERE tenant_id = $1", TENANT)


async def new_keys(place: Place) -> DemoKeys:
    """Keys of the administrator and of a representative; they end the ones given before."""
    async with place.kernel() as kernel:
        ctx = system(kernel, TENANT, "demo")
        administrator = await replace_key(ctx, ADMIN_EMAIL, "demo", "first key")
        representative = await replace_key(ctx, REPRESENTATIVE_EMAIL, "demo")
        development = place.settings.environment == "development"
        text = await _new_password(ctx) if development else ""
    parsed = [parse_key(key) for key in (administrator, representative)]
    return DemoKeys(administrator, representative, text, [str(key[1]) for key in parsed if key])


async def _new_password(ctx: Context) -> str:
    """A password of the representative, who signs in with a browser by it."""
    text = secrets.token_urlsafe(15)
    person = await find_by_email(ctx.kernel, TENANT, REPRESENTATIVE_EMAIL)
    if person is None:
        raise ConfigurationError("The demo tenant has lost its representative; remove it and load it again.")
    await password.keep(ctx, person.id, await password.hashed(text))
    return text


async def _staff(ctx: Context, roles: dict[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    teams = {
        name: str((await repository.create(ctx, TEAM, {"name": name, "description": text}) or {})["id"])
        for name, text in TEAMS.items()
    }
    ids: dict[str, str] = {}
    managers = {person.get("manager") for person in PEOPLE}
    for person in PEOPLE:
        key = person["key"]
        role = MANAGER if key in managers else READER if key == "analyst" else REPRESENTATIVE
        values: dict[str, object] = {name: person[name] for name in ("name", "title", "language", "time_zone")} | {
            "email": f"{key}@aurora.example",
            "manager_id": ids.get(person.get("manager", "")),
            "team_id": teams.get(person.get("team", "")),
        }
        ids[key] = await transact(ctx, partial(add_user, values=values, role=roles[role]))
        if values["team_id"]:
            await repository.create(ctx, TEAM_MEMBERS, {"team_id": values["team_id"], "principal_id": ids[key]})
    return ids, teams


class _Loader:
    """Creates records with several connections at once, each in a context of its own."""

    def __init__(self, ctx: Context, ids: dict[str, str], advance: Callable[[], None]) -> None:
        self._ctx = ctx
        self._ids = ids
        self._advance = advance

    async def each(self, steps: Iterable[Step], work: Callable[[Step], Awaitable[None]]) -> None:
        """Runs `work` on all steps, as many at once as there are connections."""
        waiting = iter(steps)

        async def lane() -> None:
            for step in waiting:
                await work(step)
                self._advance()

        await asyncio.gather(*(lane() for _ in range(self._ctx.kernel.database.limits.size)))

    async def account(self, step: Step) -> None:
        """An account with what happens to it."""
        ctx = self._at(step)
        values = _checked(ACCOUNT, step.values)
        if step.values["parent_id"]:
            await transact(ctx, lambda inner: repository.create(inner, ACCOUNT, values))
        else:
            await repository.create(ctx, ACCOUNT, values)
        state, id_ = LIFECYCLE.initial, step.values["id"]
        for verb in step.verbs:
            edge = LIFECYCLE.edge(verb)
            assert edge is not None  # noqa: S101 - a fault of the generator
            assert state in edge.sources  # noqa: S101 - likewise
            state = edge.target
            change, events = {LIFECYCLE.column: state}, ("updated", edge.event)
            await repository.update(self._at(step), ACCOUNT, id_, change, action=verb, events=events, by_verb=True)
        if step.helper:
            member = {"account_id": id_, "principal_id": self._ids[step.helper], "role": "Support", "level": "write"}
            await repository.create(self._at(step), ACCOUNT_TEAM_MEMBERS, member)
        if step.shared_with:
            await transact(self._at(step), lambda inner: self._share(inner, step))

    async def contact(self, step: Step) -> None:
        """A contact."""
        await repository.create(self._at(step), CONTACT, _checked(CONTACT, step.values))

    async def _share(self, ctx: Context, step: Step) -> None:
        share = next(action for action in share_actions() if action.verb == "share")
        row = await repository.load(ctx, ACCOUNT, step.values["id"], "share")
        body = ShareRequest(grantee_type="user", grantee_id=self._ids[step.shared_with or ""], cause="demo")
        await share.run(ctx, ACCOUNT, row, body)

    def _at(self, step: Step) -> Context:
        """A context of the record's owner at its moment, so that the audit reads as if people had worked."""
        owner = replace(self._ctx.principal, id=UUID(step.values["owner_id"]))
        return replace(self._ctx, principal=owner, now=step.at, transaction_id=new_id())


def _checked(resource: Resource, values: dict[str, Any]) -> dict[str, Any]:
    """Values as a request would have them checked and normalised."""
    assert resource.create is not None  # noqa: S101 - accounts and contacts can be created
    return resource.create.model_validate(values).model_dump()
