"""The runner's figures against a bare Python loop over ONNX Runtime: same model, same settings, interleaved processes.

python benchmarks/runner.py
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from networks import INPUT_SHAPE, export

from edgeopt.core.device import LOCAL
from edgeopt.core.model import Artifact
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Settings
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection, connect
from edgeopt_runner.protocol.samples import write_samples

ROUNDS = 6
SECONDS = 4.0
NETWORKS = ("mobilenet_v2", "resnet18")
BARE_LOOP = """
import json, sys, time
import numpy as np, onnxruntime as ort
path, samples, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
feeds = [{name[6:]: array[i] for name, array in np.load(samples).items()} for i in range(4)]
for i in range(10):
    session.run(None, feeds[i % 4])
times, end, i = [], time.perf_counter() + seconds, 0
while time.perf_counter() < end:
    start = time.perf_counter_ns()
    session.run(None, feeds[i % 4])
    times.append(time.perf_counter_ns() - start)
    i += 1
peak_kib = int(next(line for line in open("/proc/self/status") if line.startswith("VmHWM")).split()[1])
print(json.dumps([sorted(times)[len(times) // 2], peak_kib * 1024]))
"""


def artifact_of(path: Path) -> Artifact:
    """A file as the runner names it."""
    return Artifact(hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_size, path.suffix[1:])


def with_runner(connection: Connection, model: Artifact, golden: Artifact) -> tuple[float, float]:
    """Median nanoseconds and peak bytes as the runner reports them."""
    plan = dataclasses.replace(QUICK, min_seconds=SECONDS, max_seconds=2 * SECONDS).without_evaluation()
    job = jobs.measure_job(
        artifact=model, settings=Settings(threads=1), plan=plan, golden=golden.digest, min_cosine=0.0
    )
    measurement = jobs.measurement_of(connection.run_job(job))
    if measurement.latency is None or measurement.memory is None or measurement.memory.peak_bytes is None:
        raise SystemExit(f"the runner says {measurement.status}: {measurement.detail}")
    return measurement.latency.median_ns, measurement.memory.peak_bytes


def bare(model: Path, samples: Path) -> tuple[float, float]:
    """The same from a plain script."""
    command = [sys.executable, "-c", BARE_LOOP, str(model), str(samples), str(SECONDS)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    median_ns, peak_bytes = json.loads(done.stdout)
    return median_ns, peak_bytes


def compare(name: str, folder: Path) -> None:
    """Print the ratio of medians and the difference of peaks for one network."""
    model = export(name, folder / f"{name}.onnx")
    samples = folder / f"{name}.npz"
    inputs = np.random.default_rng(0).standard_normal((4, *INPUT_SHAPE)).astype(np.float32)
    write_samples(str(samples), {"input:image": inputs})
    pairs = []
    with connect(LOCAL) as connection:
        for path in (model, samples):
            connection.push(path, artifact_of(path).digest)
        for number in range(ROUNDS):
            order = ("runner", "bare") if number % 2 == 0 else ("bare", "runner")
            pair = {
                kind: bare(model, samples)
                if kind == "bare"
                else with_runner(connection, artifact_of(model), artifact_of(samples))
                for kind in order
            }
            pairs.append(pair)
    ratio = statistics.median(pair["runner"][0] / pair["bare"][0] for pair in pairs)
    spread = [round(pair["runner"][0] / pair["bare"][0], 3) for pair in pairs]
    extra_mib = statistics.median(pair["runner"][1] - pair["bare"][1] for pair in pairs) / 2**20
    print(f"{name:14s} runner / bare loop: median {ratio:.3f} (rounds {spread}), peak memory {extra_mib:+.1f} MiB")


def main() -> None:
    """Compare on both networks."""
    with tempfile.TemporaryDirectory() as folder:
        for name in NETWORKS:
            compare(name, Path(folder))


if __name__ == "__main__":
    main()
