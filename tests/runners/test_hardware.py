"""What names a board's hardware, and what does not."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgeopt_runner import hardware
from edgeopt_runner.board import Board
from edgeopt_runner.protocol.hardware import MOST_MARKS, mark, marks_in, same

SERIAL, MAC, OTHER = (
    mark("serial", "10000000abcdef01"),
    mark("mac", "d8:3a:dd:01:02:03"),
    mark("mac", "48:b0:2d:01:02:03"),
)


def adapter(board: Path, name: str, address: str, *, assigned: int = 0, real: bool = True) -> None:
    folder = board / "sys/class/net" / name
    (folder / ("device" if real else "queues")).mkdir(parents=True)
    (folder / "address").write_text(address + "\n")
    (folder / "addr_assign_type").write_text(f"{assigned}\n")


def serial(board: Path, text: str) -> None:
    folder = board / "sys/firmware/devicetree/base"
    folder.mkdir(parents=True)
    (folder / "serial-number").write_bytes(text.encode() + b"\0")


def test_a_serial_number_and_the_makers_addresses_are_marks_and_none_of_them_is_told(tmp_path: Path) -> None:
    serial(tmp_path, "10000000abcdef01")
    adapter(tmp_path, "wlan0", "D8:3A:DD:01:02:03")
    adapter(tmp_path, "eth0", "48:b0:2d:01:02:03")
    found = hardware.marks(Board(str(tmp_path)))
    assert found == [SERIAL, OTHER, MAC]
    assert marks_in(found) == found
    assert not any("abcdef01" in one or "3a" in one[:8] for one in found)


def test_what_software_chose_and_what_is_no_number_are_no_marks(tmp_path: Path) -> None:
    serial(tmp_path, "0000000000000000")
    adapter(tmp_path, "wlan0", "d8:3a:dd:01:02:03", assigned=1)
    adapter(tmp_path, "docker0", "48:b0:2d:01:02:03", real=False)
    adapter(tmp_path, "usb0", "02:fc:00:00:00:01")
    adapter(tmp_path, "can0", "00:00:00:00:00:00")
    adapter(tmp_path, "ib0", "80:00:02:08:fe:80:00:00")
    adapter(tmp_path, "ppp0", "none")
    assert hardware.marks(Board(str(tmp_path))) == []


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ([SERIAL, MAC], [SERIAL, OTHER], True),
        ([SERIAL, MAC], [mark("serial", "2"), MAC], False),  # an adapter went from one board to the other
        ([MAC], [SERIAL, MAC, OTHER], True),
        ([MAC], [OTHER], False),
        ([SERIAL], [MAC], None),
        ([], [SERIAL], None),
    ],
)
def test_serial_numbers_decide_before_addresses_and_nothing_is_guessed(
    one: list[str], other: list[str], verdict: bool | None
) -> None:
    assert same(one, other) is verdict
    assert same(other, one) is verdict


@pytest.mark.parametrize("said", [None, "serial-0", 7, {}, ["serial-xyz", 3, "<script>", MAC + "\n"]])
def test_what_is_no_mark_is_left_out_of_what_a_board_says(said: object) -> None:
    assert marks_in(said) == []
    assert len(marks_in([MAC] * 1000)) == MOST_MARKS
