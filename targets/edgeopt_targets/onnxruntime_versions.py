"""Which opset and IR version an ONNX Runtime reads.

Source: ONNX Runtime, "Compatibility" (onnxruntime.ai/docs/reference/compatibility.html), table of ONNX opset support;
from 1.19 on a network of one node in every opset and IR version, loaded in the wheels themselves.
"""

from __future__ import annotations

import re

_READS = (
    ((1, 8), 14, 7),
    ((1, 9), 15, 8),
    ((1, 11), 16, 8),
    ((1, 12), 17, 8),
    ((1, 14), 18, 8),
    ((1, 15), 19, 9),
    ((1, 17), 20, 9),
    ((1, 18), 21, 10),
    ((1, 21), 22, 10),
    ((1, 23), 23, 11),
    ((1, 24), 25, 13),
    ((1, 25), 26, 13),
    ((1, 32), 28, 14),
)
"""From this release on: largest opset, largest IR version. From the last row on nothing is known to be too new."""

FIRST_WITH_WEIGHT_BITS = {4: (1, 16), 8: (1, 20), 2: (1, 24)}
"""The first release that is not known to refuse MatMulNBits with that many bits: 1.19.2 refuses 8, 1.23.2 refuses 2."""


def parse(version: str) -> tuple[int, int]:
    """Major and minor of a version text; (0, 0) where it has none."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def reads(version: str) -> tuple[int, int] | None:
    """Largest opset and largest IR version that a release reads; ``None``: nothing is known to be too new for it."""
    release = parse(version)
    if release == (0, 0) or release >= _READS[-1][0]:
        return None
    known = [row for row in _READS if row[0] <= release]
    return known[-1][1:] if known else (13, 7)


def oldest_reading(opset: int, ir_version: int) -> str:
    """The oldest release that is known to read such a file; empty where all do, or none is known."""
    if not too_new("1.0", opset, ir_version):
        return ""
    able = (f"{row[0][0]}.{row[0][1]}" for row in _READS if row[1] >= opset and row[2] >= ir_version)
    return next(able, "")


def too_new(version: str, opset: int, ir_version: int) -> str | None:
    """Why that runtime cannot read such a file, and what would help; ``None``: it can."""
    limits = reads(version)
    if limits and opset > limits[0]:
        return (
            f"onnxruntime {version} on the device reads opsets up to {limits[0]}; the network has {opset} "
            f"(export it again with opset {limits[0]} or lower)"
        )
    if limits and ir_version > limits[1]:
        return (
            f"onnxruntime {version} on the device reads IR versions up to {limits[1]}; the network has {ir_version} "
            f"(lower it: onnx.save with ir_version {limits[1]} is exact where the opset fits)"
        )
    return None
