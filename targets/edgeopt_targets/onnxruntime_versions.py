"""Which opset and IR version an ONNX Runtime reads.

Source: ONNX Runtime, "Compatibility" (onnxruntime.ai/docs/reference/compatibility.html), table of ONNX opset support.
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
    ((1, 22), 23, 11),
)
"""From this release on: largest opset, largest IR version. Beyond the last row nothing is known to be too new."""

EIGHT_BIT_WEIGHTS = (1, 20)
"""The first release that is not known to refuse MatMulNBits with 8 bits (1.19.2 does)."""


def parse(version: str) -> tuple[int, int]:
    """Major and minor of a version text; (0, 0) where it has none."""
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else (0, 0)


def too_new(version: str, opset: int, ir_version: int) -> str | None:
    """Why that runtime cannot read such a file, or ``None``."""
    release = parse(version)
    if release == (0, 0) or release >= _READS[-1][0]:
        return None
    known = [row for row in _READS if row[0] <= release]
    largest_opset, largest_ir = known[-1][1:] if known else (13, 7)
    if opset > largest_opset:
        return f"onnxruntime {version} on the device reads opsets up to {largest_opset}; the network has {opset}"
    if ir_version > largest_ir:
        return f"onnxruntime {version} on the device reads IR versions up to {largest_ir}; the network has {ir_version}"
    return None
