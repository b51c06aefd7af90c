"""Inputs to try a network with: calibration samples, or zeros where there are none."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from edgeopt.graph.session import open_session, run_feed
from edgeopt_runner.protocol.samples import SampleFile

_TYPES = {
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(bool)": np.bool_,
}


def inner_values(
    model: Any, tensors: Iterable[str], samples: Path | None, *, limit: int, work: Path
) -> Iterator[dict[str, Any]]:
    """Run samples, one at a time, and give what was fed, the outputs, and the values of inner tensors.

    Args:
        model: The network.
        tensors: Names of tensors in it.
        samples: Sample file; ``None`` runs zeros once, with 1 for every free size.
        limit: Largest number of samples.
        work: Folder for the network that shows its inner tensors.

    Raises:
        ModelError: The network does not load or run.
    """
    shown = onnx.ModelProto()
    shown.CopyFrom(model)
    known = {value.name for value in (*shown.graph.output, *shown.graph.input)}
    shown.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(set(tensors) - known))
    path = work / "shown.onnx"
    onnx.save(shown, path)
    session = open_session(path)
    feeds = [zeros(session)] if samples is None else (one.inputs for one in SampleFile(str(samples)).read(limit))
    for feed in feeds:
        yield {**feed, **run_feed(session, feed)}


def zeros(session: Any) -> Mapping[str, Any]:
    """A feed of zeros; every free size is 1."""
    return {
        value.name: np.zeros(
            [size if isinstance(size, int) else 1 for size in value.shape], _TYPES.get(value.type, np.float32)
        )
        for value in session.get_inputs()
    }
