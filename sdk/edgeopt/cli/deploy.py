"""`edgeopt deploy`: the main job."""

from __future__ import annotations

from typing import Annotated

import typer

from edgeopt.cli import options


def deploy(
    model: Annotated[
        str | None,
        typer.Argument(help="model.onnx, file.py:function, program.pt2, model.keras, a SavedModel or model.tflite."),
    ] = None,
    target: options.Target = None,
    data: options.Data = None,
    train: options.Train = None,
    loss: options.Loss = None,
    training_samples: options.TrainingSamples = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="top1, fidelity, or file.py:function(outputs, labels) -> float.")
    ] = None,
    max_drop: Annotated[
        str | None, typer.Option("--max-drop", help="Largest loss of the metric: 1%, 0.01, or none.  [default: 1%]")
    ] = None,
    max_latency: Annotated[
        str | None, typer.Option("--max-latency", help='Latency limit on the device: 20ms, or "p90 20 ms".')
    ] = None,
    max_memory: Annotated[
        str | None, typer.Option("--max-memory", help="Limit on the worker's peak memory: 200MB.")
    ] = None,
    max_size: Annotated[str | None, typer.Option("--max-size", help="Limit on the model file: 5MB.")] = None,
    minimise: Annotated[
        str | None,
        typer.Option("--minimise", help="What the winner has least of: latency, memory, size or time-per-item."),
    ] = None,
    app: Annotated[str | None, typer.Option("--app", help="Name that programs on the device load it by.")] = None,
    inputs: options.Inputs = None,
    layout: Annotated[str | None, typer.Option("--layout", help="hwc: samples are channels-last.")] = None,
    scale: Annotated[str | None, typer.Option("--scale", help="Multiply every sample: 1/255.")] = None,
    calibration: Annotated[
        int | None, typer.Option("--calibration", help="Most calibration samples.  [default: 128]")
    ] = None,
    evaluation: Annotated[
        int | None, typer.Option("--evaluation", help="Most evaluation samples.  [default: 1000]")
    ] = None,
    overlap: Annotated[
        bool | None, typer.Option("--overlap", help="Calibrate and evaluate on the same samples.")
    ] = None,
    random_data: Annotated[
        bool | None,
        typer.Option("--random-data", help="Without --data: calibrate on random inputs; accuracy stays unknown."),
    ] = None,
    profile: options.Profile = None,
    recipes: options.Recipes = None,
    recipe_file: options.RecipeFile = None,
    candidates: options.Candidates = None,
    search: options.Search = None,
    strategy: options.Strategy = None,
    trials: options.Trials = None,
    search_time: options.SearchTime = None,
    max_device_seconds: options.MaxDeviceSeconds = None,
    study: options.Study = None,
    runtimes: options.Runtimes = None,
    threads: Annotated[str | None, typer.Option("--threads", help="Only these thread counts: 1,2,4.")] = None,
    sessions: Annotated[
        str | None, typer.Option("--sessions", help="Sessions at once to try: 1,2; see --minimise time-per-item.")
    ] = None,
    inter_op: Annotated[str | None, typer.Option("--inter-op", help="Inter-op threads to try: 1,2.")] = None,
    effort: Annotated[
        str | None, typer.Option("--effort", help="Plan of the finals: quick, standard or full.  [default: standard]")
    ] = None,
    launches: Annotated[
        int | None,
        typer.Option(
            "--launches", help="Process launches of each finalist at most.  [default: 12; 3 with --effort quick]"
        ),
    ] = None,
    activate: Annotated[
        bool | None, typer.Option("--activate/--no-activate", help="Make the winner active.  [default: activate]")
    ] = None,
    one_for_all: Annotated[
        bool | None,
        typer.Option(
            "--one-for-all",
            help="Of several kinds of boards: one winner for all, whose worst ratio to a kind's own best is the least.",
        ),
    ] = None,
    executor: options.Executor = None,
    fresh: Annotated[bool | None, typer.Option("--fresh", help="Measure again what the ledger knows.")] = None,
    seed: options.Seed = None,
    html: Annotated[str | None, typer.Option("--html", help="Write the report page here too.")] = None,
    log_to: options.LogTo = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Compress, convert, push, measure on the device, choose, and leave the winner active there.

    Without MODEL, edgeopt.yaml in the current folder says what to do; options given here override it.

    Several boards: --target pi1,pi2,jetson or a selector such as label=shop. Each kind (profile) gets its own winner;
    boards of one kind share the work and are compared. Exit code 4 where a board dropped out: the same command goes on.
    """
    from edgeopt.cli import request_options
    from edgeopt.cli.run_output import run_and_show

    request = request_options.build(
        {
            "model": model,
            "target": target,
            "data": data,
            "train": train,
            "loss": loss,
            "training-samples": training_samples,
            "metric": metric,
            "max-drop": max_drop,
            "max-latency": max_latency,
            "max-memory": max_memory,
            "max-size": max_size,
            "minimise": minimise,
            "app": app,
            "input": inputs,
            "layout": layout,
            "scale": scale,
            "calibration": calibration,
            "evaluation": evaluation,
            "overlap": overlap,
            "random-data": random_data,
            "profile": profile,
            "recipes": recipes,
            "recipe-file": recipe_file,
            "candidate": candidates,
            "search": search,
            "strategy": strategy,
            "trials": trials,
            "search-time": search_time,
            "max-device-seconds": max_device_seconds,
            "study": study,
            "runtimes": runtimes,
            "threads": threads,
            "sessions": sessions,
            "inter-op": inter_op,
            "effort": effort,
            "launches": launches,
            "activate": activate,
            "one-for-all": one_for_all,
            "executor": executor,
            "fresh": fresh,
            "seed": seed,
        }
    )
    run_and_show(request, html=html, log_to=log_to, as_json=as_json, quiet=quiet)
