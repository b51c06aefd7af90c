"""Builds realistic run records: candidates over variants and threads, with intervals, failures and hostile names."""

from __future__ import annotations

import hashlib
import random
from dataclasses import dataclass, replace

from edgeopt.core.budget import Budget, LatencyLimit
from edgeopt.core.deployment import Deployment
from edgeopt.core.device import Device, DeviceFacts, RuntimeFacts
from edgeopt.core.measurement import Accuracy, Correctness, Latency, Measurement, Memory
from edgeopt.core.model import Artifact, Model
from edgeopt.core.plan import FULL, QUICK
from edgeopt.core.profile import Settings
from edgeopt.core.recipe import BASELINE, PassSpec, Recipe
from edgeopt.core.run import DataSummary, RunRecord
from edgeopt.core.selection import Assessment, Candidate, Interval, Selection
from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.core.variant import Provenance, Rejection, Variant

HOSTILE = (
    "</script><script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>"
    "\x1b[2J\x1b]0;owned\x07\u202eevil\r\n[red]=cmd()[/red]"
)
VERSIONS = {"edgeopt": "0.1.0", "onnx": "1.23.2", "onnxruntime": "1.32.0", "onnxslim": "0.1.98", "numpy": "1.26.4"}


def digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class Line:
    """One candidate in short: what it is and what came out."""

    name: str
    threads: int
    median_ms: float
    metric: float
    size_kib: int
    memory_mib: float
    verdict: str
    reason: str
    pareto: bool = False
    flags: tuple[str, ...] = ()
    status: str = "ok"


LINES = (
    Line("int8-entropy", 2, 4.21, 0.9709, 96, 61.2, "winner", "fastest that meets the budget", True),
    Line(
        "int8-minmax",
        2,
        4.24,
        0.9687,
        94,
        61.0,
        "tie",
        "within noise of int8-entropy / 2 threads (0.99 to 1.02), which is more accurate",
        True,
    ),
    Line(
        "int8-entropy",
        1,
        6.63,
        0.9709,
        96,
        60.1,
        "slower",
        "1.6x slower than the winner (6.63 ms against 4.21 ms)",
        True,
    ),
    Line(
        "int8-minmax",
        1,
        6.71,
        0.9687,
        94,
        60.0,
        "dominated",
        "int8-entropy / 1 thread is at least as good in everything",
    ),
    Line(
        "simplified",
        2,
        12.3,
        0.9731,
        341,
        68.8,
        "slower",
        "2.9x slower than the winner (12.3 ms against 4.21 ms)",
        True,
    ),
    Line(
        "original", 2, 13.1, 0.9731, 352, 70.4, "slower", "3.1x slower than the winner (13.1 ms against 4.21 ms)", False
    ),
    Line(
        "float16",
        2,
        19.9,
        0.9731,
        177,
        79.3,
        "infeasible",
        "p90 is up to 23.1 ms, the budget allows 16.0 ms",
        False,
        ("unstable",),
    ),
    Line("original", 1, 21.7, 0.9731, 352, 69.2, "infeasible", "p90 is up to 25.2 ms, the budget allows 16.0 ms"),
    Line(
        "int4-weights",
        2,
        11.0,
        0.9214,
        61,
        66.1,
        "infeasible",
        "loses 5.2 points of top1, the budget allows 1.0",
        False,
        ("contended",),
    ),
    Line(
        "int8-u8s8",
        2,
        4.05,
        0.4190,
        94,
        61.1,
        "infeasible",
        "loses 55.4 points of top1, the budget allows 1.0 (saturation without VNNI)",
    ),
    Line(
        "int8-avx512",
        2,
        0.0,
        0.0,
        94,
        0.0,
        "failed",
        "crashed while loading: illegal instruction",
        False,
        (),
        "illegal_instruction",
    ),
)

FACTS = DeviceFacts(
    model="Raspberry Pi 5 Model B Rev 1.0",
    machine="aarch64",
    bits=64,
    cpu="Cortex-A76",
    isa=("asimd", "asimddp", "fphp"),
    cores_logical=4,
    cores_physical=4,
    memory_bytes=8 << 30,
    memory_available_bytes=6 << 30,
    disk_free_bytes=21 << 30,
    os="Debian GNU/Linux 12 (bookworm)",
    kernel="6.6.31+rpt-rpi-2712",
    libc="glibc 2.36",
    python="3.11.2",
    governor="ondemand",
    power_mode="",
    temperature_celsius=51.2,
    boot_id="b0",
    runtimes=(RuntimeFacts("onnxruntime", "1.32.0", ("CPUExecutionProvider",), "/usr/bin/python3"),),
    fingerprint=digest("pi5"),
)


