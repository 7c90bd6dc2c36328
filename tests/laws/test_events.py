"""Each way to write each resource is told of once: one generic event for each object that a transaction changed.

What was changed is taken from the tables, as they were before and after; what is told from the feed, as a reader finds
it. That writes which are refused, stale or dry runs leave no event is also said in test_writes.py, test_verbs.py and
test_batches.py, each of which looks at the whole tenant; here the feed is asked, and for what was undone after it had
been written.
"""

import itertools
from collections import Counter
from typing import Any

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel import feed
from crm_api.kernel.batch_requests import batched
from crm_api.kernel.context import new_id
from crm_api.kernel.customs import CUSTOM
from crm_api.kernel.writes import writes, writes_by_name
from tests.laws.test_batches import step
from tests.laws.test_permission import asked_with
from tests.laws.test_verbs import ACTIONS, EDGES, _ready, in_state, path_to
from tests.laws.test_writes import change
from tests.support.asking import RESOURCES, each
from tests.support.examples import FOLLOWED, SETTINGS

GENERIC = ("created", "updated", "deleted", "restored")
STAMPS = {"version", "updated_at", "updated_by"}
WRITES = writes_by_name(CATALOG)
TOLD = [resource for resource in RESOURCES if any(name.partition(".")[2] in GENERIC for name in resource.events)]
_numbers = itertools.count(1)


