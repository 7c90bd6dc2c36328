"""A template is tried before it is kept: it must set a made-up document."""

import hashlib
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from crm_api.domains.printing.formats import locale_of
from crm_api.domains.printing.press import HASTE, press
from crm_api.domains.printing.samples import sample
from crm_api.domains.printing.sheet import Form
from crm_api.kernel.context import Context
from crm_api.kernel.problems import invalid, unavailable
from crm_api.kernel.resource import Check, Resource

MOST_TRIALS = 2
"""Templates that a process tries at once, one of a tenant: a transaction waits for each, and holds a connection."""
_trying: set[UUID] = set()
_MOST_KNOWN = 1_000
_known: OrderedDict[bytes, None] = OrderedDict()
"""Digests of templates that this process has tried, the oldest first: what was right once is right again."""


async def _try(ctx: Context, resource: Resource, values: Mapping[str, Any], before: Mapping[str, Any] | None) -> None:
    """422 with what typst says and the line, or for a type of which nothing is printed."""
    del resource
    row = {**(before or {}), **values}
    printed = ctx.kernel.catalog.by_type.get(row["object_type"])
    if printed is None or printed.printed is None:
        raise invalid("/object_type", "invalid_value", "There are no such documents to print.")
    locale = locale_of(row["language"])
    assert locale is not None  # noqa: S101 - the schema takes no other language
    digest = hashlib.sha256("\0".join((row["object_type"], row["language"], row["source"])).encode()).digest()
    if digest in _known:
        _known.move_to_end(digest)
        return
    sheet = sample(printed, Form(row["source"], row["language"], locale))
    tenant_id = ctx.principal.tenant_id
    if tenant_id in _trying or len(_trying) >= MOST_TRIALS:
        raise unavailable("Another template is being tried; try again.")
    _trying.add(tenant_id)
    try:
        await press().set(tenant_id, lambda: sheet.files(None), 0, HASTE)
    finally:
        _trying.discard(tenant_id)
    _known[digest] = None
    while len(_known) > _MOST_KNOWN:
        _known.popitem(last=False)


TRIAL = Check(frozenset({"object_type", "language", "source"}), _try)
