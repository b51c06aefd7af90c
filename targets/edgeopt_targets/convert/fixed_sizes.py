"""Sizes for converters that want all of them fixed: one sample at a time, other free sizes as the samples have them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.errors import PassError
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes._base import PassContext
from edgeopt_runner.protocol.samples import SampleFile


def fixed_signature(source: Path, context: PassContext) -> tuple[Signature, tuple[str, ...]]:
    """A network's signature without free sizes, and a note on what was fixed besides the batch.

    Args:
        source: ONNX file. A free first size becomes 1.
        context: Its samples tell the other free sizes of inputs; those of outputs follow from a run.

    Raises:
        PassError: A size is free and there are no samples that would tell it.
        ModelError: The network does not run with these sizes.
    """
    signature = inspect_onnx(source).signature
    inputs = tuple(_one_row(spec) for spec in signature.inputs)
    outputs = tuple(_one_row(spec) for spec in signature.outputs)
    free = [spec for spec in inputs if None in spec.shape]
    if not free:
        return Signature(inputs, _run_shapes(source, inputs, outputs)), ()
    known = _sample_shapes(context, free[0])
    fixed = tuple(replace(spec, shape=_filled(spec, known[spec.name])) for spec in inputs)
    told = ", ".join(f"{spec.name} to {list(spec.shape)}" for spec in fixed if spec.name in {one.name for one in free})
    return Signature(fixed, _run_shapes(source, fixed, outputs)), (f"sizes were free and are fixed now: {told}",)


def _one_row(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(1, *spec.shape[1:])) if spec.dynamic_batch else spec


def _filled(spec: TensorSpec, shape: tuple[int | None, ...]) -> tuple[int, ...]:
    return tuple((given or 1) if size is None else size for size, given in zip(spec.shape, shape, strict=True))


def _run_shapes(
    source: Path, inputs: tuple[TensorSpec, ...], outputs: tuple[TensorSpec, ...]
) -> tuple[TensorSpec, ...]:
    """Outputs with the sizes that they have for these inputs, where the file does not tell them."""
    if not any(None in spec.shape for spec in outputs):
        return outputs
    import numpy as np

    feed = {spec.name: np.zeros(_filled(spec, spec.shape), spec.dtype) for spec in inputs}
    found = run_feed(open_session(source), feed)
    return tuple(replace(spec, shape=tuple(found[spec.name].shape)) for spec in outputs)


def _sample_shapes(context: PassContext, unknown: TensorSpec) -> dict[str, tuple[int, ...]]:
    if context.calibration is None:
        raise PassError(
            f"input {unknown} has free sizes, and this runtime wants them fixed.",
            remedy="Give calibration samples (--calibration), whose sizes are taken, or export with fixed sizes.",
        )
    sample = next(iter(SampleFile(str(context.calibration)).read(1)))
    return {name: tuple(array.shape) for name, array in sample.inputs.items()}
