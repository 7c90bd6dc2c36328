"""A real browser: headless Chromium, driven by chromedriver over the protocol of W3C WebDriver, without a library."""

import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import httpx2

CHROMIUM, DRIVER = (shutil.which(name) for name in ("chromium", "chromedriver"))
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class MovedOnError(Exception):
    """What was asked of is not on the page, or no longer."""


class Chromium:
    """A browser without scripts (or with). `find`, `type`, `press` take CSS selectors; `errors` is what it logged."""

    def __init__(self, folder: Path, language: str = "en", *, scripts: bool = False) -> None:
        self._folder = folder
        self._language = language
        self._scripts = scripts

    def __enter__(self) -> Self:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        assert DRIVER is not None
        self._process = subprocess.Popen(
            [DRIVER, f"--port={port}", "--silent"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._http = httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=60)
        end = time.monotonic() + 20
        while True:
            try:
                assert self._http.get("/status").json()["value"]["ready"]
                break
            except httpx2.TransportError:
                assert time.monotonic() < end, "the driver does not start"
                time.sleep(0.1)
        arguments = ["--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"]
        arguments += [f"--user-data-dir={self._folder}", f"--accept-lang={self._language}", "--window-size=400,900"]
        options = {
            "args": arguments,
            "binary": CHROMIUM,
            "prefs": {
                "intl.accept_languages": self._language,
                "profile.managed_default_content_settings.javascript": 1 if self._scripts else 2,
            },
        }
        wanted = {"goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}}
        body = {"capabilities": {"alwaysMatch": {"browserName": "chrome", **wanted}}}
        answer = self._http.post("/session", json=body).json()["value"]
        assert "sessionId" in answer, answer
        self._at = f"/session/{answer['sessionId']}"
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._http.delete(self._at)
        finally:
            self._http.close()
            self._process.terminate()
            self._process.wait(10)

    def _do(self, method: str, path: str, **body: Any) -> Any:
        answer = self._http.request(method, self._at + path, json=body if method == "POST" else None).json()["value"]
        if isinstance(answer, dict) and answer.get("error") in ("stale element reference", "no such element"):
            raise MovedOnError(answer["error"])
        assert not (isinstance(answer, dict) and "error" in answer), answer
        return answer

    def open(self, address: str) -> None:
        self._do("POST", "/url", url=address)

    @property
    def address(self) -> str:
        return str(self._do("GET", "/url"))

    @property
    def title(self) -> str:
        return str(self._do("GET", "/title"))

    @property
    def errors(self) -> list[str]:
        return [entry["message"] for entry in self._do("POST", "/se/log", type="browser")]

    @property
    def windows(self) -> list[str]:
        return list(self._do("GET", "/window/handles"))

    def switch(self, window: str) -> None:
        self._do("POST", "/window", handle=window)

    def cookie(self, name: str) -> dict[str, Any]:
        return dict(self._do("GET", f"/cookie/{name}"))

    def find(self, selector: str) -> str:
        found = self._do("POST", "/element", using="css selector", value=selector)
        return f"/element/{found[_ELEMENT]}"

    def text(self, selector: str = "main") -> str:
        return str(self._do("GET", f"{self.find(selector)}/text"))

    def attribute(self, selector: str, name: str) -> str | None:
        return self._do("GET", f"{self.find(selector)}/attribute/{name}")

    def role(self, selector: str) -> tuple[str, str]:
        """(role, name) as assistive technology is told them."""
        element = self.find(selector)
        return tuple(self._do("GET", f"{element}/{what}") for what in ("computedrole", "computedlabel"))  # type: ignore[return-value]

    def there(self, selector: str) -> bool:
        """Whether the page has such an element."""
        return bool(self._do("POST", "/elements", using="css selector", value=selector))

    def style(self, selector: str, name: str) -> str:
        return str(self._do("GET", f"{self.find(selector)}/css/{name}"))

    def focused(self) -> str | None:
        """The id of the element that has the focus, or its class."""
        element = f"/element/{self._do('GET', '/element/active')[_ELEMENT]}"
        return self._do("GET", f"{element}/attribute/id") or self._do("GET", f"{element}/attribute/class")

    def type(self, selector: str, text: str) -> None:
        element = self.find(selector)
        self._do("POST", f"{element}/clear")
        self._do("POST", f"{element}/value", text=text)

    def keys(self, text: str) -> None:
        """Pressed wherever the focus is."""
        pressed = [{"type": kind, "value": key} for key in text for kind in ("keyDown", "keyUp")]
        self._do("POST", "/actions", actions=[{"type": "key", "id": "keyboard", "actions": pressed}])

    def press(self, selector: str) -> None:
        self._do("POST", f"{self.find(selector)}/click")

    def wait(self, condition: Callable[[], bool]) -> None:
        """Until a condition holds, whatever pages come between."""
        end = time.monotonic() + 20
        while time.monotonic() < end:
            try:
                if condition():
                    return
            except MovedOnError:
                pass
            time.sleep(0.05)
        raise AssertionError((self.title, self.text()))

    def until(self, title: str) -> None:
        """Waits for a page with this title."""
        self.wait(lambda: self.title == title)
