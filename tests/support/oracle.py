"""Who may see what, worked out in Python from who owns what: the second opinion on the policy compiler."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from crm_api.catalog import CATALOG
from crm_api.kernel.resource import Resource


@dataclass
class Oracle:
    """Rows and organisation as plain values; `visible` is the union of what grants, and nothing else."""

    rows: Mapping[str, list[Mapping[str, Any]]]
    managers: Mapping[str, str | None]
    teams: Mapping[str, set[str]]
    shares: list[tuple[str, str, str]] = field(default_factory=list)
    defaults: Mapping[str, str] = field(default_factory=dict)
    work: Mapping[str, set[str]] = field(default_factory=dict)
    parents: Mapping[str, str | None] = field(default_factory=dict)
    """Person -> territories, and territory -> the one it lies in."""

    def below(self, person: str) -> set[str]:
        found, grew = {person}, True
        while grew:
            more = {who for who, manager in self.managers.items() if manager in found} - found
            found |= more
            grew = bool(more)
        return found

    def land(self, person: str) -> set[str]:
        found, mine = set(), self.work.get(person, set())
        for place in self.parents:
            here: str | None = place
            while here is not None and here not in mine:
                here = self.parents[here]
            found |= {place} if here is not None else set()
        return found

    def default(self, resource: Resource) -> str:
        return self.defaults.get(resource.plural, resource.default_access or "private")

    def visible(self, person: str, grants: Mapping[str, str], resource: Resource, action: str = "read") -> set[str]:
        """Ids of a resource that are open to a person; `grants` is permission -> reach."""
        live = [row for row in self.rows[resource.plural] if row["deleted_at"] is None]
        level = self.default(resource)
        if level == "write" or (level == "read" and action == "read"):
            return {str(row["id"]) for row in live}
        reach = grants.get(f"{resource.plural}:{action}")
        if reach is None:
            return set()
        return {str(row["id"]) for row in live if self._open(person, grants, resource, row, reach, action)}

    def _open(self, person, grants, resource, row, reach, action) -> bool:
        owner = str(row[resource.owner.key]) if resource.owner is not None else None
        team = str(row["team_id"]) if resource.owned and row["team_id"] else None
        if reach == "all" or (reach == "own" and owner == person):
            return True
        if reach == "subordinates" and owner in self.below(person):
            return True
        if reach == "team" and team in self.teams.get(person, set()):
            return True
        if reach == "territory" and resource.owned and str(row["territory_id"]) in self.land(person):
            return True
        levels = {"read": ("read", "write"), "update": ("write",)}.get(action, ())
        grantees = {person, *self.teams.get(person, set()), *self.land(person)}
        if any(
            object_ == str(row["id"]) and who in grantees and level in levels for object_, who, level in self.shares
        ):
            return True
        if resource.plural == "approvals" and self._asked(person, row, action):
            return True
        for rule in resource.rows:
            plural = rule.name.removeprefix("through:")
            column = next((name for name in resource.references if self.target(resource, name) == plural), None)
            if column and row[column]:
                parents = self._acted_on(person, grants, CATALOG.resources[plural], action)
                if str(row[column]) in parents:
                    return True
            if (
                column is None
                and plural in CATALOG.resources
                and self._linked(person, grants, resource, row, plural, action)
            ):
                return True
        return False

    def _acted_on(self, person, grants, parent, action) -> set[str]:
        """The parents that give their children for an action; nobody acts on what he may not read."""
        seen = self.visible(person, grants, parent)
        return seen if action == "read" else seen & self.visible(person, grants, parent, "update")

    def _asked(self, person, row, action) -> bool:
        """Who asked for an approval, who holds the role that is asked, and who had a say before."""
        if action in ("read", "withdraw") and str(row["requested_by_id"]) == person:
            return True
        if action == "read" and any(item["principal_id"] == person for item in row["decisions"]):
            return True
        held = {
            str(item["role_id"])
            for item in self.rows["role_assignments"]
            if str(item["principal_id"]) == person and item["deleted_at"] is None
        }
        return action != "withdraw" and str(row["approver_role_id"]) in held

    def _linked(self, person, grants, resource, row, plural, action) -> bool:
        """Through a live link to a record that is open: what the rule `through:{links}` says."""
        links = CATALOG.resources[plural]
        mine = next(name for name in links.references if self.target(links, name) == resource.plural)
        for column in links.references:
            other = CATALOG.target(links, column)
            if column == mine or other is None or action == "create":
                continue
            open_ = self._acted_on(person, grants, other, action)
            for link in self.rows[plural]:
                live = link["deleted_at"] is None and link.get("is_active", True)
                if live and str(link[mine]) == str(row["id"]) and str(link[column]) in open_:
                    return True
        return False

    @staticmethod
    def target(resource: Resource, column: str) -> str | None:
        target = CATALOG.target(resource, column)
        return target.plural if target else None
