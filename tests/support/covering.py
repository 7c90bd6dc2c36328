"""A few resources, and fields of them, that have between them everything that a declaration can say, for `make test`.

What a law finds in one resource with a lifecycle, it finds in the next one, too, since the same code runs. All the
others are asked by the check of a submission (`.ci/run`), and by `pytest` itself.
"""

from collections.abc import Iterator
from typing import Any

from crm_api.catalog import CATALOG
from crm_api.kernel.customs import PREFIX
from crm_api.kernel.resource import Resource

SAID = (
    *(
        "create",
        "owner",
        "lifecycle",
        "lock",
        "default_access",
        "deletable",
        "mask",
        "rights",
        "duplicates",
        "in_whole",
    ),
    *("require_match", "owned", "upserts", "any_reference", "guarded", "checks", "builds", "parts", "actions", "many"),
    *(
        "keys",
        "search",
        "values",
        "derive",
        "fixed",
        "access_fields",
        "once",
        "within",
        "further",
        "notices",
        "printed",
    ),
)


def features(resource: Resource) -> frozenset[str]:
    """What is said of a resource, as words."""
    return frozenset(_features(resource))


def _features(resource: Resource) -> Iterator[str]:
    yield from (name for name in SAID if getattr(resource, name, None))
    yield from (f"operation {operation}" for operation in resource.operations)
    yield f"default access {resource.default_access}"
    yield from (f"rule {rule.name.partition(':')[0]}" for rule in resource.rows)
    yield from (f"kind {kind}" for kind in resource.filterable.values())
    yield from ("nullable sort" for column in resource.sortable.values() if column.nullable)
    yield from ("refers to itself" for table in resource.references.values() if table == resource.table.name)
    yield from (f"journal {part.journal}" for part in resource.parts.values())
    for edge in resource.lifecycle.edges if resource.lifecycle else ():
        said = {"run": edge.run, "body": edge.body, "otherwise": edge.otherwise, "blocked": edge.blocked}
        yield from (f"edge with {name}" for name, value in (said | {"internal": edge.internal}).items() if value)
    for action in resource.actions:
        said = {"body": action.body, "event": action.event, "private": action.private, "level": action.level}
        yield "action with " + " ".join([action.method, *(name for name, value in said.items() if value)])
        yield f"action that answers with {'itself' if action.reply is None else 'more'}, {action.status}"


def _cover(*, rules: bool) -> frozenset[str]:
    """Greedily: whichever adds most for its fields, which laws take as long for, until nothing is missing."""
    left = {item.plural: {f for f in features(item) if f.startswith("rule ") == rules} for item in _RESOURCES.values()}
    missing, chosen = set().union(*left.values()), set()
    while missing:
        best = max(sorted(left), key=lambda name: len(left[name] & missing) / len(_RESOURCES[name].output.model_fields))
        missing -= left.pop(best)
        chosen.add(best)
    return frozenset(chosen)


_RESOURCES = CATALOG.resources
COVER = _cover(rules=False)
RULED = COVER | _cover(rules=True)
"""With each rule of rows, for the laws of those."""


def _said_of(resource: Resource, field: str) -> tuple[object, ...]:
    """What a declaration says of a field."""
    groups: tuple[Any, ...] = (resource.sortable, resource.search, resource.references, resource.parts, resource.values)
    return resource.filterable.get(field), *(field in group for group in groups)


def _cover_fields() -> frozenset[tuple[str, str]]:
    """A field for everything that is said of one."""
    first: dict[tuple[object, ...], tuple[str, str]] = {}
    for plural in sorted(COVER):
        for field in sorted(_RESOURCES[plural].hideable):
            first.setdefault(_said_of(_RESOURCES[plural], field), (plural, field))
    return frozenset(first.values())


FIELDS = _cover_fields()


def has_another(item: Any) -> bool:
    """Whether a parametrized test asks a law of a resource, or of a field of one, that others stand for."""
    given = getattr(item, "callspec", None)
    params = given.params if given else {}
    found = (value if isinstance(value, Resource) else getattr(value, "resource", None) for value in params.values())
    resource = next((one for one in found if isinstance(one, Resource)), None)
    if resource is None:
        return False
    field = params.get("field")
    if field is not None:
        return not field.startswith(PREFIX) and (resource.plural, field) not in FIELDS
    return resource.plural not in (RULED if item.path.stem == "test_row_rules" else COVER)
