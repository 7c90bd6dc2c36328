"""Document templates over HTTP: who writes them, what is refused, and what typst is kept from."""

import os
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from crm_api.adapters.typesetting_child import CPU_SECONDS
from tests.printing.conftest import order, png, template, text_of
from tests.support.examples import attach

SLOW = "#for a in range(10000) { for b in range(10000) { for c in range(10000) { } } }"


def tried(org, source: str, **values):
    body = {"name": "Form", "object_type": "order", "language": "en", "source": source, **values}
    return org.admin.post("/v1/document_templates", json=body)


def refused(answer) -> dict:
    assert (answer.status_code, answer.json()["code"]) == (422, "template_failed"), answer.text
    return answer.json()


def left_over() -> list[str]:
    """Children of this process that set documents, and folders that they had."""
    children = [" ".join(child.cmdline()) for child in psutil.Process().children(recursive=True)]
    return [line for line in children if "typesetting_child" in line]


def test_administrators_write_templates_and_sales_people_read_them(org):
    made = template(org, "= Form")
    for person in (org.manager, org.rep, org.reader):
        assert person.get(f"/v1/document_templates/{made['id']}").json()["source"] == "= Form"
        body = {"name": "Mine", "object_type": "order", "language": "en", "source": "x"}
        assert person.post("/v1/document_templates", json=body).status_code == 403
        assert person.patch(f"/v1/document_templates/{made['id']}", json={"name": "Mine"}).status_code == 403
        assert person.post(f"/v1/document_templates/{made['id']}/make_default").status_code == 403
        assert "Form" in text_of(person.get(f"/v1/document_templates/{made['id']}/preview"))


def test_a_template_that_typst_refuses_is_not_kept_and_its_line_is_named(org):
    before = org.admin.get("/v1/document_templates", params={"count": "exact"}).json()["count"]
    problem = refused(tried(org, "= Form\n\n#nowhere"))
    assert problem["line"] == 3
    assert problem["detail"] == "Line 3, column 1: unknown variable: nowhere"
    assert problem["errors"][0]["pointer"] == "/source"
    assert org.admin.get("/v1/document_templates", params={"count": "exact"}).json()["count"] == before
    made = template(org, "= Form")
    changed = org.admin.patch(f"/v1/document_templates/{made['id']}", json={"source": "#let"})
    assert refused(changed)["line"] == 1
    assert org.admin.get(f"/v1/document_templates/{made['id']}").json() == made


def test_what_is_not_printed_and_what_is_no_language_is_refused(org):
    for values, pointer in (({"object_type": "account"}, "/object_type"), ({"language": "xx"}, "/language")):
        answer = tried(org, "= Form", **values)
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, pointer)
    made = template(org, "= Form")
    for name in ("object_type", "language"):
        assert org.admin.patch(f"/v1/document_templates/{made['id']}", json={name: "es"}).status_code == 422
    assert tried(org, "a" * 200_001).status_code == 422


def test_a_logo_is_a_picture(org):
    made = template(org, "= Form")
    path = f"/v1/document_templates/{made['id']}"
    text = attach(org.admin, "document_template", made["id"], "logo.png", b"no picture")
    answer = org.admin.patch(path, json={"logo_file_id": text["id"]})
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/logo_file_id")
    answer = org.admin.patch(path, json={"logo_file_id": made["id"]})
    assert answer.json()["errors"][0]["code"] == "reference_not_found"


@pytest.mark.broad  # it takes twelve seconds
def test_a_logo_that_is_a_bomb_ends_its_own_process_only(org):
    source = '#let doc = json("/data.json")\n#if doc.logo != none { image(doc.logo) }'
    made = template(org, source)
    bomb = attach(org.admin, "document_template", made["id"], "logo.png", png(30_000, 30_000))
    answer = org.admin.patch(f"/v1/document_templates/{made['id']}", json={"logo_file_id": bomb["id"]})
    assert answer.status_code == 200, answer.text
    preview = org.rep.get(f"/v1/document_templates/{made['id']}/preview")
    assert "memory" in refused(preview)["detail"]
    assert not left_over()


