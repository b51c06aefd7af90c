"""Runs the stages of a network as a pipeline over several devices, the host between them, and measures what it gains.

The host relays every edge: devices need not reach each other, and each keeps its own lock, lease and guard.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeopt.core.formats import ONNX, reads
from edgeopt.core.model import Artifact
from edgeopt.core.pipeline import DEVICE_MODES, Edge, Mode, PipelineFigures, Place
from edgeopt.core.plan import QUICK
from edgeopt.core.profile import Settings
from edgeopt.errors import RunnerError, UsageError
from edgeopt.graph.source_kind import demand_graph
from edgeopt.remote import jobs
from edgeopt.remote.client import Connection, connect
from edgeopt.remote.stage import LOAD_SECONDS, Feeds
from edgeopt.workflow.benching import thread_settings
from edgeopt.workflow.listener import Listener, Silence
from edgeopt.workflow.preparing import Prepared, prepare
from edgeopt.workflow.relay import Relay
from edgeopt.workflow.relay_rounds import RelayRounds
from edgeopt.workflow.request import Request
from edgeopt.workflow.resolving import profile_for, resolve_target
from edgeopt.workflow.splitting import LEAST_COSINE, Rounds, Split, split_file
from edgeopt.workflow.workspace import Workspace
from edgeopt_runner.protocol import metrics
from edgeopt_runner.protocol.samples import Sample, SampleFile
from edgeopt_targets import registry

_FEEDS = 4
SHARED = "stages_share_a_device"
"""Flag: stages on one device compete for it, so that the pipeline says nothing of as many devices."""


@dataclass(frozen=True)
class _Host:
    """A device that stages live on."""

    name: str
    connection: Connection
    settings: Settings


def split_over_devices(
    request: Request,
    folder: Path,
    workspace: Workspace,
    *,
    devices: Sequence[str],
    rounds: Rounds,
    at: Sequence[str] = (),
    listener: Listener | None = None,
) -> tuple[Split, PipelineFigures]:
    """Cut a network into as many stages as there are devices, and measure them as a pipeline, stage i on device i.

    Args:
        request: The model, its samples and the number of threads; its target is not used.
        folder: Where the stages go.
        workspace: The store and the inventory.
        devices: Front to back; the same one may be named again.
        rounds: How long and how often each of `DEVICE_MODES` is measured.
        at: Tensors to cut at, one less than devices; empty: as balanced as can be.
        listener: Hears of what is done.

    Raises:
        UsageError: The cuts do not fit the devices.
        DeviceError: A device failed; names it and its stage. The stages of the others are ended.
        EdgeoptError: The model or the samples cannot be used.
    """
    _check_devices(devices, at)
    demand_graph(request.model, "splitting")
    said = listener or Silence()
    with ExitStack() as stack:
        hosts = {name: stack.enter_context(_reached(name, request, workspace, said)) for name in dict.fromkeys(devices)}
        row = [hosts[name] for name in devices]
        prepared = prepare(request, workspace, said)
        said.stage("Splitting", 0)
        path = workspace.artifacts.path(prepared.model.artifact)
        split = split_file(path, request.model, folder, parts=len(devices), at=at)
        said.advance(f"{len(split.stages)} stages")
        files = [workspace.artifacts.add(stage.path, ONNX) for stage in split.stages]
        for host in hosts.values():
            stack.enter_context(host.connection.lease(f"pipeline of {prepared.model.name}"))
        said.stage("Measuring", 0)
        return split, _measured(row, files, prepared, workspace, rounds)


def _check_devices(devices: Sequence[str], at: Sequence[str]) -> None:
    if len(devices) < 2 or not all(devices):
        raise UsageError(
            f"--devices {','.join(devices)} names no row of devices.", remedy="Name two or more: --devices pi,local."
        )
    if at and len(set(at)) + 1 != len(devices):
        raise UsageError(
            f"--at cuts {len(set(at)) + 1} stages, and --devices names {len(devices)} devices.",
            remedy="Name one device for each stage; the same one may be named again.",
        )


@contextmanager
def _reached(name: str, request: Request, workspace: Workspace, said: Listener) -> Iterator[_Host]:
    """A device with the settings that it runs ONNX files with."""
    aim = resolve_target(name, workspace.inventory, request.profile)
    with connect(aim.device) as connection:
        facts = connection.probe()
        profile = profile_for(aim, facts, name, said)
        offered = registry.target(profile.target).settings(profile, facts)
        fitting = [one for one in offered if reads(one.runtime, ONNX)]
        if not fitting:
            raise RunnerError(
                f"{name}: it has no runtime that reads ONNX files.",
                remedy=f"Give it one: edgeopt device provision {name} --runtime onnxruntime.",
                status="runtime_missing",
            )
        settings = thread_settings(fitting, request.threads or (1,), facts)[0]
        yield _Host(name, connection, dataclasses.replace(settings, sessions=1, batch=1))


def _measured(
    row: Sequence[_Host], files: Sequence[Artifact], prepared: Prepared, workspace: Workspace, rounds: Rounds
) -> PipelineFigures:
    """Bring the files, open the stages, check the outputs and measure."""
    store, first, whole = workspace.artifacts, row[0], prepared.model.artifact
    for host, file in [(first, whole), (first, prepared.golden), *zip(row, files, strict=True)]:
        host.connection.push(store.path(file), file.digest)
    direct, flags = _direct(first, prepared)
    samples = list(SampleFile(str(store.path(prepared.golden))).read(_FEEDS))
    inputs = [spec.name for spec in prepared.model.signature.inputs]
    feeds = [{name: sample.inputs[name] for name in inputs} for sample in samples]
    idle_seconds = LOAD_SECONDS + 5 * rounds.seconds
    with ExitStack() as stack:
        stages = []
        for number, (host, file) in enumerate(zip(row, files, strict=True), 1):
            doing = f"stage {number} of {len(row)}"
            opened = host.connection.stage(file.digest, host.settings, doing=doing, idle_seconds=idle_seconds)
            stages.append(stack.enter_context(opened))
        alone = first.connection.stage(
            whole.digest, first.settings, doing="the whole network", idle_seconds=idle_seconds
        )
        relay = Relay(stages)
        measured = RelayRounds(Relay([stack.enter_context(alone)]), relay, feeds)
        cosine, largest, edges = _compare(relay, row, samples, feeds)
        modes = measured.run(rounds)
    ways = zip(*measured.ways_ns, strict=True)
    return PipelineFigures(
        modes=modes,
        stage_ns=tuple(measured.busy_ns),
        sessions=len(row),
        settings=first.settings,
        cosine=cosine,
        max_abs=largest,
        flags=(*flags, *([SHARED] if len({host.name for host in row}) < len(row) else [])),
        places=tuple(Place(host.name, host.settings) for host in row),
        edges=tuple(dataclasses.replace(edge, relay_ns=way) for edge, way in zip(edges, ways, strict=True)),
        direct=direct,
    )


def _direct(first: _Host, prepared: Prepared) -> tuple[Mode, tuple[str, ...]]:
    """The whole network on a device as it is measured elsewhere: in a worker, without the way there and back."""
    job = jobs.measure_job(
        artifact=prepared.model.artifact,
        settings=first.settings,
        plan=QUICK.without_evaluation(),
        golden=prepared.golden.digest,
        min_cosine=LEAST_COSINE,
        reason="pipeline over devices",
    )
    result = first.connection.run_job(job)
    jobs.require_ok(result, f"{first.name}: the whole network")
    found = jobs.measurement_of(result)
    assert found.latency is not None  # a measurement that ended well has one
    median_ns = found.latency.median_ns
    return Mode(DEVICE_MODES[0], (median_ns,), (found.items_per_second or 1e9 / median_ns,)), tuple(found.flags)


def _compare(
    relay: Relay, row: Sequence[_Host], samples: Sequence[Sample], feeds: Sequence[Feeds]
) -> tuple[float, float, list[Edge]]:
    """Outputs of the pipeline against the references, each in its place, and what went over the edges.

    Raises:
        RunnerError: They are wrong.
    """
    found: list[dict[str, Any]] = []
    relay.flow(feeds, lambda passed: found.append(passed.values))
    cosine = min(metrics.cosine(sample.reference, one) for sample, one in zip(samples, found, strict=True))
    largest = max(metrics.max_abs(sample.reference, one) for sample, one in zip(samples, found, strict=True))
    if cosine < LEAST_COSINE:
        names = ", ".join(host.name for host in row)
        raise RunnerError(
            f"the stages on {names} give outputs with cosine {cosine:.6f}, less than {LEAST_COSINE}.",
            remedy="Cut at other tensors (edgeopt split MODEL lists them), or leave out the device that is wrong.",
            status="error",
        )
    return cosine, largest, _edges(relay, row, samples[0], found[0])


def _edges(relay: Relay, row: Sequence[_Host], sample: Sample, values: dict[str, Any]) -> list[Edge]:
    """Names and sizes of what travels; the times are filled in later."""
    places = [f"{host.name} (stage {number})" for number, host in enumerate(row, 1)]
    carried = [*(stage.inputs for stage in relay.stages), tuple(sample.reference)]
    ends = zip(["host", *places], [*places, "host"], strict=True)
    return [
        Edge(source, sink, tuple(names), sum(int(values[name].nbytes) for name in names), ())
        for (source, sink), names in zip(ends, carried, strict=True)
    ]
