"""Files in a bucket: S3 and what speaks like it, GCS, Azure; by obstore.

``s3://bucket/prefix?endpoint=http://127.0.0.1:8333&region=eu-west-1``: what is behind the question
mark are obstore's options. Credentials come from the variables that the cloud's own tools read
(``AWS_ACCESS_KEY_ID`` and so on), never from the address.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any, BinaryIO, Final, cast
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import BaseError
from obstore.store import from_url

from newel.errors import NotFound, Unavailable

__all__ = ["ObjectStorage"]

_CHUNK_BYTES: Final = 256 * 1024
_RETRIES: Final[Any] = {"max_retries": 3, "retry_timeout": timedelta(seconds=5)}
_WAITS: Final[Any] = {"timeout": "60s", "connect_timeout": "2s", "read_timeout": "5s"}
"""Of a whole transfer, of a connection, and of the next bytes: who is silent is away."""


class ObjectStorage:
    """Objects below the prefix of a bucket."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        options: dict[str, Any] = dict(parse_qsl(parts.query))
        is_plain = options.get("endpoint", "").startswith("http://")
        client: Any = {**_WAITS, "allow_http": is_plain}
        self._store: Any = from_url(
            parts._replace(query="").geturl(),
            client_options=client,
            retry_config=_RETRIES,
            **options,
        )

    async def put(self, key: str, file: BinaryIO) -> None:
        """Store what ``file`` has left to read, in parts if it is large."""
        with _outages():
            await obstore.put_async(self._store, key, file)

    async def read(
        self, key: str, *, start: int = 0, stop: int | None = None
    ) -> AsyncGenerator[bytes]:
        """Yield the bytes from ``start`` up to ``stop``."""
        if stop is not None and stop <= start:
            return  # S3 has no range of nothing
        asked: Any = {"offset": start} if stop is None else (start, stop)
        options: Any = {} if start == 0 and stop is None else {"range": asked}
        with _outages():
            found = await obstore.get_async(self._store, key, options=options)
            async for chunk in found.stream(min_chunk_size=_CHUNK_BYTES):
                yield bytes(chunk)

    async def delete(self, key: str) -> None:
        """Remove an object."""
        with _outages(), suppress(FileNotFoundError):
            await obstore.delete_async(self._store, key)

    async def keys(self, prefix: str) -> AsyncGenerator[str]:
        """Yield the keys below ``prefix``."""
        with _outages():
            async for batch in self._list(prefix):
                for found in batch:
                    yield found["path"]

    async def ping(self) -> None:
        """Return when the bucket answers; who is cut off in the answer asks again."""
        try:
            await self._ask()
        except Unavailable:
            await self._ask()

    async def _ask(self) -> None:
        with _outages():
            async for _ in self._list("newel-ping"):
                return

    def _list(self, prefix: str) -> AsyncGenerator[list[dict[str, str]]]:
        found: Any = cast("Any", obstore).list(self._store, prefix=prefix or None)
        return found


@contextmanager
def _outages() -> Generator[None]:
    try:
        yield
    except FileNotFoundError:
        raise NotFound("file") from None
    except BaseError as error:
        raise Unavailable("Files cannot be reached.") from error
