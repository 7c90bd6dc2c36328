"""A person at a browser: cookies, forms as a page shows them, and people who have a password."""

import re
from html.parser import HTMLParser
from typing import Any

import httpx2

from tests.support.org import Org
from tests.support.server import LiveServer
from tests.support.wire import WIRE

PASSWORD = "correct horse battery staple"
PAGES = ("/sign-in", "/reset", "/account", "/sign-out")


class _Forms(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.ids: dict[str, str] = {}
        self.labels: set[str] = set()
        self.language = ""
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        if "id" in given:
            assert given["id"] not in self.ids, f"two elements with id {given['id']}"
            self.ids[given["id"]] = tag
        if tag == "html":
            self.language = given.get("lang", "")
        if tag == "form":
            self.forms.append({"action": given["action"], "method": given["method"], "fields": {}})
        if tag == "input" and (given.get("type") != "checkbox" or "checked" in given):
            self.forms[-1]["fields"][given["name"]] = given.get("value", "")
        if tag == "label":
            self.labels.add(given["for"])
        if tag == "a":
            self.links.append(given["href"])


def read(text: str) -> _Forms:
    """What a page holds."""
    parser = _Forms()
    parser.feed(text)
    return parser


class Browser(httpx2.Client):
    """Keeps cookies, follows nothing by itself, and sends forms as they are on the page before."""

    def __init__(self, server: LiveServer, language: str = "en") -> None:
        headers = {"accept-language": language, "user-agent": "Test browser"}
        super().__init__(base_url=server.base_url, headers=headers, timeout=30, transport=WIRE)

    def submit(self, page: httpx2.Response, action: str | None = None, /, **fields: str) -> httpx2.Response:
        """Sends the form of a page, the first unless told by its action, with these fields filled in."""
        form = next(item for item in read(page.text).forms if action in (None, item["action"]))
        return self.post(form["action"], data={**form["fields"], **fields})

    def sign_in(self, organisation: str, email: str, password: str = PASSWORD, path: str = "/sign-in"):
        """The answer to the form of `/sign-in`."""
        return self.submit(self.get(path), organisation=organisation, email=email, password=password)

    @property
    def signed_in(self) -> bool:
        return self.get("/account").status_code == 200


def handle(org: Org) -> str:
    """What people type for their organisation."""
    return str(org.tenant_id)


def invited(org: Org, who: str, password: str = PASSWORD) -> str:
    """Gives a person of an organisation a password by an administrator's link; gives their e-mail."""
    answer = org.admin.post(f"/v1/users/{org.people[who].id}/invite")
    assert answer.status_code == 201, answer.text
    browser = Browser(org.server)
    page = browser.get("/reset" + answer.json()["link"].partition("/reset")[2])
    assert page.status_code == 200, page.text
    done = browser.submit(page, password=password)
    assert done.status_code == 303, done.text
    return org.admin.get(f"/v1/users/{org.people[who].id}").json()["email"]


def problem_of(page: httpx2.Response) -> str:
    """The text of the error summary."""
    found = re.search(r'<div class="errors".*?</div>', page.text, re.DOTALL)
    return "" if found is None else " ".join(re.sub("<[^>]+>", " ", found[0]).split())
