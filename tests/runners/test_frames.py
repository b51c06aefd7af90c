"""Frames survive noise, cuts and hostile lengths."""

import io
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt_runner.protocol import FRAME_LIMIT_BYTES, frames


def reader(data: bytes, chunk: int = 65536, limit: int = 1000) -> frames.FrameReader:
    stream = io.BytesIO(data)
    return frames.FrameReader(lambda count: stream.read(min(count, chunk)), limit_bytes=limit)


@given(noise=st.binary(max_size=200), chunk=st.integers(1, 50), text=st.text(max_size=40))
def test_noise_around_frames_is_kept_apart_whatever_the_chunking(noise: bytes, chunk: int, text: str) -> None:
    noise = noise.replace(b"\x1e", b"?")
    data = noise + frames.encode({"a": text}) + noise + frames.encode({"b": 2}) + noise
    taken = reader(data, chunk)
    assert [taken.next(), taken.next(), taken.next()] == [{"a": text}, {"b": 2}, None]
    assert bytes(taken.noise).replace(b"\n", b"") == (noise * 3).replace(b"\n", b"")


def test_something_that_only_begins_like_a_frame_is_noise() -> None:
    data = frames.MARK + b"not a header\n" + frames.MARK + b"12 zzzzzzzz\n" + frames.encode({"a": 1})
    assert reader(data).next() == {"a": 1}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (frames.MARK + b"9999999999 00000000\n", "9999999999 bytes"),
        (frames.encode({"a": 1}).replace(b'"a":1', b'"a":2'), "checksum"),
        (frames.encode([1, 2]), "not a JSON object"),
    ],
)
def test_a_bad_frame_is_named_and_the_next_one_still_arrives(bad: bytes, message: str) -> None:
    taken = reader(bad + b"\n" + frames.encode({"good": True}))
    with pytest.raises(frames.FrameError, match=message):
        taken.next()
    assert taken.next() == {"good": True}


def test_a_cut_frame_is_an_error_once_and_then_the_end() -> None:
    taken = reader(frames.encode({"a": "x" * 100})[:60])
    with pytest.raises(frames.FrameError, match="ended inside"):
        taken.next()
    assert taken.next() is None


def test_not_a_number_is_refused_on_both_sides() -> None:
    with pytest.raises(ValueError, match="JSON"):
        frames.encode({"a": float("nan")})
    body = b'{"a":NaN}'
    data = frames.MARK + b"%d %08x\n" % (len(body), zlib.crc32(body)) + body + b"\n"
    with pytest.raises(frames.FrameError, match="NaN"):
        reader(data).next()


def test_raw_bytes_behind_a_frame_are_handed_over_whole() -> None:
    taken = reader(frames.encode({"size": 10}) + b"0123456789", chunk=25)
    assert taken.next() == {"size": 10}
    got = b""
    while block := taken.rest(4):
        got += block
    assert got == b"0123456789"


def test_a_document_that_no_reader_would_take_is_not_sent() -> None:
    with pytest.raises(frames.FrameError, match="more than the"):
        frames.encode({"text": "x" * FRAME_LIMIT_BYTES})
