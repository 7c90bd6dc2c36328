"""Files on records: what they are, who gets them, and what becomes of bytes that no record has."""

import io
import time
import uuid
from datetime import timedelta

import httpx2
import pytest

from crm_api.adapters.storage import storage
from crm_api.domains.files import link as links
from crm_api.domains.files.content_type import content_type
from crm_api.domains.files.lease import delete_expired, lease
from tests.support.asking import code
from tests.support.examples import attach
from tests.support.problems import problem

PNG = b"\x89PNG\r\n\x1a\n" + b"\x00" * 40


@pytest.fixture
def account(org) -> dict:
    return org.rep.make("accounts", name="With files")


def upload(person, account, content=b"Hello", name="hello.txt", **options):
    params = {"object_type": "account", "object_id": account["id"], "name": name}
    return person.post("/v1/files", params=params, content=content, **options)


def stored(server) -> set[str]:
    folder = server.settings.data_dir / "files"
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_file_comes_back_as_it_was_sent(org, account):
    content = PNG * 30_000
    made = upload(org.rep, account, content, "logo.png", headers={"Content-Type": "text/html"})
    assert made.status_code == 201, made.text
    file = made.json()
    assert made.headers["location"] == f"/v1/files/{file['id']}"
    assert (file["content_type"], file["size"], file["name"]) == ("image/png", len(content), "logo.png")
    assert "storage_key" not in file
    assert org.rep.get(f"/v1/files/{file['id']}").json() == file
    assert org.rep.all("/v1/files", object_type="account", object_id=account["id"]) == [file]
    got = org.rep.get(f"/v1/files/{file['id']}/content")
    assert got.content == content
    assert got.headers["content-disposition"].startswith('attachment; filename="logo.png"')
    assert got.headers["content-security-policy"].startswith("sandbox")
    assert got.headers["x-content-type-options"] == "nosniff"
    assert got.headers["content-type"] == "image/png"
    head = org.rep.head(f"/v1/files/{file['id']}/content")
    assert (head.headers["content-length"], head.content) == (str(len(content)), b"")
    known = org.rep.get(f"/v1/files/{file['id']}/content", headers={"If-None-Match": got.headers["etag"]})
    assert (known.status_code, known.content) == (304, b"")


@pytest.mark.parametrize(
    ("asked", "status", "start", "end"),
    [
        ("bytes=2-5", 206, 2, 6),
        ("bytes=7-", 206, 7, 10),
        ("bytes=-3", 206, 7, 10),
        ("bytes=5-900", 206, 5, 10),
        ("bytes=0-0,2-3", 200, 0, 10),
        ("bytes=99-", 200, 0, 10),
        ("bytes=5-2", 200, 0, 10),
    ],
)
def test_a_part_of_a_file(shared_org, asked, status, start, end):
    account = shared_org.rep.make("accounts", name="Parts")
    file = upload(shared_org.rep, account, b"0123456789").json()
    got = shared_org.rep.get(f"/v1/files/{file['id']}/content", headers={"Range": asked})
    assert (got.status_code, got.content) == (status, b"0123456789"[start:end])


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"<!doctype html><script>alert(1)</script>", "text/plain"),
        (b'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(1)"/>', "text/plain"),
        (b"%PDF-1.7\n", "application/pdf"),
        (b"\x00\x01\x02", "application/octet-stream"),
        (b"", "application/octet-stream"),
        ("Ñandú".encode(), "text/plain"),
        ("Ñandú".encode("latin-1"), "application/octet-stream"),
        (b"PK\x03\x04nothing", "application/zip"),
        (
            b"PK\x03\x04 [Content_Types].xml xl/workbook",
            "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
        ),
        (b"RIFF....WEBPVP8 ", "image/webp"),
    ],
)
def test_a_type_is_found_by_the_content(shared_org, content, expected):
    account = shared_org.rep.make("accounts", name="Types")
    made = upload(shared_org.rep, account, content, "page.html", headers={"Content-Type": "text/html"})
    assert (made.status_code, made.json()["content_type"]) == (201, expected)
    got = shared_org.rep.get(f"/v1/files/{made.json()['id']}/content")
    assert got.content == content
    assert got.headers["content-type"].partition(";")[0] == expected
    assert got.headers["content-disposition"].startswith("attachment; ")


