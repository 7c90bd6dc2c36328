"""Every way a request can fail, as RFC 9457 problem details; maps driver errors once."""

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any, Self

import asyncpg
import orjson
from pydantic import ValidationError

PROBLEM_JSON = "application/problem+json"


class ConfigurationError(Exception):
    """The process cannot start; the text says what to change."""


class AccessMoved(Exception):  # noqa: N818 - not an error: the request is read and run again under the new rights
    """Rights changed between what the process remembered and the statement; nothing was done.

    When it leaves the kernel, the rights were read again, at least as of the version `at_least`.
    """

    def __init__(self, at_least: int) -> None:
        super().__init__(at_least)
        self.at_least = at_least


@dataclass(frozen=True, slots=True)
class Kind:
    """One catalogued problem: `code` is stable and public."""

    code: str
    status: int
    title: str
    retryable: bool = False


CATALOGUE: dict[str, Kind] = {}


def _kind(code: str, status: int, title: str, *, retryable: bool = False) -> Kind:
    CATALOGUE[code] = Kind(code, status, title, retryable)
    return CATALOGUE[code]


MALFORMED_JSON = _kind("malformed_json", 400, "The body is not the JSON that was promised")
INVALID_CURSOR = _kind("invalid_cursor", 400, "The cursor was altered or belongs to another query or caller")
INVALID_HEADER = _kind("invalid_header", 400, "A header has an impossible value")
UNAUTHENTICATED = _kind("unauthenticated", 401, "The credential is missing, wrong, expired or revoked")
FORBIDDEN = _kind("forbidden", 403, "The caller lacks a permission")
FIELD_READ_ONLY = _kind("field_read_only", 403, "The caller may not change this field")
NOT_FOUND = _kind("not_found", 404, "There is no such thing, or none the caller may see")
METHOD_NOT_ALLOWED = _kind("method_not_allowed", 405, "This path does not take this method")
CONFLICT = _kind("conflict", 409, "The request contradicts the present state")
DUPLICATE = _kind("duplicate", 409, "A live record already holds this unique value")
EXTERNAL_ID_TAKEN = _kind("external_id_taken", 409, "Another live record holds this external id")
FIELD_OWNED = _kind("field_owned", 409, "Another system owns the field of this record")
IN_USE = _kind("in_use", 409, "Other records still refer to this one")
TRANSITION_REFUSED = _kind("transition_refused", 409, "The record's state does not allow this")
CYCLE = _kind("cycle", 409, "The record would become its own ancestor")
LIMIT_REACHED = _kind("limit_reached", 409, "There may be no more of these")
IDEMPOTENCY_IN_FLIGHT = _kind("idempotency_in_flight", 409, "The first request is still running", retryable=True)
LOCKED = _kind("locked", 409, "Another request holds the record", retryable=True)
FEED_RESTARTED = _kind("feed_restarted", 409, "The feed began anew since the cursor was given; start from a snapshot")
CURSOR_EXPIRED = _kind("cursor_expired", 410, "The feed does not reach back to the cursor; start from a snapshot")
DEPENDENCY_FAILED = _kind("dependency_failed", 424, "What this refers to in its batch failed")
VERSION_MISMATCH = _kind("version_mismatch", 412, "The record was changed since it was read")
TOO_LARGE = _kind("body_too_large", 413, "The body is larger than allowed")
URI_TOO_LONG = _kind("uri_too_long", 414, "The path and query are longer than allowed")
UNSUPPORTED_MEDIA = _kind("unsupported_media_type", 415, "The body's content type is not taken here")
INVALID = _kind("invalid", 422, "The request is well-formed but wrong")
QUERY_TOO_BROAD = _kind("query_too_broad", 422, "The query matches too much; narrow it")
IDEMPOTENCY_MISMATCH = _kind("idempotency_mismatch", 422, "This Idempotency-Key was used for another request")
PRECONDITION_REQUIRED = _kind("precondition_required", 428, "This write needs If-Match")
RATE_LIMITED = _kind("rate_limited", 429, "The caller asks too often; wait as long as Retry-After says", retryable=True)
INTERNAL = _kind("internal", 500, "The server failed; the request id finds the cause in its log")
UNAVAILABLE = _kind("unavailable", 503, "The server cannot answer now", retryable=True)
TIMEOUT = _kind("timeout", 503, "The query took longer than allowed", retryable=True)


