"""What roles say: permissions to resources and actions, field rules to hidden and read-only fields."""

from collections.abc import Iterable, Mapping
from typing import Any

from crm_api.kernel.customs import PREFIX, customizable
from crm_api.kernel.domain import Catalog
from crm_api.kernel.resource import Resource


def expand(catalog: Catalog, permission: str) -> Iterable[tuple[str, str]]:
    """Resources and actions that a permission names; `*` stands for all of them."""
    resource, _, action = permission.partition(":")
    for name in catalog.resources if resource == "*" else (resource,):
        known = catalog.resources.get(name)
        for each in known.permitted_actions if known else ():
            if action in ("*", each):
                yield name, each


def ruled(catalog: Catalog, roles: list[Any], rules: tuple[str, ...]) -> dict[str, frozenset[str]]:
    """Fields under a rule in every role that grants anything on their resource: roles are merged permissively.

    A rule holds on every resource of the same rows (users are principals), and where only the organisation-wide
    default grants, the roles that carry rules decide.
    """
    found: dict[str, frozenset[str]] = {}
    named = {rule["resource"] for role in roles for rule in role["field_rules"]}
    tables = {catalog.resources[name].table for name in named if name in catalog.resources}
    for name, resource in catalog.resources.items():
        if resource.table not in tables:
            continue
        family = {other.plural for other in catalog.resources.values() if other.table is resource.table}
        ruled = [role for role in roles if any(rule["resource"] in family for rule in role["field_rules"])]
        granting = [
            role
            for role in roles
            if any(grant["permission"].split(":")[0] in ("*", name) for grant in role["permissions"])
        ]
        sets = [
            frozenset(
                rule["field"]
                for rule in role["field_rules"]
                if rule["resource"] in family and rule["rule"] in rules and ruleable(resource, rule["field"])
            )
            for role in granting or ruled
        ]
        if sets and (common := frozenset.intersection(*sets)):
            found[name] = resource.with_derived(common) if rules == ("hidden",) else common
    return found


def ruleable(resource: Resource, field: str) -> bool:
    """Whether a field rule may be about the field: a column that is sent, or a custom field."""
    return field in resource.columns or (field.startswith(PREFIX) and customizable(resource))


def untold(catalog: Catalog, hidden: Mapping[str, frozenset[str]]) -> frozenset[str]:
    """Resources whose rows stand in a list that is hidden, so that nobody reads them by themselves, either."""
    return frozenset(
        part.plural
        for plural, fields in hidden.items()
        for name, part in catalog.resources[plural].parts.items()
        if name in fields
    )
