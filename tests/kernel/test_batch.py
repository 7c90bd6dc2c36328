"""Batches: references, rights that move within one, keys, races, and frames that nobody should send."""

import asyncio
import itertools
import random
import threading
from concurrent.futures import ThreadPoolExecutor

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.kernel.batch_references import Part, check, replaced
from crm_api.kernel.problems import Problem
from tests.support.asking import code, fault
from tests.support.org import Org, Person
from tests.support.problems import problem

_numbers = itertools.count(1)


def run(person, *operations, mode="atomic", key=None, **params):
    headers = {"Idempotency-Key": key} if key else {}
    return person.post("/v1/batch", json={"mode": mode, "operations": operations}, headers=headers, params=params)


def account(name="Batch", ref=None, **values):
    named = {} if ref is None else {"ref": ref}
    return {**named, "operation": "create_account", "body": {"name": name, **values}}


def of(reference: str) -> dict[str, str]:
    return {"$ref": reference}


def limited(org: Org, *scopes: str) -> Person:
    user = org.person(f"narrow{next(_numbers)}", "Administrator")
    made = org.admin.post(f"/v1/users/{user.id}/issue_key", json={"name": "narrow", "scopes": list(scopes)})
    assert made.status_code == 201, made.text
    return Person(org.server, user.id, made.json()["key"])


# ---------------------------------------------------------------- references


def test_operations_refer_to_what_earlier_ones_answer(org):
    done = run(
        org.rep,
        account("Acme", ref="acc", tags=["a", "b"]),
        {
            "ref": "ann",
            "operation": "create_contact",
            "body": {"last_name": of("acc.name"), "account_id": of("acc.id"), "tags": of("acc.tags")},
        },
        {"operation": "activate_account", "id": of("acc.id"), "if_match": of("acc.version")},
        {"ref": "gone", "operation": "delete_contact", "id": of("ann.id")},
        {"operation": "restore_contact", "id": of("gone.id")},
    )
    assert done.status_code == 200, done.text
    acc, ann, active, gone, back = done.json()["results"]
    assert [item["status"] for item in (acc, ann, active, gone, back)] == [201, 201, 200, 204, 200]
    assert (acc["ref"], ann["ref"], gone["ref"]) == ("acc", "ann", "gone")
    assert "ref" not in active
    assert (ann["body"]["last_name"], ann["body"]["account_id"]) == ("Acme", acc["id"])
    assert ann["body"]["tags"] == ["a", "b"]
    assert (active["body"]["status"], active["version"]) == ("active", 2)
    assert (gone["id"], "body" in gone) == (ann["id"], False)
    assert org.rep.get(f"/v1/contacts/{ann['id']}").json() == back["body"]


@pytest.mark.parametrize(
    ("operations", "expected"),
    [
        (
            [account(of("b.name"), ref="a"), account(of("a.name"), ref="b")],
            [("/operations/0/body/name", "reference_cycle"), ("/operations/1/body/name", "reference_cycle")],
        ),
        ([account(of("a.name"), ref="a")], [("/operations/0/body/name", "reference_cycle")]),
        ([account(of("b.name")), account(ref="b")], [("/operations/0/body/name", "forward_reference")]),
        ([account(of("b.name"))], [("/operations/0/body/name", "unknown_reference")]),
        ([account(ref="a"), account(ref="a")], [("/operations/1/ref", "duplicate_name")]),
        ([account(ref="a"), account(of("a.nmae"))], [("/operations/1/body/name", "unknown_field")]),
        ([account(ref="a"), account(tags=[of("a.id"), of("a.x")])], [("/operations/1/body/tags/1", "unknown_field")]),
        ([account(ref="a"), account({"$ref": "a.id", "x": 1})], [("/operations/1/body/name", "invalid_reference")]),
        ([account(ref="a"), account({"$ref": 1})], [("/operations/1/body/name", "invalid_reference")]),
        ([account(ref="a"), account(of("a"))], [("/operations/1/body/name", "invalid_reference")]),
        ([account(ref="a"), account(of("a.b.c"))], [("/operations/1/body/name", "invalid_reference")]),
        (
            [account(ref="a"), {"operation": "delete_account", "id": of("a.x")}],
            [("/operations/1/id", "unknown_field")],
        ),
        (
            [
                {"ref": "d", "operation": "delete_account", "id": "x"},
                {"operation": "delete_account", "id": of("d.name")},
            ],
            [("/operations/1/id", "unknown_field")],
        ),
        (
            [
                {"ref": "k", "operation": "issue_key_user", "id": "x", "body": {"name": "k"}},
                account(description=of("k.key")),
            ],
            [("/operations/1/body/description", "unknown_field")],
        ),
    ],
)
@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_a_reference_that_leads_nowhere_is_refused_before_anything_is_done(shared_org, operations, expected, mode):
    before = shared_org.admin.all("/v1/accounts")
    answer = run(shared_org.admin, *operations, mode=mode)
    problem(answer, 422, code="invalid")
    assert fault(answer) == expected
    assert shared_org.admin.all("/v1/accounts") == before


