"""The demo tenant: the same each time, valid, loaded once, with keys that stay."""

import asyncio
import stat

from crm_api.commands import demo, demo_data, demo_load
from crm_api.commands.database import Place
from crm_api.domains.accounts.account import AccountCreate
from crm_api.domains.contacts.contact import ContactCreate
from tests.sign_in.browsing import Browser
from tests.support.org import Person

IDS = {person["key"]: f"00000000-0000-7000-8000-{i:012d}" for i, person in enumerate(demo_data.PEOPLE)}


def test_the_generator_is_deterministic_and_valid():
    def made():
        company = demo_data.Company(IDS, dict.fromkeys(demo_data.TEAMS, IDS["director"]))
        return [*company.roots(), *company.branches()], list(company.contacts())

    accounts, contacts = made()
    assert (accounts, contacts) == made()
    assert len(accounts) == demo_data.ACCOUNTS
    assert len(contacts) == demo_data.CONTACTS
    for unique in ("id", "name", "tax_id"):
        assert len({step.values[unique] for step in accounts}) == len(accounts)
    for step in accounts[::20]:
        AccountCreate.model_validate(step.values)
    for step in contacts[::20]:
        ContactCreate.model_validate(step.values)
    assert len({step.values["addresses"][0]["country"] for step in accounts}) > 8


def test_it_is_loaded_once_and_keeps_its_keys(server, database, monkeypatch):
    for module in (demo_data, demo_load):
        monkeypatch.setattr(module, "ACCOUNTS", 100)
        monkeypatch.setattr(module, "CONTACTS", 60)
    place = Place(server.settings, database["app"], database["migrate"], embedded=False)
    keys = demo.ensure(place)
    kept = server.settings.data_dir / "demo.json"
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert demo.ensure(place) == keys
    with Person(server, "", keys.administrator) as admin, Person(server, "", keys.representative) as lena:
        accounts = admin.all("/v1/accounts")
        assert len(accounts) == 100
        assert {account["status"] for account in accounts} >= {"prospect", "active"}
        assert any(account["parent_id"] for account in accounts)
        assert len(admin.all("/v1/contacts")) == 60
        assert len(admin.all("/v1/users")) == len(demo_data.PEOPLE) + 1
        assert 0 < len(lena.all("/v1/accounts")) < 100
        assert {order["state"] for order in admin.all("/v1/orders")} == {"draft", "confirmed"}
        assert {item["status"] for item in admin.all("/v1/opportunities")} == {"open", "won", "lost"}
    assert Browser(server).sign_in(str(demo.TENANT), demo.REPRESENTATIVE_EMAIL, keys.password).status_code == 303
    assert any(keys.password in line for line in demo.introduction(keys, server.base_url))
    kept.unlink()
    fresh = demo.ensure(place)
    assert fresh != keys
    with Person(server, "", fresh.administrator) as admin, Person(server, "", keys.administrator) as former:
        assert admin.get("/v1/me").status_code == 200
        assert former.get("/v1/me").status_code == 401


def test_an_interrupted_load_is_begun_again(server, database, monkeypatch):
    monkeypatch.setattr(demo_load, "ACCOUNTS", 20)
    monkeypatch.setattr(demo_data, "ACCOUNTS", 20)
    monkeypatch.setattr(demo_data, "CONTACTS", 5)
    place = Place(server.settings, database["app"], database["migrate"], embedded=False)

    async def interrupt():
        async with place.owner() as owner:
            await owner.execute("UPDATE tenants SET is_active = false WHERE tenant_id = $1", demo.TENANT)

    demo.ensure(place)
    asyncio.run(interrupt())
    keys = demo.ensure(place)
    with Person(server, "", keys.administrator) as admin:
        assert len(admin.all("/v1/accounts")) == 20