@pytest.fixture(scope="module")
def secret(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("secret") / "secret.txt"
    path.write_text("canary-4711")
    return path


def test_no_file_of_the_machine_is_read(org, secret):
    up = "../" * 12
    for source in (
        f'#read("{secret}")',
        f'#read("{up}{str(secret)[1:]}")',
        f'#read("/../../{str(secret)[1:]}")',
        '#read("/etc/passwd")',
        '#read("/proc/self/environ")',
        f'#include "{secret}"',
        f'#image("{secret}")',
        f'#csv("{secret}")',
        f'#eval("read(\\"{secret}\\")")',
        '#import "/etc/passwd": x',
        '#bibliography("/etc/passwd")',
        '#set raw(theme: "/etc/passwd")\n```py x```',
    ):
        problem = refused(tried(org, source))
        assert "canary" not in str(problem)
        assert "crm-print" not in str(problem), "no path of this machine is told"


def test_its_own_folder_holds_nothing_but_what_it_prints(org):
    for name in ("main.typ", "template.typ", "data.json"):
        assert tried(org, f'#read("/{name}").len()').status_code == 201
    for name in ("..", ".", "/", "secret", "../main.typ"):
        refused(tried(org, f'#read("{name}")'))


def test_no_package_is_fetched(org):
    for name in ("@preview/cetz:0.3.0", "@local/own:1.0.0"):
        problem = refused(tried(org, f'#import "{name}"'))
        assert "package" in problem["detail"]


def test_a_plugin_has_no_way_out_and_no_file_to_come_from(org):
    refused(tried(org, '#plugin("/x.wasm")'))
    refused(tried(org, '#plugin("https://example.com/x.wasm")'))
    imports = "(0, 97, 115, 109, 1, 0, 0, 0, 1, 4, 1, 96, 0, 0, 2, 9, 1, 3, 101, 110, 118, 1, 102, 0, 0)"
    refused(tried(org, f"#plugin(bytes({imports}))"))


@pytest.mark.broad  # it takes seven seconds; what takes too much memory ends, too
def test_an_endless_loop_ends(org):
    start = time.monotonic()
    refused(tried(org, "#while true { }"))
    refused(tried(org, "#let f(x) = f(x + 1)\n#f(1)"))
    answer = tried(org, SLOW)
    assert answer.status_code in (422, 503), answer.text
    assert time.monotonic() - start < CPU_SECONDS + 20
    assert not left_over()


def test_memory_is_bounded(org):
    for source in ('#let x = "a"\n#for i in range(40) { x = x + x }', "#let x = range(1000000000)"):
        problem = refused(tried(org, source))
        assert "memory" in problem["detail"]


@pytest.mark.broad  # it takes eight seconds
def test_too_many_at_once_are_answered_at_once(org, account):
    made = order(org, account)
    sources = [f"{SLOW}\n// {i}" for i in range(14)]
    with ThreadPoolExecutor(14) as pool:
        start = time.monotonic()
        answers = list(pool.map(lambda source: tried(org, source), sources))
    busy = [answer for answer in answers if answer.status_code == 503]
    assert len(busy) >= 6, [answer.status_code for answer in answers]
    assert all(answer.headers["retry-after"] for answer in busy)
    assert time.monotonic() - start < 60
    assert "Page 1" in text_of(org.rep.get(f"/v1/orders/{made['id']}/pdf"))
    assert not left_over()


def test_a_child_that_is_killed_is_no_hang_and_nobodys_fault(org, account):
    made = order(org, account)
    slow = template(org, f'#let doc = json("/data.json")\n#if doc.issuer.name != "Sample Ltd." {{ {SLOW[1:]} }}')
    with ThreadPoolExecutor(1) as pool:
        params = {"template_id": slow["id"]}
        waiting = pool.submit(org.rep.get, f"/v1/orders/{made['id']}/pdf", params=params)
        deadline = time.monotonic() + 10
        while not (found := _children()) and time.monotonic() < deadline:
            time.sleep(0.02)
        os.kill(found[0], 9)
        answer = waiting.result(20)
    assert (answer.status_code, answer.json()["code"]) == (503, "unavailable")
    assert answer.headers["retry-after"]
    assert not left_over()


def _children() -> list[int]:
    return [
        child.pid
        for child in psutil.Process().children(recursive=True)
        if any("typesetting_child" in part for part in child.cmdline())
    ]
