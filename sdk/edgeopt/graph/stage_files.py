"""Splits and merges ONNX files: what was made is run beside what it was made of before a file is written.

Meant for child processes: it runs models.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeopt.core.tensor import Signature
from edgeopt.errors import ParityError
from edgeopt.graph import merge, stages
from edgeopt.graph.cuts import Cut, choose_cuts, cut_points, cuts_named
from edgeopt.graph.inspect import all_weights, inspect_model, signature_of, tensor_bytes
from edgeopt.graph.sample_sources import generated_items
from edgeopt.graph.session import open_session, run_feed
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import SampleFile

_FEEDS = 3
_MOST_DIFFERENCE = 1e-3
"""Largest difference over the largest output that counts as equal: a runtime fuses other layers in parts of a network,
and rounds elsewhere then."""


def list_cuts(model: str) -> list[dict[str, Any]]:
    """Every valid cut of a checked file, front to back, as plain data."""
    return [_described(cut) for cut in cut_points(_load(model))]


def split_file(model: str, at: list[str], parts: int, folder: str) -> dict[str, Any]:
    """Cut a checked file into ``stage-1.onnx``, ``stage-2.onnx``, ...

    Args:
        model: The file.
        at: Tensors to cut at; empty: `parts` stages, as balanced as can be.
        parts: Number of stages, where `at` is empty.
        folder: Where the stages go; made.

    Returns:
        ``stages`` (``path, nodes, weight_bytes, mac_share, inputs, outputs``), ``cuts``, and ``max_abs``: the largest
        difference of the stages' outputs to the whole's.

    Raises:
        ModelError: There is no valid cut, or inputs cannot be generated.
        UsageError: `at` or `parts` does not fit.
        ParityError: The stages do not give what the whole gives.
    """
    whole = _load(model)
    cuts = cut_points(whole)
    chosen = cuts_named(cuts, at, whole) if at else choose_cuts(cuts, parts)
    made = stages.split(whole, chosen)
    difference = _difference(_split_pairs(whole, made))
    paths = [Path(folder, f"stage-{number}.onnx") for number in range(1, len(made) + 1)]
    shares = [0.0, *(cut.mac_share for cut in chosen), 1.0]
    return {
        "stages": [
            {**_summary(stage), "path": str(_written(stage, path)), "mac_share": after - before}
            for stage, path, (before, after) in zip(made, paths, itertools.pairwise(shares), strict=True)
        ],
        "cuts": [_described(cut) for cut in chosen],
        "max_abs": difference,
    }


def plan_edges(stage_paths: list[str], outputs: list[str], samples: str) -> dict[str, Any]:
    """What processes that run the stages hand on, and how many bytes that takes for the first sample of a file.

    Args:
        stage_paths: Front to back.
        outputs: Of the whole network.
        samples: Sample file.

    Returns:
        ``gives``: names after each stage; ``slot_bytes``: into the first stage, between stages, out of the last.
    """
    sessions = [open_session(Path(path)) for path in stage_paths]
    values: dict[str, Any] = dict(next(SampleFile(samples).read(1)).inputs)
    gives, slots = [], [_bytes(values, values)]
    for number, session in enumerate(sessions):
        values |= run_feed(session, {spec.name: values[spec.name] for spec in session.get_inputs()})
        later = {spec.name for after in sessions[number + 1 :] for spec in after.get_inputs()} | set(outputs)
        gives.append([name for name in values if name in later])
        slots.append(_bytes(values, gives[-1]))
    return {"gives": gives, "slot_bytes": slots}


def _bytes(values: Mapping[str, Any], names: Iterable[str]) -> int:
    """Of some arrays, each rounded up to what processors like to start at."""
    return sum(-(-int(values[name].nbytes) // 64) * 64 for name in names) or 64


def merge_files(models: list[str], names: list[str], destination: str) -> dict[str, Any]:
    """Make one file of several: a chain where outputs feed inputs, else models that share a trunk.

    Args:
        models: Checked files, front to back where they are a chain.
        names: What to call them.
        destination: The file to make.

    Returns:
        ``kind`` (``chain`` or ``trunk``), ``shared_nodes``, ``shared_bytes``, ``inputs``, ``outputs``, ``notes``,
        ``size_bytes`` and ``max_abs``.

    Raises:
        ModelError: They are no chain and have nothing in common, or do not fit together.
        ParityError: The whole does not give what the parts give.
    """
    loaded = [_load(model) for model in models]
    chain = stages.is_chain(loaded)
    made = stages.fuse(loaded, names) if chain else merge.share_trunk(loaded, names)
    difference = _difference(
        _chain_pairs(made, loaded) if isinstance(made, stages.Fused) else _trunk_pairs(made, loaded)
    )
    path = _written(made.model, Path(destination))
    return {
        "kind": "chain" if chain else "trunk",
        "shared_nodes": getattr(made, "shared_nodes", 0),
        "shared_bytes": getattr(made, "shared_bytes", 0),
        **_summary(made.model),
        "notes": list(made.notes),
        "size_bytes": path.stat().st_size,
        "max_abs": difference,
    }


def _load(path: str) -> Any:
    import onnx

    return onnx.load(path)


def _written(model: Any, path: Path) -> Path:
    """Check a model, load it, and put it on disk."""
    import onnx

    data = model.SerializeToString(deterministic=True)
    onnx.checker.check_model(data)
    open_session(data)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".part")
    partial.write_bytes(data)
    partial.replace(path)
    return path


def _described(cut: Cut) -> dict[str, Any]:
    return {
        "tensor": cut.tensor,
        "form": str(cut),
        "size_bytes": cut.size_bytes,
        "mac_share": cut.mac_share,
        "weight_share": cut.weight_share,
    }


def _summary(model: Any) -> dict[str, Any]:
    found = inspect_model(model)
    return {
        "nodes": len(model.graph.node),
        "weight_bytes": sum(tensor_bytes(tensor) for tensor in all_weights(model.graph)),
        "inputs": [spec.name for spec in found.signature.inputs],
        "outputs": [spec.name for spec in found.signature.outputs],
    }


def _feeds(signature: Signature) -> list[dict[str, Any]]:
    """Random feeds; where the batch is free one of two samples, too."""
    import numpy as np

    feeds = [dict(item.inputs) for item in itertools.islice(generated_items(signature, 0), _FEEDS)]
    if signature.dynamic_batch:
        feeds.append({name: np.concatenate([feeds[0][name], feeds[1][name]]) for name in feeds[0]})
    return feeds


Pairs = Iterator[tuple[dict[str, Any], dict[str, Any]]]
"""Outputs that are wanted, and those found, under the same names."""


def _open(model: Any) -> Any:
    return open_session(model.SerializeToString())


def _split_pairs(whole: Any, made: Sequence[Any]) -> Pairs:
    """A network, and its stages one after the other."""
    session, sessions = _open(whole), [_open(stage) for stage in made]
    for feed in _feeds(signature_of(whole)):
        values = dict(feed)
        for stage in sessions:
            values |= run_feed(stage, {spec.name: values[spec.name] for spec in stage.get_inputs()})
        wanted = run_feed(session, feed)
        yield wanted, {name: values[name] for name in wanted}


def _chain_pairs(fused: stages.Fused, parts: Sequence[Any]) -> Pairs:
    """Stages one after the other, and the network that they became."""
    session, sessions = _open(fused.model), [_open(part) for part in parts]
    for feed in _feeds(signature_of(fused.model)):
        made: dict[stages.Place, Any] = {}
        for number, (part, links) in enumerate(zip(sessions, fused.links, strict=True)):
            names = [spec.name for spec in part.get_inputs()]
            found = run_feed(part, {name: made[links[name]] if name in links else feed[name] for name in names})
            made |= {(number, name): value for name, value in found.items()}
        yield {name: made[place] for name, place in fused.outputs.items()}, run_feed(session, feed)


def _trunk_pairs(merged: merge.Merged, parts: Sequence[Any]) -> Pairs:
    """Models by themselves, and their heads on the trunk."""
    session, sessions = _open(merged.model), [_open(part) for part in parts]
    for feed in _feeds(signature_of(merged.model)):
        outputs = run_feed(session, feed)
        for own, inputs, names in zip(sessions, merged.inputs, merged.outputs, strict=True):
            wanted = run_feed(own, {name: feed[there] for name, there in inputs.items()})
            yield wanted, {name: outputs[names[name]] for name in wanted}


def _difference(pairs: Pairs) -> float:
    """The largest difference. Raises ParityError where it is no rounding."""
    import numpy as np

    largest = 0.0
    for wanted, found in pairs:
        peak = max(
            (float(np.abs(value.astype(np.float64)).max()) for value in wanted.values() if value.size), default=1
        )
        difference = metrics.max_abs(wanted, found)
        if difference > _MOST_DIFFERENCE * max(peak, 1e-6):
            raise ParityError(
                f"what was made gives outputs that differ by {difference:.3g}, where the largest is {peak:.3g}.",
                remedy="Cut at other tensors (edgeopt split MODEL lists them), or simplify the models first.",
            )
        largest = max(largest, difference)
    return largest
