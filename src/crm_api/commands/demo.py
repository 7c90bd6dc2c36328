"""The demo tenant: loads it once, and hands out keys for it that outlive a restart."""

import asyncio
import hmac
import os
from dataclasses import asdict, dataclass, fields
from uuid import UUID

import orjson

from crm_api.commands.database import Place
from crm_api.settings import derive_key

TENANT = UUID("019422ab-b000-7000-8000-00000000de30")
NAME = "Aurora Trading (demo)"
ADMIN_EMAIL = "admin@aurora.example"
REPRESENTATIVE_EMAIL = "lena@aurora.example"
_LIVE = "SELECT count(*) FROM api_keys WHERE tenant_id = $1 AND id = ANY($2::uuid[]) AND revoked_at IS NULL"


@dataclass(frozen=True)
class DemoKeys:
    """Who to call the demo as. `password` is the representative's, for a browser; none outside development."""

    administrator: str
    representative: str
    password: str
    ids: list[str]


def ensure(place: Place) -> DemoKeys:
    """Loads the tenant unless it is there, and gives keys for it; in development they are kept for the next run."""
    return asyncio.run(_ensure(place))


def introduction(keys: DemoKeys, address: str) -> list[str]:
    """What to tell the person at the terminal."""
    call = f'curl -s -H "Authorization: Bearer {keys.representative}" -H "Content-Type: application/json"'
    phone = '{"name": "Ñandú Foods", "phones": [{"number": "030 1234567", "country": "DE"}]}'
    return [
        f"Demo tenant {NAME}, with these keys:",
        f"  administrator          {keys.administrator}",
        f"  representative (Lena)  {keys.representative}",
        *_browser(keys, address),
        "Try:",
        f'  {call} "{address}/v1/accounts?status=active&sort=-annual_revenue&limit=2&expand=owner"',
        f"  {call} -d '{phone}' {address}/v1/accounts",
    ]


def _browser(keys: DemoKeys, address: str) -> list[str]:
    if not keys.password:
        return []
    place = f"{address}/sign-in?organisation={TENANT}&login_hint={REPRESENTATIVE_EMAIL}"
    return ["In a browser:", f"  {place}", f"  password               {keys.password}"]


async def _ensure(place: Place) -> DemoKeys:
    """Most starts find everything in place, so what is heavy to import comes in only when there is something to do."""
    async with place.owner() as owner:
        loaded = await owner.fetchval("SELECT is_active FROM tenants WHERE tenant_id = $1", TENANT)
        kept = _Kept(place)
        if loaded and (known := kept.read()) and await owner.fetchval(_LIVE, TENANT, known.ids) == 2:
            return known
    from crm_api.commands.demo_load import load, new_keys

    if not loaded:
        await load(place)
    keys = await new_keys(place)
    kept.write(keys)
    return keys


class _Kept:
    """`demo.json` in the data folder, in development only: the database cannot tell a key again."""

    def __init__(self, place: Place) -> None:
        self._wanted = place.settings.environment == "development"
        self._path = place.settings.data_dir / "demo.json"
        self._seal = derive_key(place.settings.master_secret(), "demo-keys").hex()

    def read(self) -> DemoKeys | None:
        """The keys of an earlier run; None when there are none, or when the secret they depend on has changed."""
        try:
            found = orjson.loads(self._path.read_bytes()) if self._wanted else {}
            if hmac.compare_digest(found["seal"], self._seal):
                return DemoKeys(**{item.name: found[item.name] for item in fields(DemoKeys)})
        except (OSError, ValueError, KeyError, TypeError):
            pass
        return None

    def write(self, keys: DemoKeys) -> None:
        """Keeps the keys, readable by their owner only."""
        if not self._wanted:
            return
        self._path.unlink(missing_ok=True)
        with os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(orjson.dumps({"seal": self._seal, **asdict(keys)}, option=orjson.OPT_INDENT_2))
