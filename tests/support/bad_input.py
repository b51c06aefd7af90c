"""Files that no command can use, and what is demanded of each refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import helper

from edgeopt.workflow.workspace import Workspace
from support import networks
from support.command import Outcome

DEVICES = "devices:\n- name: shelf\n  transport: ssh\n  host: 192.0.2.7\n  profile: x86-avx512-vnni\n"
_CODE = """
import numpy as np

def none():
    return None

def burns():
    yield np.zeros((1, 8, 8), np.float32), 1
    raise RuntimeError("disk on fire")

def misses(outputs, labels):
    return outputs["nope"].mean()

def nan(outputs, labels):
    return float("nan")
"""


def write_broken_files(place: Path) -> Path:
    """Broken files of every kind, and a sound network and samples."""
    network = networks.small_cnn_onnx(place / "m.onnx")
    networks.write_torch_file(place / "nets.py")
    (place / "code.py").write_text(_CODE)
    (place / "dir.onnx").mkdir()
    (place / "text.onnx").write_text("hello, I am not a network\n")
    (place / "short.onnx").write_bytes(network.read_bytes()[:-500])
    (place / "empty.onnx").touch()
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="f")
    networks.save(place / "op.onnx", [node], {"x": (1, 4)}, {"y": (1, 4)})
    model = onnx.load(str(network))
    onnx.save_model(model, str(place / "ext.onnx"), save_as_external_data=True, size_threshold=0, location="ext.bin")
    (place / "ext.bin").unlink()
    for name in ("keras.h5", "weights.pth", "net.tflite", "net.xyz", "bad.npz"):
        (place / name).write_text("123")
    _write_samples(place)
    return place


def _write_samples(place: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40)
    spoiled = images.copy()
    spoiled[7, 0, 1, 1] = np.nan
    samples: dict[str, dict[str, Any]] = {
        "ok": {"image": images, "labels": labels},
        "name": {"picture": images, "labels": labels},
        "hwc": {"image": images.transpose(0, 2, 3, 1), "labels": labels},
        "bytes": {"image": (images * 9).astype(np.uint8), "labels": labels},
        "nan": {"image": spoiled, "labels": labels},
        "length": {"image": images, "labels": labels[:30]},
        "range": {"image": images, "labels": labels + 5},
        "none": {"image": images[:0], "labels": labels[:0]},
        "one": {"image": images[:1], "labels": labels[:1]},
    }
    for name, arrays in samples.items():
        np.savez(place / f"{name}.npz", **arrays)


def refused(outcome: Outcome, code: int, *parts: str) -> None:
    """One message with a remedy, on stderr alone, holding `parts`."""
    assert outcome.code == code, outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("edgeopt: ") == 1
    said = outcome.stderr[outcome.stderr.index("edgeopt: ") :]
    message, _, remedy = said.partition("\n  what to do: ")
    assert "\n" not in message, "the message is one line"
    assert remedy.strip(), f"no remedy: {said}"
    for part in parts:
        assert part in said


def nothing_lost(home: Path) -> None:
    """The inventory is as it was, the ledger opens and holds no run, and no half-written file is left."""
    assert (home / "devices.yaml").read_text() == DEVICES
    with Workspace.open() as workspace:
        assert [device.name for device in workspace.inventory.devices()] == ["shelf"]
        assert workspace.ledger.runs() == ()
    assert not [path for path in home.rglob("*") if path.name.endswith((".part", ".tmp"))]
    assert not (home / "last-error.txt").exists()
