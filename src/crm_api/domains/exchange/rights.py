"""What decides which rows somebody may read: kept with an export, so that who may read less by now does not get it."""

from collections.abc import Mapping, Sequence

from crm_api.kernel.policy import Access

Rights = dict[str, list[str]]


def rights(access: Access) -> Rights:
    """Reach and defaults of every resource, since rows may be open through others, and whom and what reach is about."""
    reach = [f"{name}:{one}" for (name, action), reaches in access.reach.items() if action == "read" for one in reaches]
    return {
        "reach": sorted(reach),
        "default": sorted(f"{name}:{level}" for name, level in access.defaults.items()),
        "people": sorted(map(str, access.subordinates)),
        "teams": sorted(map(str, access.teams)),
        "territories": sorted(map(str, access.territories)),
    }


def narrowed(then: Mapping[str, Sequence[str]], access: Access) -> bool:
    """Whether something of it was taken away since; to see all of a resource instead is no loss."""
    now = rights(access)
    whole = {text.partition(":")[0] for text in now["reach"] if text.endswith(":all")}
    lost = {text for kind in ("reach", "default") for text in set(then[kind]) - set(now[kind])}
    if any(text.partition(":")[0] not in whole for text in lost):
        return True
    relative = {text.partition(":")[0] for text in now["reach"] if not text.endswith((":all", ":own"))} - whole
    return bool(relative) and any(set(then[kind]) - set(now[kind]) for kind in ("people", "teams", "territories"))
