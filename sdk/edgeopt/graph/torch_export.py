"""Writes a torch network as ONNX with nothing folded, and proves that both compute the same.

torch's older exporter is taken first: it keeps layers as they are and their names, which the newer one optimises away.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import Tensor, fx, nn

from edgeopt.errors import ModelError
from edgeopt.graph.export import DYNAMO_OPSET, TORCHSCRIPT_OPSET, demand_equal, reason_of
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.torch_tidy import rename, rename_values, tidy

OTHER_SIZES = (16, 32, 64, 8, 4, 128, 224, 2, 1)
"""Tried, in this order, for dynamic sizes other than the batch."""


@dataclass(frozen=True)
class _Input:
    name: str
    dtype: torch.dtype
    sizes: tuple[int | str, ...]

    def draw(self, batch: int, other: int, generator: torch.Generator, positive: bool) -> Tensor:
        sizes = [
            batch if i == 0 and isinstance(s, str) else other if isinstance(s, str) else s
            for i, s in enumerate(self.sizes)
        ]
        if self.dtype.is_floating_point:
            draw = torch.rand if positive else torch.randn
            return draw(sizes, generator=generator).to(self.dtype)
        return torch.randint(0, 2, sizes, generator=generator).to(self.dtype)


def export_onnx(network: nn.Module, like: Path, destination: Path) -> None:
    """Write a network that came from `like`, changed or not.

    Input and output names, dynamic sizes and node names stay those of `like`; a layer that is new is named after the
    one whose place it took. The network's mode is left as it was; it is written in evaluation mode.

    Args:
        network: What `import_onnx` gave, or another module with the same inputs and outputs. Names of its outputs are
            taken from its ``output_names`` where it has some.
        like: The ONNX file that it came from.
        destination: The file to make.

    Raises:
        ModelError: It cannot be written, or the file gives other numbers than torch.
    """
    source = onnx.load(str(like), load_external_data=False)
    inputs = _inputs_of(source)
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        other = _runnable(network, inputs)
        model = _export(network, inputs, _outputs_of(network, source), other, destination)
        rename(model, _scopes(network))
        _restore_interface(model, source)
        destination.write_bytes(model.SerializeToString(deterministic=True))
        _demand_parity(network, inputs, other, destination)
    finally:
        for module, training in modes.items():
            module.training = training


def _inputs_of(model: Any) -> list[_Input]:
    weights = {tensor.name for tensor in model.graph.initializer}
    found = []
    for value in model.graph.input:
        if value.name not in weights:
            tensor = value.type.tensor_type
            dtype = getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type)))
            found.append(_Input(value.name, dtype, _sizes(value)))
    return found


def _sizes(value: Any) -> tuple[int | str, ...]:
    dimensions = value.type.tensor_type.shape.dim
    return tuple(
        d.dim_value if d.HasField("dim_value") and d.dim_value > 0 else d.dim_param or f"{value.name}_{i}"
        for i, d in enumerate(dimensions)
    )


def _outputs_of(network: nn.Module, model: Any) -> dict[str, tuple[int | str, ...]]:
    known = {value.name: _sizes(value) for value in model.graph.output}
    return {name: known.get(name, ()) for name in getattr(network, "output_names", known)}


def _draw(
    inputs: Sequence[_Input], batch: int, other: int, seed: int = 0, *, positive: bool = False
) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(seed)
    return tuple(item.draw(batch, other, generator, positive) for item in inputs)


def _runnable(network: nn.Module, inputs: Sequence[_Input]) -> int:
    """A size for the dynamic dimensions besides the batch with which the network runs."""
    free = any(isinstance(size, str) for item in inputs for size in item.sizes[1:])
    problem = ""
    for other in OTHER_SIZES if free else OTHER_SIZES[:1]:
        try:
            with torch.no_grad():
                network(*_draw(inputs, 2, other))
        except Exception as error:  # the network's own code raises what it likes
            problem = problem or " ".join(str(error).split())[:200]
        else:
            return other
    shapes = ", ".join(f"{item.name}: {list(item.sizes)}" for item in inputs)
    raise ModelError(f"the network to export does not run on inputs {shapes}: {problem}")


def _export(
    network: nn.Module, inputs: Sequence[_Input], outputs: Mapping[str, Any], other: int, destination: Path
) -> Any:
    """Try both exporters; the first result, tidied."""
    sizes = {**{item.name: item.sizes for item in inputs}, **outputs}
    plain = {name: f"value_{index}" for index, name in enumerate(sizes)}  # the older exporter refuses names like "173"
    names: dict[str, Any] = {"input_names": [plain[item.name] for item in inputs], "verbose": False}
    names["output_names"] = [plain[name] for name in outputs]
    axes = {
        plain[name]: moving
        for name, shape in sizes.items()
        if (moving := {i: size for i, size in enumerate(shape) if isinstance(size, str)})
    }
    example = _draw(inputs, 2, other)
    older: dict[str, Any] = {"dynamo": False, "opset_version": TORCHSCRIPT_OPSET, "do_constant_folding": False}
    older |= {"dynamic_axes": axes, "training": torch.onnx.TrainingMode.PRESERVE, **names}
    dynamic = tuple({i: torch.export.Dim.AUTO for i in axes.get(plain[item.name], {})} for item in inputs)
    newer = {"dynamo": True, "opset_version": DYNAMO_OPSET, "optimize": False, "external_data": False, **names}
    problems = []
    for module, options in ((_scoped(network), older), (network, {**newer, "dynamic_shapes": dynamic})):
        try:
            with quiet():
                torch.onnx.export(module, example, str(destination), **options)
            model = onnx.load(str(destination))
            tidy(model)
            rename_values(model, {inner: name for name, inner in plain.items()})
            return model
        except Exception as error:  # exporters raise whatever the network's code and their own passes raise
            problems.append(reason_of(error))
    raise ModelError(f"the network cannot be written as ONNX: {'; '.join(problems)}.")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hold back what is printed and warned of.

    The exporters talk on stdout and warn about their own age; passes speak through their reports.
    """
    if hasattr(torch._C, "_jit_set_onnx_log_output_stream"):  # the graph of a failed trace goes to stdout, asked or not
        torch._C._jit_set_onnx_log_output_stream("stderr")
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.redirect_stderr(io.StringIO()),
    ):
        warnings.simplefilter("ignore")
        yield


