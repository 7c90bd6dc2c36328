"""Where the terms of a document are found: the account, its book and its tax profile, as a part of a statement."""

from typing import Any

import sqlalchemy as sa

from crm_api.domains.accounts.account import ACCOUNTS
from crm_api.domains.pricing.price_book import PRICE_BOOKS
from crm_api.domains.pricing.tax_profile import TAX_PROFILES
from crm_api.domains.pricing.validity import holds_on
from crm_api.kernel.context import Context

OF_ACCOUNT = ("currency", "country", "payment_terms")


def terms_found(ctx: Context, *, of_account: bool) -> sa.CTE:
    """One row: account, book and profile as far as the caller may read them, each the named one, else the account's.

    A book of the account counts where it holds; without a profile, the default one is taken. The parameters are
    `account` (only with `of_account`), `book`, `profile` and `day`.
    """
    uuid: sa.Uuid[Any] = sa.Uuid()
    one: sa.ColumnElement[int] = sa.literal_column("1")
    account, book, profile = ACCOUNTS.table, PRICE_BOOKS.table, TAX_PROFILES.table
    gate = ctx.kernel.policy.gate
    names = ("is_blocked", *OF_ACCOUNT, "price_book_id", "tax_profile_id")
    columns = [account.c.id, *(account.c[name] for name in names)]
    if of_account:
        whose: Any = sa.select(*columns).where(
            account.c.id == sa.bindparam("account", type_=uuid), *gate(ctx.access, ACCOUNTS, "read", account)
        )
    else:
        whose = sa.select(*(sa.cast(sa.null(), column.type).label(column.name) for column in columns))
    whose = whose.limit(one).subquery("whose")
    wanted, day = sa.bindparam("book", type_=uuid), sa.bindparam("day", type_=sa.Date())
    found_book = (
        sa.select(book, sa.type_coerce(holds_on(book, day), sa.Boolean()).label("holds"))
        .where(
            sa.or_(
                book.c.id == wanted, sa.and_(wanted.is_(None), book.c.id == whose.c.price_book_id, holds_on(book, day))
            ),
            *gate(ctx.access, PRICE_BOOKS, "read", book),
        )
        .limit(one)
        .lateral("found_book")
    )
    named = sa.func.coalesce(sa.bindparam("profile", type_=uuid), whose.c.tax_profile_id)
    found_profile = (
        sa.select(profile)
        .where(
            sa.or_(profile.c.id == named, sa.and_(named.is_(None), profile.c.is_default)),
            *gate(ctx.access, TAX_PROFILES, "read", profile),
        )
        .limit(one)
        .lateral("found_profile")
    )
    source: Any = sa.select(one.label("one")).subquery("one_row")
    for part in (whose, found_book, found_profile):
        source = source.outerjoin(part, sa.true())
    return (
        sa.select(
            whose.c.id.label("account_id"),
            whose.c.is_blocked,
            whose.c.tax_profile_id.is_not(None).label("account_profile"),
            *(whose.c[name] for name in OF_ACCOUNT),
            found_book.c.id.label("book_id"),
            found_book.c.currency.label("book_currency"),
            found_book.c.prices_include_tax.label("book_inclusive"),
            found_book.c.holds.label("book_holds"),
            found_profile.c.id.label("profile_id"),
            found_profile.c.exempt,
            found_profile.c.prices_include_tax.label("profile_inclusive"),
            found_profile.c.rounding,
        )
        .select_from(source)
        .cte("terms")
    )
