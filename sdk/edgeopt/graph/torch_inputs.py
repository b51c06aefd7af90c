"""Example inputs of a torch network, by name: from its function, from the user's shapes, or from the data."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

from edgeopt.errors import ModelError


def parameter_names(module: Any) -> list[str]:
    """Names of the positional parameters of `forward`, in order; empty where it takes ``*args`` only."""
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    try:
        parameters = inspect.signature(module.forward).parameters.values()
    except (TypeError, ValueError):
        return []
    return [parameter.name for parameter in parameters if parameter.kind in kinds]


def required_names(module: Any) -> list[str]:
    """Names of the parameters of `forward` that have no default."""
    parameters = inspect.signature(module.forward).parameters
    return [name for name in parameter_names(module) if parameters[name].default is inspect.Parameter.empty]


def named_inputs(module: Any, example: Any, source: str) -> dict[str, Any]:
    """Example inputs as tensors by parameter name, in the order of `forward`.

    Args:
        module: The network.
        example: A tensor, a sequence of tensors, or a mapping by name; NumPy arrays are taken too.
        source: For messages.

    Raises:
        ModelError: Unknown names, too many or too few inputs, or something that is not a tensor.
    """
    import numpy as np
    import torch

    names = parameter_names(module)
    if not isinstance(example, Mapping):
        values = list(example) if isinstance(example, Sequence) else [example]
        if len(values) > len(names):
            raise ModelError(
                f"{source} gives {len(values)} example inputs, but forward takes {', '.join(names) or 'none'}."
            )
        example = dict(zip(names, values, strict=False))
    unknown = [name for name in example if name not in names]
    missing = [name for name in required_names(module) if name not in example]
    if unknown or missing:
        problem = f"there is no input {unknown[0]}" if unknown else f"no example input for {missing[0]}"
        raise ModelError(f"{source}: {problem}; forward takes {', '.join(names)}.", remedy=_say_shapes(names))
    inputs = {name: example[name] for name in names if name in example}
    for name, value in inputs.items():
        if isinstance(value, np.ndarray):
            inputs[name] = torch.from_numpy(value.copy())
        elif not isinstance(value, torch.Tensor):
            raise ModelError(f"{source}: example input {name} is a {type(value).__name__}, not a tensor.")
    return inputs


def inputs_of_shapes(module: Any, shapes: Mapping[str, Sequence[int]], source: str) -> dict[str, Any]:
    """Random inputs of given shapes: normal numbers, or zeros of int64 where the network takes indices only.

    Raises:
        ModelError: Unknown names, or the network runs with neither.
    """
    import torch

    generator = torch.Generator().manual_seed(0)
    numbers = {name: torch.randn(tuple(sizes), generator=generator) for name, sizes in shapes.items()}
    indices = {name: torch.zeros(tuple(sizes), dtype=torch.int64) for name, sizes in shapes.items()}
    problems = []
    for candidate in (named_inputs(module, numbers, source), named_inputs(module, indices, source)):
        try:
            with torch.no_grad():
                module(**candidate)
        except Exception as error:
            problems.append(" ".join(str(error).split())[:200])
        else:
            return candidate
    given = " ".join(f"{name}={','.join(map(str, sizes))}" for name, sizes in shapes.items())
    raise ModelError(
        f"{source} does not run with inputs {given}: {problems[0]}",
        remedy="Check the sizes, or let the function return (module, example_inputs).",
    )


def no_inputs_known(module: Any, source: str) -> ModelError:
    """The error for a network of which no example inputs are known."""
    names = required_names(module)
    return ModelError(
        f"{source} returns no example inputs, so its input shapes are not known (forward takes {', '.join(names)}).",
        remedy=_say_shapes(names),
    )


def _say_shapes(names: Sequence[str]) -> str:
    flags = " ".join(f"--input {name}=1,3,224,224" for name in names) or "--input x=1,3,224,224"
    return f"Say {flags} (with your sizes), or let the function return (module, example_inputs)."


def flat_outputs(value: Any, name: str = "output") -> dict[str, Any]:
    """Tensors of a network's result by name, nested containers flattened in order; ``None`` is left out."""
    import torch

    if isinstance(value, torch.Tensor):
        return {name: value}
    if value is None:
        return {}
    if isinstance(value, Mapping):
        pairs = [(str(key) if name == "output" else f"{name}_{key}", item) for key, item in value.items()]
    elif isinstance(value, (tuple, list)):
        pairs = (
            [(f"{name}_{index}", item) for index, item in enumerate(value)] if len(value) > 1 else [(name, value[0])]
        )
    else:
        raise ModelError(
            f"the network returns a {type(value).__name__}; tensors, or tuples or dicts of them, can be exported."
        )
    return {key: tensor for prefix, item in pairs for key, tensor in flat_outputs(item, prefix).items()}
