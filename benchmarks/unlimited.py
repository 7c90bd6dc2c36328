"""`crm-api` without its limiter, in every process it starts: what the limiter costs is the difference."""

from crm_api import app, cli
from crm_api.domains.limits.limiter import Gate
from crm_api.kernel.context import Principal
from crm_api.kernel.policy import Access


class Open(Gate):
    """Lets everybody in, counts nothing and says nothing."""

    async def knock(self, address: str, credential: str | None) -> None:
        """Never refuses."""

    def note(self, address: str, credential: str | None, *, right: bool) -> None:
        """Remembers nothing."""

    async def admit(self, principal: Principal, access: Access) -> "Open":  # type: ignore[override]
        """Lets in."""
        del principal, access
        return self

    def headers(self) -> list[tuple[bytes, bytes]]:
        """None."""
        return []

    def leave(self) -> None:
        """Counts nothing."""


app.Gate = Open  # type: ignore[misc] # processes that are started import this module, too

if __name__ == "__main__":
    cli.main()
