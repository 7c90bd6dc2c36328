"""Who may come in, and when: what the limits domain gives the kernel, and where every request passes it."""

from typing import TYPE_CHECKING, Any, Protocol

from starlette.requests import Request
from starlette.types import Scope

from crm_api.kernel.headers import values
from crm_api.kernel.problems import Problem

if TYPE_CHECKING:
    from crm_api.kernel.context import Kernel, Principal
    from crm_api.kernel.policy import Access


class Admission(Protocol):
    """A request that was let in."""

    def headers(self) -> list[tuple[bytes, bytes]]:
        """What its answer says of the limits."""

    def leave(self) -> None:
        """It has been answered."""


class Limiter(Protocol):
    """How much a caller may ask at once and in a time."""

    async def knock(self, address: str, credential: str | None) -> None:
        """Before a credential is looked up: refuses with 429 an address that has brought too many wrong ones."""

    def note(self, address: str, credential: str | None, *, right: bool) -> None:
        """What became of a credential."""

    async def admit(self, principal: "Principal", access: "Access") -> Admission:
        """Counts a request, or refuses it with 429."""

    def charge(self, principal: "Principal", cost: int) -> None:
        """Counts more for a request that was let in; never refuses."""


async def enter(request: Request) -> tuple["Principal", "Access"]:
    """Who asks and what they may do, once their limits let them in; raises 401 and 429."""
    scope = request.scope
    kernel: Kernel = scope["crm.kernel"]
    address = scope["crm.address"]
    given = values(request, b"authorization")
    token = given[0] if len(given) == 1 else None
    await kernel.limiter.knock(address, token)
    try:
        scope["crm.principal"] = principal = await kernel.authenticator.authenticate(token, address)
        scope["crm.access"] = access = await kernel.authenticator.access(principal)
    except Problem as problem:
        if problem.kind.status == 401:
            kernel.limiter.note(address, token, right=False)
        raise
    kernel.limiter.note(address, token, right=True)
    await admit(scope, kernel, principal, access)
    return principal, access


async def admit(scope: Scope, kernel: "Kernel", principal: "Principal", access: "Access") -> None:
    """Lets a request in, once, however often it is run; raises 429."""
    leave: list[Any] = scope["crm.leave"]
    if not leave:
        admission = await kernel.limiter.admit(principal, access)
        leave.append(admission.leave)
        scope["crm.headers"] += admission.headers()
