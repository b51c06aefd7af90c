"""`edgeopt bench`: measure a file on a device, nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.core.measurement import Measurement
    from edgeopt.core.plan import Plan
    from edgeopt.workflow.request import Request
    from edgeopt.workflow.tracking.mlflow_tracker import MlflowTracker


def bench(
    model: Annotated[
        str,
        typer.Argument(help="model.onnx, file.py:function, program.pt2, model.keras, a SavedModel or model.tflite."),
    ],
    target: options.Target = "local",
    threads: Annotated[
        str | None, typer.Option("--threads", help="Thread counts: 1,2,4.  [default: profile's]")
    ] = None,
    inter_op: Annotated[
        str | None, typer.Option("--inter-op", help="Inter-op threads: 1,2; above 1 branches of the graph run at once.")
    ] = None,
    sessions: Annotated[
        str | None, typer.Option("--sessions", help="Copies of the model under load at once: 1,2.")
    ] = None,
    batch: Annotated[
        str | None, typer.Option("--batch", help="Samples in one request: 1,8; several sessions share them.")
    ] = None,
    plan: Annotated[
        str, typer.Option("--plan", help="quick, standard, full, sustained (10 min) or paced.")
    ] = "standard",
    fps: Annotated[float | None, typer.Option("--fps", help="Arrival rate for --plan paced.")] = None,
    data: options.Data = None,
    inputs: options.Inputs = None,
    profile: options.Profile = None,
    log_to: options.LogTo = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Measure latency, memory and correctness of one model on a device."""
    from edgeopt.cli import quantities
    from edgeopt.report.terminal import print_measurement
    from edgeopt.workflow.benching import Parallel, plan_named
    from edgeopt.workflow.benching import bench as measure
    from edgeopt.workflow.request import DataRequest, Request
    from edgeopt.workflow.tracking.mlflow_tracker import tracker_for
    from edgeopt.workflow.workspace import Workspace

    request = Request(
        model=model,
        target=target or "local",
        data=DataRequest(source=data),
        input_shapes=quantities.parse_shapes(inputs or []),
        threads=quantities.parse_counts(threads, "--threads") if threads else (),
        profile=profile,
    )
    chosen = plan_named(plan, fps)
    asked = {"--inter-op": inter_op, "--sessions": sessions, "--batch": batch}
    parallel = Parallel(
        *(quantities.parse_counts(text, option) if text is not None else () for option, text in asked.items())
    )
    tracker = tracker_for(log_to) if log_to is not None else None
    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        measurements = measure(request, chosen, workspace, parallel=parallel, listener=progress)
    if as_json:
        from edgeopt import documents

        output.print_json({"measurements": [documents.plain(measurement) for measurement in measurements]})
    else:
        console = output.console()
        for measurement in measurements:
            print_measurement(measurement, console)
    if tracker is not None:
        _keep(tracker, request, chosen, measurements)
    if not all(measurement.ok for measurement in measurements):
        from edgeopt.errors import EXIT_DEVICE

        raise typer.Exit(EXIT_DEVICE)


def _keep(tracker: MlflowTracker, request: Request, plan: Plan, measurements: Sequence[Measurement]) -> None:
    from edgeopt.report.experiment import bench_entry, launch_entry
    from edgeopt.workflow.tracking.tracker import failures_named

    with failures_named(tracker):
        launches = [launch_entry(one) for one in measurements]
        tracker.keep(bench_entry(request.model, request.target, plan.name), launches)
