"""The page that asks, in a real browser that runs no scripts: what it says, and that it leads to the application."""

import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.sign_in.webdriver import CHROMIUM, DRIVER, Chromium
from tests.support.oauth import App, sign_in

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="chromium and chromedriver are not installed (Debian: chromium-driver)"
)


@pytest.fixture(params=["127.0.0.1", "::1"])
def application(request):
    """A native application that listens on a port of its own: where it listens, and what it was asked for."""
    asked = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.send_header("content-type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>Back</title>")

        def log_message(self, *_: object) -> None:
            """Says nothing."""

    class Listening(ThreadingHTTPServer):
        address_family = socket.AF_INET6 if ":" in request.param else socket.AF_INET

    listening = Listening((request.param, 0), Handler)
    listening.daemon_threads = True
    threading.Thread(target=listening.serve_forever, args=(0.02,), daemon=True).start()
    host = f"[{request.param}]" if ":" in request.param else request.param
    yield f"http://{host}:{listening.server_port}", asked
    listening.shutdown()
    listening.server_close()


@pytest.fixture
def chromium(tmp_path):
    with Chromium(tmp_path) as browser:
        yield browser


def test_the_consent_leads_back_to_the_application(chromium, application, org, sql):
    place, asked = application
    app = App.register(org, redirect_uris=["http://127.0.0.1/cb", "http://[::1]/cb"])
    chromium.open(f"{org.server.base_url}/sign-in")
    ticket = sign_in(sql, org, org.rep).ticket
    chromium._do("POST", "/cookie", cookie={"name": "crm_session", "value": ticket.text, "path": "/"})
    redirect = {"redirect_uri": f"{place}/cb"}
    chromium.open(org.server.base_url + app.address(scope="openid accounts:write", **redirect))
    chromium.until("Allow access")
    for words in (
        "Planner",
        "Create and change accounts",
        "Know who you are",
        "rep@example.com",
        urlsplit(place).netloc,
    ):
        assert words in chromium.text()
    assert chromium.role("button")[1] == "Allow"
    chromium.press("button")
    end = time.monotonic() + 20
    while not any(path.startswith("/cb?") for path in asked):
        assert time.monotonic() < end, (chromium.address, chromium.errors)
        time.sleep(0.05)
    (path,) = [path for path in asked if path.startswith("/cb?")]
    told = {name: values[0] for name, values in parse_qs(urlsplit(path).query).items()}
    assert (told["state"], told["iss"]) == ("xyz", org.server.base_url)
    assert "id_token" in app.redeem(told["code"], **redirect).json()
