"""Jobs: how they run, whose rights they have, how they end, who may see and move them."""

import asyncio
import itertools
import threading
import time
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_api.app import build_kernel, worker_limits
from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.kernel import jobs as kernel_jobs
from crm_api.kernel.context import new_id
from crm_api.kernel.domain import JobKind
from crm_api.kernel.problems import Problem, invalid, unavailable
from crm_api.kernel.repository import create
from crm_api.kernel.running import Step
from crm_api.kernel.unit_of_work import system
from tests.support.jobs import FINAL, MAKE_ACCOUNTS, UNKNOWN, Naming, Nothing, context, get, start, wait, working
from tests.support.org import Org
from tests.support.problems import problem

_numbers = itertools.count(1)


@pytest.fixture
def kinds(server, monkeypatch):
    """`kinds(kind)` makes a kind known to the workers of the test."""

    def known(*given):
        for kind in given:
            monkeypatch.setitem(server.kernel.catalog.jobs, kind.name, kind)
        return given[0]

    known(MAKE_ACCOUNTS)
    return known


def kind(run, **options) -> JobKind:
    return JobKind(f"test_{next(_numbers)}", options.pop("body", Nothing), run, **options)


def accounts(person, name: str) -> set[str]:
    return {row["name"] for row in person.all("/v1/accounts", name_starts_with=name, limit=200)}


def test_a_job_from_its_start_to_its_end(org, kinds, sql):
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Made", number=3))
    path = f"/v1/jobs/{job['id']}"
    assert get(org.rep, job) == job
    assert (job["state"], job["done"], job["expected"], job["created_by"]) == ("queued", 0, None, org.rep.id)
    assert job["parameters"] == {"name": "Made", "number": 3, "pause": 0.0}
    etag = org.rep.get(path).headers["etag"]
    assert org.rep.get(path, headers={"If-None-Match": etag}).status_code == 304
    with working(org.server):
        job = wait(org.rep, job)
    assert (job["state"], job["done"], job["expected"], job["attempts"]) == ("succeeded", 3, 3, 1)
    assert (job["result"], job["problem"]) == ({"made": 3}, None)
    assert job["created_at"] <= job["started_at"] <= job["finished_at"]
    assert org.rep.get(path, headers={"If-None-Match": etag}).status_code == 200, "it was seen to change"
    made = org.rep.all("/v1/accounts", name_starts_with="Made")
    assert {row["name"] for row in made} == {"Made 0", "Made 1", "Made 2"}
    assert {(row["owner_id"], row["created_by"]) for row in made} == {(org.rep.id, org.rep.id)}
    entries = org.admin.all("/v1/audit_log", object_id=job["id"])
    assert [(entry["action"], entry["actor_id"]) for entry in entries] == [
        ("succeed", org.rep.id),
        ("create", org.rep.id),
    ]
    assert {entry["request_id"] for entry in entries} == {"request-of-a-test"}
    events = sql("SELECT type, data FROM outbox WHERE object_id = $1 ORDER BY id", job["id"])
    assert [row["type"] for row in events] == ["job.created", "job.updated", "job.succeeded"]
    assert events[-1]["data"]["result"] == {"made": 3}
    assert not {"lease", "scopes", "credential_id", "position"} & events[-1]["data"].keys()
    origins = sql("SELECT origin ->> 'via' AS via FROM outbox WHERE object_id = $1", made[0]["id"])
    assert {row["via"] for row in origins} == {"job"}


@pytest.fixture(scope="module")
def sql(database):
    import asyncpg
    import orjson

    runner = asyncio.Runner()
    connection = runner.run(asyncpg.connect(database["admin"]))
    runner.run(
        connection.set_type_codec(
            "jsonb", schema="pg_catalog", encoder=lambda value: orjson.dumps(value).decode(), decoder=orjson.loads
        )
    )
    yield lambda text, *values: runner.run(connection.fetch(text, *values))
    runner.run(connection.close())
    runner.close()