class Watch:
    """Writes as the administrator of a tenant, and compares what came of it with what is told of it."""

    def __init__(self, lab: Any, sql: Any) -> None:
        self.lab, self.sql = lab, sql
        lab.admin.make("sources", name="ERP", code="law")
        self.cursor = lab.admin.get("/v1/changes/cursor").json()["cursor"]
        self.tables = " UNION ALL ".join(_of_table(resource) for resource in TOLD)

    def rows(self) -> dict[tuple[str, str], Any]:
        """(version, whether live, columns) of everything that events are promised of."""
        found = self.sql(self.tables, self.lab.tenant_id)
        return {(row["type"], str(row["id"])): (row["version"], row["live"], row["image"]) for row in found}

    def shown(self, type_: str, id_: str | None) -> dict[str, Any] | None:
        answer = self.lab.admin.get(f"/v1/{CATALOG.by_type[type_].plural}/{id_}")
        return answer.json() if answer.status_code == 200 else None

    def events(self, request_id: str) -> list[dict[str, Any]]:
        """What the feed tells of requests whose id begins so, since it was last read."""
        while self.lab.server.run(feed.sequence(self.lab.server.kernel))[1]:
            pass
        found, more = [], True
        while more:
            page = self.lab.admin.get("/v1/changes", params={"since": self.cursor, "limit": 200}).json()
            found += page["data"]
            self.cursor, more = page["next_cursor"], page["has_more"]
        return [item for item in found if (item["origin"]["request_id"] or "").startswith(request_id)]

    def write(self, frame: str, steps: list[tuple[Any, str | None, Any]]) -> Any:
        """Does the steps within a frame, after they were done once and undone by a step that fails.

        Args:
            frame: `alone`, `collection` or `batch`.
            steps: (write, id or external id, body).

        Returns:
            The bodies of the answers.
        """
        request_id = f"law-{next(_numbers)}-"
        before, known = self.rows(), {}
        for write, id_, _ in steps:
            key = write.resource.singular, id_
            if key in before and key not in known:
                known[key] = self.shown(*key)
        asked = [step(write, id_, body) for write, id_, body in steps]
        failing = {"operation": "delete_source", "id": str(new_id())}
        headers = {"X-Request-ID": f"{request_id}undone"}
        while True:
            undone = self.lab.admin.post("/v1/batch", json={"operations": [*asked, failing]}, headers=headers)
            if undone.status_code != 428:
                break
            asked[undone.json()["index"]]["if_match"] = "*"  # an upsert of what is there
        assert (undone.status_code, undone.json().get("index")) == (404, len(asked)), undone.text
        done = self._send(frame, steps, asked, f"{request_id}done")
        assert done.status_code < 300, done.text
        self.compare(steps, before, known, request_id)
        if frame == "alone":
            return [done.json() if done.content else None]
        return [item.get("body") for item in done.json()["results"]]

    def _send(self, frame: str, steps: list[Any], asked: list[Any], request_id: str) -> Any:
        options = {"headers": {"X-Request-ID": request_id}}
        if frame == "alone":
            ((write, id_, body),) = steps
            return self.lab.admin.request(write.method, write.path.replace("{id}", id_ or ""), json=body, **options)
        if frame == "batch":
            return self.lab.admin.post("/v1/batch", json={"operations": asked}, **options)
        items = [
            {"op": write.kind, **{name: value for name, value in item.items() if name != "operation"}}
            for (write, _, _), item in zip(steps, asked, strict=True)
        ]
        return self.lab.admin.post(f"/v1/{steps[0][0].resource.plural}/batch", json={"items": items}, **options)

    def compare(self, steps: list[Any], before: Any, known: Any, request_id: str) -> None:
        """Fails unless the feed and the audit log tell exactly what became of the tables."""
        after, events = self.rows(), self.events(request_id)
        changed = {key: _whole(before.get(key), after.get(key)) for key in {*before, *after}}
        changed = {key: past for key, past in changed.items() if past != "nothing"}
        told = [item for item in events if item["object"]["version"] is not None]
        generic = {item["id"]: item for item in told if item["type"].partition(".")[2] in GENERIC}
        expected = Counter(
            (f"{key[0]}.{past}", key[1])
            for key, past in changed.items()
            if f"{key[0]}.{past}" in CATALOG.by_type[key[0]].events
        )
        assert Counter((item["type"], item["object"]["id"]) for item in generic.values()) == expected
        business = [item["type"] for item in told if item["id"] not in generic]
        assert Counter(business) == _business(steps)
        assert len({item["id"] for item in told}) == len(told)
        assert len({item["transaction_id"] for item in events}) <= 1
        for item in told:
            assert item["origin"]["request_id"] == f"{request_id}done"
            assert item["actor"]["id"] == self.lab.admin.id
        for item in generic.values():
            key = item["object"]["type"], item["object"]["id"]
            often = [body or {} for _, id_, body in steps if id_ == key[1]]
            touched = {name for body in often for name in body} if len(often) > 1 else set()
            self._one(item, key, (before.get(key), after.get(key)), known.get(key), touched)
        self._audits(steps, changed, before, after, request_id)

    def _one(self, item: dict[str, Any], key: Any, rows: tuple[Any, Any], was: Any, touched: set[str]) -> None:
        """The event has the record as a GET shows it, and what differs; or was touched, by several writes."""
        (old, new), columns = rows, CATALOG.by_type[key[0]].columns
        past, now = item["type"].partition(".")[2], self.shown(*key)
        if new is not None:
            assert item["object"]["version"] == item["data"]["version"] == new[0]
        differing = {name for name in columns if past == "updated" and old[2].get(name) != new[2].get(name)} - STAMPS
        assert item["changed"] == sorted(item["previous"])
        assert differing <= set(item["changed"]) <= differing | (touched if past == "updated" else set())
        if was is not None:
            assert item["previous"] == {name: _previous(name, was[name], item, touched) for name in item["changed"]}
        if past == "deleted":
            assert now is None
            kept = {name for name in columns if new is None or old[2][name] == new[2][name]} - STAMPS
            assert was is None or {name: item["data"][name] for name in kept} == {name: was[name] for name in kept}
        else:
            assert item["data"] == now

    def _audits(self, steps: list[Any], changed: Any, before: Any, after: Any, request_id: str) -> None:
        """Each version has one entry, and so has a verb that changes none."""
        rows = self.sql(
            "SELECT * FROM audit_entries WHERE tenant_id = $1 AND starts_with(request_id, $2) ORDER BY id",
            self.lab.tenant_id,
            request_id,
        )
        assert {row["request_id"] for row in rows} <= {f"{request_id}done"}
        assert {str(row["actor_id"]) for row in rows} <= {self.lab.admin.id}
        assert all(row["credential_id"] is not None for row in rows)
        of: dict[tuple[str, str], list[Any]] = {}
        for row in rows:
            of.setdefault((row["object_type"], str(row["object_id"])), []).append(row)
        promised = {key for key, past in changed.items() if f"{key[0]}.{past}" in CATALOG.by_type[key[0]].events}
        for key in promised | (changed.keys() & of.keys()):
            first, last = (part[key][0] if key in part else 0 for part in (before, after))
            entries = [row for row in of[key] if row["version"] > first]
            of[key] = [row for row in of[key] if row["version"] <= first]
            assert [row["version"] for row in entries] == list(range(first + 1, (last or entries[-1]["version"]) + 1))
            if len(entries) == 1:
                self._images(entries[0], changed[key], before.get(key), after.get(key), key)
        rest = Counter(row["action"] for rows in of.values() for row in rows)
        assert rest <= Counter(write.action.verb for write, _, _ in steps if write.replies), "not of a change"

    def _images(self, entry: Any, past: str, old: Any, new: Any, key: Any) -> None:
        """The audit entry of one change has the columns as they were, and as they became."""
        columns = CATALOG.by_type[key[0]].columns
        whole = {name: (old[2].get(name) if old else None, new[2].get(name) if new else None) for name in columns}
        if past == "updated":
            differing = {name for name, (a, b) in whole.items() if a != b} - STAMPS
            assert entry["before"] == {name: whole[name][0] for name in differing}
            assert entry["after"] == {name: whole[name][1] for name in differing}
        elif past == "deleted":
            assert ({**entry["before"], "deleted_at": 0}.keys() - {"deleted_at"}) == set(columns) - {"deleted_at"}
            assert entry["after"] == {}
        else:
            assert (entry["before"], entry["after"]) == ({}, {name: after for name, (_, after) in whole.items()})


