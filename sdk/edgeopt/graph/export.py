"""Exports a torch network to ONNX and proves that both compute the same (runs in a child process).

The dynamo exporter is tried first, then the older TorchScript one; each with a dynamic batch where the example inputs
allow one, then with the example's sizes. What counts is parity: an exporter that ends with wrong
numbers is passed over.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.torch_inputs import flat_outputs
from edgeopt.graph.torch_source import Network, load_network
from edgeopt_runner.protocol import metrics

DYNAMO_OPSET = 18
"""The lowest that dynamo gives, and one that runtimes of old boards read."""

TORCHSCRIPT_OPSET = 17
LEAST_COSINE = 0.9999
LARGEST_DIFFERENCE = 1e-3
"""Of the largest output, at least 1. Seen in well exported networks: 1e-8 to 6e-6 (facts on versions, Export)."""

_NOISE = re.compile(r"\x1b\[[0-9;]*m")


@dataclass(frozen=True)
class Attempt:
    """One way to export: ``dynamo`` or ``torchscript``, with a dynamic batch or the example's sizes."""

    exporter: str
    dynamic: bool

    def __str__(self) -> str:
        return f"{self.exporter} with {'dynamic' if self.dynamic else 'fixed'} batch"


def export_source(
    source: str, destination: str, input_shapes: Mapping[str, list[int]], example: str | None
) -> dict[str, Any]:
    """Export ``file.py:function``, ``package.module:function`` or a `.pt2` file.

    Args:
        source: What the user typed.
        destination: The ONNX file to make.
        input_shapes: Sizes of the example inputs by name; they override the function's own.
        example: An `.npz` with one feed by input name, or ``None``.

    Returns:
        ``exporter`` with its version, and ``notes``.

    Raises:
        ModelError: No torch, no such function, not a network, no example inputs, or every way of exporting failed.
    """
    try:
        import torch
    except ImportError:
        raise ModelError(
            f"exporting {source} needs torch, which is not installed.", remedy="Run: pip install 'edgeopt[torch]'."
        ) from None
    torch.set_num_threads(min(2, torch.get_num_threads()))
    torch.manual_seed(0)
    warnings.simplefilter("ignore")
    network = load_network(source, input_shapes, example)
    failures: list[str] = []
    for attempt in attempts_of(network):
        try:
            export_network(network, attempt, destination)
            strip_traces(Path(destination))
            check_parity(network, attempt, Path(destination))
        except Exception as error:  # the exporters raise whatever the network's code and their own passes raise
            failures.append(f"{attempt}: {reason_of(error)}")
        else:
            notes = [*network.notes, *(f"Export fell back ({failure})." for failure in failures)]
            return {"exporter": f"{attempt.exporter} (torch {torch.__version__})", "notes": notes}
    raise ModelError(
        f"{source} could not be exported. {'; '.join(failures)}.",
        remedy="Change the named operation in the network, or export it to ONNX yourself and give the .onnx file.",
    )


def attempts_of(network: Network) -> list[Attempt]:
    """Ways to try, best first; a saved program has its own dynamic dimensions already."""
    batches = (True, False) if network.dynamic and network.program is None else (network.dynamic,)
    return [Attempt(exporter, dynamic) for exporter in ("dynamo", "torchscript") for dynamic in batches]


