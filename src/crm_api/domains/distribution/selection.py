"""Which records a verb in bulk is about, and what came of it: the parts that all of them share."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import orjson
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from crm_api.kernel.collective_rows import Found
from crm_api.kernel.problems import Problem
from crm_api.kernel.schema import Code, Id, Line, Ref, Wire

MOST_IDS = 1_000
"""Ids of one request: they stand in the job, which is shown as a whole. A filter has no such limit."""
LONGEST_FILTER = 40_000
"""Bytes of a filter as JSON; it stands in the job, too."""
MOST_REFUSED = 100
MOST_MOVES = 500
MOST_SAMPLES = 5
_Number = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class Selection(Wire):
    """The records: those that a filter finds among what the caller may read, or a list of ids."""

    filter: Annotated[dict[str, Any] | None, Field(description="A filter tree, as for search.")] = None
    ids: Annotated[list[Ref], Field(min_length=1, max_length=MOST_IDS)] | None = None

    @model_validator(mode="after")
    def _one_way(self) -> "Selection":
        if (self.filter is None) == (self.ids is None):
            raise PydanticCustomError("selection", "Give either a filter or ids.")
        if self.filter is not None and len(orjson.dumps(self.filter)) > LONGEST_FILTER:
            raise PydanticCustomError("too_long", "A filter has at most 40000 bytes.")
        return self


class SkippedCount(Wire):
    """Records that were left as they are, for one reason."""

    code: Code
    number: _Number


class Refusal(Wire):
    """A record that the caller named or that the filter found, and why nothing is done to it."""

    object: Code
    id: Ref
    code: Annotated[
        Code,
        Field(
            description="`not_found`, `forbidden` with the permission that is missing, `field_owned`, or what an edit "
            "of this record alone would be refused with."
        ),
    ]
    permission: Annotated[str, Field(max_length=130)] | None
    detail: Annotated[Line | None, Field(description="What an edit of the record is refused with, in words.")]


class GivenCount(Wire):
    """How many records one user gets, those that were theirs before included."""

    user_id: Id
    number: _Number
    load: Annotated[
        _Number | None, Field(description="With `by` load: open records at the start, and what was dealt since.")
    ]


class Matched(Wire):
    """How many records match; `gte` when there are more than could be counted."""

    value: _Number
    relation: Literal["eq", "gte"]


class EditSample(Wire):
    """A record that an edit would change: the fields that would be different, as they are and as they would be."""

    id: Id
    before: dict[str, Any]
    after: dict[str, Any]


class BulkPreview(Wire):
    """What a job would do, had it run just now, to the first records that match."""

    object: Literal["bulk_preview"]
    matched: Matched
    examined: Annotated[_Number, Field(description="Records that the other figures are about, at most 10000.")]
    done: Annotated[_Number, Field(description="Records, or shares that would be ended.")]
    skipped: Annotated[list[SkippedCount], Field(max_length=20)]
    refused: Annotated[list[Refusal], Field(max_length=MOST_REFUSED, description="The first ones.")]
    users: Annotated[list[GivenCount], Field(max_length=200)]
    children: Annotated[_Number, Field(description="Records that would move with their parents.")]
    samples: Annotated[list[EditSample], Field(max_length=10, description="Of an edit, the first ones.")]


class Move(Wire):
    """Records that go from one territory to another, with the first of them."""

    from_territory_id: Annotated[Id | None, Field(description="Null: out of none.")]
    to_territory_id: Annotated[Id | None, Field(description="Null: into none.")]
    number: _Number
    samples: Annotated[list[Id], Field(max_length=MOST_SAMPLES)]


@dataclass
class Tally:
    """What was done so far: it is kept with the job from step to step.

    Attributes:
        done: records that changed, or shares that ended.
        skipped: by code, records that were left as they are.
        refused: the first of those that were not permitted.
        users: user -> records dealt to them.
        children: records that moved with their parents.
        moves: those that go from one territory to another.
        samples: what an edit would do to the first records.
    """

    done: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    users: dict[str, int] = field(default_factory=dict)
    children: int = 0
    moves: list[dict[str, Any]] = field(default_factory=list)
    samples: list[dict[str, Any]] = field(default_factory=list)

    @classmethod
    def of(cls, kept: Mapping[str, Any] | None) -> "Tally":
        """As it was kept; its own copy, so that a step which is undone leaves no trace."""
        return cls(**orjson.loads(orjson.dumps(kept))) if kept else cls()

    def skip(self, code: str, number: int = 1) -> None:
        """Counts records that are left as they are."""
        if number:
            self.skipped[code] = self.skipped.get(code, 0) + number

    def refuse(
        self, object_: str, id_: str, code: str, permission: str | None = None, detail: str | None = None
    ) -> None:
        """Counts a record that the caller may not change, and notes it while there is room."""
        self.skip(code)
        if len(self.refused) < MOST_REFUSED:
            told = {"object": object_, "id": id_, "code": code, "permission": permission, "detail": detail}
            self.refused.append(told)

    def fail(self, object_: str, id_: str, problem: Problem) -> None:
        """Counts a record whose write was refused, with the first cause."""
        fault = problem.errors[0] if problem.errors else None
        code, detail = (fault.code, fault.detail) if fault else (problem.kind.code, problem.detail)
        self.refuse(object_, id_, code, problem.extra.get("permission"), detail[:500])

    def give(self, user: str, number: int = 1) -> None:
        """Counts records for a user."""
        self.users[user] = self.users.get(user, 0) + number

    def move(self, old: str | None, new: str | None, id_: str) -> None:
        """Counts a record that goes from one territory to another, while there is room for the two."""
        pair = {"from_territory_id": old, "to_territory_id": new}
        found = next((item for item in self.moves if item.items() >= pair.items()), None)
        if found is None and len(self.moves) < MOST_MOVES:
            self.moves.append(found := {**pair, "number": 0, "samples": []})
        if found is not None:
            found["number"] += 1
            found["samples"] += [id_] if len(found["samples"]) < MOST_SAMPLES else []

    def told(self, loads: Mapping[str, int] | None = None, *, moves: bool = False) -> dict[str, Any]:
        """As a result or preview says it."""
        return {
            **({"moves": self.moves} if moves else {}),
            "done": self.done,
            "skipped": [{"code": code, "number": number} for code, number in sorted(self.skipped.items())],
            "refused": self.refused,
            "users": [
                {"user_id": user, "number": number, "load": None if loads is None else loads.get(user)}
                for user, number in self.users.items()
            ],
            "children": self.children,
        }


def permitted(plural: str, singular: str, row: Found, name: str, tally: Tally, *, owner: bool) -> bool:
    """Whether a row may be changed; otherwise it is counted as refused.

    Args:
        plural: the resource, for the permission that is missing.
        singular: the resource, as events call it.
        row: what was found.
        name: how the caller named it.
        tally: where to count.
        owner: its owner is to change.
    """
    if row.missing is not None:
        tally.refuse(singular, name, "forbidden", f"{plural}:{row.missing}")
    elif owner and row.owned:
        tally.refuse(singular, name, "field_owned")
    else:
        return True
    return False
