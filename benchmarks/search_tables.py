"""Exhaustive tables of this machine: every variant of a few small networks in every runtime, several launches of each.

A table is what a search is replayed on: it holds what the board would say, so that thousands of searches take seconds.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

import numpy as np
from onnx import helper

import edgeopt
from edgeopt import documents
from edgeopt.core.budget import Budget
from edgeopt.core.device import LOCAL, DeviceFacts
from edgeopt.core.measurement import Measurement
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.variant import Variant
from edgeopt.remote.client import connect
from edgeopt.workflow.listener import Silence
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.optimizing import make_variants
from edgeopt.workflow.preparing import Prepared, prepare
from edgeopt.workflow.request import DataRequest
from edgeopt.workflow.tuning import readers
from edgeopt_targets import registry
from edgeopt_targets.profile_files import match_profile
from support import networks

FOLDER = Path(__file__).parent / "data"
BUDGET = Budget(max_drop=0.02)
FINALS = 5
"""Launches of each candidate beside the first one."""

_SHORT = dataclasses.replace(QUICK, min_seconds=0.3, window_seconds=0.05, warmup_seconds=0.1, max_warmup_seconds=2.0)
_SAMPLES = 32  # of a launch that are kept, evenly spread
_RECIPES = ("optimised", "int8-minmax", "int8-unsigned", "int8-dynamic", "float16", "weights-4", "clustered")


def _convolutions(path: Path) -> Path:
    """Four convolutions, the second and fourth with stride 2, on pictures of 32 by 32."""
    sizes = [(32, 3, 3, 3), (64, 32, 3, 3), (64, 64, 3, 3), (128, 64, 3, 3)]
    rng, nodes, weights, last = np.random.default_rng(0), [], [], "x"
    for place, size in enumerate(sizes):
        scale = (2 / np.prod(size[1:])) ** 0.5
        weights.append(networks.constant(f"w{place}", rng.standard_normal(size) * scale))
        stride = [1 + place % 2] * 2
        nodes.append(helper.make_node("Conv", [last, f"w{place}"], [f"c{place}"], f"conv{place}", strides=stride))
        nodes[-1].attribute.extend([helper.make_attribute("kernel_shape", [3, 3])])
        nodes.append(helper.make_node("Relu", [f"c{place}"], [last := f"r{place}"], f"relu{place}"))
    nodes.append(helper.make_node("GlobalAveragePool", [last], ["p"], "pool"))
    nodes.append(helper.make_node("Flatten", ["p"], ["y"], "flatten"))
    return networks.save(path, nodes, {"x": ("N", 3, 32, 32)}, {"y": ("N", 128)}, weights)


NETWORKS: dict[str, tuple[Callable[[Path], Path], str, tuple[int, ...]]] = {
    "convolutions": (_convolutions, "x", (3, 32, 32)),
    "attention": (lambda path: networks.matmul_transformer_onnx(path, tokens=64, width=256), "tokens", (64, 256)),
    "perceptron": (lambda path: networks.mlp_onnx(path, width=4096, features=1024), "x", (1024,)),
}
"""How each is written, its input, and the shape of one sample."""


@dataclass(frozen=True)
class Row:
    """All launches of one variant under one setting, the first one with the evaluation set."""

    variant: str
    settings: Settings
    launches: tuple[Measurement, ...]


@dataclass(frozen=True)
class Table:
    """Everything that was measured of one network, and what a run has to know beside it."""

    network: str
    facts: DeviceFacts
    profile: Profile
    prepared: Prepared
    variants: tuple[Variant, ...]
    rows: tuple[Row, ...]


def recorded() -> tuple[Table, ...]:
    """The tables in the folder, by name."""
    return tuple(
        documents.decode_json(Table, path.read_bytes(), where=path.name)
        for path in sorted(FOLDER.glob("search-*.json"))
    )


def record(name: str) -> Path:
    """Make every variant of a network, measure each in every runtime that reads it, and keep the table."""
    write, entry, shape = NETWORKS[name]
    with tempfile.TemporaryDirectory(prefix="edgeopt-search-") as folder, connect(LOCAL) as connection:
        network, samples = write(Path(folder) / f"{name}.onnx"), Path(folder) / "samples.npz"
        np.savez(samples, **{entry: np.random.default_rng(0).standard_normal((48, *shape)).astype(np.float32)})
        data = DataRequest(str(samples), evaluation_samples=32, calibration_samples=16)
        request = edgeopt.Request(str(network), data=data, budget=BUDGET, recipes=_RECIPES)
        facts = connection.probe()
        profile = match_profile(facts)
        with edgeopt.Workspace.open(Path(folder) / "home") as workspace, connection.lease("recording a table"):
            prepared = prepare(request, workspace, Silence())
            made = make_variants(request, prepared, facts, profile, workspace, Silence())
            print(name, [one.name for one in made.variants], [(one.name, one.reason) for one in made.rejections])
            bench = Bench(workspace, connection, facts, profile, prepared, BUDGET, "table", False, Silence())
            table = Table(name, facts, profile, prepared, made.variants, _rows(bench, made.variants))
    path = FOLDER / f"search-{name}.json"
    documents.write_atomically(path, documents.encode_json(table).encode())
    return path


def _rows(bench: Bench, variants: tuple[Variant, ...]) -> tuple[Row, ...]:
    settings = registry.target(bench.profile.target).settings(bench.profile, bench.facts)
    every = [(variant, one) for variant in variants for one in readers(bench, settings, variant)]
    taken: list[list[Measurement]] = [[] for _ in every]
    for launch in range(1 + FINALS):  # in turn, so that a change of the machine hits all alike
        for (variant, one), launches in zip(every, taken, strict=True):
            plan = _SHORT if launch == 0 else _SHORT.without_evaluation()
            launches.append(_shortened(bench.measure(variant, one, plan, launch)))
            print(launch, variant.name, one, launches[-1].status, flush=True)
    return tuple(Row(v.name, one, tuple(launches)) for (v, one), launches in zip(every, taken, strict=True))


def _shortened(measurement: Measurement) -> Measurement:
    """Without evidence, and with few of the samples."""
    latency = measurement.latency
    if latency is not None:
        every = max(1, len(latency.samples_ns) // _SAMPLES)
        kept = latency.samples_ns[::every][:_SAMPLES]
        latency = dataclasses.replace(latency, samples_ns=kept, windows_ns=latency.windows_ns[:3])
    return dataclasses.replace(measurement, latency=latency, evidence={}, placement={})
