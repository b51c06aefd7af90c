"""What only a hostile host would send: well-formed patches that say what must not be done."""

import lzma
import zlib
from pathlib import Path

import pytest

from edgeopt_runner.patches import apply
from edgeopt_runner.protocol import patch_format
from edgeopt_runner.protocol.patch_format import ADD, COPY, DATA, LZMA, OPERATION, RAW, ZLIB, Part, Patch, Stream
from edgeopt_runner.refusals import Refusal
from support.patching import peak_growth_bytes, written


def hostile(
    folder: Path, operations: list[tuple[int, int, int, int]], parts: list[tuple], **sizes: int
) -> tuple[Path, int]:
    """A patch on a base of 100 bytes; parts are (key, grain, plain bytes, codec, content)."""
    streams: dict[patch_format.Key, Stream] = {}
    for key, grain, plain, codec, content in parts:
        before = streams.get(key, Stream(grain, plain, ()))
        streams[key] = Stream(grain, plain, (*before.parts, Part(codec, 0, len(content))))
    packed = b"".join(OPERATION.pack(kind, width, 0, 0, length, offset) for kind, width, length, offset in operations)
    size = sizes.get("size", sum(length for _, _, length, _ in operations))
    patch = Patch("11" * 32, 100, "22" * 32, size, streams, packed)
    return written(folder, patch_format.pack(patch) + b"".join(content for *_, content in parts)), size


BOMB = zlib.compress(bytes(50 << 20))
WIDE = lzma.compress(
    b"x" * 99, format=lzma.FORMAT_ALONE, filters=[{"id": lzma.FILTER_LZMA1, "dict_size": 1 << 26, "preset": 0}]
)
ONE = (DATA, 1, 0)
HOSTILE = {
    "reads past the base": ([(COPY, 1, 50, 51)], []),
    "reads far past the base": ([(COPY, 1, 50, 2**64 - 20)], []),
    "unknown kind": ([(4, 1, 10, 0)], []),
    "no width": ([(ADD, 0, 10, 0)], []),
    "odd width": ([(DATA, 3, 9, 0)], [((DATA, 3, plane), 8, 3, RAW, b"abc") for plane in range(3)]),
    "length is no multiple": ([(ADD, 4, 10, 0)], []),
    "empty operation": ([(COPY, 1, 0, 0)], []),
    "no stream": ([(DATA, 1, 10, 0)], []),
    "stream too short": ([(DATA, 1, 10, 0)], [(ONE, 8, 10, ZLIB, zlib.compress(b"nine byte"))]),
    "stream not used up": ([(DATA, 1, 10, 0)], [(ONE, 8, 11, RAW, b"eleven byte")]),
    "stream nobody uses": ([(COPY, 1, 10, 0)], [((COPY, 1, 0), 8, 5, RAW, b"abcde")]),
    "raw of another size": ([(DATA, 1, 10, 0)], [(ONE, 8, 10, RAW, b"abc")]),
    "part missing": ([(DATA, 1, 10, 0)], [(ONE, 4, 10, RAW, b"abcde")]),
    "part too many": ([(DATA, 1, 5, 0)], [(ONE, 8, 5, RAW, b"abcde")] * 2),
    "unknown grain": ([(DATA, 1, 8, 0)], [(ONE, 1, 8, RAW, b"a")] * 8),
    "no grain": ([(DATA, 1, 8, 0)], [(ONE, 0, 8, RAW, b"")]),
    "parts disagree": ([(DATA, 1, 4, 0)], [(ONE, 4, 4, RAW, b"ab"), (ONE, 4, 4, ZLIB, b"")]),
    "lzma in a part of bits": ([(DATA, 1, 4, 0)], [(ONE, 4, 4, LZMA, WIDE)] * 2),
    "unknown codec": ([(DATA, 1, 4, 0)], [(ONE, 8, 4, 9, b"abcd")]),
    "not zlib": ([(DATA, 1, 4, 0)], [(ONE, 8, 4, ZLIB, b"abcd")]),
    "lzma that takes 64 MiB": ([(DATA, 1, 99, 0)], [(ONE, 8, 99, LZMA, WIDE)]),
    "bz2 that takes 4 MiB": ([(DATA, 1, 99, 0)], [(ONE, 8, 99, 2, b"BZh9" + bytes(50))]),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_patch_is_refused(tmp_path: Path, name: str) -> None:
    operations, parts = HOSTILE[name]
    patch, size = hostile(tmp_path, operations, parts)
    base = written(tmp_path, bytes(100))
    with pytest.raises(Refusal) as caught:
        apply(str(base), str(patch), str(tmp_path / "out"), "22" * 32, size)
    assert caught.value.code == "bad_patch", caught.value.message
    assert not list(tmp_path.glob("out*"))


def test_tables_that_are_too_long_are_refused(tmp_path: Path) -> None:
    base = written(tmp_path, bytes(100))
    many, size = hostile(tmp_path, [(COPY, 1, 1, 0)] * (patch_format.MOST_OPERATIONS + 1), [])
    keys = [(kind, width, plane) for kind in (1, 2, 3) for width in (1, 2, 4, 8) for plane in range(width)]
    parts = [(key, 4, 0, RAW, b"") for key in keys for _ in range(2)]
    for patch, length in ((many, size), hostile(tmp_path, [], parts)):
        with pytest.raises(Refusal, match="too many"):
            apply(str(base), str(patch), str(tmp_path / "out"), "22" * 32, length)


def test_a_bomb_gives_no_more_than_was_declared(tmp_path: Path) -> None:
    base = written(tmp_path, bytes(100))
    patch, size = hostile(tmp_path, [(DATA, 1, 1000, 0)], [(ONE, 8, 1000, ZLIB, BOMB)])
    peak = peak_growth_bytes(base, patch, tmp_path / "out", "22" * 32, size, expect="digest_mismatch")
    assert peak < 2 << 20
