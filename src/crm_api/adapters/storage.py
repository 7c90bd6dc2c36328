"""Where bytes are kept that the database does not hold: a folder, or a bucket that speaks S3."""

from collections.abc import AsyncIterator
from functools import lru_cache
from pathlib import Path
from typing import IO
from urllib.parse import unquote, urlsplit

import obstore
from obstore.exceptions import BaseError, NotFoundError
from obstore.store import LocalStore, S3Store

from crm_api.settings import Settings

CHUNK = 256 * 1024
"""Bytes that are read from the store at a time, about."""


class StoreError(Exception):
    """The store does not do what it is asked; it may later."""


class MissingError(StoreError):
    """The store has nothing under the key."""


class Storage:
    """Bytes under keys that we choose; what is put is there whole or not at all."""

    def __init__(self, store: LocalStore | S3Store) -> None:
        self._store = store

    async def put(self, key: str, file: IO[bytes]) -> None:
        """Keeps a file's bytes, from its beginning; raises StoreError."""
        file.seek(0)
        try:
            await obstore.put_async(self._store, key, file)
        except (BaseError, OSError) as error:
            raise StoreError(key) from error

    async def open(self, key: str, start: int, end: int) -> AsyncIterator[bytes]:
        """The bytes from `start` up to `end`, in chunks.

        Raises:
            StoreError: it cannot be read now, or never if it is a MissingError.
        """
        try:
            found = await obstore.get_async(self._store, key, options={"range": (start, end)})
        except (NotFoundError, FileNotFoundError):
            raise MissingError(key) from None
        except (BaseError, OSError) as error:
            raise StoreError(key) from error

        async def chunks() -> AsyncIterator[bytes]:
            async for chunk in found.stream(min_chunk_size=CHUNK):
                yield bytes(chunk)

        return chunks()

    async def delete(self, key: str) -> None:
        """Deletes what is under a key, if there is anything; raises StoreError."""
        try:
            await obstore.delete_async(self._store, key)
        except (NotFoundError, FileNotFoundError):
            return
        except (BaseError, OSError) as error:
            raise StoreError(key) from error


@lru_cache(maxsize=8)
def _opened(url: str) -> Storage:
    if url.startswith("s3://"):
        return Storage(S3Store.from_url(url))
    Path(unquote(urlsplit(url).path)).mkdir(mode=0o700, parents=True, exist_ok=True)  # nobody else on this machine
    return Storage(LocalStore.from_url(url))


def storage(settings: Settings) -> Storage:
    """The store that the settings name."""
    return _opened(settings.files_url or (settings.data_dir.absolute() / "files").as_uri())
