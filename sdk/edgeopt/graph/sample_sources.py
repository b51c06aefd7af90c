"""Where samples come from: `.npz` files, functions of the user, or random numbers; each a stream of (inputs, label)."""

from __future__ import annotations

import shutil
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from edgeopt.core.tensor import Signature
from edgeopt.errors import DataError
from edgeopt.graph.fit import batch_size
from edgeopt.graph.user_code import load_function, user_problem


class Item(NamedTuple):
    """One entry of the data.

    Attributes:
        inputs: Arrays by input name: one sample, or several along a leading axis.
        label: Of the sample or samples, or ``None``.
        number: Its place in the user's file; ``None`` in a stream, where samples are counted.
    """

    inputs: Mapping[str, Any]
    label: Any = None
    number: int | None = None


_UNNAMED = "arr_0"


def items_of_file(path: Path, signature: Signature, folder: Path, picked: int, seed: int) -> Iterator[Item]:
    """Samples of an `.npz` file, in bounded memory: `picked` of them at random, in their order.

    Args:
        path: Arrays by input name, each [N, ...], and `labels` where there are some.
        signature: What the model takes.
        folder: Where the arrays are unpacked to.
        picked: Most samples to give.
        seed: Of the choice.

    Raises:
        DataError: Not such a file, no samples, or arrays of different lengths.
    """
    import numpy as np

    arrays = _open_arrays(path, folder)
    inputs = [spec.name for spec in signature.inputs]
    labels = None if "labels" in inputs else arrays.pop("labels", None)
    if len(inputs) == 1 and list(arrays) == [_UNNAMED]:
        arrays = {inputs[0]: arrays[_UNNAMED]}
    columns = {**arrays, **({} if labels is None else {"labels": labels})}
    lengths = {name: len(array) if array.ndim else 0 for name, array in columns.items()}
    if not arrays or len(set(lengths.values())) != 1:
        listed = ", ".join(f"{name}: {length}" for name, length in lengths.items())
        raise DataError(
            f"{path}: the arrays must be of one length, one entry a sample; there is {listed or 'none'}.",
            remedy="Write as many labels as inputs.",
        )
    count = next(iter(lengths.values()))
    order = np.sort(np.random.default_rng(seed).permutation(count)[:picked])
    for index in order:
        inputs_of_one = {name: array[index] for name, array in arrays.items()}
        yield Item(inputs_of_one, None if labels is None else labels[index], int(index))


def _open_arrays(path: Path, folder: Path) -> dict[str, Any]:
    """Members of the file as arrays that stay on disk: unpacked first, as a zip cannot be mapped."""
    import numpy as np

    opened = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for number, name in enumerate(archive.namelist()):
                unpacked = folder / f"array-{number}.npy"
                with archive.open(name) as stream, open(unpacked, "wb") as target:
                    shutil.copyfileobj(stream, target, 1 << 20)
                opened[name.removesuffix(".npy")] = np.load(unpacked, mmap_mode="r", allow_pickle=False)
    except (zipfile.BadZipFile, ValueError, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as .npz: {error}.",
            remedy="Write it with numpy.savez(path, <input>=array, labels=labels), arrays of numbers only.",
        ) from None
    return opened


def items_of_function(source: str, signature: Signature) -> Iterator[Item]:
    """Samples that the user's function yields or returns.

    An item is ``(inputs, labels)`` or inputs alone; inputs are an array, a tuple in the model's order, or a dict.
    A function that returns a dict or a tuple gives one item.

    Raises:
        DataError: The function fails, or gives something that is not items.
    """
    try:
        result = load_function(source, DataError)()
        if result is None:
            raise DataError(f"{source} returned None.", remedy="Yield (inputs, label) for every sample.")
        stream = iter([result] if isinstance(result, (Mapping, tuple)) else result)
    except Exception as error:
        raise user_problem(f"calling {source}", error, DataError) from None
    number = 0
    while True:
        try:
            item = next(stream)
        except StopIteration:
            return
        except Exception as error:
            raise user_problem(f"{source}, item {number},", error, DataError) from None
        yield _split_item(item, signature, f"{source}, item {number}")
        number += 1


def _split_item(item: Any, signature: Signature, where: str) -> Item:
    """Tell inputs from labels; with several inputs, a plain pair of arrays is inputs."""
    names = [spec.name for spec in signature.inputs]
    if isinstance(item, Mapping):
        inputs = dict(item)
        return Item(inputs, None if "labels" in names else inputs.pop("labels", None))
    if not isinstance(item, (tuple, list)):
        return Item(_by_order([item], names, where))
    if len(item) == 2 and (len(names) == 1 or isinstance(item[0], (Mapping, tuple, list))):
        first = item[0]
        if isinstance(first, Mapping):
            return Item(dict(first), item[1])
        several = isinstance(first, tuple) or (isinstance(first, list) and len(names) > 1)
        return Item(_by_order(list(first) if several else [first], names, where), item[1])
    if len(item) == len(names) + 1:
        return Item(_by_order(list(item[:-1]), names, where), item[-1])
    return Item(_by_order(list(item), names, where))


def _by_order(values: list[Any], names: list[str], where: str) -> dict[str, Any]:
    if len(values) != len(names):
        raise DataError(
            f"{where} has {len(values)} arrays, but the model takes {len(names)} inputs ({', '.join(names)}).",
            remedy="Yield (inputs, label), with inputs as a dict by name where there are several.",
        )
    return dict(zip(names, values, strict=True))


def generated_items(signature: Signature, seed: int) -> Iterator[Item]:
    """Random feeds without end: normal numbers for real inputs, 0 and 1 for integers.

    Raises:
        DataError: A dimension besides the batch is dynamic, so that no size is known.
    """
    import numpy as np

    has_batch = batch_size(signature) is not None
    for spec in signature.inputs:
        if None in (spec.shape[1:] if has_batch else spec.shape):
            asked = ",".join(
                "1" if axis == 0 and has_batch else str(size or 224) for axis, size in enumerate(spec.shape)
            )
            raise DataError(
                f"inputs cannot be generated: {spec} has dynamic dimensions.",
                remedy=f"Fix them, as in --input {spec.name}={asked}, or give --data.",
            )
    generator = np.random.default_rng(seed)
    while True:
        sizes = {spec.name: [size or 1 for size in spec.shape] for spec in signature.inputs}
        yield Item({spec.name: _draw(generator, spec.dtype, sizes[spec.name]) for spec in signature.inputs})


def _draw(generator: Any, dtype: str, shape: list[int]) -> Any:
    import numpy as np

    if np.dtype(dtype).kind == "f":
        return generator.standard_normal(shape).astype(dtype)
    return generator.integers(0, 2, shape).astype(dtype)