def test_a_character_that_is_cut_does_not_make_text_binary():
    text = ("x" + "ñ" * 5_000).encode()
    assert content_type(text[:8_192], whole=False) == "text/plain"
    assert content_type(text[:8_192], whole=True) == "application/octet-stream"


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "..\\..\\x.txt", 'a";filename="b.html', "Ñandú 文件.pdf", "...", "a;b"]
)
def test_a_name_is_data_and_no_path(server, shared_org, name):
    account = shared_org.rep.make("accounts", name="Names")
    made = upload(shared_org.rep, account, b"x", name)
    assert made.json()["name"] == name
    got = shared_org.rep.get(f"/v1/files/{made.json()['id']}/content").headers["content-disposition"]
    assert got.count('"') == 2
    assert not set("/\\") & set(got)
    assert not any("passwd" in key or "x.txt" in key for key in stored(server))


@pytest.mark.parametrize("name", ["", "a\x00b", "a\r\nSet-Cookie: x", "x" * 201, "\u202egnp.exe"])
def test_an_impossible_name_is_refused(shared_org, name):
    account = shared_org.rep.make("accounts", name="Names")
    found = problem(upload(shared_org.rep, account, b"x", name), 422)
    assert found["errors"][0]["parameter"] == "name"


def test_what_is_too_large_leaves_nothing(server, org, account):
    before = stored(server)
    problem(upload(org.rep, account, b"x" * (26 * 1_048_576)), 413)
    chunks = (b"x" * 1_048_576 for _ in range(26))
    problem(upload(org.rep, account, chunks), 413)
    assert stored(server) == before
    assert org.rep.all("/v1/files") == []
    assert upload(org.rep, account, b"x" * 2_000_000).status_code == 201, "more than other bodies may have"


def test_a_file_is_open_as_its_record_is(org, account):
    file = upload(org.rep, account).json()
    path = f"/v1/files/{file['id']}"
    for person in (org.rep, org.manager, org.reader, org.admin):
        assert person.get(path).status_code == 200
        assert person.get(f"{path}/content").content == b"Hello"
        assert [item["id"] for item in person.all("/v1/files")] == [file["id"]]
    for person in (org.outsider, org.colleague):
        for answer in (person.get(path), person.get(f"{path}/content"), person.post(f"{path}/download_link")):
            problem(answer, 404)
        problem(person.delete(path), 404)
        assert person.all("/v1/files", object_id=account["id"]) == []
        found = problem(upload(person, account), 422)
        missing = problem(upload(person, {"id": str(uuid.uuid4())}), 422)
        assert found["errors"] == missing["errors"]
        count = person.post("/v1/files/aggregate", json={"measures": [{"op": "count"}]}).json()
        assert count["data"][0]["measures"] == [0]
    problem(upload(org.reader, account), 403)
    share = {"grantee_type": "user", "grantee_id": org.outsider.id, "level": "read"}
    assert org.rep.post(f"/v1/accounts/{account['id']}/share", json=share).status_code == 201
    assert org.outsider.get(path).status_code == 200
    problem(upload(org.outsider, account), 403)
    problem(org.outsider.delete(path), 403)
    assert org.rep.post(f"/v1/accounts/{account['id']}/share", json={**share, "level": "write"}).status_code == 201
    assert upload(org.outsider, account).status_code == 201
    problem(org.outsider.delete(path), 403)
    assert org.rep.delete(f"/v1/accounts/{account['id']}").status_code == 204
    for person in (org.rep, org.manager, org.reader, org.outsider):
        problem(person.get(path), 404)
        problem(person.get(f"{path}/content"), 404)
        assert person.all("/v1/files") == []


def test_another_tenants_file_is_not_there(org, account, server):
    from tests.support.org import Org

    file = upload(org.rep, account).json()
    other = Org.create(server)
    problem(other.admin.get(f"/v1/files/{file['id']}"), 404)
    problem(other.admin.get(f"/v1/files/{file['id']}/content"), 404)
    problem(upload(other.admin, account), 422)
    url = org.rep.post(f"/v1/files/{file['id']}/download_link").json()["url"]
    problem(other.admin.get(url), 401)


