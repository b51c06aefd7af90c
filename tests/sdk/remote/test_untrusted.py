from __future__ import annotations

import io
import json
import zlib
from typing import Any

import pytest

from edgeopt.errors import ProtocolError
from edgeopt.remote.facts import facts_of
from edgeopt.remote.session import next_frame
from edgeopt.remote.untrusted import checked, clean_text, field, one_line
from edgeopt_runner.protocol import frames

FACTS: dict[str, Any] = {
    "model": "Raspberry Pi 5",
    "machine": "aarch64",
    "bits": 64,
    "cpu": "Cortex-A76",
    "isa": ["asimddp"],
    "cores_logical": 4,
    "cores_physical": 4,
    "memory_bytes": 8 << 30,
    "memory_available_bytes": 7 << 30,
    "disk_free_bytes": 1 << 34,
    "os": "Debian",
    "kernel": "6.6",
    "libc": "glibc 2.36",
    "python": "3.11.2",
    "governor": "ondemand",
    "power_mode": "",
    "temperature_celsius": 51.5,
    "boot_id": "x",
    "runtimes": [{"name": "onnxruntime", "version": "1.20", "providers": ["CPUExecutionProvider"]}],
    "fingerprint": "f",
}


class Speaker:
    stderr_tail = ""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


def heard(body: bytes) -> dict[str, Any]:
    speaker = Speaker(b"\x1e EDGEOPT1 %d %08x\n" % (len(body), zlib.crc32(body)) + body + b"\n")
    return next_frame(frames.FrameReader(speaker.read), speaker, "board: probe")  # type: ignore[arg-type]


def test_terminal_escapes_and_forged_lines_do_not_pass() -> None:
    hostile = "\x1b]52;c;ZXZpbA==\x07\x1b[2Jname\r\x9b31m\u202egpj\ud800\x00"
    assert one_line(hostile) == "]52;c;ZXZpbA==[2Jname31mgpj"
    assert clean_text("two\nlines\tstay") == "two\nlines\tstay"
    assert one_line("two\nlines\tbecome one") == "two lines become one"


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1 << 63, -(1 << 70)])
def test_numbers_that_cannot_be_are_refused_however_deep(value: float) -> None:
    with pytest.raises(ProtocolError, match="board: probe: an answer with"):
        checked({"a": [{"b": value}]}, "board: probe")


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1e400}',
        b'{"a": NaN}',
        b'{"a": ' + b"9" * 5000 + b"}",
        b"[1]",
        b"{",
        b'{"a": "\xff"}',
        b'{"a": ' + b"[" * 40 + b"]" * 40 + b"}",
        b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
    ids=lambda body: body[:12].decode("latin1"),
)
def test_frames_that_are_not_sound_json_are_protocol_errors(body: bytes) -> None:
    with pytest.raises(ProtocolError, match="board: probe"):
        heard(body)


def test_an_oversized_frame_is_refused_before_it_is_read() -> None:
    speaker = Speaker(b"\x1e EDGEOPT1 4000000000 00000000\n")
    with pytest.raises(ProtocolError, match="more than"):
        next_frame(frames.FrameReader(speaker.read), speaker, "board")  # type: ignore[arg-type]


def test_fields_have_the_type_that_they_must_have() -> None:
    assert field({"n": 3}, "n", float, "x") == 3.0
    for document in ({}, {"n": "3"}, {"n": True}, {"n": None}, [], None):
        with pytest.raises(ProtocolError, match="n is"):
            field(document, "n", int, "x")


def test_facts_of_a_board() -> None:
    facts = facts_of(FACTS, "board")
    assert facts.isa == ("asimddp",)
    assert facts.runtimes[0].providers == ("CPUExecutionProvider",)


@pytest.mark.parametrize(
    "change",
    [
        {"bits": 48},
        {"cores_logical": 0},
        {"memory_bytes": -1},
        {"isa": "all"},
        {"runtimes": [{"name": "x"}]},
        {"model": None},
        {"temperature_celsius": "hot"},
    ],
    ids=str,
)
def test_facts_that_cannot_be_are_protocol_errors(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError, match="board: probe"):
        facts_of({**FACTS, **change}, "board")


def test_facts_of_an_older_runner_keep_their_defaults() -> None:
    facts = facts_of(FACTS, "board")
    assert (facts.l4t, facts.packages, facts.libraries, facts.page_bytes) == ("", (), {}, None)


def test_optional_facts_that_cannot_be_are_unknown() -> None:
    wrong = {"kernel_bits": 7, "page_bytes": 3, "swap_bytes": -1, "max_khz": 1 << 60, "cores_fast": 99}
    facts = facts_of({**FACTS, **wrong}, "board")
    assert [getattr(facts, name) for name in wrong] == [None] * len(wrong)
    right = {"kernel_bits": 64, "page_bytes": 16384, "swap_bytes": 0, "max_khz": 2400000, "cores_fast": 2}
    facts = facts_of({**FACTS, **right}, "board")
    assert [getattr(facts, name) for name in right] == list(right.values())


def test_lists_and_names_of_facts_have_an_end() -> None:
    many = {"alarms": ["a\nb"] * 5000, "libraries": {"cuda\n" * 500: "1"}}
    facts = facts_of({**FACTS, **many}, "board")
    assert len(facts.alarms) == 128
    assert facts.alarms[0] == "a b"
    assert max(len(name) for name in facts.libraries) <= 200


def test_facts_show_no_line_breaks() -> None:
    assert facts_of({**FACTS, "model": "Pi\n5\trow"}, "board").model == "Pi 5 row"


def test_sound_documents_pass_unchanged() -> None:
    document = {"a": [1, 2.5, True, None, "ä"], "b": {"c": -3}}
    assert heard(json.dumps(document).encode()) == document
