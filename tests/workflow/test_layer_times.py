"""Layers at several widths on this machine as the device: few jobs, nothing twice, and what fails is named."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import edgeopt
from edgeopt.core.budget import Budget
from edgeopt.core.device import LOCAL
from edgeopt.core.profile import Settings
from edgeopt.errors import PassError
from edgeopt.graph.layer_models import LayerSpec, write_layer
from edgeopt.remote.client import connect
from edgeopt.workflow import layer_times, measuring_layers
from edgeopt.workflow.listener import Silence
from edgeopt.workflow.measuring import Bench
from edgeopt.workflow.measuring_layers import Small, least_medians
from edgeopt.workflow.preparing import prepare
from edgeopt.workflow.resolving import profile_for, resolve_target
from support.workflow import SHORT, Computer, Heard, Task, known_measurements

PLAN = replace(SHORT, evaluate=False, min_seconds=0.05)
LINEAR = LayerSpec("linear", 16, 32, (1, 16))
CONV = LayerSpec("conv", 8, 64, (1, 8, 16, 16), kernel=(3, 3), stride=(1, 1), padding=(1, 1), dilation=(1, 1))


@pytest.fixture
def bench(task: Task, computer: Computer, workspace: edgeopt.Workspace) -> Iterator[Bench]:
    request = task.request()
    aim = resolve_target("local", workspace.inventory, None)
    prepared = prepare(request, workspace, Silence())
    with connect(LOCAL) as connection, connection.lease("test"):
        facts = connection.probe()
        profile = profile_for(aim, facts, "local", Silence())
        yield Bench(workspace, connection, facts, profile, prepared, Budget(), "test", False, Heard())


def smalls(bench: Bench, folder: Path, count: int) -> list[Small]:
    """Layers of several widths, in the store."""
    store, found = bench.workspace.artifacts, []
    for outputs in range(1, count + 1):
        path, samples = folder / f"{outputs}.onnx", folder / f"{outputs}.npz"
        write_layer(LINEAR, 16, outputs, path, samples)
        found.append(Small(f"layer {outputs}", store.add(path, "onnx"), store.add(samples, "npz")))
    return found


def lists(computer: Computer) -> list[list[str]]:
    """Digests of the networks of each job, in the order in which the jobs were given."""
    jobs = sorted(computer.jobs("layers"), key=lambda job: (job["folder"] / "job.json").stat().st_mtime_ns)
    return [[layer["sha256"] for layer in job["layers"]] for job in jobs]


def test_all_are_measured_twice_in_jobs_of_a_bounded_number_and_the_second_time_from_the_end(
    bench: Bench, computer: Computer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measuring_layers, "MOST_IN_A_JOB", 3)
    networks = smalls(bench, tmp_path, 5)
    digests = [one.artifact.digest for one in networks]
    found = least_medians(bench, networks, Settings(), PLAN)
    given = lists(computer)
    assert [len(one) for one in given] == [3, 2, 3, 2]
    assert list(itertools.chain(*given)) == digests + digests[::-1]
    launches = known_measurements(bench.workspace)
    for digest, time in zip(digests, found, strict=True):
        both = [one for one in launches.values() if one.variant_digest == digest]
        assert len(both) == 2
        assert time == min(one.latency.median_ns for one in both if one.latency) / 1e6
    assert isinstance(bench.listener, Heard)
    assert bench.listener.text.count("Measuring layers: layer") == 10


def test_what_the_ledger_knows_is_not_measured_again_unless_that_is_asked(
    bench: Bench, computer: Computer, tmp_path: Path
) -> None:
    networks = smalls(bench, tmp_path, 2)
    first = least_medians(bench, networks, Settings(), PLAN)
    assert least_medians(bench, networks, Settings(), PLAN) == first
    assert len(lists(computer)) == 2
    more = smalls(bench, tmp_path, 3)
    least_medians(bench, more, Settings(), PLAN)
    assert lists(computer)[2:] == [[more[2].artifact.digest]] * 2
    least_medians(replace(bench, fresh=True), networks, Settings(), PLAN)
    assert [len(one) for one in lists(computer)[4:]] == [2, 2]


def test_a_layer_that_cannot_load_is_named_and_the_times_of_the_others_are_kept(
    bench: Bench, computer: Computer, tmp_path: Path
) -> None:
    networks = smalls(bench, tmp_path, 3)
    (tmp_path / "broken.onnx").write_bytes(b"no network")
    broken = replace(networks[1], artifact=bench.workspace.artifacts.add(tmp_path / "broken.onnx", "onnx"))
    for _ in range(2):
        with pytest.raises(PassError, match=r"on local: layer 2: load_failed, .*rotobuf") as refused:
            least_medians(bench, [networks[0], broken, networks[2]], Settings(), PLAN)
        assert refused.value.remedy == "Use macs or ratio in place of latency."
        assert "layer 1" not in str(refused.value)
    assert len(lists(computer)) == 1  # the second time it was known
    assert sorted(one.status for one in known_measurements(bench.workspace).values()) == ["load_failed", "ok", "ok"]


def test_a_layer_that_takes_the_worker_down_is_found_and_named(
    computer: Computer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    write_layer(LINEAR, 16, 4, tmp_path / "probe.onnx", tmp_path / "probe.npz")
    bad = hashlib.sha256((tmp_path / "probe.onnx").read_bytes()).hexdigest()
    monkeypatch.setenv("EDGEOPT_FAULT", f"engine.load:segfault@{bad[:12]}")  # before the runner is started
    bench: Bench = request.getfixturevalue("bench")
    networks = smalls(bench, tmp_path, 6)
    assert networks[3].artifact.digest == bad
    with pytest.raises(PassError, match="on local: layer 4: crash, ") as refused:
        least_medians(bench, networks, Settings(), PLAN)
    assert str(refused.value).count("layer ") == 1
    assert [len(one) for one in lists(computer)] == [6, 3, 3, 1]
    kept = known_measurements(bench.workspace).values()
    assert {one.variant_digest for one in kept} == {one.artifact.digest for one in networks[:3]}


def test_a_table_has_all_widths_of_its_layers_and_asks_for_each_once(
    bench: Bench, computer: Computer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layer_times, "PLAN", PLAN)
    depthwise = replace(CONV, inputs=16, outputs=16, groups=16, shape=(1, 16, 16, 16))
    layers = {"first": CONV, "again": CONV, "dense": LINEAR, "depthwise": depthwise}
    table = layer_times.Table(bench)
    table.measure(layers, bench.workspace.artifacts.path(bench.prepared.model.artifact), layer_times.widest([CONV]))
    assert sorted(map(len, lists(computer))) == [24, 24]
    times = table.times(layers)
    assert times["again"] == times["first"]
    assert sorted(times["first"].by_outputs) == [16, 32, 48, 64]
    assert sorted(times["first"].by_inputs) == [2, 4, 6, 8]
    assert times["first"].by_outputs[64] == times["first"].by_inputs[8]
    assert times["first"].by_outputs[64] > times["first"].by_outputs[16]
    assert (times["depthwise"].by_inputs, times["depthwise"].tied) == ({}, True)
    assert sorted(times["depthwise"].by_outputs) == [4, 8, 12, 16]
    assert table.rounding(CONV) in (1, 2, 4, 8, 16)
    assert table.widths == 22
    assert table.alone["first"] == times["first"].by_outputs[64]
    assert table.alone["depthwise"] == times["depthwise"].by_outputs[16]
    table.measure({"first": CONV}, bench.workspace.artifacts.path(bench.prepared.model.artifact))
    assert len(lists(computer)) == 2
