"""Fetches ``file:`` URLs for python-tuf's client, a missing file being a 404."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlparse

from tuf.api.exceptions import DownloadHTTPError
from tuf.ngclient import FetcherInterface


class FileFetcher(FetcherInterface):
    """Reads files."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        path = Path(unquote(urlparse(url).path))
        if not path.is_file():
            raise DownloadHTTPError(f"no {path}", 404)
        return iter([path.read_bytes()])