def test_its_commit_wakes_the_worker_of_the_process(org, kinds):
    """In a transaction or by itself; long before the next look into the queue."""

    async def alone(person):
        await kernel_jobs.start(await context(person), known, Nothing())

    ran = []

    async def quick(run, body):
        ran.append(time.monotonic())

    known = kinds(kind(quick))
    with working(org.server):
        time.sleep(0.3)
        waits = []
        for _ in range(3):
            for begin in (lambda: start(org.rep, known, Nothing()), lambda: org.server.run(alone(org.rep))):
                number, started = len(ran), time.monotonic()
                begin()
                while len(ran) == number:
                    assert time.monotonic() - started < 5
                    time.sleep(0.002)
                waits.append(ran[-1] - started)
        assert sorted(waits)[3] < 0.5, waits


def test_nobody_else_sees_or_moves_it(org, kinds):
    stranger = Org.create(org.server).admin
    job = start(org.rep, UNKNOWN, Nothing())
    for person in (stranger, org.colleague, org.manager, org.reader):
        for method, path in (("GET", ""), ("POST", "/cancel"), ("POST", "/retry")):
            hidden = problem(person.request(method, f"/v1/jobs/{job['id']}{path}"), 404, code="not_found")
            none = person.request(method, f"/v1/jobs/{new_id()}{path}").json()
            assert {**hidden, "request_id": 0, "instance": 0} == {**none, "request_id": 0, "instance": 0}
        assert job["id"] not in {row["id"] for row in person.all("/v1/jobs")}
        assert person.post("/v1/jobs/search", json={"count": "exact"}).json()["count"]["value"] == 0
    assert get(org.rep, job) == get(org.admin, job) == job
    assert [row["id"] for row in org.rep.all("/v1/jobs", state="queued", kind=UNKNOWN.name)] == [job["id"]]
    assert org.admin.post(f"/v1/jobs/{job['id']}/cancel").json()["state"] == "cancelled"


def test_verbs_work_from_the_right_states_only(org, kinds, sql):
    allowed = {"cancel": {"queued", "running"}, "retry": {"failed", "cancelled"}}
    for state in ("queued", "running", *FINAL):
        for verb, sources in allowed.items():
            job = start(org.rep, UNKNOWN, Nothing())
            sql("UPDATE jobs SET state = $2 WHERE id = $1", job["id"], state)
            answer = org.rep.post(f"/v1/jobs/{job['id']}/{verb}")
            if state in sources:
                assert answer.status_code == 200, answer.text
                assert answer.json()["state"] == kernel_jobs.GRAPH.edge(verb).target
            else:
                refused = problem(answer, 409, code="transition_refused")
                assert (refused["state"], refused["allowed_from"]) == (state, sorted(sources))
                assert get(org.rep, job)["state"] == state
    for method in ("POST", "PATCH", "DELETE"):
        path = "/v1/jobs" if method == "POST" else f"/v1/jobs/{job['id']}"
        problem(org.admin.request(method, path, json={}), 405)


def test_it_has_the_rights_its_originator_has_by_then(org, kinds):
    body = Naming(name="Rights", number=2)
    gone, demoted, revoked = (org.person(name, "Sales representative") for name in ("gone", "demoted", "revoked"))
    jobs = {person.id: start(person, MAKE_ACCOUNTS, body) for person in (gone, demoted, revoked)}
    assert org.admin.patch(f"/v1/users/{gone.id}", json={"is_active": False}).status_code == 200
    (held,) = org.admin.all("/v1/role_assignments", principal_id=demoted.id)
    assert org.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204
    (key,) = org.admin.all("/v1/api_keys", principal_id=revoked.id)
    assert org.admin.post(f"/v1/api_keys/{key['id']}/revoke").status_code == 200
    with working(org.server):
        found = {id_: wait(org.admin, job) for id_, job in jobs.items()}
    assert {(job["state"], job["attempts"]) for job in found.values()} == {("failed", 1)}
    assert {id_: job["problem"]["code"] for id_, job in found.items()} == {
        gone.id: "unauthenticated",
        demoted.id: "forbidden",
        revoked.id: "unauthenticated",
    }
    assert "not active" in found[gone.id]["problem"]["detail"]
    assert accounts(org.admin, "Rights") == set()
    refused = org.admin.all("/v1/audit_log", object_id=jobs[gone.id]["id"])[0]
    assert (refused["action"], refused["after"]["problem"]["code"]) == ("fail", "unauthenticated")


