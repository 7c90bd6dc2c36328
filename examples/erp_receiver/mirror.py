"""The mirror: what the CRM holds, as far as we may see it, in one SQLite file.

What arrives is applied in one transaction with the id under which it came, so nothing is applied twice, and nothing is
taken note of without being applied. A version orders everything that is told of a record:

- an event is applied if its version is greater than the one at hand, deletions too;
- a row that we read is applied if its version is not less: it may be open to us again, or show more than it did.

A deleted record stays as a tombstone, so that an older event cannot bring it back.
"""

import json
import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

SCHEMA = """
CREATE TABLE IF NOT EXISTS records (
  type TEXT, id TEXT, version INTEGER NOT NULL, state TEXT NOT NULL, account_id TEXT, contact_id TEXT, data TEXT,
  PRIMARY KEY (type, id)
);
CREATE INDEX IF NOT EXISTS records_of_account ON records (account_id);
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at REAL NOT NULL);
CREATE TABLE IF NOT EXISTS looks (number INTEGER PRIMARY KEY AUTOINCREMENT, type TEXT NOT NULL, id TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS writes (
  number INTEGER PRIMARY KEY AUTOINCREMENT, key TEXT NOT NULL UNIQUE, type TEXT NOT NULL, id TEXT NOT NULL,
  verb TEXT NOT NULL, body TEXT NOT NULL, refused TEXT
);
CREATE TABLE IF NOT EXISTS place (one INTEGER PRIMARY KEY CHECK (one = 1), cursor TEXT NOT NULL);
"""
MIRRORED = ("account", "contact", "account_contact", "order")
"""Links between accounts and contacts are held as well: who may see an account may see the contacts linked to it."""
EVERYTHING = "*"
"""As the type of a look: all lists are to be compared."""
SEEN_SECONDS = 14 * 86_400
"""How long ids are kept; the CRM tries for about four days."""
Row = Mapping[str, Any]
_PUT = """
INSERT INTO records VALUES (:type, :id, :version, :state, :account_id, :contact_id, :data)
ON CONFLICT DO UPDATE SET version = :version, state = :state, account_id = :account_id, contact_id = :contact_id,
  data = :data
WHERE :version > version OR (:read AND :version = version)
"""


