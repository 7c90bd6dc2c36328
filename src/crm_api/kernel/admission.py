"""Who may come in, and when: what the limits domain gives the kernel, and where every request passes it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.types import Scope

from crm_api.kernel.headers import values
from crm_api.kernel.problems import Problem

if TYPE_CHECKING:
    from crm_api.kernel.context import Kernel, Principal
    from crm_api.kernel.policy import Access


class Admission(Protocol):
    """A request that was let in; `told` are headers for its answer that say how much more may be asked."""

    told: tuple[tuple[bytes, bytes], ...]

    def leave(self) -> None:
        """It has been answered."""


class Limiter(Protocol):
    """How much a caller may ask at once and in a time; `failing` are addresses that brought wrong credentials."""

    @property
    def failing(self) -> Mapping[str, Any]: ...  # noqa: D102 - said above

    async def knock(self, address: str, credential: str | None) -> None:
        """Before a credential is looked up: refuses with 429 an address that has brought too many wrong ones."""

    def failed(self, address: str, credential: str | None) -> None:
        """Counts a wrong credential."""

    async def admit(self, principal: "Principal", access: "Access", credential: str | None) -> Admission:
        """Counts a request of a right credential, or refuses it with 429."""

    def charge(self, principal: "Principal", cost: int) -> None:
        """Counts more for a request that was let in; never refuses."""


async def enter(request: Request) -> tuple["Principal", "Access"]:
    """Who asks and what they may do, once their limits let them in; raises 401 and 429."""
    scope = request.scope
    kernel: Kernel = scope["crm.kernel"]
    address = scope["crm.address"]
    given = values(request, b"authorization")
    token = given[0] if len(given) == 1 else None
    if kernel.limiter.failing:
        await kernel.limiter.knock(address, token)
    try:
        scope["crm.principal"] = principal = await kernel.authenticator.authenticate(token, address)
        scope["crm.access"] = access = await kernel.authenticator.access(principal)
    except Problem as problem:
        if problem.kind.status == 401:
            kernel.limiter.failed(address, token)
        raise
    await admit(scope, principal, access, token)
    return principal, access


async def admit(scope: Scope, principal: "Principal", access: "Access", credential: str | None = None) -> None:
    """Lets a request in, once, however often it is run; raises 429."""
    if not scope["crm.leave"]:
        admission = await scope["crm.kernel"].limiter.admit(principal, access, credential)
        scope["crm.leave"].append(admission.leave)
        scope["crm.headers"] += admission.told