def test_a_right_that_is_taken_away_ends_it_at_the_next_step(org, kinds):
    person = org.person("between", "Sales representative")
    (held,) = org.admin.all("/v1/role_assignments", principal_id=person.id)
    job = start(person, MAKE_ACCOUNTS, Naming(name="Between", number=500, pause=0.02))
    with working(org.server):
        while get(org.admin, job)["done"] < 3:
            time.sleep(0.01)
        assert org.admin.delete(f"/v1/role_assignments/{held['id']}").status_code == 204
        made = len(accounts(org.admin, "Between"))
        job = wait(org.admin, job)
    assert (job["state"], job["problem"]["code"]) == ("failed", "forbidden")
    assert len(accounts(org.admin, "Between")) == job["done"]
    assert made <= job["done"] <= made + 1, "a step that was on its way may still have been in time"


def test_scopes_of_the_credential_bound_it(org, kinds):
    issued = org.admin.post(
        f"/v1/users/{org.rep.id}/issue_key", json={"name": "narrow", "scopes": ["contacts:write", "jobs:read"]}
    ).json()
    narrow = type(org.rep)(org.server, org.rep.id, issued["key"])
    with pytest.raises(Problem) as refused:
        start(narrow, MAKE_ACCOUNTS, Naming(name="Narrow"))
    assert refused.value.extra == {"permission": "scope accounts:write"}
    seen = []

    async def look(run, body):
        ctx = await run.context()
        seen.append((ctx.principal.scopes, ctx.access.closed >= {"accounts"}))

    job = start(narrow, kinds(kind(look)), Nothing())
    with working(org.server):
        assert wait(org.rep, job)["state"] == "succeeded"
    assert seen == [({"contacts:write", "jobs:read"}, True)]


def test_a_service_account_stays_one(org, kinds):
    """What its job makes belongs to nobody, as what it makes itself."""
    robot = org.admin.make("service_accounts", name="Robot")
    org.admin.make("role_assignments", principal_id=robot["id"], role_id=org.roles["Administrator"])
    key = org.admin.post(f"/v1/service_accounts/{robot['id']}/issue_key", json={"name": "robot"}).json()["key"]
    person = type(org.rep)(org.server, robot["id"], key)
    direct = person.make("accounts", name="Made by itself")
    job = start(person, MAKE_ACCOUNTS, Naming(name="Made by its job", number=1))
    with working(org.server):
        assert wait(person, job)["state"] == "succeeded"
    (made,) = person.all("/v1/accounts", name_starts_with="Made by its job")
    assert (made["owner_id"], made["created_by"]) == (direct["owner_id"], robot["id"]) == (None, robot["id"])


def test_a_job_can_be_taken_up_again_where_it_was(org, kinds):
    broken = [True]

    async def run(run, body):
        async def one(ctx, position):
            number = position.get("number", 0)
            if number == 3 and broken[0]:
                raise invalid("/name", "not_now", "Not yet.")
            return None if number == 5 else Step({"number": number + 1}, 10, 50)

        await run.steps(one)
        return {"begun_at": run.claim.position}

    job = start(org.rep, kinds(kind(run)), Nothing())
    path = f"/v1/jobs/{job['id']}"
    with working(org.server):
        job = wait(org.rep, job)
        assert (job["state"], job["done"], job["expected"], job["attempts"]) == ("failed", 30, 50, 1)
        assert job["problem"] == {
            "type": "/problems/invalid",
            "title": "The request is well-formed but wrong",
            "status": 422,
            "detail": "Not yet.",
            "code": "invalid",
            "retryable": False,
            "errors": [{"pointer": "/name", "code": "not_now", "detail": "Not yet."}],
        }
        broken[0] = False
        again = org.rep.post(f"{path}/retry", headers={"Idempotency-Key": "again"})
        assert (again.json()["state"], again.json()["problem"], again.json()["done"]) == ("queued", None, 30)
        job = wait(org.rep, job)
        assert (job["state"], job["done"], job["result"]) == ("succeeded", 50, {"begun_at": {"number": 3}})
        assert org.rep.post(f"{path}/retry", headers={"Idempotency-Key": "again"}).json() == again.json()


