"""The client of a lent stage against devices that say what they should not; they are real processes."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from edgeopt.errors import DeviceError, LinkLostError, ProtocolError, UsageError
from edgeopt.remote.loader import Placed
from edgeopt.remote.local import LocalLink
from edgeopt.remote.stage import Stage
from edgeopt_runner.protocol import frames, tensors

READY = frames.encode({"ready": True, "inputs": ["x"], "outputs": ["y"], "pid": 1})
FEEDS = {"x": np.zeros(4, np.float32)}
ANSWER = {"y": np.ones(3, np.float32)}


def stage_that_says(folder: Path, *parts: bytes) -> Stage:
    """A stage on a device that says the first part at once and the others as requests come, and ends."""
    program = folder / "device.py"
    program.write_text(
        f"#!{sys.executable}\nimport os\n"
        f"for number, part in enumerate({parts!r}):\n"
        "    number and os.read(0, 65536)\n"
        "    os.write(1, part)\n"
    )
    program.chmod(0o755)
    placed = Placed(str(program), "3.11.0", "bundle", "/root", "", 0.0)
    return Stage(LocalLink("board"), placed, "0" * 64, {}, "stage 1 of 2")


def answer(**head: object) -> bytes:
    return tensors.encode({"number": 1, "busy_ns": 1, **head}, ANSWER)


def test_outputs_come_with_what_each_part_took(tmp_path: Path) -> None:
    with stage_that_says(tmp_path, b"Welcome!\n" + READY, answer(), answer(number=2)) as stage:
        assert (stage.inputs, stage.outputs) == (("x",), ("y",))
        for _ in range(2):
            found = stage.run(FEEDS)
            np.testing.assert_array_equal(found.outputs["y"], ANSWER["y"])
            assert found.busy_ns == 1
            assert found.there_ns > 0
            assert found.back_ns >= 0


WRONG = {
    "a cut tensor": (answer()[:-1], ProtocolError),
    "a cut head": (answer()[:20], DeviceError),
    "nothing": (b"", LinkLostError),
    "another request": (answer(number=7), ProtocolError),
    "other outputs": (tensors.encode({"number": 1, "busy_ns": 1}, {"z": ANSWER["y"]}), ProtocolError),
    "longer than it took": (answer(busy_ns=1 << 60), ProtocolError),
    "a negative time": (answer(busy_ns=-1), ProtocolError),
    "no tensors": (frames.encode({"number": 1, "busy_ns": 1, "tensors": [["y", "|O", [1]]]}), ProtocolError),
    "too many bytes": (frames.encode({"number": 1, "busy_ns": 1, "tensors": [["y", "<f8", [1 << 27]]]}), ProtocolError),
}


@pytest.mark.parametrize(("said", "kind"), WRONG.values(), ids=WRONG)
def test_an_answer_that_is_none_names_the_device_and_the_stage(
    tmp_path: Path, said: bytes, kind: type[DeviceError]
) -> None:
    with stage_that_says(tmp_path, READY, said) as stage, pytest.raises(kind, match=r"^board: stage 1 of 2: "):
        stage.run(FEEDS)


def test_feeds_that_are_no_numbers_are_refused_here(tmp_path: Path) -> None:
    with stage_that_says(tmp_path, READY) as stage, pytest.raises(UsageError, match="no numbers"):
        stage.run({"x": np.array(["a"])})


def test_a_refusal_is_told_with_its_code(tmp_path: Path) -> None:
    refusal = frames.encode({"ok": False, "error": {"code": "busy", "message": "in use by berta", "remedy": "Wait."}})
    with pytest.raises(DeviceError, match=r"^board: stage 1 of 2: in use by berta \(busy\)"):
        stage_that_says(tmp_path, refusal)