def test_files_are_deleted_restored_and_told_of(org, account, server):
    file = upload(org.rep, account).json()
    path = f"/v1/files/{file['id']}"
    assert org.rep.delete(path).status_code == 204
    problem(org.rep.get(path), 404)
    problem(org.rep.get(f"{path}/content"), 404)
    assert org.rep.post(f"{path}/restore").status_code == 200
    assert org.rep.get(f"{path}/content").content == b"Hello"
    from crm_api.kernel import feed

    server.run(feed.sequence(server.kernel))
    told = {
        name: [item["type"] for item in org.people[name].get("/v1/changes?types=file.*").json()["data"]]
        for name in ("rep", "manager", "outsider", "colleague")
    }
    assert told["rep"] == told["manager"] == ["file.created", "file.deleted", "file.restored"]
    assert told["outsider"] == told["colleague"] == []


def test_files_hang_on_other_records_too(org):
    contact = org.rep.make("contacts", last_name="Muster")
    attach(org.rep, "contact", contact["id"], "card.txt", b"card")
    assert [item["object_type"] for item in org.rep.all("/v1/files")] == ["contact"]
    assert org.outsider.all("/v1/files") == []
    for type_ in ("file", "nothing", "job", ""):
        params = {"object_type": type_, "object_id": contact["id"], "name": "x"}
        problem(org.admin.post("/v1/files", params=params, content=b"x"), 422)


def test_a_link_is_for_one_file_one_principal_and_a_time(org, account, server, monkeypatch):
    files = [upload(org.rep, account, content).json() for content in (b"one", b"two")]
    made = org.rep.post(f"/v1/files/{files[0]['id']}/download_link")
    assert made.status_code == 201
    url = made.json()["url"]
    with httpx2.Client(base_url=server.base_url) as anybody:
        assert anybody.get(url).content == b"one"
        assert org.rep.get(url).content == b"one"
        problem(org.manager.get(url), 401)
        problem(anybody.get(url.replace(files[0]["id"], files[1]["id"])), 401)
        for place in (len(url) - 30, len(url) - 1, url.index("token=") + 8):
            other = "A" if url[place] != "A" else "B"
            problem(anybody.get(url[:place] + other + url[place + 1 :]), 401)
        problem(anybody.get(url.partition("?")[0] + "?token=x"), 401)
        problem(anybody.get(url.partition("?")[0]), 401)
        moved = org.manager.patch(f"/v1/accounts/{account['id']}", json={"owner_id": org.colleague.id})
        assert moved.status_code == 200, moved.text
        assert code(anybody.get(url)) == (404, "not_found")
        org.manager.patch(f"/v1/accounts/{account['id']}", json={"owner_id": org.rep.id})
        assert anybody.get(url).status_code == 200
        late = time.time() + links.SECONDS + 1
        monkeypatch.setattr(links.time, "time", lambda: late)
        problem(anybody.get(url), 401)
        monkeypatch.undo()
        key = org.rep.all("/v1/api_keys")[0]
        assert org.admin.post(f"/v1/api_keys/{key['id']}/revoke").status_code == 200
        problem(anybody.get(url), 401)


def test_the_same_upload_is_done_once(org, account):
    headers = {"Idempotency-Key": "upload-one"}
    first, second = upload(org.rep, account, headers=headers), upload(org.rep, account, headers=headers)
    assert (first.status_code, second.status_code) == (201, 201)
    assert first.json() == second.json()
    assert second.headers["idempotency-replayed"] == "true"
    problem(upload(org.rep, account, b"other", headers=headers), 422)
    assert len(org.rep.all("/v1/files")) == 1


def test_bytes_that_no_record_claims_are_deleted(org, account, server):
    """As after a crash between storing and committing: the lease ends, and the bytes with it."""
    kept = upload(org.rep, account, b"kept").json()
    store = storage(server.settings)
    lost = server.run(lease(org.context(), timedelta(seconds=-1)))
    waiting = server.run(lease(org.context(), timedelta(hours=1)))
    for key in (lost, waiting):
        server.run(store.put(key, io.BytesIO(b"bytes")))
    assert {lost, waiting} <= stored(server)
    assert server.run(delete_expired(server.kernel, store)) >= 1
    assert lost not in stored(server)
    assert waiting in stored(server)
    assert org.rep.get(f"/v1/files/{kept['id']}/content").content == b"kept"