def test_who_retries_his_own_job_does_so_with_his_present_key(org, kinds):
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Rekeyed"))
    (key,) = org.admin.all("/v1/api_keys", principal_id=org.rep.id)
    new = org.admin.post(f"/v1/users/{org.rep.id}/issue_key", json={"name": "new"}).json()
    assert org.admin.post(f"/v1/api_keys/{key['id']}/revoke").status_code == 200
    rep = type(org.rep)(org.server, org.rep.id, new["key"])
    with working(org.server):
        assert wait(rep, job)["problem"]["code"] == "unauthenticated"
        assert org.admin.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
        assert wait(rep, job)["problem"]["code"] == "unauthenticated", "somebody else's key does not stand in"
        assert rep.post(f"/v1/jobs/{job['id']}/retry").status_code == 200
        assert wait(rep, job)["state"] == "succeeded"
    assert len(accounts(rep, "Rekeyed")) == 3


@pytest.mark.broad  # it waits for three seconds
def test_what_may_go_away_is_tried_again_and_what_does_not_fails(org, kinds, sql):
    tries = {"away": 0, "broken": 0}

    async def away(run, body):
        tries["away"] += 1
        if tries["away"] < 3:
            raise unavailable("Not now.")

    async def broken(run, body):
        tries["broken"] += 1
        raise RuntimeError("the secret is in here")

    jobs = [start(org.rep, kinds(kind(run, attempts=3)), Nothing()) for run in (away, broken)]
    with working(org.server):
        for _ in range(2):
            for job in jobs:
                found = wait(org.rep, job, "queued")
                while found["attempts"] == 0 or found["state"] != "queued":
                    found = get(org.rep, job)
                assert found["problem"]["code"] in ("unavailable", "internal")
                assert found["run_at"] > found["updated_at"]
            sql(
                "UPDATE jobs SET run_at = now(), attempts = attempts WHERE id = ANY ($1) AND state = 'queued'",
                [job["id"] for job in jobs],
            )
            time.sleep(1.5)
        first, second = (wait(org.rep, job) for job in jobs)
    assert (first["state"], first["problem"], tries["away"]) == ("succeeded", None, 3)
    assert (second["state"], second["attempts"], tries["broken"]) == ("failed", 3, 3)
    assert second["problem"]["code"] == "internal"
    assert "secret" not in str(second)


def test_who_says_nothing_loses_the_job(org, kinds):
    begun = []

    async def hang(run, body):
        begun.append(run.attempts)
        await asyncio.sleep(60)

    job = start(org.rep, kinds(kind(hang, attempts=1)), Nothing())
    with working(org.server, lease=0.5):
        job = wait(org.rep, job)
    assert (job["state"], job["problem"]["code"], begun) == ("failed", "timeout", [1])


@pytest.mark.broad  # it waits for four seconds
def test_progress_renews_the_lease_and_never_falls(org, kinds):
    tries = []

    async def read(run, body):
        tries.append(1)
        for done in range(1, 11):
            await run.progress(done, 10)
            await asyncio.sleep(0.1)
            if len(tries) == 1 and done == 6:
                raise unavailable("Once more, from the beginning.")
        return {"read": 10}

    job = start(org.rep, kinds(kind(read)), Nothing())
    seen = []
    with working(org.server, lease=0.5):
        while not seen or seen[-1]["state"] not in FINAL:
            seen.append(get(org.rep, job))
            assert len(seen) < 5000
            time.sleep(0.01)
    assert seen[-1]["state"] == "succeeded"
    done = [found["done"] for found in seen]
    assert done == sorted(done)
    assert len(set(done)) > 5
    versions = [found["version"] for found in seen]
    assert versions == sorted(versions)
    assert len(tries) == 2


def test_parameters_of_another_version_fail_with_their_pointer(org, kinds, sql):
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Old"), at=None)
    sql("UPDATE jobs SET parameters = '{\"number\": 1}' WHERE id = $1", job["id"])
    with working(org.server):
        job = wait(org.rep, job)
    assert job["problem"]["errors"] == [{"pointer": "/name", "code": "required", "detail": "Field required"}]


def test_a_worker_that_died_each_time_is_not_followed_for_ever(org, kinds, sql):
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Poison"))
    sql(
        "UPDATE jobs SET state = 'running', attempts = $2, lease = gen_random_uuid(), lease_until = now() "
        "- interval '1 s' WHERE id = $1",
        job["id"],
        MAKE_ACCOUNTS.attempts,
    )
    with working(org.server):
        job = wait(org.rep, job)
    assert (job["state"], job["attempts"], job["problem"]["code"]) == ("failed", MAKE_ACCOUNTS.attempts + 1, "internal")
    assert "died" in job["problem"]["detail"]
    assert accounts(org.admin, "Poison") == set()


