"""Threads, sessions, batches and a pipeline of stages against one session with one thread: ratios, interleaved.

python benchmarks/parallel.py [ROUNDS]
"""

from __future__ import annotations

import dataclasses
import hashlib
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnxruntime
from networks import INPUT_SHAPE, export

from edgeopt.core.device import LOCAL
from edgeopt.core.model import Artifact
from edgeopt.core.pipeline import MODES
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Settings
from edgeopt.graph.stage_files import plan_edges, split_file
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection, connect
from edgeopt_runner.protocol.samples import write_samples

ROUNDS = 3
SECONDS = 2.0
NETWORKS = ("mobilenet_v2", "resnet18")
ALONE = "1 session × 1 thread"
WAYS = {
    ALONE: Settings(),
    "1 session × 2 threads": Settings(threads=2),
    "1 session × 2 inter-op": Settings(inter_op=2),
    "2 sessions × 1 thread": Settings(sessions=2),
    "batch 8, 1 session × 2 threads": Settings(threads=2, batch=8),
    "batch 8 over 2 sessions × 1 thread": Settings(sessions=2, batch=8),
}


def artifact_of(path: Path) -> Artifact:
    """A file as the runner names it."""
    return Artifact(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, path.suffix[1:])


def measured(connection: Connection, model: Artifact, golden: Artifact, settings: Settings) -> tuple[float, float]:
    """Milliseconds of a request and items a second, as the runner reports them."""
    plan = dataclasses.replace(QUICK, min_seconds=SECONDS, max_seconds=4 * SECONDS).without_evaluation()
    job = jobs.measure_job(artifact=model, settings=settings, plan=plan, golden=golden.digest, min_cosine=0.999)
    found = jobs.measurement_of(connection.run_job(job))
    if found.latency is None or found.items_per_second is None:
        raise SystemExit(f"the runner says {found.status}: {found.detail}")
    return found.latency.median_ns / 1e6, found.items_per_second


def with_stages(connection: Connection, model: Path, golden: Path, folder: Path) -> None:
    """Print the pipeline of two stages against one and two sessions; the runner interleaves the rounds itself."""
    split = split_file(str(model), [], 2, str(folder))
    paths = [Path(stage["path"]) for stage in split["stages"]]
    edges = plan_edges([str(path) for path in paths], ["scores"], str(golden))
    for path in paths:
        connection.push(path, artifact_of(path).digest)
    pairs = zip(paths, edges["gives"], strict=True)
    job = jobs.pipeline_job(
        artifact=artifact_of(model),
        stages=[jobs.StageFile(artifact_of(path), tuple(gives)) for path, gives in pairs],
        slot_bytes=edges["slot_bytes"],
        settings=Settings(),
        golden=artifact_of(golden).digest,
        inputs=["image"],
        min_cosine=0.999,
        seconds=SECONDS,
        rounds=2 * ROUNDS,
    )
    result = connection.run_job(job)
    jobs.require_ok(result, "the pipeline")
    figures = jobs.pipeline_of(result)
    balance = ", ".join(f"{stage['mac_share']:.0%}" for stage in split["stages"])
    for name in MODES[:2]:
        middle, least, most = figures.gain(name)
        over = f"{figures.sessions} sessions" if name == MODES[1] else name
        print(f"  pipeline ({balance}) over {over:14s} items/s {middle:.2f} ({least:.2f} to {most:.2f})")


def compare(name: str, folder: Path, rounds: int) -> None:
    """Print each way's latency and throughput over those of one session with one thread."""
    model, golden = export(name, folder / f"{name}.onnx"), folder / f"{name}.npz"
    inputs = np.random.default_rng(0).standard_normal((4, *INPUT_SHAPE)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    outputs = {"reference:scores": np.stack([session.run(["scores"], {"image": one})[0] for one in inputs])}
    del session
    write_samples(str(golden), {"input:image": inputs, **outputs})
    ratios: dict[str, list[tuple[float, float]]] = {way: [] for way in WAYS}
    print(f"{name}: over {ALONE}, median of {rounds} interleaved rounds")
    with connect(LOCAL) as connection:
        for path in (model, golden):
            connection.push(path, artifact_of(path).digest)
        for number in range(rounds):
            order = list(WAYS) if number % 2 == 0 else list(WAYS)[::-1]
            found = {way: measured(connection, artifact_of(model), artifact_of(golden), WAYS[way]) for way in order}
            for way, (latency, rate) in found.items():
                ratios[way].append((latency / found[ALONE][0], rate / found[ALONE][1]))
        for way, pairs in ratios.items():
            latency, rate = (statistics.median(pair[place] for pair in pairs) for place in (0, 1))
            spread = f"({min(pair[1] for pair in pairs):.2f} to {max(pair[1] for pair in pairs):.2f})"
            print(f"  {way:36s} time of a request {latency:5.2f}   items/s {rate:.2f} {spread}")
        with_stages(connection, model, golden, folder / "stages")


def main() -> None:
    """Compare on both networks."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else ROUNDS
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            compare(name, Path(folder), rounds)


if __name__ == "__main__":
    main()