@dataclass(slots=True)
class Fault:
    """One cause inside a problem; exactly one of pointer (RFC 6901), parameter, header is set."""

    code: str
    detail: str
    pointer: str | None = None
    parameter: str | None = None
    header: str | None = None

    def wire(self) -> dict[str, str]:
        """As it is sent, without what is unset."""
        names = ("pointer", "parameter", "header", "code", "detail")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


@dataclass(eq=False)
class Problem(Exception):  # noqa: N818 - the standard's word for it
    """Ends a request with a problem document; `placed` when its pointers are into the whole body of a batch."""

    kind: Kind
    detail: str
    errors: list[Fault] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=dict)
    extra: dict[str, Any] = field(default_factory=dict)
    placed: bool = False

    @property
    def of_rights(self) -> bool:
        """Whether it may rest on rights and custom fields as they were remembered."""
        unknown = self.kind.status == 422 and any(fault.code.startswith("unknown_") for fault in self.errors)
        return self.kind.status == 403 or unknown

    def document(self, instance: str, request_id: str) -> dict[str, Any]:
        """The document of a request's path and id."""
        return {
            "type": f"/problems/{self.kind.code}",
            "title": self.kind.title,
            "status": self.kind.status,
            "detail": self.detail,
            "instance": instance,
            "code": self.kind.code,
            "request_id": request_id,
            "retryable": self.kind.retryable,
            "errors": [fault.wire() for fault in self.errors],
            **self.extra,
        }

    def body(self, instance: str, request_id: str) -> bytes:
        """The document as JSON."""
        return orjson.dumps(self.document(instance, request_id))

    def located(self, place: str, index: int | None = None) -> "Problem":
        """The same problem of one item of a batch; with its index when it ends the whole.

        Args:
            place: pointer to the item; the faults of the problem point into its body.
            index: which item it is, from 0.
        """
        faults = self.errors
        if not self.placed:
            faults = [_located(fault, place) for fault in faults]
        if not faults:
            faults = [Fault(self.kind.code, self.detail, pointer=place)]
        extra = self.extra if index is None else {**self.extra, "index": index}
        return Problem(self.kind, self.detail, faults, self.headers, extra, placed=True)

    def image(self) -> dict[str, Any]:
        """What is kept of it under an idempotency key: all but headers, path and request id."""
        faults = [fault.wire() for fault in self.errors]
        return {"code": self.kind.code, "detail": self.detail, "errors": faults, "extra": self.extra}

    @classmethod
    def from_image(cls, image: dict[str, Any]) -> Self:
        """The problem that was kept."""
        faults = [Fault(**fault) for fault in image["errors"]]
        return cls(CATALOGUE[image["code"]], image["detail"], faults, extra=image["extra"])


def _located(fault: Fault, place: str) -> Fault:
    """A fault of a request as one of an item in a batch, where parameters are members of the item."""
    inside = f"/{fault.parameter}" if fault.parameter else f"/body{fault.pointer or ''}"
    return Fault(fault.code, fault.detail, pointer=f"{place}{inside}")


def not_found(noun: str = "record") -> Problem:
    """The one answer for what is absent, deleted, hidden or another tenant's."""
    return Problem(NOT_FOUND, f"There is no such {noun}.")


def no_path() -> Problem:
    """404 for an address that no caller has."""
    return Problem(NOT_FOUND, "There is no such path; /docs shows those there are.")


def forbidden(permission: str) -> Problem:
    """403 that names what is missing: a permission, `scope` and a scope, or `field` and a field that is hidden."""
    words = {"scope": "the", "field": "sight of the"}.get(permission.partition(" ")[0], "the permission")
    return Problem(FORBIDDEN, f"This needs {words} {permission}.", extra={"permission": permission})


def invalid(pointer: str, code: str, detail: str) -> Problem:
    """422 for one place in the body."""
    return Problem(INVALID, detail, [Fault(code, detail, pointer=pointer)])


def invalid_parameter(name: str, code: str, detail: str) -> Problem:
    """422 for one query parameter."""
    return Problem(INVALID, detail, [Fault(code, detail, parameter=name)])


def wrong(faults: list[Fault]) -> Problem:
    """422 for the faults of a request; one alone is told in `detail` too, with its place."""
    alone = f"{faults[0].pointer or faults[0].parameter or 'the body'}: {faults[0].detail}"
    return Problem(INVALID, alone if len(faults) == 1 else f"{len(faults)} values are wrong; see errors.", faults)