def test_a_thousand_jobs_of_one_tenant_do_not_delay_anothers(org, kinds, sql):
    other = Org.create(org.server)
    order = []

    async def short(run, body):
        order.append(run.claim.tenant_id)
        await asyncio.sleep(0.005)

    async def long(run, body):
        await asyncio.sleep(30)

    short_, long_ = kinds(kind(short)), kinds(kind(long))
    first = start(org.rep, short_, Nothing())
    sql(
        "INSERT INTO jobs (tenant_id, id, kind, state, parameters, run_at, request_id, created_at, updated_at, "
        "created_by, actor) "
        "SELECT tenant_id, gen_random_uuid(), kind, state, parameters, run_at, request_id, created_at, updated_at, "
        "created_by, actor FROM jobs, generate_series(2, 1000) WHERE id = $1",
        first["id"],
    )
    with pytest.raises(Problem) as refused:
        start(org.rep, short_, Nothing())
    assert refused.value.kind.code == "limit_reached"
    with working(org.server):
        time.sleep(0.3)
        before = len(order)
        wait(other.rep, start(other.rep, short_, Nothing()))
        assert order.index(other.tenant_id) < before + 100, "not at the end of the queue"
    sql("UPDATE jobs SET state = 'cancelled' WHERE tenant_id = $1 AND state = 'queued'", org.tenant_id)
    hogs = [start(org.rep, long_, Nothing()) for _ in range(10)]
    with working(org.server):
        time.sleep(0.5)
        assert sum(get(org.rep, hog)["state"] == "running" for hog in hogs) == 3, "one place is kept free"
        started = time.monotonic()
        assert wait(other.rep, start(other.rep, short_, Nothing()))["state"] == "succeeded"
        assert time.monotonic() - started < 3
    for hog in hogs:
        assert get(org.rep, hog)["state"] == "queued", "given back when the worker stopped"
        assert org.rep.post(f"/v1/jobs/{hog['id']}/cancel").status_code == 200


def test_a_suspended_tenants_jobs_wait(org, kinds, sql):
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Suspended"))
    sql("UPDATE tenants SET is_active = false, access_version = access_version + 1 WHERE tenant_id = $1", org.tenant_id)
    with working(org.server):
        time.sleep(1.3)
        assert sql("SELECT state FROM jobs WHERE id = $1", job["id"])[0][0] == "queued"
        sql(
            "UPDATE tenants SET is_active = true, access_version = access_version + 1 WHERE tenant_id = $1",
            org.tenant_id,
        )
        assert wait(org.rep, job)["state"] == "succeeded"


def test_two_workers_share_the_jobs_and_none_runs_twice(org, kinds):
    running, most = set(), []

    async def alone(run, body):
        assert run.claim.id not in running
        running.add(run.claim.id)
        most.append(run.claim.id)
        await asyncio.sleep(0.02)
        running.discard(run.claim.id)

    known = kinds(kind(alone))
    jobs = [start(org.rep, known, Nothing()) for _ in range(40)]
    with working(org.server), working(org.server), working(org.server):
        assert {wait(org.rep, job)["state"] for job in jobs} == {"succeeded"}
    assert len(most) == len(set(most)) == 40


@pytest.mark.parametrize("way", ["step", "progress", "result", "problem"])
def test_a_worker_whose_lease_is_anothers_by_now_leaves_nothing(org, kinds, sql, way):
    """It does not know, and goes on when the other has finished: nothing of what it does is kept."""
    begun, on, said = threading.Event(), threading.Event(), []

    async def twice(run, body):
        async def one(ctx, position):
            if position:
                return None
            values = {name: field.get_default() for name, field in ACCOUNTS.create.model_fields.items()}
            await create(ctx, ACCOUNTS, {**values, "name": f"Twice {way} {run.claim.attempts}", "tags": []}, given=[])
            return Step({"made": True})

        if run.claim.attempts == 2:
            await run.steps(one)
            return {"by": 2}
        begun.set()
        while not on.is_set():  # noqa: ASYNC110 - set by the thread of the test
            await asyncio.sleep(0.01)
        try:
            if way == "step":
                await run.step(one)
            elif way == "progress":
                await run.progress(77)
            elif way == "problem":
                raise invalid("/x", "wrong", "This is not kept, either.")
        except BaseException as error:
            said.append(type(error).__name__)
            raise
        return {"by": 1}

    job = start(org.rep, kinds(kind(twice)), Nothing())
    with working(org.server, lease=60):
        assert begun.wait(5)
        sql("UPDATE jobs SET lease_until = now() WHERE id = $1", job["id"])
        with working(org.server, lease=60):
            done = wait(org.rep, job)
        on.set()
        time.sleep(0.3)
    assert (done["state"], done["result"], done["done"], done["attempts"]) == ("succeeded", {"by": 2}, 1, 1)
    assert get(org.rep, job) == done
    assert accounts(org.rep, f"Twice {way}") == {f"Twice {way} 2"}
    assert said == {"step": ["Stopped"], "progress": ["Stopped"], "problem": ["Problem"], "result": []}[way]


