"""The list of patches that lie ready in a store for one file: ``patches/<digest>.json``, the patches among the blobs.

It is not signed and need not be: what a patch makes has to have the digest that the signed manifest names. A wrong list
costs a board a download, and then it fetches the file.
"""

import json
import re
from typing import Any, List, NamedTuple, Sequence

SCHEMA = 1
LIMIT_BYTES = 64 << 10
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")
_CODEC = re.compile(r"[a-z0-9]{1,16}\Z")
_MOST = 64

Ready = NamedTuple("Ready", [("base", str), ("sha256", str), ("size", int), ("codecs", Sequence[str])])
"""A patch: digest of the file that it starts from (empty: none is needed), its own, its bytes, and what it may be
compressed by (names of `patch_format.CODECS`)."""


def path(digest: str) -> str:
    """Where the list for the file of that digest lies in a tree."""
    return "patches/%s.json" % digest


def encode(patches: Sequence[Ready]) -> bytes:
    """The bytes of a list."""
    rows = [dict(patch._asdict(), codecs=list(patch.codecs)) for patch in patches]
    return json.dumps({"schema": SCHEMA, "patches": rows}, sort_keys=True).encode("utf-8")


def read(data: bytes) -> List[Ready]:
    """The patches of a list; what is none is left out, and of what is no list nothing is left."""
    try:
        document = json.loads(data.decode("utf-8"))
    except (ValueError, RecursionError):
        return []
    if not isinstance(document, dict) or document.get("schema") != SCHEMA:
        return []
    rows = document.get("patches")
    return [_patch(row) for row in (rows if isinstance(rows, list) else [])[:_MOST] if _is_sound(row)]


def _patch(row: Any) -> Ready:
    return Ready(row["base"], row["sha256"], row["size"], tuple(row["codecs"]))


def _is_sound(row: Any) -> bool:
    if not isinstance(row, dict):
        return False
    base, digest, size, codecs = (row.get(name) for name in ("base", "sha256", "size", "codecs"))
    names = [base or "0" * 64, digest] if isinstance(base, str) else [None]
    if not all(isinstance(name, str) and _DIGEST.match(name) for name in names):
        return False
    if not isinstance(size, int) or isinstance(size, bool) or size <= 0 or not isinstance(codecs, list):
        return False
    return all(isinstance(codec, str) and _CODEC.match(codec) for codec in codecs)
