"""A tenant with people in it, each with an HTTP client of their own."""

import itertools
import re
from dataclasses import dataclass, field
from typing import Any

import httpx2

from crm_api.catalog import CATALOG
from crm_api.domains.identity.default_roles import ADMINISTRATOR, MANAGER, READER, REPRESENTATIVE
from crm_api.domains.identity.role import ROLES
from crm_api.kernel.repository import create
from crm_api.kernel.unit_of_work import system
from crm_api.tenants import add_key, add_user, create_tenant
from tests.support.server import LiveServer
from tests.support.wire import WIRE

_numbers = itertools.count(1)
STRICT = re.compile(
    f"/v1/(?:{'|'.join(item.plural for item in CATALOG.resources.values() if item.require_match)})/[^/]+$"
)
"""Paths of records that are not changed without If-Match."""


class Person(httpx2.Client):
    """An HTTP client that speaks as one principal. `id` is the principal, `key` its API key."""

    def __init__(self, server: LiveServer, id_: str, key: str) -> None:
        headers = {"Authorization": f"Bearer {key}"}
        super().__init__(base_url=server.base_url, headers=headers, timeout=30, transport=WIRE)
        self.server = server
        self.id = id_
        self.key = key

    def request(self, method: str, url: Any, **options: Any) -> httpx2.Response:
        """As a client that overwrites whatever is there, where the resource insists on a precondition."""
        headers = dict(options.pop("headers", None) or {})
        found = STRICT.match(str(url))
        if found and method in ("PATCH", "DELETE") and "If-Match" not in headers:
            headers["If-Match"] = "*"
        answer = super().request(method, url, headers=headers, **options)
        if found and method == "PUT" and answer.status_code == 428 and "If-Match" not in headers:
            return super().request(method, url, headers={**headers, "If-Match": "*"}, **options)
        return answer

    def make(self, collection: str, **values: Any) -> dict[str, Any]:
        """Creates a record and returns it; fails the test unless it is 201."""
        answer = self.post(f"/v1/{collection}", json=values)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def all(self, path: str, **params: Any) -> list[dict[str, Any]]:
        """Every row of a list, over all its pages."""
        found, cursor = [], None
        while True:
            answer = self.get(path, params={**params, **({"cursor": cursor} if cursor else {})})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["data"]
            cursor = page["next_cursor"]
            if not cursor:
                return found


@dataclass
class Org:
    """One tenant. `manager` is above `rep` and `colleague` (another branch: `other_manager` above `outsider`)."""

    server: LiveServer
    tenant_id: Any
    roles: dict[str, str]
    people: dict[str, Person] = field(default_factory=dict)

    @classmethod
    def create(cls, server: LiveServer) -> "Org":
        number = next(_numbers)
        new = server.run(
            create_tenant(server.kernel, server.migrate_url, f"Tenant {number}", f"admin{number}@example.com")
        )
        org = cls(server, new.tenant_id, new.roles)
        org.people["admin"] = Person(server, new.administrator_id, new.key)
        org.person("manager", MANAGER)
        org.person("rep", REPRESENTATIVE, manager="manager")
        org.person("colleague", REPRESENTATIVE, manager="manager")
        org.person("other_manager", MANAGER)
        org.person("outsider", REPRESENTATIVE, manager="other_manager")
        org.person("reader", READER)
        return org

    def __getattr__(self, name: str) -> Person:
        try:
            return self.__dict__["people"][name]
        except KeyError:
            raise AttributeError(name) from None

    def context(self):
        """A system context of this tenant."""
        return system(self.server.kernel, self.tenant_id, "test")

    def role(self, name: str, *permissions: tuple[str, str], field_rules: list[dict[str, str]] | None = None) -> str:
        """A new role's id; permissions are (`accounts:read`, `own`) pairs."""
        grants = [{"permission": permission, "reach": reach} for permission, reach in permissions]
        if field_rules:
            return self.admin.make("roles", name=name, permissions=grants, field_rules=field_rules)["id"]
        values = {"name": name, "description": None, "permissions": grants, "field_rules": []}
        return str(self.server.run(create(self.context(), ROLES, values))["id"])

    def person(self, name: str, role: str, *, manager: str | None = None, team_id: str | None = None) -> Person:
        """A new user with a key; `role` is the name of a default role or a role's id."""
        values: dict[str, Any] = {"name": name.title(), "email": f"{name}@example.com", "team_id": team_id}
        if manager:
            values["manager_id"] = self.people[manager].id
        user = self.server.run(add_user(self.context(), values, self.roles.get(role, role)))
        self.people[name] = Person(self.server, user, self.server.run(add_key(self.context(), user, name)))
        return self.people[name]


__all__ = ["ADMINISTRATOR", "MANAGER", "READER", "REPRESENTATIVE", "Org", "Person"]