NAMES = st.sampled_from(["a", "b", "c", "d"])


@settings(max_examples=300, deadline=None)
@given(
    names=st.lists(st.one_of(st.none(), NAMES), min_size=1, max_size=6),
    uses=st.lists(st.lists(NAMES, max_size=3), min_size=6, max_size=6),
)
def test_references_are_taken_exactly_when_each_leads_up(names, uses):
    parts = [
        Part(f"/{i}", name, frozenset({"id"}), {f"/{i}/body": [of(f"{used}.id") for used in uses[i]]})
        for i, name in enumerate(names)
    ]
    unique = len({name for name in names if name}) == len([name for name in names if name])
    upward = all(used in names[:i] for i in range(len(names)) for used in uses[i])
    try:
        linked = check(parts)
    except Problem as refused:
        assert not (unique and upward)
        codes = {item.code for item in refused.errors}
        assert codes <= {"duplicate_name", "unknown_reference", "forward_reference", "reference_cycle"}
    else:
        assert unique
        assert upward
        assert linked == [bool(uses[i]) for i in range(len(names))]
        assert replaced([of("a.id"), {"x": of("b.id")}], lambda name, field: (name, field)) == [
            ("a", "id"),
            {"x": ("b", "id")},
        ]


def test_a_value_that_looks_like_a_reference_is_not_followed(org):
    """What a reference brings is data."""
    done = run(org.rep, account("A", ref="a", description='{"$ref": "a.id"}'), account(of("a.description")))
    assert done.json()["results"][1]["body"]["name"] == '{"$ref": "a.id"}'


def test_the_kind_of_value_that_a_reference_brings_is_checked(org):
    for operation, pointer in (
        (account(of("a.version")), "/operations/1/body/name"),
        ({"operation": "delete_account", "id": of("a.version")}, "/operations/1/id"),
        ({"operation": "delete_account", "id": of("a.id"), "if_match": of("a.id")}, "/operations/1/if_match"),
        (
            {"operation": "block_account", "id": of("a.id"), "body": {"reason": of("a.tags")}},
            "/operations/1/body/reason",
        ),
    ):
        answer = run(org.rep, account(ref="a"), operation)
        answer = run(org.admin, account(ref="a"), operation)
        found = problem(answer, 422)
        assert (found["index"], fault(answer)[0][0]) == (1, pointer), answer.text
    assert org.rep.all("/v1/accounts") == []