def recipe_of(name: str) -> Recipe:
    """A plausible recipe for a variant's name."""
    if name == BASELINE.name:
        return BASELINE
    passes = [PassSpec("simplify")]
    if name.startswith("int8"):
        passes.append(PassSpec("quantize_static", {"calibrator": name.partition("-")[2], "per_channel": True}))
    return Recipe(name, tuple(passes), precision=name.partition("-")[0])


def variant_of(line: Line) -> Variant:
    """The variant behind a line."""
    artifact = Artifact(digest(line.name), line.size_kib << 10, "onnx")
    provenance = Provenance(digest("model"), recipe_of(line.name), digest("data"), VERSIONS, seed=0)
    kept = ("/features/conv1/Conv", "/head/Gemm") if line.name == "int8-entropy" else ()
    return Variant(line.name, artifact, provenance, metric=line.metric, cosine=0.9994, kept_float=kept)


def latency_of(median_ms: float, samples: int, seed: int) -> Latency:
    """Seeded samples with the long tail that real boards have."""
    source = random.Random(seed)
    values = [
        round(median_ms * 1e6 * (0.96 + source.expovariate(25) + (source.random() < 0.01) * source.random() * 2))
        for _ in range(samples)
    ]
    ordered = sorted(values)
    mean = sum(values) // len(values)
    windows = tuple(sorted(values[i::5])[len(values[i::5]) // 2] for i in range(5))
    at = lambda share: ordered[min(len(ordered) - 1, int(share * len(ordered)))]  # noqa: E731
    return Latency(
        tuple(values),
        1,
        windows,
        at(0.5),
        mean,
        ordered[0],
        ordered[-1],
        mad_ns=round(median_ms * 2e4),
        cv=0.08,
        outlier_share=0.004,
        p90_ns=at(0.9),
        p95_ns=at(0.95),
        p99_ns=at(0.99) if samples >= 662 else None,
    )


def measurement_of(line: Line, launch: int, samples: int = 400) -> Measurement:
    """One launch of a line; a failed one has no figures."""
    failed = line.status != "ok"
    evidence = {
        "before": {"temperature_celsius": 50.1 + launch, "governor": "ondemand", "load_1m": 0.12},
        "after": {"temperature_celsius": 62.4 + launch, "governor": "ondemand", "load_1m": 1.9},
        "difference": {"swap_in": 0, "throttled": False},
    }
    return Measurement(
        digest(line.name),
        Settings(threads=line.threads),
        FULL if launch else QUICK,
        FACTS.fingerprint,
        "1.32.0",
        "0.1.0",
        line.status,
        detail="SIGILL in phase load" if failed else "",
        phases_ns={"import": 212_000_000, "load": 31_000_000, "first": 15_000_000},
        latency=None if failed else latency_of(line.median_ms, samples, seed=launch),
        memory=None if failed else Memory(28 << 20, int(line.memory_mib * 0.9 * 2**20), int(line.memory_mib * 2**20)),
        correctness=None if failed else Correctness(True, 0.9991, 0.02),
        accuracy=None if failed else Accuracy("top1", line.metric, extra={}, samples=540),
        evidence=evidence,
        flags=line.flags,
        started_at=1_767_225_600.0,
    )


def assessment_of(line: Line, launches: int = 2, samples: int = 400) -> Assessment:
    """A line judged."""
    measurements = tuple(measurement_of(line, launch, samples) for launch in range(launches))
    candidate = Candidate(variant_of(line), Settings(threads=line.threads), measurements)
    feasible = line.verdict not in ("infeasible", "failed")
    if line.status != "ok":
        return Assessment(
            candidate, False, None, None, None, line.size_kib << 10, None, None, None, False, "failed", line.reason
        )
    median, drop = line.median_ms * 1e6, 0.9731 - line.metric
    return Assessment(
        candidate,
        feasible,
        Interval(median, median * 0.99, median * 1.015),
        Interval(median * 1.12, median * 1.1, median * 1.16),
        int(line.memory_mib * 2**20),
        line.size_kib << 10,
        line.metric,
        Interval(drop, drop - 0.003, drop + 0.004) if drop else Interval(0, 0, 0),
        Interval(13.1 / line.median_ms, 13.1 / line.median_ms * 0.98, 13.1 / line.median_ms * 1.02),
        line.pareto,
        line.verdict,
        line.reason,
    )


def selection_of(lines: tuple[Line, ...] = LINES, *, launches: int = 2, samples: int = 400) -> Selection:
    """The decision over the lines, which come best first."""
    assessments = tuple(assessment_of(line, launches, samples) for line in lines)
    winner = next((item.candidate.key for item in assessments if item.verdict == "winner"), None)
    best = winner or (assessments[0].candidate.key if assessments else None)
    misses = {} if winner else {best: "p90 4.72 ms, 0.72 ms over the limit"} if best else {}
    budget = Budget(max_drop=0.01, max_latency=LatencyLimit("p90", 16_000_000), max_memory_bytes=128 << 20)
    return Selection(winner, best, assessments, budget, noise=0.012, misses=misses)


def run_record(lines: tuple[Line, ...] = LINES, *, launches: int = 2, samples: int = 400) -> RunRecord:
    """A whole run that ended with an active winner."""
    selection = selection_of(lines, launches=launches, samples=samples)
    variants = {item.candidate.variant.name: item.candidate.variant for item in selection.assessments}
    signature = Signature(
        (TensorSpec("image", "float32", (None, 1, 8, 8)),), (TensorSpec("scores", "float32", (None, 10)),)
    )
    return RunRecord(
        run_id="r-20260101-7f3a",
        command="edgeopt deploy digits.onnx --data digits.npz --target pi5 --max-drop 1%",
        state="done",
        started_at=1_767_225_600.0,
        finished_at=1_767_225_812.0,
        model=Model("digits", Artifact(digest("model"), 352 << 10, "onnx"), signature, 18, 10, "digits.onnx"),
        device=Device("pi5", "ssh", "10.0.0.5", user="pi", profile="arm-a76"),
        facts=FACTS,
        profile_name="arm-a76",
        data=DataSummary("digits.npz", digest("data"), 128, 540, "top1", labelled=True, generated=False, seed=0),
        variants=tuple(variants.values()),
        rejections=(
            Rejection(
                "int8-percentile",
                "parity",
                "cosine 0.81 to the source model after quantize_static, at least 0.95 is wanted",
            ),
            Rejection("int8-dynamic", "rule", "the network has no MatMul or Gemm that it would speed up"),
        ),
        selection=selection,
        deployment=Deployment(
            "digits", "pi5", 3, 2, digest("int8-entropy"), Settings(threads=2), True, "4 golden inputs, cosine 0.9991"
        ),
        versions=VERSIONS,
        notes=("12 of 20 measurements were reused from run r-20251231-0c11.",),
    )


def infeasible_record() -> RunRecord:
    """A run in which nothing met the budget."""
    lines = tuple(
        replace(line, verdict="infeasible", pareto=False, reason="p90 is over the limit of 3.5 ms")
        if line.status == "ok"
        else line
        for line in LINES
    )
    return replace(run_record(lines), state="infeasible", deployment=None)


def hostile_record() -> RunRecord:
    """A run whose device and user put markup, terminal escapes and bidirectional marks in every free text."""
    record = run_record(
        tuple(replace(line, reason=HOSTILE, name=HOSTILE if line.name == "float16" else line.name) for line in LINES)
    )
    facts = replace(FACTS, model=HOSTILE, cpu=HOSTILE, os=HOSTILE, governor=HOSTILE)
    return replace(
        record,
        facts=facts,
        device=replace(record.device, name=HOSTILE, host=HOSTILE),
        notes=(HOSTILE,),
        command=HOSTILE,
        model=replace(record.model, name=HOSTILE),
        data=replace(record.data, source=HOSTILE, metric=HOSTILE, generated=True),
        rejections=(Rejection(HOSTILE, HOSTILE, HOSTILE),),
        versions={HOSTILE: HOSTILE},
        deployment=None,
    )