def _previous(name: str, was: Any, item: dict[str, Any], touched: set[str]) -> Any:
    """What an event tells of a field as it was; of custom fields it tells those that differ, or were touched."""
    if name != CUSTOM:
        return was
    told, now = item["previous"][name], item["data"][name]
    differing = {key for key in {*was, *now} if was.get(key) != now.get(key)}
    assert differing <= told.keys() if name in touched else differing == told.keys()
    return {key: was.get(key) for key in told}


def _of_table(resource: Any) -> str:
    """The rows of a resource; when a key was last used is noted behind the requests, and is no change."""
    live = "deleted_at IS NULL" if "deleted_at" in resource.table.c else "true"
    fixed = "".join(f" AND {column} = '{value}'" for column, value in resource.fixed.items())
    return (
        f"SELECT '{resource.singular}' AS type, id, version, {live} AS live, to_jsonb(t) - 'last_used_at' AS image "  # noqa: S608 - our own names
        f"FROM {resource.table.name} t WHERE tenant_id = $1{fixed}"
    )


def _whole(old: Any, new: Any) -> str:
    """What became of a row as a whole."""
    if old is None or new is None:
        return "unseen" if not (old or new)[1] else "created" if old is None else "deleted"
    if old[0] == new[0]:
        assert old[2] == new[2], "a change without a version"
        return "nothing"
    return {(1, 1): "updated", (1, 0): "deleted", (0, 1): "restored", (0, 0): "unseen"}[old[1], new[1]]


def _business(steps: list[Any]) -> Counter[str]:
    """The events that are not generic, one for each verb that has one."""
    found: Counter[str] = Counter()
    for write, _, _ in steps:
        edges = write.resource.lifecycle.edges if write.kind == "edge" else ()
        past = next((edge.event for edge in edges if write.operation_id.startswith(f"{edge.verb}_")), None)
        past = write.action.event if write.kind == "action" else past
        verb = write.operation_id.removesuffix(f"_{write.resource.singular}")
        found.update(FOLLOWED.get((write.resource.plural, verb), ()))
        found.update([f"{write.resource.singular}.{past}"] if past else [])
    return found


@pytest.fixture(scope="module")
def watch(lab, sql) -> Watch:
    return Watch(lab, sql)


def few(resource: Any) -> bool:
    """Whether so few can be made that those of one test would stand in each other's way."""
    return resource.plural in SETTINGS


def plain(resource: Any) -> dict[str, Any]:
    """The ways to write that are no verbs."""
    return {write.kind: write for write in writes(resource) if write.kind not in ("edge", "action")}


@each(where=plain)
def test_each_way_to_write_is_told_once(watch, resource):
    """Alone, and beside writes of other objects in each kind of batch."""
    kinds, examples = plain(resource), watch.lab.examples
    if "create" in kinds:
        (row,) = watch.write("alone", [(kinds["create"], None, examples.body(resource, 1))])
    else:
        row = examples.make(resource, 1)
    id_, patched = row["id"], "update" in kinds and change(watch.lab, resource, row)
    for kind, body in (("update", patched), ("delete", None), ("restore", None)):
        if kind in kinds:
            watch.write("alone", [(kinds[kind], id_, body)])
    if "upsert" in kinds:
        name, body = f"ext:law:{next(_numbers)}", examples.body(resource, 2)
        (row,) = watch.write("alone", [(kinds["upsert"], name, body)])
        watch.write("alone", [(kinds["upsert"], name, {**body, **change(watch.lab, resource, row)})])
    for frame, known in (("collection", batched(resource)), ("batch", kinds)):
        steps = []
        for n, (kind, write) in enumerate(known.items()):
            if kind in ("create", "upsert"):
                id_ = f"ext:law:{next(_numbers)}" if kind == "upsert" else None
                steps.append((write, id_, examples.body(resource, 20 + n)))
                continue
            row = examples.make(resource, 20 + n)
            if kind == "restore":
                assert watch.lab.admin.delete(f"/v1/{resource.plural}/{row['id']}").status_code == 204
            steps.append((write, row["id"], change(watch.lab, resource, row) if kind == "update" else None))
            if few(resource):
                watch.write(frame, [steps.pop()])
        watch.write(frame, steps[:1] if few(resource) else steps)


