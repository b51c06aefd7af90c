"""Shared bytes are found wherever they moved, and nothing is found that is not shared."""

import random

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt.deltas import chunks

NOISE = random.Random(3).randbytes(200_000)


def as_array(data: bytes) -> chunks.Bytes:
    return np.frombuffer(data, np.uint8)


def shared_bytes(base: bytes, target: bytes) -> int:
    found = chunks.matches(chunks.index(as_array(base)), as_array(target))
    for match in found:
        here, there = match.offset, match.source
        assert target[here : here + match.length] == base[there : there + match.length]
    return sum(match.length for match in found)


@given(st.binary(max_size=5000))
@settings(max_examples=100, deadline=None)
def test_cuts_divide_the_bytes_into_chunks_of_bounded_length(data: bytes) -> None:
    bounds = [0, *chunks.cuts(as_array(data))]
    assert bounds[-1] == len(data)
    assert all(0 < size <= 8192 for size in np.diff(bounds))


def test_chunks_are_neither_tiny_nor_huge_whatever_the_bytes() -> None:
    for data in (NOISE, bytes(100_000), b"\x01\x02" * 50_000):
        sizes = np.diff([0, *chunks.cuts(as_array(data))])
        assert min(sizes[:-1]) >= 128
        assert len(sizes) < len(data) / 120


def test_cuts_do_not_depend_on_how_the_bytes_are_taken_up() -> None:
    long = as_array(random.Random(4).randbytes((1 << 20) + 50_000))
    whole = set(chunks.cuts(long))
    offset = (1 << 20) - 3000
    later = {cut + offset for cut in chunks.cuts(long[offset:])}
    assert len(later & whole) > 0.9 * len(later)


def test_what_moved_is_found() -> None:
    moved = b"new at the front" + NOISE[50_000:] + b"in the middle" + NOISE[:50_000]
    assert shared_bytes(NOISE, moved) > 0.97 * len(NOISE)


def test_noise_shares_nothing() -> None:
    assert shared_bytes(NOISE, random.Random(5).randbytes(200_000)) == 0
