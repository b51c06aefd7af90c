"""Makes students: the teacher made narrower and shallower, or what a function of the user returns."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, fx, nn

from edgeopt.errors import ModelError, PassError
from edgeopt.graph.user_code import load_function, user_problem
from edgeopt.passes import prune_channels
from edgeopt.passes._base import PassContext
from edgeopt.passes.distil_student import Options
from edgeopt.passes.pruning.channels import outputs
from edgeopt.passes.pruning.depth import drop_blocks
from edgeopt.passes.pruning.rounds import prune


def derived(
    network: fx.GraphModule, inputs: Sequence[Tensor], options: Options, context: PassContext
) -> tuple[str, ...]:
    """Make a network narrower and shallower, in place.

    Args:
        network: From `import_onnx`.
        inputs: A batch that it runs on.
        options: Width, depth and what widths are rounded to.
        context: Samples and seed.

    Returns:
        Notes for the user.

    Raises:
        PassError: No block or no channel can go.
    """
    notes: list[str] = []
    if options.depth < 1:
        before, after = drop_blocks(network, inputs, options.depth)
        notes.append(f"residual blocks {before} -> {after}")
    if options.width < 1:
        narrower = prune_channels.Options(
            ratio=1 - options.width, ranking="layer", importance="l2", round_to=options.round_to
        )
        notes += prune(network, narrower, replace(context, calibration=context.calibration or context.training))
    return tuple(notes)


def begin_anew(network: nn.Module, seed: int) -> None:
    """Draw the weights of all layers again, as a new network's; constants that no layer owns stay."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for module in network.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()


def users_student(source: str, teacher: nn.Module, inputs: Sequence[Tensor], seed: int) -> nn.Module:
    """Call the user's function.

    Args:
        source: ``file.py:function``, perhaps with arguments, that returns a network, or (network, example inputs).
            Where it asks for ``inputs`` or ``outputs`` that the user leaves out, it gets the teacher's shapes: a tuple
            of them, each without the batch.
        teacher: In evaluation mode.
        inputs: A batch that it has to run on, one tensor an input.
        seed: Of its weights.

    Raises:
        ModelError: The function fails or returns no network, or the network does not run on the samples.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            result = load_function(source, ModelError, known=_shapes(teacher, inputs))()
        except Exception as error:
            raise user_problem(f"calling {source}", error, ModelError) from None
    student = result[0] if isinstance(result, tuple) and result else result
    if not isinstance(student, nn.Module):
        raise ModelError(
            f"{source} returned {student!r:.60} ({type(student).__name__}), not a torch.nn.Module.",
            remedy="Return the student network.",
        )
    student.cpu().eval()
    try:
        with torch.no_grad():
            student(*inputs)
    except Exception as error:
        shapes = ", ".join(str(list(tensor.shape)) for tensor in inputs)
        raise user_problem(f"running the student {source} on inputs {shapes}", error, ModelError) from None
    if not any(parameter.requires_grad for parameter in student.parameters()):
        raise PassError(f"the student {source} has no weights that could be trained.")
    return student


def _shapes(teacher: nn.Module, inputs: Sequence[Tensor]) -> dict[str, tuple[tuple[int, ...], ...]]:
    """Shapes of what a network takes and gives for one sample, without the batch."""
    sides = {"inputs": inputs, "outputs": outputs(teacher, tuple(inputs))}
    return {side: tuple(tuple(tensor.shape[1:]) for tensor in tensors) for side, tensors in sides.items()}