def meant(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: the known one that it resembles, if there is one."""
    return "".join(f" Did you mean {close}?" for close in get_close_matches(name, known, 1))


def unavailable(detail: str) -> Problem:
    """503 with a time to come back."""
    return Problem(UNAVAILABLE, detail, headers={"Retry-After": "1"})


_MOST_FAULTS = 100
_LONGEST_STEP = 200
_CODES = {"extra_forbidden": "unknown_field", "missing": "required"}


def from_validation(error: ValidationError, read_only: Collection[str] = (), known: Collection[str] = ()) -> Problem:
    """422 with a pointer for each fault; values are not echoed. `known` are the fields that there are."""
    faults: list[Fault] = []
    for item in error.errors(include_url=False, include_context=False, include_input=False)[:_MOST_FAULTS]:
        place = [str(part)[:_LONGEST_STEP].replace("~", "~0").replace("/", "~1") for part in item["loc"]]
        code = _CODES.get(item["type"], item["type"])
        detail = item["msg"]
        if code == "unknown_field" and len(place) == 1 and place[0] in read_only:
            code, detail = "read_only_field", "This is not set here: the server, a verb or the creation sets it."
        elif code == "unknown_field":
            detail = "There is no such field." + (meant(place[0], known) if len(place) == 1 and len(faults) < 5 else "")
        faults.append(Fault(code, detail, pointer="/" + "/".join(place) if place else ""))
    return wrong(faults)


_BAD_VALUE = {
    "22021": "contains a character that text cannot hold",
    "22P05": "contains a character that text cannot hold",
    "22003": "is out of range",
    "22008": "is out of range",
    "22P02": "is malformed",
    "22025": "is malformed",
    "2201B": "is malformed",
    "54000": "is too long",
    "54001": "is too complex",
}
_SHARD = re.compile(r"_[0-9]+$")


def from_database(error: BaseException, columns_of: dict[str, tuple[str, ...]]) -> Problem | None:
    """The problem for a driver or database error; None when it is a fault of ours.

    Args:
        error: what the driver raised.
        columns_of: constraint name to the wire fields it spans (without tenant_id).
    """
    state = getattr(error, "sqlstate", None)
    if not isinstance(error, asyncpg.PostgresError) or not state:
        lost = (asyncpg.InterfaceError, asyncpg.InternalClientError, ConnectionError, OSError, TimeoutError)
        return unavailable("The database cannot be reached.") if isinstance(error, lost) else None
    if state in _BAD_VALUE or isinstance(error, asyncpg.DataError):  # 22000 is the driver's, before anything is sent
        detail = f"A value {_BAD_VALUE.get(state, 'is out of range')}."
        return Problem(INVALID, detail, [Fault("bad_value", detail)])
    if state.startswith("23"):
        return _from_constraint(state, error, columns_of)
    if state in ("55P03", "40001", "40P01"):
        why = "Another request holds the record" if state == "55P03" else "Too many requests change the record"
        return Problem(LOCKED, f"{why}; try again.", headers={"Retry-After": "1"})
    if state == "57014":
        return Problem(TIMEOUT, "The query took longer than allowed.", headers={"Retry-After": "1"})
    if state in ("53100", "53200", "53300", "25P03", "25P04") or state[:2] in ("08", "57"):
        return unavailable("The database cannot be reached.")
    return None


def _from_constraint(
    state: str, error: asyncpg.PostgresError, columns_of: dict[str, tuple[str, ...]]
) -> Problem | None:
    name = _SHARD.sub("", getattr(error, "constraint_name", None) or "")
    column = getattr(error, "column_name", None)
    columns = columns_of.get(name) or ((column,) if column else ())
    pointers = [f"/{column}" for column in columns] or [""]
    if name == "uq_external_ids_external_id":
        return Problem(EXTERNAL_ID_TAKEN, "Another record took an external id of this one; unlink it there first.")
    if name == "pk_external_ids":
        columns, pointers = ("id",), ["/id"]
    if state == "23505":
        detail = f"Another record already holds this {' and '.join(columns) or 'value'}."
        return Problem(DUPLICATE, detail, [Fault("duplicate", detail, pointer=pointer) for pointer in pointers])
    if state == "23503" and "still referenced" in (getattr(error, "detail", None) or ""):
        return Problem(IN_USE, "Other records still refer to this one.")
    code, detail = (
        ("reference_not_found", "There is no such record.")
        if state == "23503"
        else (name.partition("__")[2] or "constraint", f"The value breaks the rule {name or state}.")
    )
    return Problem(INVALID, detail, [Fault(code, detail, pointer=pointer) for pointer in pointers])
