"""The record of the original's inputs and outputs that travels in a converted file (`edgeopt_runner.engines`)."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.core.tensor import Signature, TensorSpec


def record(
    signature: Signature, tensors: Mapping[str, str] | None = None, layouts: Mapping[str, str] | None = None
) -> str:
    """The record as JSON: what an engine must rename, move and cast so that users feed what they feed the original.

    Args:
        signature: Of the original; its sizes where they are fixed.
        tensors: Names in the file by names of the original; missing ones are the same.
        layouts: Order of a tensor's dimensions in the file, by names of the original, where it is another.
    """

    def ports(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
        return [
            {
                "name": spec.name,
                "tensor": (tensors or {}).get(spec.name, spec.name),
                "dtype": spec.dtype,
                "shape": list(spec.shape),
                **({"layout": layouts[spec.name]} if layouts and spec.name in layouts else {}),
            }
            for spec in specs
        ]

    return json.dumps({"inputs": ports(signature.inputs), "outputs": ports(signature.outputs)}, sort_keys=True)