class _Call(nn.Module):  # type: ignore[misc]
    """A function as a submodule, as the exporter names nodes after submodules alone."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__()
        self.function = function

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.function(*args, **kwargs)


def _scope_of(node: fx.Node) -> str:
    return f"call_{node.name}"


def _scoped(network: nn.Module) -> nn.Module:
    """The same network with every function call in a submodule of its own; weights are shared, not copied."""
    if not isinstance(network, fx.GraphModule):
        return network
    graph = fx.Graph()
    parts: dict[str, Any] = {}
    mapping: dict[fx.Node, fx.Node] = {}
    results = graph.graph_copy(network.graph, mapping)
    graph.output(results)
    for old, new in mapping.items():
        if old.op == "call_function":
            parts[_scope_of(old)] = _Call(old.target)
            new.op, new.target = "call_module", _scope_of(old)
        elif old.op in ("call_module", "get_attr"):
            parts[str(old.target)] = _part(network, str(old.target))
    return fx.GraphModule(parts, graph).eval()


def _part(network: nn.Module, target: str) -> Any:
    owner, _, name = target.rpartition(".")
    return getattr(network.get_submodule(owner), name)


def _scopes(network: nn.Module) -> dict[str, tuple[str, str]]:
    """Scope in the exported file to name and operator of the node that it stands for."""
    if not isinstance(network, fx.GraphModule):
        return {}
    known = ((node, node.meta.get("onnx")) for node in network.graph.nodes)
    return {_scope_of(n) if n.op == "call_function" else str(n.target): origin for n, origin in known if origin}


def _restore_interface(model: Any, source: Any) -> None:
    """Inputs, shapes of outputs and the name as `source` has them; exporters drop inputs that nothing reads."""
    model.graph.name = source.graph.name
    weights = {tensor.name for tensor in source.graph.initializer}
    del model.graph.input[:]
    model.graph.input.extend(value for value in source.graph.input if value.name not in weights)
    known = {value.name: value for value in source.graph.output}
    for value in model.graph.output:
        if value.name in known:
            value.CopyFrom(known[value.name])
    for value in [*model.graph.input, *model.graph.output]:
        value.ClearField("doc_string")


def _demand_parity(network: nn.Module, inputs: Sequence[_Input], other: int, path: Path) -> None:
    session = open_session(path)
    taken = {value.name for value in session.get_inputs()}
    for batch, seed in ((1, 0), (3, 0), (2, 1)):
        tensors, expected = _finite(network, inputs, (batch, other, seed))
        feed = {item.name: tensor.numpy() for item, tensor in zip(inputs, tensors, strict=True) if item.name in taken}
        found = run_feed(session, feed)
        reference = {name: value.numpy() for name, value in zip(found, expected, strict=True)}
        try:
            demand_equal(reference, found, f"at batch {tensors[0].shape[0]}")
        except ModelError as error:
            raise ModelError(f"the exported network is not the one in torch: {error.message}") from None


def _finite(
    network: nn.Module, inputs: Sequence[_Input], how: tuple[int, int, int]
) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """Inputs and outputs; numbers in 0..1 where normal ones give NaN (a logarithm, a root)."""
    for positive in (False, True):
        tensors = _draw(inputs, *how, positive=positive)
        with torch.no_grad():
            results = network(*tensors)
        outputs = [results] if isinstance(results, Tensor) else list(results)
        if all(bool(torch.isfinite(value).all()) for value in outputs):
            break
    return tensors, outputs
