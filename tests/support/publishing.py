"""Runs with a winner whose files are really there, and a workspace with keys: what a release is made of."""

from __future__ import annotations

import platform
import time
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeopt.core.run import RunRecord
from edgeopt.signing.setup import initialise
from edgeopt.workflow.fleet.tree import repository_of
from edgeopt.workflow.workspace import Workspace
from support.networks import mlp_onnx
from support.records import run_record


def make_keys(workspace: Workspace, *, now: float | None = None) -> None:
    """One key a role, none locked, and an empty tree."""
    initialise(repository_of(workspace), passphrase=None, now=time.time() if now is None else now)


def keep_run(
    workspace: Workspace,
    folder: Path,
    run_id: str,
    *,
    profile: str = "pi5",
    width: int = 16,
    seed: int = 0,
    files: tuple[bytes, bytes] | None = None,
) -> RunRecord:
    """A run in the ledger; its winner is an ONNX file in the store, and its golden samples are there.

    `files`: a model and golden samples for this machine; by default a small network, and inputs without outputs.
    """
    model, samples = files or _network_and_inputs(folder, run_id, width, seed)
    artifact, golden = workspace.artifacts.add_bytes(model, "onnx"), workspace.artifacts.add_bytes(samples, "npz")
    record = run_record()
    assert record.selection is not None
    assessments = tuple(
        replace(one, candidate=replace(one.candidate, variant=replace(one.candidate.variant, artifact=artifact)))
        if one.candidate.key == record.selection.winner
        else one
        for one in record.selection.assessments
    )
    record = replace(
        record,
        run_id=run_id,
        profile_name=profile,
        selection=replace(record.selection, assessments=assessments),
        golden=golden,
        facts=replace(record.facts, machine=platform.machine()) if files else record.facts,
    )
    workspace.ledger.start_run(run_id, f"key-{run_id}", record.command, started_at=record.started_at)
    workspace.ledger.save_run(record)
    return record


def _network_and_inputs(folder: Path, name: str, width: int, seed: int) -> tuple[bytes, bytes]:
    folder.mkdir(parents=True, exist_ok=True)
    network = mlp_onnx(folder / f"{name}.onnx", width=width)
    rng = np.random.default_rng(seed)
    np.savez(folder / f"{name}.npz", x=rng.standard_normal((4, 32)).astype(np.float32))
    return network.read_bytes(), (folder / f"{name}.npz").read_bytes()
