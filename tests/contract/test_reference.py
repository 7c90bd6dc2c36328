"""The reference pages come from this server alone, under a strict policy, and work in a browser."""

import html
import re
import shutil
import subprocess

import httpx2
import pytest

from crm_api.kernel.problems import CATALOGUE
from crm_api.remedies import REMEDIES

BROWSER = {"accept": "text/html,application/xhtml+xml,*/*;q=0.8"}
PAGES = ("/docs/accounts", "/docs/try", "/docs/try/return")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_loads_nothing_from_elsewhere(server, path):
    answer = httpx2.get(server.base_url + path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    assert "//" not in answer.text, "a page names no other host"
    loaded = re.findall(r'(?:src|href)="(/docs/[^"]+)"', answer.text)
    assert loaded
    for asset in loaded:
        found = httpx2.get(server.base_url + asset)
        assert found.status_code == 200
        assert found.headers["content-type"].split(";")[0] in ("text/javascript", "text/css")
        assert found.headers["x-content-type-options"] == "nosniff"
        assert len(found.content) > 50
        assert b"cdn." not in found.content, "an asset loads nothing from elsewhere either"


@pytest.mark.parametrize("path", PAGES)
def test_the_policy_allows_this_origin_only(server, path):
    policy = httpx2.get(server.base_url + path).headers["content-security-policy"]
    rules = {name: sources for name, *sources in (rule.split() for rule in policy.split(";"))}
    assert rules["default-src"] == ["'none'"]
    assert rules["script-src"] == ["'self'"], "no inline script, no eval"
    assert rules["connect-src"] == ["'self'"]
    assert rules["frame-ancestors"] == rules["base-uri"] == ["'none'"]
    allowed = {source for sources in rules.values() for source in sources}
    assert allowed <= {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}, "no other host"


def _operations(document):
    paths = document["paths"].items()
    return {(path, method): operation for path, item in paths for method, operation in item.items()}


def test_the_reference_has_a_page_for_each_tag_with_all_that_its_operations_refer_to(server):
    whole = httpx2.get(f"{server.base_url}/openapi.json").json()
    parts = re.findall(r"href=/docs/(\w+)", httpx2.get(f"{server.base_url}/docs").text)
    assert set(parts) == {tag["name"] for tag in whole["tags"]} | {"try"}
    told = {}
    for tag in set(parts) - {"try"}:
        assert httpx2.get(f"{server.base_url}/docs/{tag}").status_code == 200
        part = httpx2.get(f"{server.base_url}/openapi.json", params={"tag": tag})
        content = part.json()
        for section, name in set(re.findall(r'"\$ref":"#/components/(\w+)/([^"]+)"', part.text)):
            assert name in content["components"][section]
        told |= _operations(content)
    assert told == _operations(whole)
    for path in ("/docs/nothing", "/openapi.json?tag=nothing"):
        assert httpx2.get(server.base_url + path).status_code == 404


def test_an_unknown_asset_is_a_problem(server):
    for name in ("nothing.js", "..%2f__init__.py", "redoc.standalone.js.map"):
        answer = httpx2.get(f"{server.base_url}/docs/assets/{name}")
        assert (answer.status_code, answer.json()["code"]) == (404, "not_found")


def test_every_code_says_what_to_do():
    assert REMEDIES.keys() == CATALOGUE.keys()
    assert len(set(REMEDIES.values())) > 0.8 * len(REMEDIES), "said of the code, not of all"


def test_a_problem_leads_to_its_description(server):
    refused = httpx2.get(f"{server.base_url}/v1/me").json()
    told = httpx2.get(server.base_url + refused["type"])
    assert told.headers["vary"] == "Accept"
    assert told.json() == {
        "code": "unauthenticated",
        "status": 401,
        "title": refused["title"],
        "retryable": False,
        "remedy": REMEDIES["unauthenticated"],
    }
    everything = httpx2.get(f"{server.base_url}/problems").json()["data"]
    assert told.json() in everything
    assert {entry["code"] for entry in everything} == set(CATALOGUE)


def test_a_browser_is_shown_pages_of_problems(server):
    listed = httpx2.get(f"{server.base_url}/problems", headers=BROWSER)
    assert listed.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in listed.headers["content-security-policy"]
    links = re.findall(r"href=(/problems/\w+)", listed.text)
    assert {link.rsplit("/", 1)[1] for link in links} == set(CATALOGUE)
    shown = httpx2.get(f"{server.base_url}/problems/version_mismatch", headers=BROWSER)
    assert html.escape(REMEDIES["version_mismatch"]) in shown.text
    assert "<h1>412 version_mismatch</h1>" in shown.text
    unknown = httpx2.get(f"{server.base_url}/problems/<b>", headers=BROWSER)
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


@pytest.mark.broad
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium on the PATH")
@pytest.mark.parametrize(("path", "shown"), [("/docs/accounts", "List accounts"), ("/docs/try", "leads")])
def test_a_browser_shows_the_page_without_errors(server, tmp_path, path, shown):
    command = [
        CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
        "--disable-background-networking", f"--user-data-dir={tmp_path}", "--enable-logging=stderr", "--v=0",
        "--virtual-time-budget=30000", "--dump-dom", server.base_url + path,
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    console = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert shown in done.stdout, done.stdout[:2000] + done.stderr[-2000:]
    assert console == []
