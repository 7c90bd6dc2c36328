"""Passwords: argon2id in threads of their own, a cap on how many at once, and which may be chosen (NIST SP 800-63B)."""

import asyncio
import secrets
import unicodedata
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from functools import cache
from typing import TypeVar
from uuid import UUID

import sqlalchemy as sa
from pwdlib import PasswordHash
from pwdlib.exceptions import UnknownHashError
from pwdlib.hashers.argon2 import Argon2Hasher
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.orm import Mapped, mapped_column

from crm_api.domains.sign_in.weak import is_weak
from crm_api.kernel.context import Context
from crm_api.kernel.database import TENANT, Statement
from crm_api.kernel.ledger import NOW
from crm_api.kernel.problems import unavailable
from crm_api.kernel.record import Record, reference, table_of

SHORTEST = 15
SHORTEST_WITH_FACTOR = 8
LONGEST = 128
"""Characters. 15 where the password alone lets in, 8 where a second factor stands beside it (NIST SP 800-63B-4)."""
_AT_ONCE = 2
_MOST_WAITING = 64
_HASHER = PasswordHash((Argon2Hasher(time_cost=2, memory_cost=19_456, parallelism=1),))
_THREADS = ThreadPoolExecutor(_AT_ONCE, "passwords")
T = TypeVar("T")


class Password(Record):
    """The hash of a person's password. No resource: nothing of the API reads it.

    `proven_email` is the address to which a link was mailed that they set one by; it is theirs, if it is still that.
    """

    __tablename__ = "passwords"
    __table_args__ = (reference("principal_id", "principals"),)

    principal_id: Mapped[UUID] = mapped_column(primary_key=True)
    hash: Mapped[str]
    changed_at: Mapped[datetime]
    proven_email: Mapped[str | None]


_PASSWORDS = table_of(Password)
_HASH, _PROVEN = sa.bindparam("hash", type_=sa.Text()), sa.bindparam("proven_email", type_=sa.Text())
_SET = Statement(
    upsert(_PASSWORDS)
    .values(
        tenant_id=TENANT,
        principal_id=sa.bindparam("principal", type_=sa.Uuid()),
        hash=_HASH,
        changed_at=NOW,
        proven_email=_PROVEN,
    )
    .on_conflict_do_update(
        index_elements=["tenant_id", "principal_id"],
        set_={"hash": _HASH, "changed_at": NOW, "proven_email": sa.func.coalesce(_PROVEN, _PASSWORDS.c.proven_email)},
    )
)


def normal(text: str) -> str:
    """A password in the form that is hashed: NFKC, so that it is the same from each keyboard."""
    return unicodedata.normalize("NFKC", text)


def fault(text: str, shortest: int, known: Iterable[str]) -> str | None:
    """Why a password may not be chosen, as a text of `words`; None when it may. No kinds of characters are wanted."""
    plain = normal(text)
    if len(plain) < shortest:
        return "Use at least {shortest} characters; several words are good."
    if max(len(plain), len(text)) > LONGEST:
        return "Use at most {longest} characters."
    if is_weak(plain, known):
        return "This password is easy to guess: it is common, or made from your name. Choose another."
    return None


async def hashed(text: str) -> str:
    """What is kept of a password."""
    return await _beside(lambda: _HASHER.hash(normal(text)))


async def fits(text: str, kept: str | None) -> bool:
    """Whether a password is the one of a hash; without a hash it takes as long to say that it is not."""
    given = normal(text)[: LONGEST * 4]

    def compare() -> bool:
        try:
            return _HASHER.verify(given, _nobody() if kept is None else kept) and kept is not None
        except UnknownHashError:
            return False

    return await _beside(compare)


@cache
def _nobody() -> str:
    """The hash of a password that nobody has."""
    return _HASHER.hash(secrets.token_hex())


async def keep(ctx: Context, principal_id: UUID, hash_: str, proven_email: str | None = None) -> None:
    """Makes this the person's password; with an address that they have shown to be theirs by setting it."""
    values = {"principal": principal_id, "hash": hash_, "proven_email": proven_email, "now": ctx.now}
    await ctx.fetch(_SET, values)


async def _beside(work: Callable[[], T]) -> T:
    """Runs work in one of few threads: each takes 19 MiB and a processor for some hundredths of a second."""
    if _THREADS._work_queue.qsize() >= _MOST_WAITING:  # noqa: SLF001 - the executor tells it nowhere else
        raise unavailable("Too many people are signing in; try again.")
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work)
