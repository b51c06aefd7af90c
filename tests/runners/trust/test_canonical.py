"""Canonical JSON has the bytes that securesystemslib signs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.formats import encode_canonical

from edgeopt_runner.trust import canonical

TREES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(TREES)
def test_the_bytes_are_those_of_securesystemslib(value: object) -> None:
    assert canonical.encode(value) == str(encode_canonical(value)).encode()  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [1.5, {"a": [0.0]}, "\ud800", {"\udfff": 1}, b"x"])
def test_what_has_no_canonical_form_is_refused(value: object) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 (the message is Python's for surrogates)
        canonical.encode(value)
