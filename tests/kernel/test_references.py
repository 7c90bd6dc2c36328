"""External ids inside lists and objects of a body."""

from dataclasses import replace
from typing import Annotated
from uuid import UUID

import pytest
from pydantic import Field

from crm_api.domains.contacts.contact import CONTACTS, ContactCreate
from crm_api.kernel.context import Context, Principal
from crm_api.kernel.external import To, inner_references, referred
from crm_api.kernel.problems import Problem
from crm_api.kernel.schema import Ref, Wire
from tests.support.org import Org


class Share(Wire):
    """Who gets a part of something."""

    user_id: Annotated[Ref, To("users")]


class Part(Wire):
    """A part in an account."""

    account_id: Annotated[Ref, To("accounts")]
    former_ids: list[Annotated[Ref, To("accounts")]] = Field(default_factory=list)
    share: Share | None = None


class Body(ContactCreate):
    """A contact with parts inside it."""

    parts: Annotated[list[Part], Field(max_length=9)] = Field(default_factory=list)
    main: Annotated[Ref, To("accounts")] | None = None


RESOURCE = replace(CONTACTS, create=Body)


@pytest.fixture(scope="module")
def org(server):
    org = Org.create(server)
    org.admin.make("sources", name="ERP", code="erp")
    for name in ("1", "2"):
        assert org.admin.put(f"/v1/accounts/ext:erp:{name}", json={"name": name}).status_code == 201
    link = {"source": "erp", "external_id": "rep"}
    assert org.admin.post(f"/v1/users/{org.rep.id}/link", json=link).status_code == 200
    return org


def known(org, name: str) -> str:
    return org.admin.get(f"/v1/accounts/ext:erp:{name}").json()["id"]


def sent(**values):
    body = Body(last_name="Moos", **values)
    return {name: value for name, value in body.model_dump().items() if name in body.model_fields_set}


def asked(org, person, values, **options):
    async def run():
        principal = Principal(org.tenant_id, UUID(person.id), "user", **options)
        access = await org.server.kernel.authenticator.access(principal)
        return await referred(Context(org.server.kernel, principal, access, "test"), RESOURCE, values)

    return org.server.run(run())


def test_the_ways_to_references_follow_from_the_schema():
    assert set(inner_references(Body)) == {
        (("parts", "account_id"), "accounts"),
        (("parts", "former_ids"), "accounts"),
        (("parts", "share", "user_id"), "users"),
        (("main",), "accounts"),
    }
    assert inner_references(ContactCreate) == ()


def test_ids_stand_in_place_of_external_ids_at_any_depth(org):
    one, two = known(org, "1"), known(org, "2")
    values = sent(
        account_id="ext:erp:1",
        main="ext:erp:2",
        parts=[
            {"account_id": "ext:erp:2", "former_ids": ["ext:erp:1", two], "share": {"user_id": "ext:erp:rep"}},
            {"account_id": one},
        ],
    )
    before = repr(values)
    found = asked(org, org.admin, values)
    assert (found["account_id"], found["main"], found["last_name"]) == (one, two, "Moos")
    assert found["parts"] == [
        {"account_id": two, "former_ids": [one, two], "share": {"user_id": org.rep.id}},
        {"account_id": one, "former_ids": [], "share": None},
    ]
    assert repr(values) == before


def test_what_is_unknown_or_hidden_becomes_an_id_of_nobody(org):
    found = asked(org, org.admin, sent(parts=[{"account_id": "ext:erp:nobody"}, {"account_id": "ext:none:1"}]))
    ids = [part["account_id"] for part in found["parts"]]
    assert len({*ids, known(org, "1")}) == 3
    for id_ in ids:
        assert org.admin.get(f"/v1/accounts/{id_}").status_code == 404


def test_a_body_without_external_ids_is_left_as_it_is(org):
    values = sent(parts=[{"account_id": known(org, "1")}], account_id=None)
    assert asked(org, org.admin, values) is values


def test_a_key_whose_scopes_leave_a_domain_out_refers_to_nothing_there(org):
    with pytest.raises(Problem) as refused:
        asked(org, org.manager, sent(parts=[{"account_id": "ext:erp:1"}]), scopes=frozenset({"contacts:write"}))
    assert refused.value.extra["permission"] == "scope accounts:read"