def export_network(network: Network, attempt: Attempt, destination: str, *, trainable: bool = False) -> None:
    """Run one exporter. The batch of 2 keeps torch from taking a size of 1 for a constant.

    Args:
        network: What to export.
        attempt: How.
        destination: The file to make.
        trainable: Fold nothing: batch normalisation stays a layer of its own.
    """
    import torch

    inputs = network.batch(2) if attempt.dynamic else dict(network.inputs)
    with torch.no_grad():
        outputs = flat_outputs(network.module(**inputs))
    options: dict[str, Any] = {"input_names": list(inputs), "output_names": list(outputs), "verbose": False}
    if attempt.exporter == "torchscript":
        axes = {name: {0: "batch"} for name in [*inputs, *_batched(network, outputs)]} if attempt.dynamic else None
        options |= {"dynamo": False, "opset_version": TORCHSCRIPT_OPSET, "dynamic_axes": axes}
        if trainable:
            options |= {"training": torch.onnx.TrainingMode.PRESERVE, "do_constant_folding": False}
        torch.onnx.export(network.module, (), destination, kwargs=inputs, **options)
        return
    options |= {"dynamo": True, "opset_version": DYNAMO_OPSET, "external_data": False, "optimize": not trainable}
    if network.program is not None:
        torch.onnx.export(network.program, (), destination, **options)
        return
    shapes = {name: {0: "batch"} for name in inputs} if attempt.dynamic else None
    torch.onnx.export(network.module, (), destination, kwargs=inputs, dynamic_shapes=shapes, **options)


def _batched(network: Network, outputs_of_two: Mapping[str, Any]) -> Sequence[str]:
    """Outputs whose leading size follows the batch."""
    import torch

    with torch.no_grad():
        of_three = flat_outputs(network.module(**network.batch(3)))
    return [name for name, value in outputs_of_two.items() if value.shape[:1] != of_three[name].shape[:1]]


def strip_traces(path: Path) -> None:
    """Take out what the exporter notes on the user's files: it would travel to the boards and change the digest."""
    import onnx

    model = onnx.load(str(path))
    without_traces(model)
    path.write_bytes(model.SerializeToString(deterministic=True))


def without_traces(model: Any) -> None:
    """The same in memory."""
    graph = model.graph
    for part in [
        graph,
        *graph.node,
        *graph.input,
        *graph.output,
        *graph.value_info,
        *graph.initializer,
        *model.functions,
    ]:
        part.ClearField("metadata_props")
        part.ClearField("doc_string")


def check_parity(network: Network, attempt: Attempt, path: Path) -> None:
    """Compare with torch at batch 1 and 3, or at the example's sizes; raises ModelError with the numbers."""
    import torch

    session = open_session(path)
    taken = {value.name for value in session.get_inputs()}
    for inputs in _probes(network, attempt.dynamic):
        with torch.no_grad():
            expected = {name: value.numpy() for name, value in flat_outputs(network.module(**inputs)).items()}
        found = run_feed(session, {name: value.numpy() for name, value in inputs.items() if name in taken})
        size = next(iter(inputs.values())).shape[0] if attempt.dynamic else "of the example"
        demand_equal(dict(zip(found, expected.values(), strict=True)), found, f"at batch {size}")


def demand_equal(reference: dict[str, Any], found: dict[str, Any], where: str, *, of: str = "torch's") -> None:
    """Check an export's outputs against torch's, or whose it is the export of; arrays by name.

    Raises:
        ModelError: They differ by more than rounding; says by how much.
    """
    cosine, difference = metrics.cosine(reference, found), metrics.max_abs(reference, found)
    scale = max(1.0, *(float(abs(value).max()) for value in reference.values() if value.size), 1.0)
    if cosine < LEAST_COSINE or difference > LARGEST_DIFFERENCE * scale:
        raise ModelError(f"its outputs differ from {of} {where} (cosine {cosine:.6f}, largest {difference:.3g})")


def _probes(network: Network, dynamic: bool) -> list[dict[str, Any]]:
    """Inputs to compare on: several draws, as a traced network keeps the branches that its example took."""
    if dynamic:
        return [network.batch(1), network.batch(3), network.batch(1, seed=1), network.batch(1, seed=2)]
    return [dict(network.inputs), network.random(), network.random(seed=1), network.random(seed=2)]


def reason_of(error: Exception) -> str:
    """The telling part of an exporter's message, in one line."""
    text = _NOISE.sub("", str(error))
    if "## Exception summary" in text:
        text = text.partition("## Exception summary")[2]
    name = "" if isinstance(error, ModelError) else f"{type(error).__name__}: "
    return name + " ".join(text.split())[:300].rstrip(".")
