"""What is true of a write alone is true of it in a batch; a batch is all or nothing, or item by item, as it says."""

import itertools

import pytest

from crm_api.catalog import CATALOG
from crm_api.kernel.batch_requests import MAX_OPERATIONS, batched
from crm_api.kernel.context import new_id
from crm_api.kernel.router import operations
from crm_api.kernel.writes import writes_by_name
from tests.laws.test_permission import _calls, _some
from tests.laws.test_writes import change
from tests.support.asking import code, each
from tests.support.examples import SETTINGS, Examples
from tests.support.org import Org, Person

_numbers = itertools.count(1)
WRITES = writes_by_name(CATALOG)
MODES = pytest.mark.parametrize("mode", ["atomic", "partial"])
FRESH = ("id", "key", "link", "secret", "client_id")
"""What differs from one try to the next, as do instants."""


def key() -> dict[str, str]:
    return {"Idempotency-Key": f"batch-{next(_numbers)}"}


@pytest.fixture(scope="module")
def stranger(server) -> Org:
    org = Org.create(server)
    org.examples = Examples(org.admin)
    return org


def calls(lab, resource, id_):
    """(write, method, path, body) of every write of a resource."""
    for operation, path, body in _calls(lab, resource, id_):
        if (write := WRITES.get(operation.operation_id)) is not None:
            yield write, operation.method, path, body


def step(write, id_, body, expected=None) -> dict:
    found = {"operation": write.operation_id}
    if not write.creates:
        found["id"] = id_
    if write.model is not None and body is not None:
        found["body"] = body
    if expected is None and write.strict:
        expected = "*"
    if expected is not None:
        found["if_match"] = expected
    return found


def without(item, names=FRESH):
    """An answer without what is new each time; items of its lists have ids and times of their own."""
    return {
        name: [without(part, ("id",)) if isinstance(part, dict) else part for part in value]
        if name in ("lines", "decisions")
        else value
        for name, value in item.items()
        if name not in names and not name.endswith("_at")
    }


def told(problem: dict, place: str | None = None) -> tuple:
    """What a problem says, with its pointers as they are in a batch when it is of a request of its own."""
    errors = [(item.get("pointer"), item["code"], item["detail"]) for item in problem["errors"]]
    if place is not None:
        inside = [
            f"/{item['parameter']}" if "parameter" in item else f"/body{item.get('pointer', '')}"
            for item in problem["errors"]
        ]
        errors = [(place + pointer, *rest) for pointer, (_, *rest) in zip(inside, errors, strict=True)]
        errors = errors or [(place, problem["code"], problem["detail"])]
    rest = without(problem, ("errors", "instance", "request_id", "index"))
    return rest, errors


def same(alone, result: dict, place: str) -> None:
    """Fails unless an item of a batch came to what the request alone came to."""
    status, problem = result["status"], result.get("problem")
    assert status == alone.status_code, (alone.text, result)
    if problem is not None:
        assert told(problem) == told(alone.json(), place)
        return
    body = alone.json() if alone.content else {}
    assert without(result.get("body", {})) == without(body)
    ignored = [f"{name};source={source}" for name, source in sorted(result.get("ignored", {}).items())]
    assert alone.headers.get("ignored-fields", "") == ", ".join(ignored)
    if "etag" in alone.headers:
        assert alone.headers["etag"] == f'"{result["version"]}"'


def compare(person, cases) -> set[int]:
    """Asks each case alone and in each kind of batch, as dry runs; the statuses, which are the same.

    Args:
        person: who asks.
        cases: (write, method, path, id, body, expected version or None) of each. Those of one frame that may be in
            parts share a batch, in which none knows of the others.
    """
    dry, statuses = {"dry_run": "true"}, set()
    parts: dict[tuple[str, str], list] = {}
    for write, method, path, id_, body, expected in cases:
        headers = {} if expected is None else {"If-Match": f'"{expected}"'}
        alone = person.request(method, path, json=body, params=dry, headers=headers)
        statuses.add(alone.status_code)
        match = "*" if alone.request.headers.get("If-Match") == "*" else expected
        frames = [("/v1/batch", "operations", step(write, id_, body, match))]
        if write.kind in batched(write.resource):
            item = {"op": write.kind, **step(write, id_, body, match)}
            del item["operation"]
            frames.append((f"/v1/{write.resource.plural}/batch", "items", item))
        for url, member, item in frames:
            parts.setdefault((url, member), []).append((alone, item))
            answer = person.post(url, json={"mode": "atomic", member: [item]}, params=dry)
            if answer.status_code >= 400:
                assert answer.json()["index"] == 0
                same(alone, {"status": answer.status_code, "problem": answer.json()}, f"/{member}/0")
            else:
                assert answer.status_code == 200, answer.text
                (result,) = answer.json()["results"]
                same(alone, result, f"/{member}/0")
    for (url, member), asked in parts.items():
        for start in range(0, len(asked), MAX_OPERATIONS):
            some = asked[start : start + MAX_OPERATIONS]
            answer = person.post(url, json={"mode": "partial", member: [item for _, item in some]}, params=dry)
            failed = any(alone.status_code >= 400 for alone, _ in some)
            assert answer.status_code == (207 if failed else 200), answer.text
            for n, ((alone, _), result) in enumerate(zip(some, answer.json()["results"], strict=True)):
                same(alone, result, f"/{member}/{n}")
    return statuses