class Mirror:
    """The file, or `:memory:`; may be used by several threads."""

    def __init__(self, path: str) -> None:
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._db.executescript("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;" + SCHEMA)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._lock:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def _rows(self, sql: str, *values: Any) -> list[tuple[Any, ...]]:
        with self._lock:
            return self._db.execute(sql, values).fetchall()

    def receive(self, event: Row) -> bool:
        """Applies an event of a webhook; whether it was new."""
        with self._transaction():
            return self._receive(event)

    def follow(self, events: Iterable[Row], cursor: str) -> None:
        """Applies a page of the feed, and keeps where it ended."""
        with self._transaction():
            for event in events:
                self._receive(event)
            self._move(cursor)

    def _receive(self, event: Row) -> bool:
        values = (event["id"], time.time())
        fresh = self._db.execute("INSERT INTO seen VALUES (?, ?) ON CONFLICT DO NOTHING", values).rowcount == 1
        if fresh:
            self._apply(event)
        return fresh

    def _apply(self, event: Row) -> None:
        type_, past = event["type"].split(".")
        id_, version, data = event["object"]["id"], event["object"]["version"], event["data"]
        if event["type"] == "access.changed":
            self._look(EVERYTHING, "")
        if type_ not in MIRRORED:
            return
        if past == "access_changed":
            if event["access"] == "lost":
                self._forget(type_, id_)
            self._look(type_, id_)
        elif past == "deleted":
            self._put(type_, id_, version, "deleted", data)
        elif data is not None:
            self._put(type_, id_, version, "live", data)
        if data is None or past == "restored" or (type_, past) == ("account", "deleted"):
            self._look(type_, id_)
        if type_ == "account_contact":  # it opens or closes the contact, which has no event of its own for that
            contacts = {row["contact_id"] for row in (data, event["previous"]) if row and row.get("contact_id")}
            for contact in sorted(contacts):
                self._look("contact", contact)

    def _put(self, type_: str, id_: str, version: int, state: str, data: Row | None, *, read: bool = False) -> None:
        values = {"type": type_, "id": id_, "version": version, "state": state, "read": read}
        parents = {name: (data or {}).get(name) for name in ("account_id", "contact_id")}
        text = json.dumps(data) if state == "live" else None
        self._db.execute(_PUT, {**values, **parents, "data": text})

    def _look(self, type_: str, id_: str) -> None:
        self._db.execute("INSERT INTO looks (type, id) VALUES (?, ?)", (type_, id_))

    def _forget(self, type_: str, id_: str) -> None:
        """Drops what is held of a record and of what belongs to it; a look then restores what is open all the same."""
        sql = "UPDATE records SET state = 'forgotten', data = NULL WHERE state = 'live' AND "
        self._db.execute(sql + "type = ? AND id = ?", (type_, id_))
        if type_ == "account":
            self._db.execute(sql + "account_id = ?", (id_,))

    def _move(self, cursor: str) -> None:
        self._db.execute(
            "INSERT INTO place VALUES (1, ?) ON CONFLICT DO UPDATE SET cursor = excluded.cursor", (cursor,)
        )

    def read(self, type_: str, rows: Iterable[Row]) -> None:
        """Applies records as the API shows them."""
        with self._transaction():
            for row in rows:
                self._put(type_, row["id"], row["version"], "live", row, read=True)

    def gone(self, type_: str, id_: str, version: int) -> None:
        """Notes that the API does not show a record, unless something newer than `version` was heard of it since."""
        with self._transaction():
            self._db.execute(
                "UPDATE records SET state = 'forgotten', data = NULL WHERE type = ? AND id = ? AND version = ? "
                "AND state = 'live'",
                (type_, id_, version),
            )

    def version(self, type_: str, id_: str) -> int:
        """The version at hand, 0 for none."""
        found = self._rows("SELECT version FROM records WHERE type = ? AND id = ?", type_, id_)
        return int(found[0][0]) if found else 0

    def get(self, type_: str, id_: str) -> dict[str, Any] | None:
        """A record, if it is there."""
        found = self._rows("SELECT data FROM records WHERE type = ? AND id = ? AND state = 'live'", type_, id_)
        return json.loads(found[0][0]) if found else None

    def all(self, type_: str) -> dict[str, dict[str, Any]]:
        """Every record of a type by its id."""
        found = self._rows("SELECT id, data FROM records WHERE type = ? AND state = 'live'", type_)
        return {id_: json.loads(data) for id_, data in found}

    def live(self) -> set[tuple[str, str]]:
        """Type and id of every record."""
        return {(type_, id_) for type_, id_ in self._rows("SELECT type, id FROM records WHERE state = 'live'")}

    def children(self, account: str) -> set[tuple[str, str]]:
        """Type and id of what belongs to an account, and of the contacts linked to it, those forgotten with it too."""
        own = self._rows(
            "SELECT type, id, contact_id FROM records WHERE account_id = ? AND state <> 'deleted'", account
        )
        linked = {("contact", contact) for type_, _, contact in own if type_ == "account_contact"}
        return {(type_, id_) for type_, id_, _ in own} | linked

    def contact_of(self, link: str) -> str | None:
        """The contact of a link, a forgotten one too."""
        found = self._rows("SELECT contact_id FROM records WHERE type = 'account_contact' AND id = ?", link)
        return found[0][0] if found else None

    @property
    def cursor(self) -> str | None:
        """Up to where the feed was followed; None to begin with the lists."""
        found = self._rows("SELECT cursor FROM place")
        return str(found[0][0]) if found else None

    def begin_at(self, cursor: str) -> None:
        """Keeps the place in the feed to go on from."""
        with self._transaction():
            self._move(cursor)

    def begin_again(self, *, restored: bool) -> None:
        """Drops the place in the feed. After a restoration versions may be lower than ours: any is newer then."""
        with self._transaction():
            self._db.execute("DELETE FROM place")
            if restored:
                self._db.execute("UPDATE records SET version = 0")

    def looks(self) -> list[tuple[int, str, str]]:
        """What is to be read from the API: number, type and id."""
        return [(number, type_, id_) for number, type_, id_ in self._rows("SELECT * FROM looks ORDER BY number")]

    def looked(self, number: int) -> None:
        """A look that was done, with all for the same that were asked for before it."""
        with self._transaction():
            self._db.execute(
                "DELETE FROM looks WHERE number <= ?1 AND (type, id) = (SELECT type, id FROM looks WHERE number = ?1)",
                (number,),
            )

    def intend(self, key: str, type_: str, id_: str, values: Row, verb: str = "") -> None:
        """Keeps a change that we want of a record in the CRM, or a verb; `key` is its own for ever."""
        with self._transaction():
            write = (key, type_, id_, verb, json.dumps(values))
            self._db.execute("INSERT INTO writes (key, type, id, verb, body) VALUES (?, ?, ?, ?, ?)", write)

    def writes(self) -> list[tuple[str, str, str, str, dict[str, Any]]]:
        """Changes that the CRM has not answered yet, in their order."""
        found = self._rows("SELECT key, type, id, verb, body FROM writes WHERE refused IS NULL ORDER BY number")
        return [(*write, json.loads(body)) for *write, body in found]

    def written(self, key: str, type_: str, row: Row) -> None:
        """The CRM has made a change; its events are not sent to who made it, so the answer is what we learn from."""
        with self._transaction():
            self._db.execute("DELETE FROM writes WHERE key = ?", (key,))
            self._put(type_, row["id"], row["version"], "live", row, read=True)

    def refused(self, key: str, problem: str) -> None:
        """The CRM will not make a change; it stays with the reason, for a person."""
        with self._transaction():
            self._db.execute("UPDATE writes SET refused = ? WHERE key = ?", (problem, key))

    def refusals(self) -> dict[str, str]:
        """Keys of refused changes with the reason."""
        return dict(self._rows("SELECT key, refused FROM writes WHERE refused IS NOT NULL"))

    def tidy(self) -> None:
        """Drops ids that nothing will come under any more."""
        with self._transaction():
            self._db.execute("DELETE FROM seen WHERE at < ?", (time.time() - SEEN_SECONDS,))
