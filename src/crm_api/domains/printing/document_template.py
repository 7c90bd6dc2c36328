"""Document templates: how a tenant's documents look, as typst sources."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.files.file import FILES
from crm_api.domains.printing.formats import locale_of
from crm_api.domains.printing.make_default import MAKE_DEFAULT
from crm_api.domains.printing.sheet import LOGOS
from crm_api.domains.printing.trial import TRIAL
from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, reference, sortable, sparse, unique
from crm_api.kernel.repository import find
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Language, Name, Output, Paragraph

MOST_SOURCE = 200_000
LARGEST_LOGO = 2_097_152
"""Bytes of a logo."""


def _known(language: str) -> str:
    if locale_of(language) is None:
        raise PydanticCustomError("invalid_language", "A language is a tag such as `en` or `es-MX`.")
    return language


_TYPE = Annotated[str, Field(min_length=1, max_length=63, examples=["order"], description="What it prints.")]
_LANGUAGE = Annotated[
    Language,
    Field(description="Of its texts; amounts and days are written as this language does."),
    AfterValidator(_known),
]
_SOURCE = Annotated[
    str,
    Field(
        min_length=1,
        max_length=MOST_SOURCE,
        examples=['#let doc = json("/data.json")\n= #doc.title'],
        description="In the language of typst. It is tried with made-up data when it is written.",
    ),
]
_FOOTER = Annotated[Paragraph | None, Field(description="For the foot of each page, as text.")]
_LOGO = Annotated[Id | None, Field(description="A file with a PNG, JPEG, GIF or WebP picture, of at most 2 MB.")]
_DEFAULT = Annotated[bool, Field(description="It prints what it is for in its language where no other is named.")]


class DocumentTemplate(Entity):
    """How documents of a type look in a language. `default_mark` is true for one of these, and null for the rest."""

    __tablename__ = "document_templates"
    __table_args__ = (
        reference("logo_file_id", "files"),
        unique("uq_document_templates_default_mark", "object_type", "language", "default_mark"),
        *sortable("document_templates", "name_key", "created_at"),
        sparse("document_templates", "logo_file_id"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    object_type: Mapped[str]
    language: Mapped[str]
    source: Mapped[str]
    footer: Mapped[str | None]
    logo_file_id: Mapped[UUID | None]
    is_default: Mapped[bool] = mapped_column(server_default="false")
    default_mark: Mapped[bool | None]


class DocumentTemplateCreate(Input):
    """How documents look; `make_default` makes it the form of its type and language."""

    id: Id | None = None
    name: Name
    object_type: _TYPE
    language: _LANGUAGE
    source: _SOURCE
    footer: _FOOTER = None
    logo_file_id: _LOGO = None


class DocumentTemplateView(Output):
    """How documents of a type look in a language."""

    object: Literal["document_template"]
    name: Name
    object_type: _TYPE
    language: _LANGUAGE
    source: _SOURCE
    footer: _FOOTER
    logo_file_id: _LOGO
    is_default: _DEFAULT


async def _picture(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for a logo that is no picture; whether the file may be seen is asked of every reference."""
    del resource, before
    file = await find(ctx, FILES, values["logo_file_id"])
    if file is None:
        raise invalid("/logo_file_id", "reference_not_found", "There is no such file.")
    if file["content_type"] not in LOGOS or file["size"] > LARGEST_LOGO:
        raise invalid("/logo_file_id", "bad_value", "A logo is a PNG, JPEG, GIF or WebP picture of at most 2 MB.")


DOCUMENT_TEMPLATES = Resource(
    singular="document_template",
    plural="document_templates",
    model=DocumentTemplate,
    output=DocumentTemplateView,
    create=DocumentTemplateCreate,
    keys={"name": DocumentTemplate.name_key},
    derive={"is_default": lambda value: {"default_mark": value or None}},
    default_access="read",
    once=frozenset({"object_type", "language"}),
    checks=(TRIAL, Check(frozenset({"logo_file_id"}), _picture)),
    actions=(MAKE_DEFAULT,),
    filters=(
        DocumentTemplate.name,
        DocumentTemplate.object_type,
        DocumentTemplate.language,
        DocumentTemplate.is_default,
        DocumentTemplate.created_at,
    ),
    sorts=(DocumentTemplate.name, DocumentTemplate.created_at),
)
