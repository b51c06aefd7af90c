"""Loads a torch network with example inputs, from a function of the user or from a `.pt2` file (in a child process)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.torch_inputs import flat_outputs, inputs_of_shapes, named_inputs, no_inputs_known
from edgeopt.graph.user_code import load_function, user_problem


@dataclass(frozen=True)
class Network:
    """A torch network that is known to run on its example inputs.

    Attributes:
        module: What is called, in evaluation mode.
        inputs: Example tensors by name, in the order of `forward`.
        dynamic: Whether the leading dimension is a batch that may have any size.
        program: The `ExportedProgram` where it came from a `.pt2` file.
        notes: What the user should know.
    """

    module: Any
    inputs: Mapping[str, Any]
    dynamic: bool
    program: Any | None = None
    notes: tuple[str, ...] = ()

    def batch(self, size: int, seed: int = 0) -> dict[str, Any]:
        """Inputs of a batch size, with random numbers where they are real."""
        return _random({name: _of_batch(value, size) for name, value in self.inputs.items()}, self.module, seed)

    def random(self, seed: int = 0) -> dict[str, Any]:
        """Inputs of the example's sizes, with random numbers where they are real."""
        return _random(self.inputs, self.module, seed)


def _of_batch(value: Any, size: int) -> Any:
    """The example's first rows, repeated as often as needed."""
    copies = -(-size // value.shape[0])
    return value.repeat(copies, *([1] * (value.dim() - 1)))[:size].contiguous()


def _random(inputs: Mapping[str, Any], module: Any, seed: int) -> dict[str, Any]:
    """Normal numbers in place of real inputs; the inputs as they are where those give NaN or infinity."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    drawn = {
        name: torch.randn(value.shape, generator=generator).to(value.dtype) if value.is_floating_point() else value
        for name, value in inputs.items()
    }
    with torch.no_grad():
        outputs = flat_outputs(module(**drawn)).values()
    return drawn if all(bool(torch.isfinite(value).all()) for value in outputs) else dict(inputs)


def load_network(source: str, shapes: Mapping[str, list[int]], example: str | None) -> Network:
    """Load a network and find example inputs: `shapes`, else the function's or program's own, else `example`.

    Raises:
        ModelError: It cannot be loaded, is no network, has no example inputs, or does not run on them.
    """
    return _of_program(source) if source.endswith(".pt2") else _of_function(source, shapes, example)


def _of_program(source: str) -> Network:
    import torch

    try:
        program = torch.export.load(source)
    except Exception as error:  # torch raises RuntimeError, KeyError, zip and pickle errors here
        reason = " ".join(str(error).split())[:200]
        raise ModelError(
            f"{source} cannot be read as a torch.export program: {reason}",
            remedy="Save it with torch.export.save of a like version of torch; weights alone need their function.",
        ) from None
    args, kwargs = program.example_inputs or ((), {})
    names = [str(name) for name in program.graph_signature.user_inputs]
    inputs = dict(zip(names, [*args, *kwargs.values()], strict=False))
    if not inputs or len(inputs) != len(names):
        raise ModelError(
            f"{source} holds no example inputs.", remedy="Export it with torch.export.export(module, inputs)."
        )
    placeholders = [node for node in program.graph.nodes if node.op == "placeholder" and node.name in names]
    dynamic = all(node.meta["val"].dim() and not isinstance(node.meta["val"].shape[0], int) for node in placeholders)
    return Network(_by_name(program.module(), names, list(kwargs)), inputs, dynamic, program)


def _by_name(module: Any, names: list[str], keywords: list[str]) -> Any:
    """A saved program takes its inputs as it was exported, the last by `keywords`; ours are all called by name."""
    import torch

    first = len(names) - len(keywords)

    class ByName(torch.nn.Module):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.inner = module

        def forward(self, **inputs: Any) -> Any:
            by_keyword = {key: inputs[name] for key, name in zip(keywords, names[first:], strict=True)}
            return self.inner(*(inputs[name] for name in names[:first]), **by_keyword)

    return ByName()


def _of_function(source: str, shapes: Mapping[str, list[int]], example: str | None) -> Network:
    import numpy as np

    module, own = _call(source)
    if shapes:
        inputs = inputs_of_shapes(module, shapes, source)
    elif own is not None:
        inputs = named_inputs(module, own, source)
    elif example:
        with np.load(example) as arrays:
            inputs = named_inputs(module, dict(arrays), source)
    else:
        raise no_inputs_known(module, source)
    _run(module, inputs, source)
    dynamic, notes = _batch_of(module, inputs)
    return Network(module, inputs, dynamic, notes=notes)


def _call(source: str) -> tuple[Any, Any]:
    """Call the user's function: the module in evaluation mode, and its example inputs or ``None``."""
    import torch

    try:
        result = load_function(source, ModelError)()
    except Exception as error:
        raise user_problem(f"calling {source}", error, ModelError) from None
    module, own = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            f"{source} returned {module!r:.60} ({type(module).__name__}), not a torch.nn.Module.",
            remedy="Return the network, or (network, example_inputs).",
        )
    return module.cpu().eval(), own


def _run(module: Any, inputs: Mapping[str, Any], source: str) -> None:
    import torch

    try:
        with torch.no_grad():
            module(**inputs)
    except Exception as error:
        shapes = ", ".join(f"{name}: {value.dtype}{list(value.shape)}" for name, value in inputs.items())
        raise user_problem(f"running {source} on its example inputs ({shapes})", error, ModelError) from None


def _batch_of(module: Any, inputs: Mapping[str, Any]) -> tuple[bool, tuple[str, ...]]:
    """Whether the leading dimension is a batch of any size: all inputs share it, and the network runs with 2 and 3."""
    if len({tuple(value.shape[:1]) for value in inputs.values()}) != 1 or not all(v.dim() for v in inputs.values()):
        return False, ("The inputs share no batch dimension: exported with the sizes of the example.",)
    network = Network(module, inputs, dynamic=True)
    try:
        network.batch(2), network.batch(3)
    except Exception as error:
        return False, (f"The network runs with the example's batch only: {' '.join(str(error).split())[:150]}",)
    return True, ()
