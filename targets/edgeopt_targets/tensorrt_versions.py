"""What each TensorRT reads and which one a JetPack has.

Sources: onnx-tensorrt, docs/operators.md of each release branch ("TensorRT 8.5 supports operators up to Opset 17");
NVIDIA, JetPack release notes and archive. NVIDIA gives no opset for 8.4 and 8.6 there; they are taken for 17, as 8.5.
From 10 on the parser on the device decides.
"""

from __future__ import annotations

from edgeopt.core.device import DeviceFacts
from edgeopt_targets.onnxruntime_versions import parse

SOURCE = "onnx-tensorrt docs/operators.md"

_OPSETS = (((6, 0), 10), ((7, 0), 11), ((8, 0), 13), ((8, 4), 17), ((9, 0), 19), ((10, 0), 0))
"""From this release on: largest opset; 0: not limited by us."""

_OF_L4T = (
    ((32, 3), "6.0.1"),
    ((32, 4), "7.1.3"),
    ((32, 6), "8.0.1"),
    ((32, 7), "8.2.1"),
    ((35, 1), "8.4.1"),
    ((35, 2), "8.5.2"),
    ((36, 3), "8.6.2"),
    ((36, 4), "10.3.0"),
    ((38, 2), "10.13.3"),
    ((39, 2), "10.16.2"),
)
"""From this L4T on: the TensorRT of its JetPack."""

FOUR_BIT_WEIGHTS = (10, 0)
"""The first release with 4-bit weights (NVIDIA, TensorRT 10.0 release notes)."""


def largest_opset(version: str) -> int:
    """Largest opset that a TensorRT reads; 0: not limited by us."""
    release = parse(version)
    if release == (0, 0):
        return 0
    known = [opset for first, opset in _OPSETS if first <= release]
    return known[-1] if known else _OPSETS[0][1]


def tensorrt_of(facts: DeviceFacts) -> str:
    """TensorRT that a Jetson's release comes with; empty where that is not known. What is installed goes before."""
    installed = facts.runtime("tensorrt")
    if installed or facts.libraries.get("tensorrt"):
        return installed.version if installed else facts.libraries["tensorrt"]
    release = parse(facts.l4t)
    known = [version for first, version in _OF_L4T if first <= release and first[0] == release[0]]
    return known[-1] if known else ""
