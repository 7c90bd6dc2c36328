"""Imports: a file of rows that become records. What is asked for, how far it is, and what became of each row."""

import json
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.record import Entity, Record, one_of, reference, sortable
from crm_api.kernel.schema import Code, Id, Input, Name, Output, Wire

STATES = ("created", "uploaded", "validating", "validated", "applying", "applied", "reverting", "reverted")
ROW_STATES = (
    *("create", "update", "skip", "invalid"),
    *("created", "updated", "unchanged", "skipped", "failed"),
    *("reverted", "kept"),
)
"""What is to be done with a row after validation, what was done by applying it, what by reverting it."""
NONE = dict.fromkeys(("rows", *ROW_STATES), 0)
"""The counts of an import without rows."""
MOST_COLUMNS = 500
MOST_MAPPED = 200
ENCODINGS = (
    *("utf-8", "utf-16", "windows-1252", "windows-1250", "windows-1251", "iso-8859-1", "iso-8859-15", "mac-roman"),
    *("shift_jis", "gb18030", "big5", "euc-kr"),
)
_PATH = r"^[a-z][a-z0-9_]{0,62}(\.[a-z0-9][a-z0-9_]{0,62}){0,2}$"
Format = Literal["csv", "xlsx", "ndjson"]
Encoding = Literal[ENCODINGS]  # type: ignore[valid-type]
_Text = Annotated[str, Field(max_length=500)]
_Short = Annotated[str, Field(min_length=1, max_length=200)]


class ColumnMapping(Wire):
    """Which column becomes which field, and how its text is read."""

    column: Annotated[str, Field(min_length=1, max_length=500, description="As it stands in the first row.")]
    field: Annotated[
        str,
        Field(
            pattern=_PATH,
            min_length=1,
            max_length=200,
            examples=["name", "emails.0.address", "external_ids.erp", "custom.grade"],
            description="A field of the create body; parts of objects and lists by name and number.",
        ),
    ]
    by: Annotated[
        Literal["id", "external_id", "field"],
        Field(description="How a reference names the record: its id (or `ext:...`), its external id, a field of it."),
    ] = "id"
    source: Annotated[Code | None, Field(description="With `by` external_id: whose.")] = None
    target: Annotated[Code | None, Field(description="With `by` field: which field of the record.")] = None
    values: Annotated[
        dict[Annotated[str, Field(max_length=500)], _Text | None],
        Field(max_length=1000, description="Texts that stand for others; null for nothing."),
    ] = {}
    take: Annotated[
        Literal["all", "first_word", "other_words"], Field(description="Which part of the text, e.g. of a full name.")
    ] = "all"
    date_format: Annotated[
        str | None,
        Field(
            pattern=r"^[YMDhms./: T-]+$",
            min_length=1,
            max_length=30,
            examples=["DD-MM-YY"],
            description="YYYY, YY, MM, DD, hh, mm and ss; without it dates are ISO 8601.",
        ),
    ] = None
    decimal: Annotated[Literal[".", ","], Field(description="What stands before decimals.")] = "."
    separator: Annotated[str, Field(min_length=1, max_length=3, description="Between the items of a list.")] = ";"

    @model_validator(mode="after")
    def _whole(self) -> "ColumnMapping":
        if (self.by == "external_id") != (self.source is not None):
            raise PydanticCustomError("source", "Give source with by external_id, and only then.")
        if (self.by == "field") != (self.target is not None):
            raise PydanticCustomError("target", "Give target with by field, and only then.")
        return self


class MatchRule(Wire):
    """How a row finds the record that it is about."""

    by: Literal["id", "external_id", "field", "similarity"]
    source: Annotated[Code | None, Field(description="With external_id: whose.")] = None
    field: Annotated[
        str | None,
        Field(
            pattern=r"^(custom\.)?[a-z][a-z0-9_]{0,62}$",
            min_length=1,
            max_length=70,
            description="With field: which, e.g. `tax_id`, `emails` or, of a unique custom field, `custom.serial`.",
        ),
    ] = None
    score: Annotated[
        int | None, Field(ge=1, le=100, description="With similarity: the least score of a duplicate.")
    ] = None

    @model_validator(mode="after")
    def _whole(self) -> "MatchRule":
        wanted = {"external_id": "source", "field": "field", "similarity": "score"}.get(self.by)
        for name in ("source", "field", "score"):
            if (getattr(self, name) is not None) != (name == wanted):
                raise PydanticCustomError("match", f"by {self.by} takes {wanted or 'nothing else'}.")
        return self


class Import(Entity):
    """One file and what is to be done with it."""

    __tablename__ = "imports"
    __table_args__ = (
        one_of("state", STATES),
        one_of("format", ("csv", "xlsx", "ndjson")),
        one_of("mode", ("create", "skip", "update", "upsert")),
        sa.Index("ix_imports_created_by", "tenant_id", "created_by", "created_at", "id"),
        *sortable("imports", "created_at"),
    )

    name: Mapped[str]
    resource: Mapped[str]
    format: Mapped[str]
    encoding: Mapped[str | None]
    delimiter: Mapped[str | None]
    sheet: Mapped[str | None]
    mapping: Mapped[list[Any]]
    match_on: Mapped[list[Any]]
    mode: Mapped[str]
    nulls: Mapped[list[Any]]
    defaults: Mapped[dict[str, Any]]
    allow_duplicates: Mapped[bool]
    rows_per_second: Mapped[int | None]
    state: Mapped[str] = mapped_column(server_default="created")
    job_id: Mapped[UUID | None]
    size: Mapped[int | None]
    sha256: Mapped[str | None]
    storage_key: Mapped[str | None]
    columns: Mapped[list[Any]] = mapped_column(server_default="[]")
    suggestions: Mapped[list[Any]] = mapped_column(server_default="[]")
    sample: Mapped[list[Any]] = mapped_column(server_default="[]")
    counts: Mapped[dict[str, Any]] = mapped_column(server_default=json.dumps(NONE))
    validated: Mapped[str | None]


