"""The naive reference: what a team writes in a day with FastAPI, the SQLAlchemy ORM and Pydantic.

Idiomatic and not sabotaged: an async engine with a pool, a session per request by dependency, typed response models,
the same tables and indexes, uvloop and httptools, no access log. What it leaves out: authentication, permissions, row
security, idempotency, audit, events, ETags, cursors, the index of multiple values, problem details, metrics, logs.
"""
# ruff: noqa: D101 - models and query parameters say what they are by their names

import os
import unicodedata
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal
from typing import Annotated, Any, Literal
from uuid import UUID, uuid4

from fastapi import Depends, FastAPI, HTTPException, Query
from pydantic import BaseModel, ConfigDict, EmailStr, Field
from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker, create_async_engine

import crm_api.catalog  # noqa: F401 - the tables that these refer to
from crm_api.domains.accounts.account import Account
from crm_api.domains.contacts.contact import Contact
from crm_api.domains.numbering.numbers import NumberCounter
from crm_api.domains.orders.order import Order
from crm_api.domains.orders.order_line import OrderLine
from crm_api.domains.pricing.price_book import PriceBook
from crm_api.domains.pricing.price_entry import PriceEntry
from crm_api.domains.pricing.tax_rate import TaxRate
from crm_api.domains.products.product import Product
from crm_api.kernel.record import Tenant

engine = create_async_engine(
    os.environ["NAIVE_DATABASE_URL"].replace("postgresql://", "postgresql+asyncpg://"), pool_size=8
)
sessions = async_sessionmaker(engine, expire_on_commit=False)
app = FastAPI(title="Naive CRM")
_tenant: list[UUID] = []


async def get_session() -> AsyncIterator[AsyncSession]:
    async with sessions() as session:
        yield session


async def get_tenant() -> UUID:
    """The one tenant of this application, read once."""
    if not _tenant:
        async with sessions() as session:
            _tenant.append((await session.scalars(select(Tenant.tenant_id))).one())
    return _tenant[0]


Session = Annotated[AsyncSession, Depends(get_session)]
TenantId = Annotated[UUID, Depends(get_tenant)]