@each(where=lambda item: any(write.resource is item for write in WRITES.values()))
def test_a_write_in_a_batch_is_answered_as_alone(lab, stranger, resource, unchanged):
    """Status, code, detail, pointers and body; for rows one may write, may not, may not see, and that are not there."""
    row = _some(lab, resource)
    maker = stranger.examples.creatable(resource)
    theirs = stranger.examples.make(maker, 0)["id"] if maker and maker.plural not in SETTINGS else str(new_id())
    version = lab.admin.get(f"/v1/{resource.plural}/{row}").json()["version"]
    domain = resource.domain
    made = lab.admin.post(
        f"/v1/users/{lab.person(f'n{next(_numbers)}', 'Administrator').id}/issue_key",
        json={"name": "narrow", "scopes": [f"{domain}:write"]},
    )
    assert made.status_code == 201, made.text
    narrow = Person(lab.server, "", made.json()["key"])
    statuses = set()
    ids = (row, theirs, str(new_id()), "nonsense")
    asked = {id_: list(calls(lab, resource, id_)) for id_ in ids}
    with unchanged(lab), unchanged(stranger):
        for person in (lab.admin, lab.rep, lab.outsider, lab.reader, narrow):
            cases = []
            for id_ in ids if person is lab.admin else (row,):
                for write, method, path, body in asked[id_]:
                    cases.append((write, method, path, id_, body, None))
                    if write.matches and person is lab.admin:
                        cases.append((write, method, path, id_, body, 999))
                        cases.append((write, method, path, id_, body, version))
                    if write.model is not None and person is lab.admin:
                        cases.append((write, method, path, id_, {**(body or {}), "nonsense": 1}, None))
            statuses |= compare(person, cases)
    assert 404 in statuses or {item.kind for item in operations(resource)} & {"update", "delete"} == set()
    own = resource.plural in ("jobs", "sessions", "oauth_grants")  # everybody may end their own, and sees no others
    assert 403 in statuses or own


@each("create", "get")
def test_a_batch_of_creates_is_the_creates(lab, resource, ledger, unchanged):
    if resource.plural in SETTINGS:
        pytest.skip("few can be made")
    bodies = [lab.examples.body(resource, n) for n in range(4)]
    path = f"/v1/{resource.plural}"
    with unchanged(lab):
        alone = [lab.admin.post(path, json=body, params={"dry_run": "true"}).json() for body in bodies]
    answer = lab.admin.post(f"{path}/batch", json={"items": [{"op": "create", "body": body} for body in bodies]})
    assert answer.status_code == 200, answer.text
    results = answer.json()["results"]
    assert [(item["status"], item["version"]) for item in results] == [(201, 1)] * 4
    assert [without(item["body"]) for item in results] == [without(item) for item in alone]
    for item in results:
        assert lab.admin.get(f"{path}/{item['id']}").json() == item["body"]
        (event,) = ledger(lab, item["id"])[1]
        assert str(event["transaction_id"]) == answer.json()["transaction_id"]


def failing(lab, resource):
    """Items that are refused, each for another reason: before anything is written, and after."""
    yield {"op": "create", "body": {**lab.examples.body(resource, 1), "nonsense": 1}}, 422
    if resource.update:
        body = change(lab, resource, lab.examples.make(resource, 1))
        yield {"op": "update", "id": str(new_id()), "if_match": "*", "body": body}, 404
    if "delete" in resource.operations:
        yield {"op": "delete", "id": str(new_id()), "if_match": "*"}, 404
        yield {"op": "delete", "id": lab.examples.make(resource, 1)["id"], "if_match": 77}, 412


@each("create", where=lambda item: item.plural not in SETTINGS)
def test_an_atomic_batch_that_is_refused_leaves_nothing(lab, resource, unchanged):
    path = f"/v1/{resource.plural}/batch"
    for bad, status in failing(lab, resource):
        good = [{"op": "create", "body": lab.examples.body(resource, n)} for n in range(2)]
        with unchanged(lab):
            answer = lab.admin.post(path, json={"items": [*good, bad, good[0]]})
            assert answer.status_code == status, answer.text
            assert answer.json()["index"] == 2
            assert all(item["pointer"].startswith("/items/2") for item in answer.json()["errors"])


@each("create", where=lambda item: item.plural not in SETTINGS)
def test_a_partial_batch_keeps_what_is_good(lab, resource, ledger):
    path = f"/v1/{resource.plural}/batch"
    for bad, status in failing(lab, resource):
        good = [{"op": "create", "body": lab.examples.body(resource, n)} for n in range(2)]
        before = [len(part) for part in ledger(lab)]
        answer = lab.admin.post(path, json={"mode": "partial", "items": [good[0], bad, good[1]]})
        assert answer.status_code == 207, answer.text
        assert [item["status"] for item in answer.json()["results"]] == [201, status, 201]
        assert "transaction_id" not in answer.json()
        assert [len(part) for part in ledger(lab)] == [number + 2 for number in before]
        transactions = {event["transaction_id"] for event in ledger(lab)[1][-2:]}
        assert len(transactions) == 2, "each is a transaction of its own"


