"""Product components: what a bundle consists of."""

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

import sqlalchemy as sa
from pydantic import Field
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.locking import one_at_a_time
from crm_api.kernel.policy import through
from crm_api.kernel.problems import CYCLE, LIMIT_REACHED, Fault, Problem, invalid
from crm_api.kernel.record import Entity, Ratio, reference, sortable, table_of, unique
from crm_api.kernel.repository import check_references, find
from crm_api.kernel.resource import Check, Resource
from crm_api.kernel.schema import Id, Input, Output, PositiveQuantity, Ref

MOST_INSIDE = 1_000
"""Products that a bundle may consist of, those of bundles in it included."""
Position = Annotated[int, Field(ge=0, le=10_000, description="Its place in the list of components.")]


class ProductComponent(Entity):
    """A product in a bundle, and how much of it."""

    __tablename__ = "product_components"
    __table_args__ = (
        reference("product_id", "products"),
        reference("component_id", "products"),
        unique("uq_product_components_product_id", "product_id", "component_id"),
        *sortable("product_components", "product_id", "component_id", "position", "created_at"),
    )

    product_id: Mapped[UUID]
    component_id: Mapped[UUID]
    quantity: Mapped[Decimal] = mapped_column(Ratio)
    position: Mapped[int]


class ProductComponentCreate(Input):
    """Puts a product into a bundle."""

    id: Id | None = None
    product_id: Annotated[Ref, Field(description="The bundle.")]
    component_id: Ref
    quantity: Annotated[PositiveQuantity, Field(description="In the base unit of the component.")]
    position: Position = 0


class ProductComponentView(Output):
    """A product in a bundle, and how much of it."""

    object: Literal["product_component"]
    product_id: Id
    component_id: Id
    quantity: PositiveQuantity
    position: Position


async def _fitting(
    ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None
) -> None:
    """422 unless the product is a bundle, and neither is nor is in the component. One writer at a time asks."""
    whole = values if before is None else {**before, **values}
    pair = {name: str(whole[name]).lower() for name in ("product_id", "component_id")}
    await check_references(ctx, resource, pair)  # first: what is inside of a hidden record is not told of
    bundle = await find(ctx, ctx.kernel.catalog.resources["products"], pair["product_id"])
    if bundle is None or bundle["kind"] != "bundle":
        raise invalid("/product_id", "not_a_bundle", "Only a bundle consists of other products.")
    await one_at_a_time(ctx, resource.table.name)
    rows = await ctx.fetch(_INSIDE, {"component": pair["component_id"]})
    if len(rows) > MOST_INSIDE:
        raise Problem(LIMIT_REACHED, f"A bundle consists of at most {MOST_INSIDE} products.")
    if pair["product_id"] in {row["id"] for row in rows}:
        detail = "The bundle would be a part of itself."
        raise Problem(CYCLE, detail, [Fault("cycle", detail, pointer="/component_id")])


def _inside() -> Statement:
    """The component, and whatever is in it."""
    table = table_of(ProductComponent)
    inside = sa.select(sa.bindparam("component", type_=sa.Uuid()).label("id")).cte("inside", recursive=True)
    inside = inside.union(
        sa.select(table.c.component_id).where(
            table.c.tenant_id == TENANT, table.c.product_id == inside.c.id, table.c.deleted_at.is_(None)
        )
    )
    most: sa.ColumnElement[int] = sa.literal_column(str(MOST_INSIDE + 1))
    return Statement(sa.select(sa.cast(inside.c.id, sa.Text()).label("id")).limit(most))


_INSIDE = _inside()

PRODUCT_COMPONENTS = Resource(
    singular="product_component",
    plural="product_components",
    model=ProductComponent,
    output=ProductComponentView,
    title="id",
    create=ProductComponentCreate,
    rows=(through("product_id", "products"),),
    checks=(Check(frozenset({"product_id", "component_id"}), _fitting),),
    within={"product_id": "components"},
    filters=(
        ProductComponent.product_id,
        ProductComponent.component_id,
        ProductComponent.quantity,
        ProductComponent.created_at,
    ),
    sorts=(ProductComponent.position, ProductComponent.created_at),
)
