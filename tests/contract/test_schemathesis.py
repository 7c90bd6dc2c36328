"""Schemathesis against a live server: generated requests, and one caller's records asked for by others.

Runs of the real command line with a fixed seed. The first sends every operation, tag by tag, what its schema allows and
what it does not. The second (check ST402) lets a representative create and read records and repeats each read as a
colleague of the same team, as somebody from another team and as somebody from another tenant.
"""

import base64
import json
import re
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import httpx2
import pytest

from crm_api.catalog import CATALOG
from tests.support.org import Org

SEED = 20261123
TAGS = (
    *(pytest.param(tags, marks=pytest.mark.broad) for tags in ("identity", "accounts contacts", "integrations batch")),
    *(
        pytest.param(tags, marks=pytest.mark.full)
        for tags in ("oauth sign_in limits", "products pricing", "opportunities leads", "orders numbering quotes")
    ),
)
"""The tags of each run: to start one costs as much as a hundred requests."""
SELF_ENDING = (
    "revoke_api_key",
    "delete_role_assignment",
    "delete_role",
    "update_role",
    "delete_user",
    "update_user",
    "batch_role_assignments",
    "batch_roles",
    "batch_users",
)
"""Operations by which an administrator may take its own rights away in the middle of a run."""
VERBS = ("batch", "search", "aggregate")
PARSER_LIMIT = 65_535  # a longer request line is refused by the HTTP parser, before the application


def run(folder, url: str, config: str, *options: str) -> "Report":
    """Runs schemathesis on the document of the server at `url`."""
    (folder / "schemathesis.toml").write_text(config)
    path = folder / "report.ndjson"
    command = [
        sys.executable, "-m", "schemathesis.cli", "--config-file", str(folder / "schemathesis.toml"),
        "run", f"{url}/openapi.json", "--seed", str(SEED), "--no-shrink", "--continue-on-failure",
        "--output-sanitize", "false", "--report", "ndjson", "--report-ndjson-path", str(path), *options,
    ]  # fmt: skip
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=400, check=False)
    assert path.exists(), done.stdout + done.stderr
    report = Report(done.returncode, done.stdout + done.stderr)
    for line in path.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder") or {}
        for case, sent in recorder.get("interactions", {}).items():
            report.note(recorder, case, sent)
    return report


@dataclass
class Report:
    """What a run did: requests by caller and by status, the operations that succeeded, and the failures."""

    code: int
    output: str
    statuses: Counter = field(default_factory=Counter)
    callers: Counter = field(default_factory=Counter)
    succeeded: set = field(default_factory=set)
    failures: list = field(default_factory=list)

    def note(self, recorder, case: str, sent) -> None:
        answer = sent["response"] or {}
        status = answer.get("status_code", 0)
        self.statuses[status] += 1
        caller = sent["request"]["headers"].get("Authorization", ["nobody"])[0].removeprefix("Bearer ")
        collection = urlsplit(sent["request"]["uri"]).path.split("/")[2:3]
        self.callers[caller, "".join(collection), sent["request"]["method"], status] += 1
        if 200 <= status < 300:
            self.succeeded.add(recorder["label"])
        for check in recorder.get("checks", {}).get(case, ()):
            if check["status"] == "success" or len(sent["request"]["uri"]) > PARSER_LIMIT:
                continue
            failure = check["failure_info"]["failure"]
            if failure["code"] == "ST203" and status == 414:
                continue  # a target that is too long is refused before anyone is asked who they are
            if failure["code"] == "ST103" and status == 405 and _last(sent["request"]["uri"]) in VERBS:
                continue  # taken for an id, it is the path of another operation
            self.failures.append(_told(failure, recorder["label"], sent["request"], answer))


def _last(uri: str) -> str:
    return urlsplit(uri).path.rpartition("/")[2]


def _told(failure, label: str, request, answer) -> str:
    bodies = [
        base64.b64decode((side or {}).get("$base64", ""))[:400] for side in (request.get("body"), answer.get("content"))
    ]
    sent = f"{request['method']} {request['uri'][-400:]} {bodies[0]!r}"
    message = " / ".join(failure["message"].splitlines())[:400]
    return f"{failure['code']} {label}: {message}\n  {sent}\n  {answer.get('status_code')} {bodies[1]!r}"


CHECKS = """
[parameters]
"query.dry_run" = "false"  # else a check asks for what a dry run seemed to create
[checks.positive_data_acceptance]
enabled = false  # a reference to a record that is not there is 422, whatever the schema says
[checks.negative_data_rejection]
# 207: a batch in parts tells the problem of each item
expected-statuses = ["207", "400", "401", "403", "404", "405", "406", "409", "412", "413", "414", "415", "422", "428"]
[checks.missing_required_header]
expected-statuses = ["400", "401", "403", "406", "415", "422", "428"]  # 428: If-Match (RFC 6585, 3)
[[operations]]
include-operation-id = "stream_changes"
request-timeout = 0.5  # it has no end
"""


def generated(server, folder, tags: str, *options: str) -> None:
    """Sends generated requests as an administrator; fails on any answer that the contract does not declare."""
    org = Org.create(server)
    config = f'[headers]\nAuthorization = "Bearer {org.admin.key}"\n{CHECKS}'
    included = [part for tag in tags.split() for part in ("--include-tag", tag)]
    report = run(folder, server.base_url, config, *included, *options)
    assert not report.failures, "\n".join(report.failures[:20])
    lists = {f"GET /v1/{resource.plural}" for resource in CATALOG.resources.values() if resource.domain in tags.split()}
    assert lists <= report.succeeded, "the run must get past the door"
    assert org.admin.get("/v1/me").status_code == 200, "the run took its own key away, so what followed proves nothing"