def test_the_installation_itself_may_start_one(org, kinds, sql):
    seen = []

    async def look(run, body):
        seen.append((await run.context()).access.unrestricted)

    known = kinds(kind(look))
    item = org.server.run(kernel_jobs.start(system(org.server.kernel, org.tenant_id, "test"), known, Nothing()))
    problem(org.rep.get(f"/v1/jobs/{item['id']}"), 404)
    with working(org.server):
        job = wait(org.admin, item)
    assert (job["state"], job["created_by"], seen) == ("succeeded", None, [True])


def test_it_runs_behind_a_pooler_that_works_by_transaction(org, kinds):
    job = start(org.rep, MAKE_ACCOUNTS, Naming(name="Pooled"))
    bounds = replace(worker_limits(org.server.settings), local_tenant=True)
    kernel = build_kernel(org.server.settings, org.server.settings.database_url, bounds)
    with working(org.server, kernel=kernel):
        assert wait(org.rep, job)["state"] == "succeeded"
    org.server.run(kernel.database.close())
    assert len(accounts(org.rep, "Pooled")) == 3


def test_a_hidden_field_stays_hidden(org, kinds):
    role = org.role(
        "Blind",
        ("jobs:*", "all"),
        ("accounts:create", "own"),
        field_rules=[{"resource": "jobs", "field": "parameters", "rule": "hidden"}],
    )
    blind = org.person("blind", role)
    job = start(blind, MAKE_ACCOUNTS, Naming(name="Unseen"))
    assert (job["parameters"], job["redacted"]) == (None, ["parameters"])
    assert get(blind, job) == job
    assert get(org.admin, job)["parameters"]["name"] == "Unseen"


VERBS = st.lists(st.sampled_from(["cancel", "retry", "work"]), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(verbs=VERBS)
def test_whatever_is_done_to_it_its_states_follow_the_graph(shared_org, verbs):
    """Cancels, retries and work in any order; each accepted step is an edge, and each has its event."""
    org = shared_org
    catalog = org.server.kernel.catalog
    catalog.jobs[MAKE_ACCOUNTS.name] = MAKE_ACCOUNTS
    try:
        name = f"Graph {next(_numbers)}"
        job = start(org.rep, MAKE_ACCOUNTS, Naming(name=name, number=2))
        state, expected = "queued", ["job.created"]
        for verb in verbs:
            if verb == "work":
                with working(org.server):
                    state = wait(org.rep, job)["state"] if state == "queued" else state
                if state == "succeeded" and "job.succeeded" not in expected:
                    expected += ["job.updated", "job.succeeded"]
                continue
            edge = kernel_jobs.GRAPH.edge(verb)
            answer = org.rep.post(f"/v1/jobs/{job['id']}/{verb}")
            assert (answer.status_code == 200) == (state in edge.sources), answer.text
            if answer.status_code == 200:
                state = edge.target
                expected += ["job.updated", f"job.{edge.event}"]
            assert get(org.rep, job)["state"] == state
        assert len(accounts(org.rep, f"{name} ")) == (2 if state == "succeeded" else 0)
        entries = org.admin.all("/v1/audit_log", object_id=job["id"])
        assert 2 * len(entries) - 1 == len(expected)
    finally:
        del catalog.jobs[MAKE_ACCOUNTS.name]
        org.rep.post(f"/v1/jobs/{job['id']}/cancel")
