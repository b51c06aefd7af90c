"""Exports a user's torch network with nothing folded, for the passes that train (runs in a child process).

Not the file that is measured and shipped: that one comes from `edgeopt.graph.export`, optimised by its exporter. Here
batch normalisation must stay a layer of its own, which the newer exporter's optimiser and the older one's evaluation
mode both fold away.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from edgeopt.errors import ModelError
from edgeopt.graph.export import Attempt, attempts_of, check_parity, export_network, reason_of
from edgeopt.graph.torch_export import quiet
from edgeopt.graph.torch_import import import_onnx
from edgeopt.graph.torch_source import Network, load_network
from edgeopt.graph.torch_tidy import tidy


def export_trainable(
    source: str, destination: str, input_shapes: Mapping[str, list[int]], example: str | None
) -> dict[str, Any]:
    """Export ``file.py:function``, ``package.module:function`` or a `.pt2` file in the form that can be trained.

    Args:
        source: What the user typed.
        destination: The ONNX file to make.
        input_shapes: Sizes of the example inputs by name; they override the function's own.
        example: An `.npz` with one feed by input name, or ``None``.

    Returns:
        ``exporter`` with its version, and ``notes``.

    Raises:
        ModelError: It cannot be loaded or exported, loses batch normalisation on the way, or has an operator that
            cannot be taken back into torch.
    """
    torch.set_num_threads(min(2, torch.get_num_threads()))
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    network = load_network(source, input_shapes, example)
    failures: list[str] = []
    for attempt in sorted(attempts_of(network), key=lambda way: (not way.dynamic, way.exporter == "dynamo")):
        try:
            _write(network, attempt, Path(destination))
        except Exception as error:  # the exporters raise whatever the network's code and their own passes raise
            failures.append(f"{attempt}: {reason_of(error)}")
        else:
            return {"exporter": f"{attempt.exporter} (torch {torch.__version__})", "notes": list(network.notes)}
    raise ModelError(
        f"{source} could not be exported for training. {'; '.join(failures)}.",
        remedy="Passes that train are left out; those that work on the finished network are not.",
    )


def _write(network: Network, attempt: Attempt, destination: Path) -> None:
    with quiet():
        export_network(network, attempt, str(destination), trainable=True)
    model = onnx.load(str(destination))
    tidy(model)
    _demand_batch_norms(network, model)
    destination.write_bytes(model.SerializeToString(deterministic=True))
    check_parity(network, attempt, destination)
    import_onnx(destination)


def _demand_batch_norms(network: Network, model: Any) -> None:
    layers = sum(isinstance(module, _BatchNorm) for module in network.module.modules())
    if layers and not any(node.op_type == "BatchNormalization" for node in model.graph.node):
        raise ModelError(f"its {layers} batch normalisations were folded away")
