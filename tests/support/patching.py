"""A base, a target and the patch between them, as boards get them."""

from __future__ import annotations

import hashlib
import random
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeopt.deltas import make_patch
from edgeopt_runner.patches import apply
from support.deltas import int8_weights, onnx_file, sha256
from support.runner import bundle_path

NOISE = random.Random(1).randbytes(20_000)


@dataclass(frozen=True)
class Case:
    """A base, a target and the patch between them."""

    base: Path
    target: Path
    patch: Path

    @property
    def digest(self) -> str:
        return sha256(self.target)

    @property
    def size(self) -> int:
        return self.target.stat().st_size

    def apply(self, out: Path, *, base: Path | None = None, patch: Path | None = None) -> None:
        apply(str(base or self.base), str(patch or self.patch), str(out), self.digest, self.size)


def make_case(folder: Path, **weights: int) -> Case:
    """A network of INT8 and float layers, retrained; every kind of operation and grain of stream is in the patch."""
    weights_before = {**int8_weights(**weights), "scale": np.float32([1, 2, 3]), "frozen": np.frombuffer(NOISE, "u1")}
    floats = np.random.default_rng(0).normal(0, 1, 3000).astype(np.float32)
    base = onnx_file(folder / "base.onnx", {**weights_before, "f": floats})
    after = {**weights_before, **int8_weights(noise=0.4, **weights), "f": floats * np.float32(1.001)}
    case = Case(base, onnx_file(folder / "target.onnx", after), folder / "patch")
    make_patch(case.base, case.target, case.patch, ("zlib", "lzma"))
    return case


_CHILD = """
import sys
sys.path.insert(0, sys.argv[1])
from edgeopt_runner import memory, patches
from edgeopt_runner.refusals import Refusal
before = memory.peak_bytes()
try:
    patches.apply(*sys.argv[2:6] + [int(sys.argv[6])])
    end = "ok"
except Refusal as error:
    end = error.code
print(end, memory.peak_bytes() - before)
"""


def peak_growth_bytes(
    base: Path, patch: Path, out: Path, digest: str, size: int, expect: str = "ok", python: str = sys.executable
) -> int:
    """How far the peak memory (VmHWM) of a real child rose while it applied a patch."""
    arguments = [str(bundle_path()), str(base), str(patch), str(out), digest, str(size)]
    done = subprocess.run([python, "-I", "-c", _CHILD, *arguments], capture_output=True, text=True, check=True)
    end, growth = done.stdout.split()
    assert end == expect
    return int(growth)


def written(folder: Path, data: bytes) -> Path:
    """A file of these bytes."""
    path = folder / f"{hashlib.sha256(data).hexdigest()[:16]}.bin"
    path.write_bytes(data)
    return path
