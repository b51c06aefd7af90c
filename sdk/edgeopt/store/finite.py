"""Finds NaN and infinities before they reach JSON, where pydantic would quietly write null for them."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import fields, is_dataclass


def finite(value: object) -> bool:
    """Whether no number inside a noun, mapping or sequence is NaN or infinite."""
    if isinstance(value, float):
        return math.isfinite(value)
    if isinstance(value, Mapping):
        return all(finite(item) for item in value.values())
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(finite(item) for item in value)
    if is_dataclass(value):
        return all(finite(getattr(value, field.name)) for field in fields(value))
    return True
