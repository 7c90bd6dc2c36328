"""Followers of the change feed."""

from typing import Any

import pytest

from crm_api.kernel import feed


class Follower:
    """Reads the feed as one person, from where it last was; `sequence` runs first, as the worker would."""

    def __init__(self, server: Any, person: Any) -> None:
        self.server, self.person = server, person
        self.skip()

    def skip(self) -> None:
        """Goes to the present end."""
        self.sequence()
        self.cursor = self.person.get("/v1/changes/cursor").json()["cursor"]

    def sequence(self) -> None:
        while any(self.server.run(feed.sequence(self.server.kernel))):
            pass

    def read(self, **params: Any) -> list[dict[str, Any]]:
        """Every event since."""
        self.sequence()
        found: list[dict[str, Any]] = []
        while True:
            answer = self.person.get("/v1/changes", params={"since": self.cursor, **params})
            assert answer.status_code == 200, answer.text
            page = answer.json()
            found += page["data"]
            self.cursor = page["next_cursor"]
            if not page["has_more"]:
                return found

    def types(self, **params: Any) -> list[str]:
        return [event["type"] for event in self.read(**params)]


@pytest.fixture
def follow(server):
    """`follow(person)` follows from now on."""
    return lambda person: Follower(server, person)