@MODES
@each("create", where=lambda item: item.plural not in SETTINGS)
def test_a_retried_batch_has_one_effect_and_the_same_answer(lab, resource, mode, unchanged):
    path, headers = f"/v1/{resource.plural}/batch", key()
    items = [{"op": "create", "body": lab.examples.body(resource, n)} for n in range(3)]
    if "delete" in resource.operations:
        items.append({"op": "delete", "id": lab.examples.make(resource, 1)["id"], "if_match": "*"})
    frame = {"mode": mode, "items": items}
    first = lab.admin.post(path, json=frame, headers=headers)
    assert first.status_code == 200, first.text
    assert "idempotency-replayed" not in first.headers
    with unchanged(lab):
        again = lab.admin.post(path, json=frame, headers=headers)
        assert (again.status_code, again.json()) == (200, first.json())
        assert again.headers["idempotency-replayed"] == "true"
        for other in ({**frame, "items": items[:2]}, {**frame, "mode": "partial" if mode == "atomic" else "atomic"}):
            assert code(lab.admin.post(path, json=other, headers=headers)) == (422, "idempotency_mismatch")


@MODES
@each("create", where=lambda item: item.plural not in SETTINGS)
def test_a_dry_run_of_a_batch_keeps_nothing(lab, resource, mode, unchanged):
    items = [{"op": "create", "body": lab.examples.body(resource, n)} for n in range(3)]
    with unchanged(lab):
        for _ in range(2):
            answer = lab.admin.post(
                f"/v1/{resource.plural}/batch",
                json={"mode": mode, "items": items},
                params={"dry_run": "true"},
                headers={"Idempotency-Key": "dry"},
            )
            assert [item["status"] for item in answer.json()["results"]] == [201] * 3, answer.text
            assert "transaction_id" not in answer.json()


@each("create")
def test_what_a_batch_does_not_know_is_refused(lab, resource, unchanged):
    path = f"/v1/{resource.plural}/batch"
    body = lab.examples.body(resource, 1)
    wrong = [
        ({"items": []}, "/items"),
        ({"items": [{"op": "create", "body": body}] * 201}, "/items"),
        ({"items": [{"op": "restore", "id": str(new_id())}]}, "/items/0/op"),
        ({"items": [{"op": "create"}]}, "/items/0/body"),
        ({"items": [{"op": "create", "id": str(new_id()), "body": body}]}, "/items/0/id"),
        ({"items": [{"op": "create", "body": body, "x": 1}]}, "/items/0/x"),
        ({"items": [{"op": "create", "body": []}]}, "/items/0/body"),
        ({"items": [{"op": "create", "body": body}], "mode": "some"}, "/mode"),
        ({"operations": []}, "/items"),
    ]
    for kind in ("update", "delete"):
        if kind not in batched(resource):
            wrong.append(({"items": [{"op": kind, "id": str(new_id())}]}, "/items/0/op"))
    with unchanged(lab):
        for frame, pointer in wrong:
            answer = lab.admin.post(path, json=frame)
            assert code(answer) == (422, "invalid"), (frame, answer.text)
            assert pointer in [item["pointer"] for item in answer.json()["errors"]], answer.text


@each(where=lambda item: not batched(item))
def test_where_nothing_can_be_batched_there_is_no_batch(lab, resource):
    assert lab.admin.post(f"/v1/{resource.plural}/batch", json={}).status_code in (404, 405)
    assert not [item for item in operations(resource) if item.kind == "batch"]


@each("create", where=lambda item: not item.checks and not item.parts)
def test_an_atomic_batch_is_a_statement_for_each_item(lab, resource, statements):
    """And BEGIN and COMMIT; a lock of all rows when there are several."""
    if resource.plural in SETTINGS:
        pytest.skip("few can be made")
    path = f"/v1/{resource.plural}/batch"
    creates = [{"op": "create", "body": lab.examples.body(resource, 0, bare=True)} for _ in range(5)]
    assert lab.admin.get("/v1/me").status_code == 200  # reads rights that another test may have changed
    statements.clear()
    answer = lab.admin.post(path, json={"items": creates})
    assert answer.status_code == 200, answer.text
    assert [text for text, _ in statements if " " not in text] == ["BEGIN", "COMMIT"]
    assert len(statements) == 7
    if "delete" in resource.operations and not resource.guarded:
        deletes = [{"op": "delete", "id": item["id"]} for item in answer.json()["results"]]
        statements.clear()
        assert lab.admin.post(path, json={"items": deletes}).status_code == 200
        assert len(statements) == 8
        assert "FOR NO KEY UPDATE" in statements[1][0]