class Record(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    version: int
    created_at: datetime
    created_by: UUID | None
    updated_at: datetime
    updated_by: UUID | None
    owner_id: UUID | None
    team_id: UUID | None
    territory_id: UUID | None
    custom: dict[str, Any]
    description: str | None
    source: str | None
    country: str | None
    region: str | None
    city: str | None
    postal_code: str | None
    addresses: list[dict[str, Any]]
    emails: list[dict[str, Any]]
    phones: list[dict[str, Any]]
    tags: list[str]


class AccountOut(Record):
    name: str
    legal_name: str | None
    tax_id: str | None
    type: str
    status: str
    is_blocked: bool
    blocked_reason: str | None
    industry: str | None
    website: str | None
    domain: str | None
    employees: int | None
    annual_revenue: int | None
    currency: str | None
    credit_limit: int | None
    payment_terms: str | None
    price_book_id: UUID | None
    tax_profile_id: UUID | None
    tier: str | None
    risk: str | None
    parent_id: UUID | None
    interests: list[str]


class ContactOut(Record):
    first_name: str | None
    last_name: str
    salutation: str | None
    title: str | None
    department: str | None
    account_id: UUID | None
    reports_to_id: UUID | None
    language: str | None
    birthday: date | None
    do_not_contact: bool
    consents: list[dict[str, Any]]


class AccountPage(BaseModel):
    data: list[AccountOut]


class ContactPage(BaseModel):
    data: list[ContactOut]


class EmailIn(BaseModel):
    address: EmailStr
    kind: Literal["work", "home", "billing", "support", "other"] = "work"
    is_primary: bool = False
    opted_out: bool = False


class ContactIn(BaseModel):
    first_name: str | None = Field(None, min_length=1, max_length=100)
    last_name: str = Field(min_length=1, max_length=100)
    title: str | None = Field(None, max_length=200)
    account_id: UUID | None = None
    owner_id: UUID | None = None
    emails: list[EmailIn] = []


class AccountPatch(BaseModel):
    name: str | None = Field(None, max_length=200)
    description: str | None = Field(None, max_length=10_000)


class ContactPatch(BaseModel):
    first_name: str | None = Field(None, max_length=100)
    last_name: str | None = Field(None, max_length=100)
    title: str | None = Field(None, max_length=200)


class LineIn(BaseModel):
    product_id: UUID
    quantity: Decimal = Field(Decimal(1), gt=0)
    discount_percent: Decimal = Field(Decimal(0), ge=0, le=100)
    tax_percent: Decimal = Field(Decimal(0), ge=0)


class OrderIn(BaseModel):
    account_id: UUID
    currency: str = Field(pattern="^[A-Z]{3}$")
    client_reference: str | None = Field(None, max_length=200)
    owner_id: UUID | None = None
    lines: list[LineIn] = []


class LineOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    position: int
    product_id: UUID | None
    sku: str | None
    description: str
    quantity: int
    unit_price: int
    discount_percent: int | None
    tax_percent: int | None
    net_amount: int
    tax_amount: int
    gross_amount: int


class OrderOut(BaseModel):
    model_config = ConfigDict(from_attributes=True)

    id: UUID
    version: int
    created_at: datetime
    updated_at: datetime
    owner_id: UUID | None
    number: str | None
    account_id: UUID
    state: str
    fulfilment: str
    billing: str
    client_reference: str | None
    ordered_on: date
    currency: str
    prices: str
    net_total: int
    tax_total: int
    gross_total: int
    lines: list[LineOut]


class QuoteLineIn(BaseModel):
    product_id: UUID
    quantity: Decimal = Field(Decimal(1), gt=0)


class QuoteIn(BaseModel):
    account_id: UUID
    lines: list[QuoteLineIn]


class QuoteLineOut(BaseModel):
    product_id: UUID
    quantity: Decimal
    price_entry_id: UUID | None
    list_price: int
    unit_price: int
    net: int
    tax: int
    gross: int


class QuoteOut(BaseModel):
    account_id: UUID
    currency: str
    lines: list[QuoteLineOut]
    net: int
    tax: int
    gross: int


class Measure(BaseModel):
    op: Literal["count"]


class AggregateIn(BaseModel):
    group_by: list[Literal["country", "type", "status", "industry"]]
    measures: list[Measure]


def plain(text: str) -> str:
    folded = unicodedata.normalize("NFKD", text.casefold())
    return "".join(letter for letter in folded if not unicodedata.combining(letter))


def searched(contact: Contact) -> str:
    mails = " ".join(f"{item['address']} {item['kind']}" for item in contact.emails)
    return "\x1f".join(
        [plain(contact.last_name), plain(contact.first_name or ""), mails.lower(), plain(contact.title or "")]
    )


@app.get("/healthz")
async def health() -> dict[str, str]:
    return {"status": "ok"}


@app.get("/v1/accounts/{account_id}", response_model=AccountOut)
async def read_account(account_id: UUID, session: Session, tenant: TenantId) -> Account:
    account = await session.get(Account, (tenant, account_id))
    if account is None or account.deleted_at is not None:
        raise HTTPException(404)
    return account


@app.get("/v1/accounts", response_model=AccountPage)
async def list_accounts(
    session: Session,
    tenant: TenantId,
    q: str | None = None,
    country: str | None = None,
    limit: Annotated[int, Query(le=200)] = 50,
    offset: int = 0,
) -> dict[str, Any]:
    query = select(Account).where(Account.tenant_id == tenant, Account.deleted_at.is_(None))
    if q:
        query = query.where(Account.search_text.like(f"%{plain(q)}%"))
    if country:
        query = query.where(Account.country == country)
    rows = await session.scalars(query.order_by(Account.id.desc()).limit(limit).offset(offset))
    return {"data": rows.all()}


@app.get("/v1/contacts", response_model=ContactPage)
async def list_contacts(
    session: Session,
    tenant: TenantId,
    owner_id: UUID | None = None,
    country: str | None = None,
    sort: Literal["-created_at", "last_name"] = "-created_at",
    limit: Annotated[int, Query(le=200)] = 50,
    offset: int = 0,
) -> dict[str, Any]:
    query = select(Contact).where(Contact.tenant_id == tenant, Contact.deleted_at.is_(None))
    if owner_id:
        query = query.where(Contact.owner_id == owner_id)
    if country:
        query = query.where(Contact.country == country)
    order = Contact.created_at.desc() if sort == "-created_at" else Contact.name_key
    rows = await session.scalars(query.order_by(order).limit(limit).offset(offset))
    return {"data": rows.all()}


@app.post("/v1/contacts", response_model=ContactOut, status_code=201)
async def create_contact(body: ContactIn, session: Session, tenant: TenantId) -> Contact:
    if body.account_id is not None and await session.get(Account, (tenant, body.account_id)) is None:
        raise HTTPException(422, "No such account")
    now = datetime.now(UTC)
    contact = Contact(
        tenant_id=tenant,
        id=uuid4(),
        **body.model_dump(mode="json", exclude={"account_id", "owner_id"}),
        account_id=body.account_id,
        owner_id=body.owner_id,
        name_key=plain(body.last_name),
        addresses=[],
        phones=[],
        tags=[],
        consents=[],
        created_at=now,
        updated_at=now,
    )
    contact.search_text = searched(contact)
    session.add(contact)
    await session.commit()
    await session.refresh(contact)
    return contact


@app.post("/v1/orders", status_code=201)
async def create_order(body: OrderIn, session: Session, tenant: TenantId) -> OrderOut:
    if await session.get(Account, (tenant, body.account_id)) is None:
        raise HTTPException(422, "No such account")
    ids = [line.product_id for line in body.lines]
    found = await session.scalars(select(Product).where(Product.tenant_id == tenant, Product.id.in_(ids)))
    products = {product.id: product for product in found}
    now = datetime.now(UTC)
    order = Order(
        tenant_id=tenant,
        id=uuid4(),
        account_id=body.account_id,
        owner_id=body.owner_id,
        client_reference=body.client_reference,
        search_text=plain(body.client_reference or ""),
        state="draft",
        ordered_on=now.date(),
        currency=body.currency,
        prices="net",
        tags=[],
        lines=[],
        taxes=[],
        discount_total=0,
        deepest_discount=0,
        net_total=0,
        tax_total=0,
        gross_total=0,
        payable_total=0,
        created_at=now,
        updated_at=now,
    )
    lines = []
    for position, line in enumerate(body.lines, 1):
        product = products.get(line.product_id)
        if product is None or product.list_price is None:
            raise HTTPException(422, "No such product")
        whole = line.quantity * product.list_price * (100 - line.discount_percent) / 100
        net = int((whole / 100).quantize(Decimal(1), ROUND_HALF_UP) * 100)
        tax = int((net * line.tax_percent / 10_000).quantize(Decimal(1), ROUND_HALF_UP) * 100)
        lines.append(
            OrderLine(
                tenant_id=tenant,
                id=uuid4(),
                order_id=order.id,
                position=position,
                product_id=product.id,
                sku=product.sku,
                description=product.name,
                quantity=int(line.quantity * 1_000_000),
                found_price=product.list_price,
                unit_price=product.list_price,
                price_source="list",
                taxes=[],
                discount=int(line.quantity * product.list_price) - net,
                discount_percent=int(line.discount_percent * 1_000_000),
                tax_percent=int(line.tax_percent * 1_000_000),
                net_amount=net,
                tax_amount=tax,
                gross_amount=net + tax,
                currency=body.currency,
                created_at=now,
                updated_at=now,
            )
        )
        order.net_total += net
        order.tax_total += tax
        order.gross_total += net + tax
        order.payable_total += net + tax
    session.add(order)
    await session.flush()
    session.add_all(lines)
    await session.commit()
    await session.refresh(order)
    told = {name: getattr(order, name) for name in OrderOut.model_fields if name != "lines"}
    return OrderOut(**told, lines=[LineOut.model_validate(line) for line in lines])


@app.post("/v1/orders/{order_id}/confirm")
async def confirm_order(order_id: UUID, session: Session, tenant: TenantId) -> OrderOut:
    order = await session.get(Order, (tenant, order_id), with_for_update=True)
    if order is None:
        raise HTTPException(404)
    lines = list(
        await session.scalars(
            select(OrderLine)
            .where(OrderLine.tenant_id == tenant, OrderLine.order_id == order_id)
            .order_by(OrderLine.position)
        )
    )
    if order.state != "draft" or not lines:
        raise HTTPException(409)
    ids = [line.product_id for line in lines]
    states = await session.scalars(select(Product.status).where(Product.tenant_id == tenant, Product.id.in_(ids)))
    if any(state != "active" for state in states):
        raise HTTPException(422, "No such product")
    account = await session.get(Account, (tenant, order.account_id), with_for_update=True)
    if account is None or account.is_blocked:
        raise HTTPException(409, "Blocked")
    open_ = select(func.coalesce(func.sum(Order.gross_total), 0)).where(
        Order.tenant_id == tenant, Order.account_id == account.id, Order.state.in_(("confirmed", "on_hold"))
    )
    spent = int((await session.scalars(open_)).one())
    if account.credit_limit is not None and spent + order.gross_total > account.credit_limit:
        raise HTTPException(409, "Credit")
    counter = await session.get(NumberCounter, (tenant, "order", ""), with_for_update=True)
    if counter is None:
        counter = NumberCounter(tenant_id=tenant, document="order", period="", value=0)
        session.add(counter)
    counter.value += 1
    order.number = f"SO-{counter.value:06d}"
    order.state = "confirmed"
    order.confirmed_at = order.updated_at = datetime.now(UTC)
    order.version += 1
    await session.commit()
    told = {name: getattr(order, name) for name in OrderOut.model_fields if name != "lines"}
    return OrderOut(**told, lines=[LineOut.model_validate(line) for line in lines])


@app.post("/v1/prices/quote")
async def quote_prices(body: QuoteIn, session: Session, tenant: TenantId) -> QuoteOut:
    account = await session.get(Account, (tenant, body.account_id))
    if account is None:
        raise HTTPException(422, "No such account")
    ids = [line.product_id for line in body.lines]
    found = await session.scalars(select(Product).where(Product.tenant_id == tenant, Product.id.in_(ids)))
    products = {product.id: product for product in found}
    books = select(PriceBook.id).where(PriceBook.tenant_id == tenant, PriceBook.is_default)
    entries = await session.scalars(
        select(PriceEntry).where(
            PriceEntry.tenant_id == tenant, PriceEntry.product_id.in_(ids), PriceEntry.price_book_id.in_(books)
        )
    )
    by_product: dict[UUID, list[PriceEntry]] = {}
    for entry in entries:
        if entry.product_id is not None:
            by_product.setdefault(entry.product_id, []).append(entry)
    rates = (await session.scalars(select(TaxRate).where(TaxRate.tenant_id == tenant))).all()
    lines = []
    for line in body.lines:
        product = products.get(line.product_id)
        if product is None or product.list_price is None:
            raise HTTPException(422, "No such product")
        held = [item for item in by_product.get(product.id, ()) if item.minimum_quantity <= line.quantity * 1_000_000]
        best = max(held, key=lambda item: item.minimum_quantity, default=None)
        price = product.list_price if best is None or best.price is None else int(best.price)
        percent = sum(rate.percent for rate in rates if rate.tax_class == product.tax_class)
        net = int((line.quantity * price / 100).quantize(Decimal(1), ROUND_HALF_UP) * 100)
        tax = int((Decimal(net) * percent / 10_000_000_000).quantize(Decimal(1), ROUND_HALF_UP) * 100)
        lines.append(
            QuoteLineOut(
                product_id=product.id,
                quantity=line.quantity,
                price_entry_id=None if best is None else best.id,
                list_price=product.list_price,
                unit_price=price,
                net=net,
                tax=tax,
                gross=net + tax,
            )
        )
    net, tax = sum(line.net for line in lines), sum(line.tax for line in lines)
    return QuoteOut(account_id=account.id, currency="EUR", lines=lines, net=net, tax=tax, gross=net + tax)


@app.patch("/v1/accounts/{account_id}", response_model=AccountOut)
async def update_account(account_id: UUID, body: AccountPatch, session: Session, tenant: TenantId) -> Account:
    account = await session.get(Account, (tenant, account_id))
    if account is None or account.deleted_at is not None:
        raise HTTPException(404)
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(account, name, value)
    account.version += 1
    account.updated_at = datetime.now(UTC)
    await session.commit()
    return account


@app.patch("/v1/contacts/{contact_id}", response_model=ContactOut)
async def update_contact(contact_id: UUID, body: ContactPatch, session: Session, tenant: TenantId) -> Contact:
    contact = await session.get(Contact, (tenant, contact_id))
    if contact is None or contact.deleted_at is not None:
        raise HTTPException(404)
    for name, value in body.model_dump(exclude_unset=True).items():
        setattr(contact, name, value)
    contact.name_key = plain(contact.last_name)
    contact.search_text = searched(contact)
    contact.version += 1
    contact.updated_at = datetime.now(UTC)
    await session.commit()
    return contact


@app.post("/v1/accounts/aggregate")
async def aggregate_accounts(body: AggregateIn, session: Session, tenant: TenantId) -> dict[str, Any]:
    columns = [getattr(Account, name) for name in body.group_by]
    query = select(*columns, func.count()).where(Account.tenant_id == tenant, Account.deleted_at.is_(None))
    rows = (await session.execute(query.group_by(*columns))).all()
    return {"data": [{"group": dict(zip(body.group_by, row[:-1], strict=True)), "measures": [row[-1]]} for row in rows]}
