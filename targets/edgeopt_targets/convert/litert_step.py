"""The part of `convert_litert` that runs where litert-torch is installed: ONNX to a float TFLite file."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeopt.child import report_progress
from edgeopt.errors import PassError
from edgeopt.graph.torch_import import ImportedNetwork, import_onnx
from edgeopt_targets.convert import tflite_model

_OPERATOR = re.compile(r"(aten::[\w.]+|torch\.ops\.[\w.]+|(?:aten|prims)\.[\w.]+)")
_SCOPE = re.compile(r"\.[A-Za-z0-9]+_(\w+)$")
_CHANNELS_LAST = "NHWC"


def convert(source: str, destination: str, note: str, layout: str) -> None:
    """Convert a network.

    Args:
        source: ONNX file.
        destination: TFLite file to make; names of inputs and outputs are the original's.
        note: Signature of the original (`ports.record`), all sizes of inputs fixed.
        layout: Of `onnx_to_litert.Options`.

    Raises:
        PassError: litert-torch does not take the network; names the operator where it is one.
        ModelError: The network cannot be read as a torch network; names the operator.
    """
    import torch

    torch.set_num_threads(2)
    ports = json.loads(note)
    network = import_onnx(Path(source))
    feeds = tuple(_zeros(port) for port in ports["inputs"])
    module, feeds = _moved(network, feeds, ports) if layout == "nhwc" else (network, feeds)
    report_progress("converting to TFLite", 0.1)
    partial = Path(f"{destination}.raw")
    _lower(module, feeds, partial)
    model = tflite_model.load(partial)
    _name(model, ports)
    tflite_model.attach(model, {**ports, "layers": _layers(network)})
    tflite_model.save(model, Path(destination))


def _zeros(port: Mapping[str, Any]) -> Any:
    import torch

    return torch.zeros(port["shape"], dtype=getattr(torch, port["dtype"]))


def _moved(network: ImportedNetwork, feeds: Sequence[Any], ports: dict[str, Any]) -> tuple[Any, tuple[Any, ...]]:
    """The network with channels last at its pictures; their ports say so."""
    import litert_torch
    import torch

    with torch.no_grad():
        found = network(*feeds)
    outputs = found if isinstance(found, tuple) else (found,)
    places = [[index for index, one in enumerate(values) if one.dim() == 4] for values in (feeds, outputs)]
    for kind, numbers in zip(("inputs", "outputs"), places, strict=True):
        for number in numbers:
            ports[kind][number]["layout"] = _CHANNELS_LAST
    module = litert_torch.to_channel_last_io(network, args=places[0], outputs=places[1])
    moved = (one.permute(0, 2, 3, 1).contiguous() if one.dim() == 4 else one for one in feeds)
    return module.eval(), tuple(moved)


def _lower(module: Any, feeds: tuple[Any, ...], destination: Path) -> None:
    import litert_torch

    try:
        litert_torch.convert(module, feeds).export(str(destination))
    except Exception as error:  # the exporter, the compiler and the writer raise of all kinds
        text = " ".join(str(error).split())
        operator = _OPERATOR.search(text)
        where = f"operator {operator[1]}: " if operator else ""
        raise PassError(f"{where}{type(error).__name__}: {text[:300]}") from None


def _name(model: Any, ports: dict[str, Any]) -> None:
    """Inputs and outputs as in the original; tensors after their layers, not after every function that traced them.

    The converter's names are longer than a small network's weights; for outputs they do not tell the layer, which its
    weights tell.
    """
    graph = model.subgraphs[0]
    layers = [_layers_in(tflite_model.text(tensor.name)) for tensor in graph.tensors]
    for operator in graph.operators:
        told = [layers[number] for number in operator.inputs[1:] if number >= 0 and layers[number]]
        for number in operator.outputs:
            layers[number] = layers[number] or ";".join(told[:1])
    for number, tensor in enumerate(graph.tensors):
        tensor.name = f"{layers[number]};{number}".encode()
    signature = model.signatureDefs[0]
    for kind, maps in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        for port, entry in zip(ports[kind], sorted(maps, key=_place), strict=True):
            entry.name = port["name"].encode()
            port["tensor"] = tflite_model.text(graph.tensors[entry.tensorIndex].name)


def _place(entry: Any) -> int:
    """Of an input or output: the converter calls them ``args_0`` and ``output_0``."""
    return int(tflite_model.text(entry.name).rpartition("_")[2])


def _layers_in(name: str) -> str:
    """The layers whose work a tensor is, joined by semicolons."""
    found = (_SCOPE.search(part) for part in name.split(";"))
    return ";".join(dict.fromkeys(match[1] for match in found if match))


def _layers(network: ImportedNetwork) -> dict[str, str]:
    """How layers are called in tensors' names, by the name of their ONNX node."""
    return {node: path.replace(".", "_") for path, node in network.layer_names.items()}
