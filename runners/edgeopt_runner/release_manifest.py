"""A board's own manifest of a release: sealed with a checksum, so that a flipped bit in its settings is noticed."""

import hashlib
import json
from typing import Any, Dict

SCHEMA = 2
_UNSEALED = 1


def sealed(document: Dict[str, Any]) -> Dict[str, Any]:
    """The manifest with its checksum."""
    fields = dict(document, schema=SCHEMA)
    fields.pop("checksum", None)
    return dict(fields, checksum=_checksum(fields))


def is_sound(document: Any) -> bool:
    """Whether a manifest is whole; of schema 1, which had no checksum, whether it has what is needed."""
    files = document.get("files") if isinstance(document, dict) else None
    if not isinstance(files, dict) or not {"model", "golden"} <= set(files) or "settings" not in document:
        return False
    if document.get("schema") == _UNSEALED:
        return True
    rest = {name: value for name, value in document.items() if name != "checksum"}
    return bool(document.get("schema") == SCHEMA and document.get("checksum") == _checksum(rest))


def _checksum(fields: Dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(fields, sort_keys=True).encode("utf-8")).hexdigest()