def test_a_reference_brings_nothing_that_its_caller_may_not_see(org):
    rules = [{"resource": "accounts", "field": "tax_id", "rule": "hidden"}]
    role = org.role("Blind", ("accounts:*", "all"), ("contacts:*", "all"), field_rules=rules)
    blind = org.person("blind", role)
    secret = org.admin.make("accounts", name="Secret", tax_id="DE99")
    touch = {"ref": "a", "operation": "activate_account", "id": secret["id"]}
    steal = {"operation": "create_contact", "body": {"last_name": of("a.tax_id")}}
    answer = run(blind, touch, steal)
    assert problem(answer, 403)["permission"] == "field accounts.tax_id"
    narrow = limited(org, "accounts:write", "contacts:write", "contacts:read")
    answer = run(narrow, touch, {"operation": "create_contact", "body": {"last_name": of("a.name")}})
    assert problem(answer, 403)["permission"] == "scope accounts:read"
    answer = run(narrow, touch, {"operation": "create_contact", "body": {"last_name": "N", "account_id": of("a.id")}})
    assert answer.status_code != 403, "its id is known anyway"
    assert org.admin.get(f"/v1/accounts/{secret['id']}").json()["tax_id"] == "DE99"


def test_who_may_write_but_not_read_gets_no_bodies(org):
    narrow = limited(org, "accounts:write", "contacts:write", "contacts:read")
    answer = run(narrow, account(), {"operation": "create_contact", "body": {"last_name": "Seen"}})
    first, second = answer.json()["results"]
    assert ("body" in first, "body" in second) == (False, True)
    assert first.keys() == {"status", "id", "version"}


# ---------------------------------------------------------------- rights that move within a batch


def test_rights_given_in_a_batch_hold_for_what_follows(org):
    """As they would for the next request."""
    limited_role = org.role("Roles only", ("roles:*", "all"), ("users:*", "all"), ("principals:read", "all"))
    person = org.person("climber", limited_role)
    taken = {
        "operation": "update_role",
        "id": limited_role,
        "body": {"permissions": [{"permission": "roles:read", "reach": "all"}]},
    }
    renamed = {"operation": "update_role", "id": limited_role, "body": {"description": "still mine"}}
    for mode in ("atomic", "partial"):
        answer = run(person, renamed, taken, {**renamed, "body": {"description": "gone"}}, mode=mode, dry_run="true")
        if mode == "atomic":
            assert (problem(answer, 403)["index"], answer.json()["permission"]) == (2, "roles:update")
    answer = run(person, renamed, taken, {**renamed, "body": {"description": "gone"}})
    assert problem(answer, 403)["index"] == 2
    assert org.admin.get(f"/v1/roles/{limited_role}").json()["description"] is None, "all was taken back"
    answer = run(person, renamed, taken, {**renamed, "body": {"description": "gone"}}, mode="partial")
    assert [item["status"] for item in answer.json()["results"]] == [200, 200, 403]
    assert org.admin.get(f"/v1/roles/{limited_role}").json()["description"] == "still mine"
    given_ = {
        "operation": "update_role",
        "id": limited_role,
        "body": {"permissions": [{"permission": "accounts:create", "reach": "own"}]},
    }
    assert run(org.admin, given_).status_code == 200
    assert person.post("/v1/accounts", json={"name": "By right"}).status_code == 201, "the next request has them"


def test_who_ends_their_own_access_in_a_batch_does_nothing_more(org):
    person = org.person("leaver", "Administrator")
    leave = {"operation": "update_user", "id": person.id, "body": {"is_active": False}}
    answer = run(person, leave, account("Too late"))
    assert code(answer) == (401, "unauthenticated")
    assert person.get("/v1/me").status_code == 200, "it was taken back"
    answer = run(person, leave, account("Too late"), mode="partial")
    assert [item["status"] for item in answer.json()["results"]] == [200, 401]
    assert person.get("/v1/me").status_code == 401
    assert org.admin.all("/v1/accounts") == []


