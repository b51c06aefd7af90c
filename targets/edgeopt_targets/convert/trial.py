"""A first run of what a converter made, in a child process: some files end the process that loads them."""

from __future__ import annotations

from pathlib import Path

from edgeopt.child import run_child
from edgeopt.core.tensor import Signature
from edgeopt.errors import ModelError, PassError
from edgeopt.graph.session import open_session, run_feed
from edgeopt.passes.graphs.feeds import zeros

_SECONDS = 120.0


def demand_runs(source: Path, converted: Path, runtime: str, sizes: Signature) -> None:
    """Load both, run zeros, and compare the shapes of their outputs; numbers are the usual parity check's affair.

    Args:
        source: ONNX file.
        converted: What was made of it.
        runtime: For messages.
        sizes: Sizes of the inputs; 1 where they are free.

    Raises:
        PassError: The converted file does not load, run, or give outputs of the same shapes.
        ChildError: The runtime crashed.
    """
    run_child(
        "edgeopt_targets.convert.trial:compare_shapes",
        {
            "source": str(source),
            "converted": str(converted),
            "sizes": {spec.name: [size or 1 for size in spec.shape] for spec in sizes.inputs},
        },
        deadline_seconds=_SECONDS,
        what=f"running the file with {runtime}",
    )


def compare_shapes(source: str, converted: str, sizes: dict[str, list[int]]) -> None:
    """The child's part of `demand_runs`."""
    import numpy as np

    session = open_session(Path(source))
    feed = {name: np.zeros(sizes[name], array.dtype) for name, array in zeros(session).items()}
    wanted = run_feed(session, feed)
    try:
        found = run_feed(open_session(Path(converted)), feed)
    except ModelError as error:
        raise PassError(error.message, remedy=error.remedy) from None
    for name, array in wanted.items():
        if name not in found or found[name].shape != array.shape:
            shape = list(found[name].shape) if name in found else "missing"
            raise PassError(f"output {name} is {shape} instead of {list(array.shape)}.")
