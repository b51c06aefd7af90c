"""The source network, after it became ONNX."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.core.tensor import Signature


@dataclass(frozen=True)
class Artifact:
    """A file in the artifact store.

    Attributes:
        digest: SHA-256 of the bytes, 64 hexadecimal digits; also its name in the store.
        size_bytes: Length.
        format: ``onnx``, ``npz``, ``html``, ...
    """

    digest: str
    size_bytes: int
    format: str


@dataclass(frozen=True)
class Model:
    """The network as the user gave it, in its ONNX form.

    Attributes:
        name: Short name, from the file or the function.
        artifact: The ONNX file, weights inside.
        signature: Inputs and outputs.
        opset: Version of the default operator set.
        ir_version: Version of ONNX's own format.
        source: What the user typed (``model.onnx``, ``nets.py:build``).
        exporter: ``none`` for an ONNX file, else ``dynamo`` or ``torchscript``, with its version.
        notes: What was noticed on the way in (fall-backs, dynamic axes).
    """

    name: str
    artifact: Artifact
    signature: Signature
    opset: int
    ir_version: int
    source: str
    exporter: str = "none"
    notes: tuple[str, ...] = ()