def test_what_is_granted_meanwhile_holds_at_once_in_a_partial_batch(org):
    role = org.role("Little", ("accounts:read", "own"))
    person = org.person("little", role)
    refused = run(person, account(), mode="partial")
    assert [item["status"] for item in refused.json()["results"]] == [403]
    grant = [{"permission": "accounts:create", "reach": "own"}]
    assert org.admin.patch(f"/v1/roles/{role}", json={"permissions": grant}).status_code == 200
    done = run(person, account(), mode="partial")
    assert [item["status"] for item in done.json()["results"]] == [201]


# ---------------------------------------------------------------- partial


def test_what_refers_to_something_refused_is_refused(org):
    done = run(
        org.rep,
        account("A", ref="a", tax_id="DE1"),
        account("B", ref="b", tax_id="DE1"),
        {"operation": "activate_account", "id": of("b.id")},
        {"ref": "c", "operation": "activate_account", "id": of("a.id")},
        mode="partial",
    )
    assert done.status_code == 207
    assert [item["status"] for item in done.json()["results"]] == [201, 409, 424, 200]
    _, refused, dependent, _ = done.json()["results"]
    assert refused["problem"]["errors"][0]["pointer"] == "/operations/1/body/tax_id"
    assert dependent["problem"]["code"] == "dependency_failed"
    assert dependent["problem"]["errors"][0]["pointer"] == "/operations/2"


# ---------------------------------------------------------------- idempotency keys


def test_a_secret_is_shown_once(org, database):
    user = org.person("keyed", "Reader")
    issue = {"operation": "issue_key_user", "id": user.id, "body": {"name": "second"}}
    for mode in ("atomic", "partial"):
        assert run(org.admin, issue, mode=mode, dry_run="true").status_code == 200
    first = run(org.admin, issue, key="secret")
    secret = first.json()["results"][0]["body"]["key"]
    again = run(org.admin, issue, key="secret")
    assert again.headers["idempotency-replayed"] == "true"
    assert "key" not in again.json()["results"][0]["body"]
    assert secret not in again.text
    key_id = again.json()["results"][0]["body"]["id"]
    assert org.admin.post(f"/v1/api_keys/{key_id}/revoke").status_code == 200
    first = run(org.admin, issue, key="secret-in-parts", mode="partial")
    again = run(org.admin, issue, key="secret-in-parts", mode="partial")
    assert "key" in first.json()["results"][0]["body"]
    assert "key" not in again.json()["results"][0]["body"]


def test_a_replayed_batch_shows_only_what_the_caller_may_see_by_now(org):
    role = org.role("Seller", ("accounts:*", "own"))
    person = org.person("seller", role)
    operations = [account("Kept", ref="a", tax_id="DE7"), account("Given away")]
    first = run(person, *operations, key="see")
    kept, given_away = (item["id"] for item in first.json()["results"])
    assert org.admin.patch(f"/v1/accounts/{given_away}", json={"owner_id": org.outsider.id}).status_code == 200
    rules = {"field_rules": [{"resource": "accounts", "field": "tax_id", "rule": "hidden"}]}
    assert org.admin.patch(f"/v1/roles/{role}", json=rules).status_code == 200
    again = run(person, *operations, key="see")
    assert (again.status_code, again.headers["idempotency-replayed"]) == (200, "true")
    mine, theirs = again.json()["results"]
    assert (mine["id"], mine["body"]["tax_id"], mine["body"]["redacted"]) == (kept, None, ["tax_id"])
    assert (theirs["id"], theirs["status"], "body" in theirs) == (given_away, 201, False)


