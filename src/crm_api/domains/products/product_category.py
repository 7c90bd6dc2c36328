"""Product categories: the tree that products are sorted into."""

from typing import Annotated, Literal
from uuid import UUID

from pydantic import Field
from sqlalchemy.orm import Mapped

from crm_api.kernel.record import Entity, reference, sortable, sparse, unique
from crm_api.kernel.resource import Check, Resource, ToMany
from crm_api.kernel.schema import Id, Input, Name, Output, Ref
from crm_api.kernel.tree import acyclic

CategoryCode = Annotated[str, Field(min_length=1, max_length=64)]


class ProductCategory(Entity):
    """A kind of products."""

    __tablename__ = "product_categories"
    __table_args__ = (
        reference("parent_id", "product_categories"),
        unique("uq_product_categories_code", "code"),
        *sortable("product_categories", "name_key", "created_at"),
        sparse("product_categories", "parent_id"),
    )

    name: Mapped[str]
    name_key: Mapped[str]
    code: Mapped[str | None]
    parent_id: Mapped[UUID | None]


class ProductCategoryCreate(Input):
    """A kind of products."""

    id: Id | None = None
    name: Name
    code: CategoryCode | None = None
    parent_id: Annotated[Ref | None, Field(description="The category this one is part of.")] = None


class ProductCategoryView(Output):
    """A kind of products."""

    object: Literal["product_category"]
    name: Name
    code: CategoryCode | None
    parent_id: Id | None


PRODUCT_CATEGORIES = Resource(
    singular="product_category",
    plural="product_categories",
    model=ProductCategory,
    output=ProductCategoryView,
    create=ProductCategoryCreate,
    keys={"name": ProductCategory.name_key},
    filters=(
        ProductCategory.name,
        ProductCategory.code,
        ProductCategory.parent_id,
        ProductCategory.created_at,
        ProductCategory.updated_at,
    ),
    sorts=(ProductCategory.name, ProductCategory.created_at),
    default_access="read",
    checks=(Check(frozenset({"parent_id"}), acyclic("parent_id")),),
    many={"children": ToMany("product_categories", "parent_id"), "products": ToMany("products", "category_id")},
)