class ImportRow(Record):
    """One row of the file: what it says, what was done because of it, and what can be undone."""

    __tablename__ = "import_rows"
    __table_args__ = (
        reference("import_id", "imports"),
        sa.Index(
            "ix_import_rows_problems",
            "tenant_id",
            "import_id",
            "row",
            postgresql_where=sa.column("problems").is_not(None),
        ),
        sa.Index(
            "ix_import_rows_key",
            "tenant_id",
            "import_id",
            "key",
            postgresql_where=sa.column("key").is_not(None),
        ),
    )

    import_id: Mapped[UUID] = mapped_column(primary_key=True)
    row: Mapped[int] = mapped_column(primary_key=True)
    state: Mapped[str]
    object_id: Mapped[UUID | None]
    version: Mapped[int | None]
    key: Mapped[str | None]
    data: Mapped[dict[str, Any]]
    before: Mapped[dict[str, Any] | None] = mapped_column(JSONB(none_as_null=True))
    problems: Mapped[list[Any] | None] = mapped_column(JSONB(none_as_null=True))


class ImportCreate(Input):
    """What is to be imported and how; the file comes after it."""

    id: Id | None = None
    name: Name
    resource: Annotated[Code, Field(description="Plural name, e.g. `accounts`.", examples=["accounts"])]
    format: Format = "csv"
    encoding: Annotated[Encoding | None, Field(description="Of a CSV file; found by its content unless told.")] = None
    delimiter: Annotated[Literal[",", ";", "\t", "|"] | None, Field(description="Likewise.")] = None
    sheet: Annotated[_Short | None, Field(description="Of an XLSX file; the first unless told.")] = None
    mapping: Annotated[
        list[ColumnMapping],
        Field(max_length=MOST_MAPPED, description="Empty: what `suggestions` has. Lines of NDJSON need none."),
    ] = []
    match_on: Annotated[
        list[MatchRule], Field(max_length=5, description="Tried in this order; the first that finds a record counts.")
    ] = []
    mode: Annotated[
        Literal["create", "skip", "update", "upsert"],
        Field(
            description="`create`: a row that finds a record is wrong. `skip`: such a row is left out. `update`: only "
            "such rows are taken. `upsert`: they update, others create."
        ),
    ] = "create"
    nulls: Annotated[
        list[Annotated[str, Field(max_length=40)]],
        Field(max_length=20, description="Texts that mean nothing, e.g. `NULL`; an empty cell always does."),
    ] = []
    defaults: Annotated[
        dict[Code, Any], Field(max_length=50, description="Fields of the create body for rows without a value.")
    ] = {}
    allow_duplicates: Annotated[
        bool, Field(description="Create records even where the tenant has such refused that may mean the same.")
    ] = False
    rows_per_second: Annotated[
        int | None, Field(ge=1, le=100_000, description="Not faster than this, to spare others.")
    ] = None


class ImportJob(Wire):
    """The parameters of the jobs of an import."""

    import_id: Id


Number = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]


class ImportCounts(Wire):
    """How many rows there are, and how many of each state."""

    rows: Number
    create: Number
    update: Number
    skip: Number
    invalid: Number
    created: Number
    updated: Number
    unchanged: Number
    skipped: Number
    failed: Number
    reverted: Number
    kept: Number


class ImportView(Output):
    """A file of rows, what is to be done with it, and how far that is."""

    object: Literal["import"]
    name: Name
    resource: Code
    format: Format
    encoding: Encoding | None
    delimiter: Annotated[str, Field(max_length=1)] | None
    sheet: _Short | None
    mapping: Annotated[list[ColumnMapping], Field(max_length=MOST_MAPPED)]
    match_on: Annotated[list[MatchRule], Field(max_length=5)]
    mode: Literal["create", "skip", "update", "upsert"]
    nulls: Annotated[list[Annotated[str, Field(max_length=40)]], Field(max_length=20)]
    defaults: Annotated[dict[Code, Any], Field(max_length=50)]
    allow_duplicates: bool
    rows_per_second: Annotated[int, Field(ge=1, le=100_000)] | None
    state: Literal["created", "uploaded", "validating", "validated", "applying", "applied", "reverting", "reverted"]
    job_id: Annotated[Id | None, Field(description="The job that validates, applies or reverts, or last did.")]
    size: Annotated[Number | None, Field(description="Bytes of the file.")]
    sha256: Annotated[str, Field(min_length=64, max_length=64)] | None
    columns: Annotated[list[_Text], Field(max_length=MOST_COLUMNS, description="Of the file.")]
    suggestions: Annotated[
        list[ColumnMapping], Field(max_length=MOST_MAPPED, description="A mapping that seems to fit.")
    ]
    counts: ImportCounts
