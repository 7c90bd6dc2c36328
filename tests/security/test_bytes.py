"""Bytes of files: until when they are kept, and who gets them."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import httpx2
import pytest

from crm_api.adapters.storage import storage
from crm_api.domains.files.lease import delete_expired, lease
from crm_api.worker.upkeep import purge_files
from tests.support.examples import attach
from tests.support.problems import problem


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="With files")


def kept(server) -> int:
    return sum(path.is_file() for path in (server.settings.data_dir / "files").rglob("*"))


def purge(server, days: int = 30) -> int:
    found = server.run(purge_files(server.kernel.database, days))
    server.run(delete_expired(server.kernel, storage(server.settings)))
    return found


def test_bytes_of_a_file_go_some_time_after_it_was_deleted(org, account, server, sql):
    gone, recent, live = (attach(org.rep, "account", account["id"], f"{i}.txt", b"bytes") for i in range(3))
    for file in (gone, recent):
        assert org.rep.delete(f"/v1/files/{file['id']}").status_code == 204
    purge(server)
    before = kept(server)
    sql("UPDATE files SET deleted_at = now() - interval '31 days' WHERE id = $1", gone["id"])
    assert (purge(server), purge(server)) == (1, 0)
    assert kept(server) == before - 1
    found = problem(org.rep.post(f"/v1/files/{gone['id']}/restore"), 409)
    assert found["code"] == "content_purged"
    problem(org.rep.get(f"/v1/files/{gone['id']}"), 404)
    problem(org.outsider.post(f"/v1/files/{gone['id']}/restore"), 404)
    assert purge(server, 0) == 0, "whatever is asked for, a day is left"
    assert org.rep.post(f"/v1/files/{recent['id']}/restore").status_code == 200
    for file in (recent, live):
        assert org.rep.get(f"/v1/files/{file['id']}/content").content == b"bytes"


def test_a_purge_and_a_restoration_at_once_leave_a_file_whole_or_gone(org, account, server, sql):
    files = [attach(org.rep, "account", account["id"], f"{i}.txt", b"bytes") for i in range(6)]
    for file in files:
        assert org.rep.delete(f"/v1/files/{file['id']}").status_code == 204
    sql("UPDATE files SET deleted_at = now() - interval '31 days' WHERE tenant_id = $1", org.tenant_id)

    def restore(file: dict) -> int:
        with httpx2.Client(base_url=server.base_url, headers=org.rep.headers, timeout=30) as client:
            return client.post(f"/v1/files/{file['id']}/restore").status_code

    with ThreadPoolExecutor(3) as pool:
        purging = pool.submit(purge, server)
        statuses = list(pool.map(restore, files))
        purging.result()
    purge(server)
    assert set(statuses) <= {200, 409}
    for file, status in zip(files, statuses, strict=True):
        answer = org.rep.get(f"/v1/files/{file['id']}/content")
        assert (answer.status_code, answer.content == b"bytes") == ((200, True) if status == 200 else (404, False))


def test_files_of_a_deleted_record_are_open_to_who_may_clear_them_away_and_nobody_else(org, account):
    """Without reach over all files nobody could delete them, and their bytes would never go."""
    file = attach(org.rep, "account", account["id"], "offer.txt", b"offer")
    assert org.rep.delete(f"/v1/accounts/{account['id']}").status_code == 204
    clerk = org.person("clerk", org.role("Clerk", ("files:*", "all"), ("accounts:read", "own")))
    path = f"/v1/files/{file['id']}"
    for person in (org.rep, org.manager, org.reader, org.outsider):
        for answer in (person.get(path), person.get(f"{path}/content")):
            problem(answer, 404)
        problem(person.delete(path), 403 if person is org.reader else 404)
    assert clerk.get(f"{path}/content").content == b"offer"
    problem(clerk.get(f"/v1/accounts/{account['id']}"), 404)
    assert clerk.delete(path).status_code == 204


def test_a_file_is_attached_before_its_record_goes_or_not_at_all(org, server):
    accounts = [org.rep.make("accounts", name=f"Racing {i}") for i in range(4)]

    def send(method: str, target: str, **options) -> int:
        with httpx2.Client(base_url=server.base_url, headers=org.rep.headers, timeout=30) as client:
            return client.request(method, target, **options).status_code

    def both(account: dict) -> tuple[int, int]:
        params = {"object_type": "account", "object_id": account["id"], "name": "x.txt"}
        with ThreadPoolExecutor(2) as pool:
            attached = pool.submit(send, "POST", "/v1/files", params=params, content=b"x" * 100_000)
            deleted = pool.submit(send, "DELETE", f"/v1/accounts/{account['id']}")
            return attached.result(), deleted.result()

    for account in accounts:
        attached, deleted = both(account)
        assert (attached in (201, 404, 409, 422), deleted) == (True, 204), attached
        files = org.admin.all("/v1/files", object_id=account["id"])
        assert len(files) == (attached == 201)
    assert org.rep.all("/v1/files") == []


def test_a_field_rule_holds_for_what_is_attached(org):
    rules = [{"resource": "files", "field": "name", "rule": "read_only"}]
    role = org.role("Clerk", ("files:*", "own"), ("accounts:*", "own"), field_rules=rules)
    clerk = org.person("clerk", role)
    account = clerk.make("accounts", name="Mine")
    params = {"object_type": "account", "object_id": account["id"], "name": "x.txt"}
    assert problem(clerk.post("/v1/files", params=params, content=b"x"), 403)["code"] == "field_read_only"


def test_a_link_ends_with_the_key_that_it_was_made_with(org, account, server):
    file = attach(org.rep, "account", account["id"], "x.txt", b"x")
    made = org.admin.post(f"/v1/users/{org.rep.id}/issue_key", json={"name": "k", "scopes": ["files:read"]}).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    url = org.rep.post(f"/v1/files/{file['id']}/download_link", headers=headers).json()["url"]
    with httpx2.Client(base_url=server.base_url) as anybody:
        assert anybody.get(url).content == b"x"
        assert org.admin.post(f"/v1/api_keys/{made['id']}/revoke").status_code == 200
        started = time.monotonic()
        problem(anybody.get(url), 401)
        assert time.monotonic() - started < 5


def test_a_link_ends_with_the_time_of_its_key(org, account, server, sql):
    file = attach(org.rep, "account", account["id"], "x.txt", b"x")
    body = {"name": "k", "expires_at": "2090-01-01T00:00:00Z"}
    made = org.admin.post(f"/v1/users/{org.rep.id}/issue_key", json=body).json()
    headers = {"Authorization": f"Bearer {made['key']}"}
    url = org.rep.post(f"/v1/files/{file['id']}/download_link", headers=headers).json()["url"]
    with httpx2.Client(base_url=server.base_url) as anybody:
        assert anybody.get(url).status_code == 200
        sql("UPDATE api_keys SET expires_at = now() - interval '1 s' WHERE id = $1", made["id"])
        problem(anybody.get(url), 401)


def test_a_store_that_fails_is_503_and_what_cannot_be_deleted_waits_alone(org, account, server, sql):
    file = attach(org.rep, "account", account["id"], "x.txt", b"x" * 1_000)
    folder = server.settings.data_dir / "files" / str(org.tenant_id)
    folder.rename(folder.with_name("aside"))
    folder.write_bytes(b"no folder")
    try:
        params = {"object_type": "account", "object_id": account["id"], "name": "x.txt"}
        problem(org.rep.post("/v1/files", params=params, content=b"x"), 503)
        path = f"/v1/files/{file['id']}/content"
        problem(org.rep.get(path), 503)
        head = org.rep.head(path)
        assert (head.status_code, head.headers["content-length"]) == (200, "1000"), "nothing is read for it"
        lost = server.run(lease(org.context(), timedelta(seconds=-1)))
        server.run(delete_expired(server.kernel, storage(server.settings)))
        (row,) = sql("SELECT expires_at > now() AS later FROM storage_leases WHERE storage_key = $1", lost)
        assert row["later"]
    finally:
        folder.unlink()
        folder.with_name("aside").rename(folder)
    assert org.rep.get(path).content == b"x" * 1_000
