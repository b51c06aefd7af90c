"""For tests of passes that quantise, or make quantising lose less: running a pass, accuracy, typical damage."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from edgeopt.core.recipe import PassSpec
from edgeopt.passes._base import PassContext, PassReport
from edgeopt.passes.graphs.chains import pairs, scaled_inputs, scaled_outputs
from edgeopt.passes.graphs.layers import Network
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.registry import load_pass
from edgeopt_runner.protocol.samples import SampleFile
from support.trained import Trained

SATURATING, EXACT_DOT = ("avx2",), ("avx2", "avx512_vnni")
"""ISA flags of a CPU whose int8 weights have 7 bits, and of one where they have 8."""


def outputs(path: Path, samples: Path) -> np.ndarray:
    """Logits [N, classes] of a network for all samples of a file."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.concatenate([session.run(None, sample.inputs)[0] for sample in SampleFile(str(samples))])


def top1(path: Path, files: Trained) -> float:
    """Share of the evaluation set that a network gets right."""
    labels = np.concatenate([np.atleast_1d(sample.label) for sample in SampleFile(str(files.evaluation))])
    return float((outputs(path, files.evaluation).argmax(1) == labels).mean())


def applied(
    name: str,
    source: Path,
    files: Trained,
    work: Path,
    *,
    isa: tuple[str, ...] = SATURATING,
    keep: tuple[str, ...] = (),
    **options: Any,
) -> tuple[Path, PassReport]:
    """The file that a pass makes of another, and what it says; `work` is a folder that tells uses apart."""
    work.mkdir(parents=True, exist_ok=True)
    context = PassContext(work=work, calibration=files.calibration, isa=isa, keep_float=keep, original=files.network)
    destination = work / f"{name}.onnx"
    return destination, load_pass(PassSpec(name, options)).apply(source, destination, context)


def changed(source: Path, destination: Path, change: Callable[[Network], None]) -> Path:
    """A network with batch norms folded, after `change`."""
    work = destination.parent
    work.mkdir(parents=True, exist_ok=True)
    network = Network.load(prepare(source, PassContext(work=work)))
    change(network)
    network.save(destination)
    return destination


def unbalanced(
    octaves: float, passing: Callable[[Network], frozenset[str]] = lambda _: frozenset()
) -> Callable[[Network], None]:
    """Scale channels between neighbouring layers by 2^k, k normal with deviation `octaves`; the function stays."""

    def change(network: Network) -> None:
        rng = np.random.default_rng(0)
        for pair in pairs(network, passing(network)):
            factor = 2.0 ** np.rint(rng.standard_normal(pair.first.outputs) * octaves)
            network.set_weight(pair.first, scaled_outputs(network.weight(pair.first), factor))
            network.set_bias(pair.first, network.bias(pair.first) * factor)
            inverse = np.repeat(1 / factor, pair.repeat)
            network.set_weight(pair.second, scaled_inputs(pair.second, network.weight(pair.second), inverse))

    return change
