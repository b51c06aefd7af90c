"""Takes an ONNX file in: weights inside, sizes fixed where asked, checked, loadable (runs in a child process)."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgeopt.errors import ModelError
from edgeopt.graph.inspect import all_weights, signature_of, tensor_bytes
from edgeopt.graph.session import open_session

PROTOBUF_LIMIT_BYTES = (1 << 31) - 1
"""Protocol buffers cannot hold more in one message."""

_LFS_POINTER = b"version https://git-lfs"


def prepare_onnx(source: str, destination: str, input_shapes: Mapping[str, list[int]]) -> list[str]:
    """Read, check and rewrite an ONNX file; the bytes stay the same where nothing has to change.

    Args:
        source: The file, with its external data beside it where it has some.
        destination: The file to make.
        input_shapes: Sizes for dynamic dimensions, by input.

    Returns:
        What the user should know.

    Raises:
        ModelError: It is not ONNX, misses data, is too large, has no tensors to give or take, does not fit
            `input_shapes`, or ONNX Runtime does not load it.
    """
    import onnx

    model = _read(Path(source))
    _refuse_empty(model, source)
    signature_of(model)
    notes = _inline_weights(model, Path(source))
    notes += fix_shapes(model, input_shapes)
    notes += _complete_outputs(model)
    if notes:
        Path(destination).write_bytes(model.SerializeToString(deterministic=True))
    else:
        shutil.copyfile(source, destination)
    try:
        onnx.checker.check_model(destination)
    except Exception as error:  # the checker raises ValidationError and, for wrong fields, others
        raise ModelError(
            f"{source} is not valid ONNX: {' '.join(str(error).split())[:300]}.",
            remedy="Export it again; operators of another domain need a runtime that has them.",
        ) from None
    open_session(Path(destination))
    return notes + _dynamic_notes(model)


def _read(source: Path) -> Any:
    import onnx

    with open(source, "rb") as stream:
        head = stream.read(len(_LFS_POINTER))
    if head == _LFS_POINTER:
        raise ModelError(f"{source} is a Git LFS pointer, not the model.", remedy="Run: git lfs pull.")
    if not head:
        raise ModelError(f"{source} is empty (0 bytes).", remedy="Copy or export it again.")
    if source.stat().st_size > PROTOBUF_LIMIT_BYTES:
        raise _too_large(source, source.stat().st_size)
    try:
        model = onnx.load(str(source), load_external_data=False)
    except Exception as error:  # protobuf's DecodeError is not importable from a stable place
        raise _not_onnx(source, str(error)) from None
    if not model.ir_version or not model.HasField("graph"):
        raise _not_onnx(source, "it holds no graph")
    return model


def _not_onnx(source: Path, reason: str) -> ModelError:
    return ModelError(
        f"{source} is not an ONNX file, or was cut short ({' '.join(reason.split())[:120]}).",
        remedy="Give a file that onnx.checker accepts, or the Python function that builds the network.",
    )


def _refuse_empty(model: Any, source: str) -> None:
    if not model.graph.output:
        raise ModelError(
            f"{source}: the graph has no outputs.", remedy="Export it again with the tensors you need as outputs."
        )
    if not signature_of(model).inputs:
        raise ModelError(f"{source}: the graph has no inputs; it always gives the same.", remedy="Export it again.")


def _too_large(source: Path, size_bytes: int) -> ModelError:
    return ModelError(
        f"{source} has {size_bytes / 1e9:.1f} GB with its weights; an ONNX file holds at most 2.1 GB (protobuf).",
        remedy="Halve it first (model.half() before the export), or split the network into parts.",
    )


def _inline_weights(model: Any, source: Path) -> list[str]:
    """Bring weights of other files inside; the note says from how many."""
    from onnx.external_data_helper import load_external_data_for_model, uses_external_data

    outside = [tensor for tensor in all_weights(model.graph) if uses_external_data(tensor)]
    if not outside:
        return []
    names = sorted({entry.value for tensor in outside for entry in tensor.external_data if entry.key == "location"})
    missing = [name for name in names if not (source.parent / name).is_file()]
    if missing:
        raise ModelError(
            f"{source} keeps its weights in {missing[0]}, which is not beside it.",
            remedy=f"Copy {missing[0]} to {source.parent} under that name.",
        )
    total_bytes = source.stat().st_size + sum(tensor_bytes(tensor) for tensor in outside)
    if total_bytes > PROTOBUF_LIMIT_BYTES:
        raise _too_large(source, total_bytes)
    try:
        load_external_data_for_model(model, str(source.parent))
    except Exception as error:  # checker errors for bad paths, ValueError for short files
        raise ModelError(f"{source}: its external data cannot be read: {error}") from None
    return [f"Weights of {', '.join(names)} were taken into the file."]


def fix_shapes(model: Any, input_shapes: Mapping[str, list[int]]) -> list[str]:
    """Give dynamic dimensions the sizes asked for; a dynamic batch stays dynamic where 1 is asked.

    Raises:
        ModelError: Unknown input, another rank, or a size that differs from a fixed one.
    """
    inputs = {spec.name: spec for spec in signature_of(model).inputs}
    keep_batch = signature_of(model).dynamic_batch
    symbols: dict[str, int] = {}
    notes = []
    for name, sizes in input_shapes.items():
        if name not in inputs:
            raise ModelError(
                f"--input names {name}, but the model's inputs are {', '.join(inputs)}.",
                remedy=f"Say --input {next(iter(inputs))}=SIZES.",
            )
        wanted = inputs[name].shape
        fits = len(sizes) == len(wanted) and all(b in (None, a) for a, b in zip(sizes, wanted, strict=True))
        if not fits or any(size < 1 for size in sizes):
            asked = ",".join(map(str, sizes))
            raise ModelError(
                f"--input {name}={asked} does not fit {inputs[name]}.", remedy="Only sizes shown as ? can be set."
            )
        value = next(value for value in model.graph.input if value.name == name)
        for axis, (size, dimension) in enumerate(zip(sizes, value.type.tensor_type.shape.dim, strict=True)):
            if wanted[axis] is None and not (axis == 0 and size == 1 and keep_batch):
                symbols.update({dimension.dim_param: size} if dimension.dim_param else {})
                dimension.dim_value = size
                notes.append(f"Dimension {axis} of {name} was fixed to {size}.")
    _replace_symbols(model, symbols)
    return notes


def _replace_symbols(model: Any, symbols: Mapping[str, int]) -> None:
    """Put the same size wherever the graph uses the same symbol."""
    for value in [*model.graph.input, *model.graph.output, *model.graph.value_info]:
        for dimension in value.type.tensor_type.shape.dim:
            if dimension.dim_param in symbols:
                dimension.dim_value = symbols[dimension.dim_param]


def _complete_outputs(model: Any) -> list[str]:
    """Infer types and ranks of outputs that the file leaves open."""
    import onnx

    tensors = [value.type.tensor_type for value in model.graph.output]
    if all(tensor.elem_type and tensor.HasField("shape") for tensor in tensors):
        return []
    inferred = onnx.shape_inference.infer_shapes(model)
    for value, known in zip(model.graph.output, inferred.graph.output, strict=True):
        value.type.CopyFrom(known.type)
    return ["Shapes of outputs were inferred."]


def _dynamic_notes(model: Any) -> list[str]:
    signature = signature_of(model)
    return [
        f"Input {spec} has dynamic dimensions besides the batch; it is measured with the sizes of the data."
        for spec in signature.inputs
        if None in (spec.shape[1:] if signature.dynamic_batch else spec.shape)
    ]
