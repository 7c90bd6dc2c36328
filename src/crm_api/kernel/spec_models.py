"""Schemas of what the kernel itself sends, beside the records: problems, pages, counts, transitions, aggregates."""

from typing import Annotated, Literal

from pydantic import Field

from crm_api.kernel.schema import Id, Redacted, Wire

Token = Annotated[str, Field(max_length=130)]
Sentence = Annotated[str, Field(max_length=2000)]
MOST_BLOCKS = 100


class ProblemError(Wire):
    """One cause inside a problem; at most one of pointer, parameter, header says where it is."""

    code: Annotated[Token, Field(description="Stable code of the cause.")]
    detail: Sentence
    pointer: Annotated[str, Field(max_length=2000, description="RFC 6901 pointer into the body.")] = ""
    parameter: Annotated[str, Field(max_length=8192, description="Name of the query parameter.")] = ""
    header: Annotated[Token, Field(description="Name of the header.")] = ""


class DuplicateCandidate(Wire):
    """A record that may mean the same as the new one."""

    id: Id
    score: Annotated[int, Field(ge=1, le=100)]
    rules: Annotated[tuple[Token, ...], Field(max_length=20, description="What matched.")]


class Problem(Wire):
    """RFC 9457 problem details; every error is one. More members may be added."""

    type: Annotated[str, Field(max_length=200, description="Leads to the description of the code.")]
    title: Annotated[str, Field(max_length=200)]
    status: Annotated[int, Field(ge=300, le=599)]
    detail: Sentence
    instance: Annotated[str, Field(max_length=8192, description="The path of the request.")]
    code: Annotated[str, Field(max_length=63, description="Stable code; see /problems.", examples=["not_found"])]
    request_id: Annotated[str, Field(max_length=64)]
    retryable: Annotated[bool, Field(description="Whether the same request may succeed later.")]
    errors: Annotated[list[ProblemError], Field(max_length=100_000)]
    permission: Annotated[Token, Field(description="With 403: what is missing.")] = ""
    state: Annotated[str, Field(max_length=63, description="With transition_refused: the present state.")] = ""
    allowed_from: Annotated[
        tuple[Token, ...], Field(max_length=100, description="With transition_refused: states the verb starts from.")
    ] = ()
    index: Annotated[
        int, Field(ge=0, le=199, description="With a batch that was refused: the item that was, counted from 0.")
    ] = 0
    source: Annotated[str, Field(max_length=63, description="With field_owned: the source that owns the field.")] = ""
    candidates: Annotated[
        tuple[DuplicateCandidate, ...],
        Field(max_length=5, description="With duplicate_suspected: records that are there, the most likely first."),
    ] = ()
    violated_policies: Annotated[
        tuple[Token, ...], Field(max_length=10, description="With rate_limited: by which limits.")
    ] = ()
    merged_into: Annotated[str, Field(max_length=36, description="The record that took this one in.")] = ""
    current_version: Annotated[
        int, Field(ge=1, le=9_007_199_254_740_991, description="With 412: the version there is now.")
    ] = 1
    changed: Annotated[
        tuple[Token, ...], Field(max_length=1000, description="With 412: fields changed since the version sent.")
    ] = ()


class RowCount(Wire):
    """How many rows match, under the caller's row policy; exact when the relation is `eq`."""

    value: Annotated[int, Field(ge=0, le=10_000)]
    relation: Literal["eq", "gte"]


class TransitionBlock(Wire):
    """A reason why an action is not possible now."""

    code: Annotated[
        Token,
        Field(
            description="`state`, `permission`, or what the verb itself would be refused with; new ones may be added.",
            json_schema_extra={"x-extensible-enum": ["state", "permission"]},
        ),
    ]
    detail: Sentence
    pointer: Annotated[
        str, Field(max_length=2000, description="RFC 6901 pointer to what the body of the verb may bring.")
    ] = ""


class Transition(Wire):
    """An action that moves the record's state: whether the caller may take it now, and what stands in its way.

    What a body can bring counts as missing; the `pointer` of a reason says where it goes.
    """

    action: Token
    to: Annotated[str, Field(max_length=63, description="The state it leads to.")]
    otherwise: Annotated[
        list[Annotated[str, Field(max_length=63)]],
        Field(max_length=10, description="States that it leads to instead when more is needed."),
    ]
    allowed: bool
    blocked_by: Annotated[list[TransitionBlock], Field(max_length=MOST_BLOCKS)]


class TransitionList(Wire):
    """Every action of the record's state graph."""

    data: Annotated[list[Transition], Field(max_length=100)]


_Scalar = Annotated[str, Field(max_length=10_000)]


class AggregateRow(Wire):
    """One group: the values it stands for, and its figures in the order asked; amounts are decimal strings."""

    group: dict[str, _Scalar | int | bool | None]
    measures: Annotated[list[_Scalar | int | float | None], Field(max_length=10)]


class AggregateResult(Wire):
    """The groups; `has_more` when there are more than the limit."""

    data: Annotated[list[AggregateRow], Field(max_length=1000)]
    has_more: bool


class Health(Wire):
    """Whether the process can answer."""

    status: Literal["ok", "unavailable"]


REPLIES: tuple[type[Wire], ...] = (Problem, RowCount, TransitionList, AggregateResult, Health, Redacted)
