"""Products: goods, services and bundles of them."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.duplicates.unmerge import MERGING, NOT_MERGED
from crm_api.domains.products.conversions import (
    ConversionInputList,
    ConversionList,
    convertible,
    stored_conversions,
    units_of,
)
from crm_api.domains.products.matching import PRODUCT_DUPLICATES
from crm_api.domains.products.variants import one_level
from crm_api.kernel.context import Context
from crm_api.kernel.customs import CustomValues
from crm_api.kernel.lifecycle import Lifecycle, edge
from crm_api.kernel.problems import invalid
from crm_api.kernel.record import Entity, MoneyAmount, Ratio, one_of, reference, sortable, sparse, unique
from crm_api.kernel.resource import Check, Resource, ToMany
from crm_api.kernel.schema import (
    Code,
    Currency,
    Id,
    Input,
    Line,
    Money,
    Name,
    Output,
    Paragraph,
    Quantity,
    Ref,
    Tag,
)
from crm_api.kernel.tree import acyclic

LIFECYCLE = Lifecycle(
    "status",
    "active",
    (
        edge("retire", ("active",), "retired", event="retired"),
        edge("reactivate", ("retired",), "active", event="reactivated"),
    ),
)
PRICES = ("cost", "list_price")
Kind = Literal["goods", "service", "bundle"]
Tracking = Literal["none", "lot", "serial"]
Sku = Annotated[str, Field(min_length=1, max_length=64)]
Barcode = Annotated[str, Field(min_length=1, max_length=64)]
Attributes = Annotated[
    dict[Annotated[str, Field(min_length=1, max_length=40)], Annotated[str, Field(min_length=1, max_length=100)]],
    Field(
        max_length=20,
        description="What distinguishes a variant.",
        examples=[{"colour": "red"}, {"size": "XL", "colour": "blue"}, {}],
    ),
]
Tags = Annotated[list[Tag], Field(max_length=50)]
BaseUnit = "What it is counted in."
VariantOf = "The product this one is a variant of; that one is none itself."


class Product(Entity):
    """What is sold."""

    __tablename__ = "products"
    __table_args__ = (
        reference("category_id", "product_categories"),
        reference("unit_id", "units"),
        reference("variant_of_id", "products"),
        reference("replaced_by_id", "products"),
        one_of("kind", ("goods", "service", "bundle")),
        one_of("tracking", ("none", "lot", "serial")),
        one_of("status", LIFECYCLE.states),
        unique("uq_products_sku", "sku"),
        unique("uq_products_barcode", "barcode"),
        *sortable("products", "sku", "name_key", "list_price", "created_at", "unit_id"),
        sparse("products", "category_id"),
        sparse("products", "variant_of_id"),
        sparse("products", "replaced_by_id"),
    )

    sku: Mapped[str]
    name: Mapped[str]
    name_key: Mapped[str]
    kind: Mapped[str]
    status: Mapped[str]
    category_id: Mapped[UUID | None]
    unit_id: Mapped[UUID]
    conversions: Mapped[list[Any]]
    tracking: Mapped[str]
    cost: Mapped[Decimal | None] = mapped_column(MoneyAmount)
    list_price: Mapped[Decimal | None] = mapped_column(MoneyAmount)
    currency: Mapped[str | None]
    tax_class: Mapped[str]
    barcode: Mapped[str | None]
    specification: Mapped[str | None]
    description: Mapped[str | None]
    weight: Mapped[Decimal | None] = mapped_column(Ratio)
    attributes: Mapped[dict[str, Any]]
    variant_of_id: Mapped[UUID | None]
    replaced_by_id: Mapped[UUID | None]
    tags: Mapped[list[Any]]
    search_text: Mapped[str]


class ProductCreate(Input):
    """What is sold."""

    id: Id | None = None
    sku: Sku
    name: Name
    kind: Annotated[Kind, Field(description="Set once.")] = "goods"
    category_id: Ref | None = None
    unit_id: Annotated[Ref, Field(description=BaseUnit)]
    conversions: ConversionInputList = []
    tracking: Tracking = "none"
    cost: Money | None = None
    list_price: Money | None = None
    currency: Annotated[Currency | None, Field(description="Of cost and list price; needed where one is.")] = None
    tax_class: Code = "standard"
    barcode: Barcode | None = None
    specification: Line | None = None
    description: Paragraph | None = None
    weight: Annotated[Quantity | None, Field(description="Kilograms of one base unit.")] = None
    attributes: Attributes = {}
    variant_of_id: Annotated[Ref | None, Field(description=VariantOf)] = None
    replaced_by_id: Annotated[Ref | None, Field(description="The product to sell instead.")] = None
    tags: Tags = []
    custom: CustomValues = {}


class ProductView(Output):
    """What is sold."""

    object: Literal["product"]
    sku: Sku
    name: Name
    kind: Kind
    status: Literal["active", "retired"]
    category_id: Id | None
    unit_id: Annotated[Id, Field(description=BaseUnit)]
    conversions: ConversionList
    tracking: Tracking
    cost: Money | None
    list_price: Money | None
    currency: Currency | None
    tax_class: Code
    barcode: Barcode | None
    specification: Line | None
    description: Paragraph | None
    weight: Annotated[Quantity | None, Field(description="Kilograms of one base unit.")]
    attributes: Attributes
    variant_of_id: Annotated[Id | None, Field(description=VariantOf)]
    replaced_by_id: Id | None
    tags: Tags


async def _priced(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 for a price without a currency; who may not see one of them is refused whatever it is."""
    hidden = ctx.access.hides(resource.plural)
    whole = values if before is None else {**before, **values}
    if "currency" in hidden:
        missing = any(values.get(name) is not None for name in PRICES)
    else:
        unseen = before is not None and "currency" in values and not hidden.isdisjoint(PRICES)
        missing = whole["currency"] is None and (unseen or any(whole[name] is not None for name in PRICES))
    if missing:
        raise invalid("/currency", "required", "Cost and list price are amounts of a currency.")


PRODUCTS = Resource(
    singular="product",
    plural="products",
    model=Product,
    output=ProductView,
    history=True,
    create=ProductCreate,
    lifecycle=LIFECYCLE,
    actions=MERGING,
    default_access="read",
    once=frozenset({"kind"}),
    keys={"name": Product.name_key},
    search=("sku", "name", "barcode", "specification"),
    values={"tags": list, "conversions": units_of},
    derive={"conversions": stored_conversions},
    checks=(
        Check(frozenset({"conversions", "unit_id"}), convertible),
        Check(frozenset({*PRICES, "currency"}), _priced, cleared=frozenset({"currency"})),
        Check(frozenset({"variant_of_id"}), one_level),
        Check(frozenset({"replaced_by_id"}), acyclic("replaced_by_id")),
        NOT_MERGED,
    ),
    duplicates=PRODUCT_DUPLICATES,
    many={
        "components": ToMany("product_components", "product_id"),
        "variants": ToMany("products", "variant_of_id"),
    },
    filters=(
        Product.sku,
        Product.name,
        Product.kind,
        Product.status,
        Product.category_id,
        Product.unit_id,
        Product.tracking,
        Product.cost,
        Product.list_price,
        Product.currency,
        Product.tax_class,
        Product.barcode,
        Product.weight,
        Product.variant_of_id,
        Product.replaced_by_id,
        Product.tags,
        Product.created_at,
        Product.updated_at,
    ),
    sorts=(Product.sku, Product.name, Product.list_price, Product.created_at),
)