def test_a_refusal_is_replayed_with_its_place(org):
    org.rep.make("accounts", name="First", tax_id="DE5")
    operations = [account("New"), account("Second", tax_id="DE5")]
    first = run(org.rep, *operations, key="refused")
    assert problem(first, 409, code="duplicate")["index"] == 1
    assert org.rep.delete(f"/v1/accounts/{org.rep.all('/v1/accounts')[0]['id']}").status_code == 204
    again = run(org.rep, *operations, key="refused")
    assert again.headers["idempotency-replayed"] == "true"
    assert (again.json()["index"], fault(again)) == (1, fault(first))
    assert org.rep.all("/v1/accounts") == []


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_concurrent_retries_have_one_effect(org, mode):
    operations = [account(f"Once {n}") for n in range(20)]
    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(lambda _: run(org.rep, *operations, mode=mode, key="race"), range(6)))
    assert {answer.status_code for answer in answers} <= {200, 409}, [answer.text for answer in answers]
    last = run(org.rep, *operations, mode=mode, key="race")
    assert last.status_code == 200
    made = {item["id"] for item in last.json()["results"]}
    assert {row["id"] for row in org.rep.all("/v1/accounts")} == made
    assert len(made) == 20
    for answer in answers:
        if answer.status_code == 200:
            assert {item["id"] for item in answer.json()["results"]} == made


# ---------------------------------------------------------------- races


@pytest.mark.parametrize("size", [2, 50])
def test_batches_over_the_same_rows_in_any_order_all_succeed(org, size):
    ids = [org.rep.make("accounts", name=f"Row {n}")["id"] for n in range(size)]
    gate = threading.Barrier(6)

    def work(number: int):
        order = list(ids)
        if number == 0:
            order.reverse()
        elif number > 1:
            random.Random(number).shuffle(order)  # noqa: S311 - an order, not a secret
        items = [{"op": "update", "id": id_, "body": {"industry": f"by {number}"}} for id_ in order]
        gate.wait()
        return org.rep.post("/v1/accounts/batch", json={"items": items})

    with ThreadPoolExecutor(6) as pool:
        answers = list(pool.map(work, range(6)))
    assert [answer.status_code for answer in answers] == [200] * 6, [answer.text[:300] for answer in answers]
    rows = org.rep.all("/v1/accounts")
    assert len({row["industry"] for row in rows}) == 1, "one after another, never mixed"
    assert {row["version"] for row in rows} == {7}


def test_what_cannot_be_locked_in_order_is_run_again(org):
    """Two batches claim the same two unique values in opposite order: one has both, the other is told so."""
    gate = threading.Barrier(2)

    def work(values):
        gate.wait()
        return run(org.rep, *(account("Claim", tax_id=value) for value in values))

    for n in range(5):
        pair = (f"A{n}{n}", f"B{n}{n}")
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(work, [pair, pair[::-1]]))
        assert sorted(answer.status_code for answer in answers) == [200, 409], [answer.text[:300] for answer in answers]
        refused = next(answer for answer in answers if answer.status_code == 409)
        assert refused.json()["code"] == "duplicate"


# ---------------------------------------------------------------- frames

SCALARS = st.one_of(st.none(), st.booleans(), st.integers(-5, 10**20), st.floats(), st.text(max_size=6))
TREES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["$ref", "name", "id", "tags"]), inner, max_size=3),
        st.sampled_from(["a.id", "b.name", "a.x"]).map(of),
    ),
    max_leaves=6,
)
OPERATIONS = st.dictionaries(
    st.sampled_from(["ref", "operation", "id", "if_match", "body"]),
    st.one_of(
        TREES, st.sampled_from(["a", "b", "create_account", "delete_account", "share_account", "activate_account"])
    ),
    max_size=5,
)


@pytest.mark.parametrize("path", ["/v1/batch", "/v1/accounts/batch"])
def test_no_frame_breaks_the_server(shared_org, path):
    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(
        frame=st.fixed_dictionaries(
            {},
            optional={
                "mode": st.sampled_from(["atomic", "partial", "x", None]),
                "operations": st.one_of(st.lists(OPERATIONS, max_size=4), TREES),
                "items": st.one_of(
                    st.lists(
                        st.fixed_dictionaries({"op": st.sampled_from(["create", "update"]), "body": TREES}), max_size=3
                    ),
                    TREES,
                ),
            },
        )
    )
    def ask(frame):
        import json

        body = json.dumps(frame, allow_nan=True).encode()
        headers = {"Content-Type": "application/json"}
        answer = shared_org.rep.post(path, content=body, headers=headers, params={"dry_run": "true"})
        if answer.status_code in (200, 207):
            assert all(item["status"] < 500 for item in answer.json()["results"]), answer.text
        else:
            problem(answer, 400, 403, 404, 409, 412, 422)

    ask()


