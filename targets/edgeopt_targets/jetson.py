"""NVIDIA Jetsons: TensorRT on the GPU, and the CPU runtimes beside it.

The engine is built on the device from ONNX. Precision is in the file: half by a cast, 8 bits by Q/DQ pairs, signed and
around zero, since TensorRT takes no other. Maxwell and Pascal modules (Nano, TX2) have no 8-bit arithmetic on the GPU;
on their CPUs 8 bits may still win, so only the pair of TensorRT and int8 is refused there.
"""

from __future__ import annotations

from typing import ClassVar

from edgeopt_targets.board import Board


class Jetson(Board):
    """The target of the ``jetson-*`` profiles."""

    name: ClassVar[str] = "jetson"