@each("create")
def test_however_often_a_transaction_writes_an_object_it_is_told_once(watch, resource):
    kinds = plain(resource)
    create, update, delete, restore = (kinds.get(name) for name in ("create", "update", "delete", "restore"))
    examples, admin, numbers = watch.lab.examples, watch.lab.admin, itertools.count(30)

    def together(frame: str, *parts: list[Any]) -> None:
        """The parts in one transaction, in turns: the first of each, the second of each, and so on."""
        mixed = [item for turn in itertools.zip_longest(*parts) for item in turn if item]
        if mixed:  # what is only created has no other fate
            watch.write(frame, mixed)

    def born(*then: Any) -> list[Any]:
        body = {**examples.body(resource, next(numbers)), "id": str(new_id())}
        patch = change(watch.lab, resource, body) if update else None
        asked = {update: patch, **bodies}
        return [(create, None, body), *((write, body["id"], asked.get(write)) for write in then)]

    def there(*then: str, gone: bool = False) -> list[Any]:
        row = examples.make(resource, next(numbers))
        if gone:
            assert admin.delete(f"/v1/{resource.plural}/{row['id']}").status_code == 204
        patch = change(watch.lab, resource, row) if update else {}
        bodies = {"update": patch, "back": {name: row[name] for name in patch}}
        return [(kinds.get(kind, update), row["id"], bodies.get(kind)) for kind in then]

    verbs = path_to(resource.lifecycle, resource.lifecycle.states[-1]) if resource.lifecycle else []
    edges = [WRITES[f"{verb}_{resource.singular}"] for verb, _ in verbs]
    bodies = {
        edge: asked_with(watch.lab, resource.lifecycle.edge(verb)) for edge, (verb, _) in zip(edges, verbs, strict=True)
    }
    fates = [then for then in ([update, *edges], [delete], [update, delete], [delete, restore, update]) if all(then)]
    lives = [("update", "back", "update"), ("update", "back"), ("update", "delete"), ("delete",)]
    lives = [then for then in lives if kinds.keys() >= {*then} - {"back"}]
    again = [("delete", "restore"), ("delete", "restore", "update")] if restore else []
    if few(resource):
        for fate in fates:
            together("batch", born(*fate))
        for life in (*lives, *again):
            together("batch", there(*life))
        return
    together("batch", *(born(*fate) for fate in fates))
    back = [there("restore", "update", "back", gone=True)] if restore else []
    together("batch", *(there(*life) for life in (*lives, *again)), *back)
    together("collection", *(there(*life) for life in lives))


@pytest.mark.parametrize(("resource", "edge"), EDGES)
def test_a_move_of_state_is_told_once(watch, resource, edge):
    for frame in ("alone", "batch"):
        row = in_state(watch.lab, resource, min(edge.sources))
        watch.write(frame, [(WRITES[f"{edge.verb}_{resource.singular}"], row["id"], asked_with(watch.lab, edge))])


OPERATIONS = [operation for parameter in ACTIONS for operation in parameter.values]


@each(where=lambda item: any(operation.resource is item for operation in OPERATIONS))
def test_an_action_is_told_once(watch, resource):
    """Alone, and beside the other actions of the resource on other records in one batch."""
    found = [operation for operation in OPERATIONS if operation.resource is resource]
    for operation in found:
        id_, _, body = _ready(watch.lab, operation)
        watch.write("alone", [(WRITES[operation.operation_id], id_, body)])
    ready = [(operation, *_ready(watch.lab, operation)) for operation in found]
    watch.write("batch", [(WRITES[operation.operation_id], id_, body) for operation, id_, _, body in ready])


def test_every_write_is_looked_at():
    looked = {operation.operation_id for operation in OPERATIONS}
    looked |= {f"{edge.verb}_{resource.singular}" for resource, edge in (parameter.values for parameter in EDGES)}
    for resource in RESOURCES:
        looked |= {write.operation_id for write in plain(resource).values()}
    assert set(WRITES) == looked
