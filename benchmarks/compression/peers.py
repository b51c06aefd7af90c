"""Forms of the benchmark's networks that other tools make alone, with their own defaults, as ONNX files.

Each competes in the same run as `--candidate` would let it. One that does not install or fails is told with its reason.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import torch
from torch import nn

EPOCHS = 15
"""Of fine-tuning after Torch-Pruning: as many as edgeopt's own recipes train."""


def export(network: nn.Module, path: Path) -> Path:
    """Write a network as ONNX with the names that edgeopt's own export gives."""
    torch.onnx.export(
        network.eval(),
        (torch.zeros(1, 1, networks.SIZE, networks.SIZE),),
        path,
        dynamo=False,
        opset_version=17,
        input_names=["image"],
        output_names=["output"],
        dynamic_axes={"image": {0: "batch"}, "output": {0: "batch"}},
    )
    return path


def onnxruntime_static(network: nn.Module, path: Path) -> Path:
    """ONNX Runtime's static quantiser as its documentation calls it: preprocessing, then defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter([{"image": one[None]} for one in networks.split()[0][0][:128]])

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    prepared = path.with_name("prepared.onnx")
    quant_pre_process(str(export(network, path.with_name("source.onnx"))), str(prepared))
    quantize_static(str(prepared), str(path), Reader())
    return path


def onnxruntime_dynamic(network: nn.Module, path: Path) -> Path:
    """ONNX Runtime's dynamic quantiser with its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(str(export(network, path.with_name("source.onnx"))), str(path))
    return path


def torch_pruning(network: nn.Module, path: Path) -> Path:
    """Torch-Pruning's magnitude pruner as its README calls it, half of the channels, then plain fine-tuning."""
    import torch_pruning as pruning

    narrow = copy.deepcopy(network)
    heads = {layer.query: 4 for layer in narrow.modules() if hasattr(layer, "query")}
    pruner = pruning.pruner.BasePruner(
        narrow,
        torch.zeros(1, 1, networks.SIZE, networks.SIZE),
        importance=pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=0.5,
        ignored_layers=[narrow.head],
        round_to=8,
        num_heads=heads,
    )
    pruner.step()
    pictures, labels = (torch.from_numpy(array) for array in networks.split()[0])
    optimiser = torch.optim.AdamW(narrow.parameters(), lr=1e-3)
    torch.manual_seed(0)
    narrow.train()
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(pictures)).split(networks.BATCH):
            loss = nn.functional.cross_entropy(narrow(pictures[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return export(narrow, path)


def nncf_static(network: nn.Module, path: Path) -> Path:
    """NNCF's post-training quantisation of the ONNX file with its defaults."""
    import nncf
    import onnx

    model = onnx.load(export(network, path.with_name("source.onnx")))
    feeds = [{"image": one[None]} for one in networks.split()[0][0][:128]]
    onnx.save(nncf.quantize(model, nncf.Dataset(feeds)), path)
    return path


PEERS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "peer-ort-static": onnxruntime_static,
    "peer-ort-dynamic": onnxruntime_dynamic,
    "peer-torch-pruning": torch_pruning,
    "peer-nncf": nncf_static,
}


def make(name: str, network: nn.Module, folder: Path) -> tuple[Path | None, str]:
    """The file of one peer, or ``None`` and the reason why there is none."""
    place = folder / name
    place.mkdir(parents=True, exist_ok=True)
    path = place / f"{name}.onnx"
    if path.exists():
        return path, ""
    try:
        made: Any = PEERS[name](network, place / "made.onnx")
    except Exception as error:  # other tools raise whatever they raise
        return None, f"{type(error).__name__}: {' '.join(str(error).split())[:160]}"
    made.replace(path)
    return path, ""
