"""For tests of passes that repair or replace a network: pruned networks, running a pass, weights of a file."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

from edgeopt.core.recipe import PassSpec
from edgeopt.graph.torch_export import export_onnx
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext, PassReport
from edgeopt.passes.registry import load_pass
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.trained import Trained


def pruned(files: Trained, path: Path, ratio: float = 0.5) -> Path:
    """The network with the smallest channels of every layer gone and nothing repaired."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import torch_pruning

        network = import_onnx(files.network)
        pruner = torch_pruning.pruner.BasePruner(
            network,
            torch.zeros(2, 1, 8, 8),
            importance=torch_pruning.importance.MagnitudeImportance(p=2),
            pruning_ratio=ratio,
            ignored_layers=[network.get_submodule("head_Gemm")],
        )
        pruner.step()
    export_onnx(network, like=files.network, destination=path)
    return path


def apply(name: str, source: Path, files: Trained, destination: Path, /, **settings: Any) -> PassReport:
    """Run a pass; `settings` are its options, and fields of `PassContext` where they are named so.

    There are calibration inputs and the original, but no training samples, unless `settings` say so.
    """
    torch.set_num_threads(1)
    context: dict[str, Any] = {"calibration": files.calibration, "original": files.network}
    fields = ("calibration", "original", "training", "seed", "loss", "checkpoint")
    context |= {name: settings.pop(name) for name in fields if name in settings}
    step = load_pass(PassSpec(name, settings))
    return step.apply(source, destination, PassContext(work=destination.parent, **context))


def weights(path: Path) -> dict[str, np.ndarray]:
    """Initialisers by name."""
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in onnx.load(path).graph.initializer}


def parameters(path: Path) -> int:
    """Numbers in all initialisers."""
    return sum(array.size for array in weights(path).values())


def spoilt(files: Trained, path: Path) -> Path:
    """Calibration samples of which one holds a NaN."""
    images = np.stack([sample.inputs["image"] for sample in SampleFile(str(files.calibration))])
    images[3, 0, 0, 4, 4] = np.nan
    write_samples(str(path), {"input:image": images})
    return path
