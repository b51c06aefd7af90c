"""Forms of the benchmark's networks that other tools make alone, with their own defaults, as ONNX files.

Each competes in the same run as `--candidate` would let it. One that does not install or fails is told with its reason.
"""

from __future__ import annotations

import copy
import subprocess
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networks
import numpy as np
import torch
from torch import nn

EPOCHS, QAT_EPOCHS = 15, 5
"""Of fine-tuning after Torch-Pruning, and of torch.ao: as many as edgeopt's own recipes train."""

PRUNED = 0.375
"""Share of the channels."""

NNCF = ("nncf==3.4.0", "onnx==1.23.2", "onnxruntime==1.32.0")
DEADLINE_SECONDS, INSTALL_SECONDS = 300.0, 900.0


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


def fit(network: nn.Module, epochs: int) -> None:
    """Plain training on the labels, as these tools' documentations do it."""
    pictures, labels = (torch.from_numpy(array) for array in networks.split()[0])
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-3)
    torch.manual_seed(0)
    network.train()
    for _ in range(epochs):
        for batch in torch.randperm(len(pictures)).split(networks.BATCH):
            loss = nn.functional.cross_entropy(network(pictures[batch]), labels[batch])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


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
    """Torch-Pruning's magnitude pruner as its README calls it, then plain fine-tuning.

    The ratio leaves as much work as `prune-trained` does (0.4 of it), so that equal sizes are compared.
    """
    import torch_pruning as pruning

    narrow = copy.deepcopy(network)
    heads = {layer.query: 4 for layer in narrow.modules() if hasattr(layer, "query")}
    pruner = pruning.pruner.BasePruner(
        narrow,
        torch.zeros(1, 1, networks.SIZE, networks.SIZE),
        importance=pruning.importance.GroupMagnitudeImportance(),
        pruning_ratio=PRUNED,
        ignored_layers=[narrow.head],
        round_to=8,
        num_heads=heads,
    )
    pruner.step()
    fit(narrow, EPOCHS)
    return export(narrow, path)


def torch_ao_qat(network: nn.Module, path: Path) -> Path:
    """torch.ao's FX quantisation-aware training with its defaults for x86, its simulated rounding exported as Q/DQ.

    The exporter has no form for what torch.ao's own conversion makes (quantised or reference modules), so weights are
    rounded as the file is loaded and stay float in it, batch norms too: compare its accuracy, not its size.
    """
    from torch.ao import quantization
    from torch.ao.quantization import quantize_fx

    mapping = quantization.QConfigMapping().set_global(quantization.get_default_qat_qconfig("fbgemm", version=0))
    example = (torch.zeros(1, 1, networks.SIZE, networks.SIZE),)
    model = quantize_fx.prepare_qat_fx(copy.deepcopy(network).train(), mapping, example)
    fit(model, QAT_EPOCHS)
    model.apply(quantization.disable_observer)
    return export(model, path)


def nncf_static(network: nn.Module, path: Path) -> Path:
    """NNCF's post-training quantisation of the ONNX file with its defaults, in an environment of its own."""
    python = _nncf_python(networks.FOLDER / "nncf-venv")
    source, feeds = export(network, path.with_name("source.onnx")), path.with_name("feeds.npy")
    np.save(feeds, networks.split()[0][0][:128])
    words = [str(python), str(Path(__file__).with_name("peer_nncf.py")), str(source), str(feeds), str(path)]
    _child(words, DEADLINE_SECONDS)
    return path


def _nncf_python(folder: Path) -> Path:
    """The interpreter that has NNCF, which pins other versions of much than edgeopt uses; installed on first use."""
    python = folder / "bin" / "python"
    if not (folder / "complete").exists():
        venv.create(folder, with_pip=True, clear=True)
        _child([str(python), "-m", "pip", "install", "-q", *NNCF], INSTALL_SECONDS)
        (folder / "complete").touch()
    return python


def _child(words: list[str], seconds: float) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=seconds, check=False)
    if done.returncode:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1])


MAKERS = {
    "peer-ort-static": "ONNX Runtime",
    "peer-ort-dynamic": "ONNX Runtime",
    "peer-torch-pruning": "Torch-Pruning",
    "peer-torch-ao-qat": "torch.ao",
    "peer-nncf": "NNCF",
}
PEERS: dict[str, Callable[[nn.Module, Path], Path]] = {
    "peer-ort-static": onnxruntime_static,
    "peer-ort-dynamic": onnxruntime_dynamic,
    "peer-torch-pruning": torch_pruning,
    "peer-torch-ao-qat": torch_ao_qat,
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