@pytest.mark.parametrize("number", [2, pytest.param(5, marks=pytest.mark.full)])
@pytest.mark.parametrize("tags", TAGS)
def test_generated_requests(server, tmp_path, tags, number):
    """One of each sort: what the schema allows, and what it does not."""
    generated(server, tmp_path, tags, "--phases", "examples,fuzzing", "--max-examples", str(number))


@pytest.mark.full
@pytest.mark.parametrize("tags", TAGS)
def test_every_boundary(server, tmp_path, tags):
    """Enumerates the boundaries of each schema and follows the links from what was created."""
    excluded = [part for name in SELF_ENDING for part in ("--exclude-operation-id", name)]
    phases = "examples,coverage,fuzzing,stateful"
    generated(server, tmp_path, tags, "--phases", phases, "--max-examples", "20", *excluded)


@pytest.mark.full
@pytest.mark.parametrize("name", SELF_ENDING)
def test_every_boundary_of_what_may_end_the_caller(server, tmp_path, name):
    """Each alone, with a caller to lose."""
    org = Org.create(server)
    config = f'[headers]\nAuthorization = "Bearer {org.admin.key}"\n{CHECKS}'
    report = run(tmp_path, server.base_url, config, "--include-operation-id", name, "--phases", "examples,coverage")
    assert not report.failures, "\n".join(report.failures[:20])
    assert set(report.statuses) - {401}, "some requests must have got past the door"


def peers_config(folder, org: Org, stranger) -> str:
    """The representative owns what is read; a team mate, another team and another tenant ask for it, too."""
    people = {"rep": org.rep, "colleague": org.colleague, "outsider": org.outsider, "stranger": stranger}
    auth = [
        {"name": name, "fixedHeaders": [{"name": "Authorization", "value": f"Bearer {person.key}"}]}
        for name, person in people.items()
    ]
    (folder / "people.json").write_text(json.dumps({"auth": auth}))
    return f'[auth.wfc]\npath = "{folder / "people.json"}"\nuser = "rep"\npeers = {json.dumps(list(people))}\n{CHECKS}'


PEERS = ("--phases", "fuzzing,stateful", "--max-examples", "5", "--mode", "positive")


def asked_by(report: Report, person, collection: str) -> Counter:
    """The requests of one person to a collection, by method and status."""
    mine = {key[2:]: count for key, count in report.callers.items() if key[:2] == (person.key, collection)}
    return Counter(mine)


@pytest.mark.broad  # it takes ten seconds
def test_nobody_else_gets_the_representatives_records(server, tmp_path):
    org, other = Org.create(server), Org.create(server)
    included = ("--include-path-regex", "^/v1/(accounts|contacts)(/[{]id[}](/transitions)?)?$")
    report = run(tmp_path, server.base_url, peers_config(tmp_path, org, other.rep), *included, *PEERS)
    assert not report.failures, "\n".join(report.failures[:20])
    assert {"GET /v1/accounts/{id}", "GET /v1/contacts/{id}"} <= report.succeeded
    for peer in (org.colleague, org.outsider, other.rep):
        for collection in ("accounts", "contacts"):
            asked = asked_by(report, peer, collection)
            assert asked["GET", 404], "each peer must have asked for a record, and been told that there is none"


class Leak(BaseHTTPRequestHandler):
    """Passes everything on, but reads single records with the owner's key whoever asks: the mistake ST402 is about."""

    server: "LeakServer"
    protocol_version = "HTTP/1.1"

    def _pass_on(self) -> None:
        headers = {k: v for k, v in self.headers.items() if k.lower() not in ("host", "content-length", "connection")}
        if self.command == "GET" and re.match("/v1/accounts/", self.path) and "Authorization" in headers:
            headers["Authorization"] = f"Bearer {self.server.key}"
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        answer = self.server.onward.request(self.command, self.path, headers=headers, content=body)
        self.send_response(answer.status_code)
        for name, value in answer.headers.items():
            if name.lower() not in ("content-length", "content-encoding", "connection", "transfer-encoding"):
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_PATCH = do_DELETE = _pass_on  # noqa: N815 - names of the standard library

    def log_message(self, *args) -> None:
        """Says nothing."""


class LeakServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, target: str, key: str) -> None:
        super().__init__(("127.0.0.1", 0), Leak)
        self.onward, self.key = httpx2.Client(base_url=target), key


@pytest.mark.full
def test_the_check_finds_a_server_that_leaks(server, tmp_path):
    """The control: without it the test above could pass because the check never asks."""
    org, other = Org.create(server), Org.create(server)
    leaky = LeakServer(server.base_url, org.rep.key)
    threading.Thread(target=leaky.serve_forever, daemon=True).start()
    try:
        included = ("--include-path-regex", "^/v1/accounts(/[{]id[}])?$")
        url = f"http://127.0.0.1:{leaky.server_port}"
        report = run(tmp_path, url, peers_config(tmp_path, org, other.rep), *included, *PEERS)
    finally:
        leaky.shutdown()
    found = " ".join(failure for failure in report.failures if failure.startswith("ST402"))
    assert all(f"`{peer}` received the" in found for peer in ("colleague", "outsider", "stranger")), report.output[
        -3000:
    ]
