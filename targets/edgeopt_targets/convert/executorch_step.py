"""The part of `convert_executorch` that runs where ExecuTorch is installed: ONNX to a `.pte` file for XNNPACK.

8 bits are static quantisation of torch's exported graph (PT2E) before it is lowered; Jacob, Kligys, Chen, Zhu, Tang,
Howard, Adam, Kalenichenko: Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only
Inference, 2018.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeopt.child import report_progress
from edgeopt.errors import PassError
from edgeopt.graph.torch_import import ImportedNetwork, import_onnx
from edgeopt_runner.engines.executorch import RECORD
from edgeopt_runner.protocol.samples import SampleFile
from edgeopt_targets.convert.executorch_census import Census, census

_FOREMOST = 6


def convert(
    source: str, destination: str, note: str, *, samples: str, limit: int, keep_float: Sequence[str]
) -> dict[str, Any]:
    """Convert a network.

    Args:
        source: ONNX file.
        destination: The file to make.
        note: Signature of the original (`ports.record`), all sizes of inputs fixed.
        samples: Sample file for the ranges of activations; empty: stay in float.
        limit: Largest number of samples.
        keep_float: ONNX nodes that stay in float.

    Returns:
        ``notes`` and ``kept_float``, as in `PassReport`.

    Raises:
        PassError: ExecuTorch does not take the network, a node is unknown, or layers stayed in float that should not.
        ModelError: The network cannot be read as a torch network; names the operator.
    """
    import torch

    torch.set_num_threads(2)
    ports = json.loads(note)
    network = import_onnx(Path(source))
    kept = _paths(network, keep_float)
    feeds = tuple(torch.zeros(port["shape"], dtype=getattr(torch, port["dtype"])) for port in ports["inputs"])
    try:
        program = torch.export.export(network, feeds, strict=False)
        if samples:
            program = _quantised(program, feeds, kept, _arrays(samples, limit, ports))
        made, found = _lowered(program, ports, _names(network))
    except Exception as error:  # exporter, quantiser, partitioner and writer raise of all kinds
        raise PassError(f"{type(error).__name__}: {' '.join(str(error).split())[:300]}") from None
    if samples:
        _demand_integers(found, keep_float)
    Path(destination).write_bytes(made)
    return {"notes": _notes(found), "kept_float": list(keep_float)}


def _paths(network: ImportedNetwork, nodes: Sequence[str]) -> list[str]:
    known = {node: path for path, node in network.layer_names.items()}
    if unknown := [node for node in nodes if node not in known]:
        raise PassError(f"keep_float names {unknown[0]!r}, which is not a layer with weights of the network.")
    return [known[node] for node in nodes]


def _names(network: ImportedNetwork) -> dict[str, str]:
    """ONNX nodes by the names of torch's nodes."""
    layers = network.layer_names
    return {node.name: layers[str(node.target)] for node in network.graph.nodes if str(node.target) in layers}


def _arrays(samples: str, limit: int, ports: Mapping[str, Any]) -> Iterator[tuple[Any, ...]]:
    import torch

    for sample in SampleFile(samples).read(limit):
        yield tuple(
            torch.from_numpy(sample.inputs[port["name"]]).to(getattr(torch, port["dtype"])) for port in ports["inputs"]
        )


def _quantised(program: Any, feeds: tuple[Any, ...], kept: Sequence[str], samples: Iterator[tuple[Any, ...]]) -> Any:
    """The exported program in 8 bits: a scale for each channel of weights, one for each tensor of activations."""
    import torch
    from executorch.backends.xnnpack.quantizer import xnnpack_quantizer
    from torchao.quantization.pt2e.quantize_pt2e import convert_pt2e, prepare_pt2e

    report_progress("quantising", 0.2)
    quantiser = xnnpack_quantizer.XNNPACKQuantizer()
    quantiser.set_global(xnnpack_quantizer.get_symmetric_quantization_config(is_per_channel=True))
    quantiser.module_name_config.update(dict.fromkeys(kept))  # `set_module_name` does not take None, the rest does
    prepared = prepare_pt2e(program.module(), quantiser)
    with torch.no_grad():
        for sample in samples:
            prepared(*sample)
    return torch.export.export(convert_pt2e(prepared), feeds, strict=False)


def _lowered(program: Any, ports: dict[str, Any], names: Mapping[str, str]) -> tuple[bytes, Census]:
    """The file, and what is in it, which its record tells too: hence it is put in after lowering."""
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    report_progress("lowering to XNNPACK", 0.4)
    edge = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()], constant_methods={RECORD: ""})
    found = census(edge.exported_program(), names)
    record = {**ports, "placement": {"XNNPACK": found.delegated, "portable": len(found.portable)}}
    edge._config_methods[RECORD] = json.dumps(record, sort_keys=True)
    return bytes(edge.to_executorch().buffer), found


def _demand_integers(found: Census, kept: Sequence[str]) -> None:
    """Refuse a program whose layers do not compute as asked.

    Raises:
        PassError: There are no layers, some stayed in float, or one did not that was to stay.
    """
    if not found.layers:
        raise PassError("the network has no layer with weights that could be quantised.")
    if lost := [name for name in kept if not any(one.name == name and not one.is_integer for one in found.layers)]:
        raise PassError(f"layer {lost[0]} was to stay in float, but is no layer of its own in the file.")
    wide = [one for one in found.layers if not one.is_integer and one.name not in kept]
    if wide:
        told = ", ".join(f"{one.name} ({one.kind})" for one in wide[:_FOREMOST])
        more = ", ..." if wide[_FOREMOST:] else ""
        raise PassError(f"{len(wide)} of {len(found.layers)} layers stayed in float: {told}{more}.")


def _notes(found: Census) -> list[str]:
    """What runs outside XNNPACK, most frequent first."""
    if not found.portable:
        return []
    kinds = Counter(found.portable).most_common(_FOREMOST)
    told = ", ".join(f"{name} {count}x" for name, count in kinds)
    total = found.delegated + len(found.portable)
    return [f"XNNPACK runs {found.delegated} of {total} operators; portable ones run the rest ({told})"]
