"""Imports as a person does them: settings, file, validation, application, the way back."""

import csv
import io
from typing import Any

from tests.support.jobs import wait


def begin(person: Any, content: bytes | str, **settings: Any) -> dict[str, Any]:
    """Makes an import and sends its file; fails the test unless both are taken."""
    answer = person.post("/v1/imports", json={"name": "Import", **settings})
    assert answer.status_code == 201, answer.text
    return send(person, answer.json(), content)


def send(person: Any, made: dict[str, Any], content: bytes | str) -> dict[str, Any]:
    content = content.encode() if isinstance(content, str) else content
    answer = person.put(f"/v1/imports/{made['id']}/content", content=content)
    assert answer.status_code == 200, answer.text
    assert answer.json()["state"] == "uploaded"
    return answer.json()


def run(person: Any, made: dict[str, Any], verb: str) -> dict[str, Any]:
    """Starts a verb and waits for its job; the import as it is then."""
    answer = person.post(f"/v1/imports/{made['id']}/{verb}")
    assert answer.status_code == 202, answer.text
    job = wait(person, answer.json(), seconds=60)
    assert job["state"] == "succeeded", job
    return person.get(f"/v1/imports/{made['id']}").json()


def rows(person: Any, made: dict[str, Any], **query: Any) -> list[dict[str, Any]]:
    """All rows, through the pages."""
    found, cursor = [], None
    while True:
        answer = person.get(
            f"/v1/imports/{made['id']}/rows", params={**query, **({"cursor": cursor} if cursor else {})}
        )
        assert answer.status_code == 200, answer.text
        page = answer.json()
        found += page["data"]
        if not page["has_more"]:
            return found
        cursor = page["next_cursor"]


def done(person: Any, content: bytes | str, **settings: Any) -> dict[str, Any]:
    """A whole import."""
    made = begin(person, content, **settings)
    run(person, made, "validate")
    return run(person, made, "apply")


def table(lines: list[dict[str, Any]]) -> str:
    """CSV of rows with the same keys."""
    text = io.StringIO()
    writer = csv.DictWriter(text, [*lines[0]])
    writer.writeheader()
    writer.writerows(lines)
    return text.getvalue()