@pytest.mark.parametrize("number", ["1e999", "-1e999", "9" * 400, "1" + "0" * 30, "1.5e300"])
def test_numbers_beyond_reason_are_answered_as_alone(org, number):
    body = b'{"name": "x", "employees": %s}' % number.encode()
    headers = {"Content-Type": "application/json"}
    alone = org.rep.post("/v1/accounts", content=body, headers=headers)
    whole = org.rep.post(
        "/v1/accounts/batch", content=b'{"items": [{"op": "create", "body": %s}]}' % body, headers=headers
    )
    assert (alone.status_code, alone.json()["code"]) == (whole.status_code, whole.json()["code"])


def test_limits(org):
    problem(run(org.rep), 422)
    problem(run(org.rep, *[account()] * 26), 422)
    assert run(org.rep, *[account()] * 25, dry_run="true").status_code == 200
    assert run(org.rep, account(), dry_run="maybe").status_code == 422
    assert code(org.rep.get("/v1/batch")) == (405, "method_not_allowed")
    for operation in ("list_accounts", "get_account", "batch_accounts", "run_batch", "shares_account", "", "x"):
        found = run(org.rep, {"operation": operation, "id": "x"})
        assert fault(found) == [("/operations/0/operation", "unknown_operation")], operation
    most = [{"op": "create", "body": {"name": f"Many {n}"}} for n in range(200)]
    answer = org.rep.post("/v1/accounts/batch", json={"items": most}, headers={"Prefer": "return=minimal"})
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "return=minimal"
    assert all(item.keys() == {"status", "id", "version"} for item in answer.json()["results"])
    assert len(org.rep.all("/v1/accounts", limit=200)) == 200
    large = {"items": [{"op": "create", "body": {"name": "x", "description": "y" * 2**20}}]}
    problem(org.rep.post("/v1/accounts/batch", json=large), 413)


@pytest.mark.parametrize("mode", ["atomic", "partial"])
def test_a_row_that_somebody_holds_is_locked_and_nothing_else(org, database, mode):
    """Not a twin that still runs, though the batch has a key; in a partial batch the others are done."""
    held, free = org.rep.make("accounts", name="Held")["id"], org.rep.make("accounts", name="Free")["id"]
    items = [{"op": "update", "id": id_, "body": {"tier": "A"}} for id_ in (held, free)]

    async def ask():
        connection = await asyncpg.connect(database["admin"])
        try:
            async with connection.transaction():
                await connection.execute("SELECT 1 FROM accounts WHERE id = $1 FOR UPDATE", held)
                headers = {"Idempotency-Key": f"held-{mode}"}
                frame = {"mode": mode, "items": items}
                return await asyncio.to_thread(org.rep.post, "/v1/accounts/batch", json=frame, headers=headers)
        finally:
            await connection.close()

    answer = asyncio.run(ask())
    if mode == "atomic":
        assert problem(answer, 409, code="locked")["retryable"]
        assert org.rep.get(f"/v1/accounts/{free}").json()["tier"] is None
    else:
        assert answer.status_code == 207
        assert [item["status"] for item in answer.json()["results"]] == [409, 200]
        assert answer.json()["results"][0]["problem"]["code"] == "locked"
    again = org.rep.post(
        "/v1/accounts/batch",
        json={"mode": mode, "items": items},
        headers={"Idempotency-Key": f"held-{mode}"},
    )
    assert [item["status"] for item in again.json()["results"]] == [200, 200], "the key was not used up"
    assert org.rep.get(f"/v1/accounts/{free}").json()["version"] == 2
