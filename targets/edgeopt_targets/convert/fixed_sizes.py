"""Sizes for converters that want all of them fixed: one sample at a time, other free sizes as the samples have them."""

from __future__ import annotations

from dataclasses import replace

from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt_runner.protocol.samples import SampleFile


def with_fixed_inputs(signature: Signature, context: PassContext) -> tuple[Signature, tuple[str, ...]]:
    """A signature whose inputs have no free size, and a note on what was fixed besides the batch.

    Args:
        signature: Of the network. A free first size becomes 1, of outputs too.
        context: Its samples tell the other free sizes.

    Raises:
        PassError: A size is free and there are no samples that would tell it.
    """
    inputs = tuple(_one_row(spec) for spec in signature.inputs)
    outputs = tuple(_one_row(spec) for spec in signature.outputs)
    free = [spec for spec in inputs if None in spec.shape]
    if not free:
        return Signature(inputs, outputs), ()
    known = _sample_shapes(context, free[0])
    fixed = tuple(replace(spec, shape=_filled(spec, known[spec.name])) for spec in inputs)
    told = ", ".join(f"{spec.name} to {list(spec.shape)}" for spec in fixed if spec.name in {one.name for one in free})
    return Signature(fixed, outputs), (f"sizes were free and are fixed now: {told}",)


def _one_row(spec: TensorSpec) -> TensorSpec:
    return replace(spec, shape=(1, *spec.shape[1:])) if spec.dynamic_batch else spec


def _filled(spec: TensorSpec, shape: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(given if size is None else size for size, given in zip(spec.shape, shape, strict=True))


def _sample_shapes(context: PassContext, unknown: TensorSpec) -> dict[str, tuple[int, ...]]:
    if context.calibration is None:
        raise PassError(
            f"input {unknown} has free sizes, and this runtime wants them fixed.",
            remedy="Give calibration samples (--calibration), whose sizes are taken, or export with fixed sizes.",
        )
    sample = next(iter(SampleFile(str(context.calibration)).read(1)))
    return {name: tuple(array.shape) for name, array in sample.inputs.items()}
