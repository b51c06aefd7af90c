"""`edgeopt optimize`: make the variants, measure nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import options, output


def optimize(
    model: Annotated[
        str, typer.Argument(help="model.onnx, file.py:function, program.pt2, model.keras or a SavedModel.")
    ],
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the variants.")] = "variants",
    target: options.Target = "local",
    data: options.Data = None,
    train: options.Train = None,
    loss: options.Loss = None,
    training_samples: options.TrainingSamples = None,
    max_drop: Annotated[str, typer.Option("--max-drop", help="Largest loss of the metric on the host.")] = "1%",
    inputs: options.Inputs = None,
    profile: options.Profile = None,
    recipes: options.Recipes = None,
    recipe_file: options.RecipeFile = None,
    random_data: Annotated[bool, typer.Option("--random-data", help="Calibrate on random inputs.")] = False,
    executor: options.Executor = None,
    seed: options.Seed = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Make every variant that the target's profile knows, checked for parity, into a folder."""
    from edgeopt.cli import request_options
    from edgeopt.errors import UsageError
    from edgeopt.workflow.optimizing import optimize_into
    from edgeopt.workflow.workspace import Workspace

    request = request_options.build(
        {
            "model": model,
            "target": target,
            "data": data,
            "train": train,
            "loss": loss,
            "training-samples": training_samples,
            "max-drop": max_drop,
            "input": inputs,
            "profile": profile,
            "recipes": recipes,
            "recipe-file": recipe_file,
            "random-data": random_data or None,
            "executor": executor,
            "seed": seed,
        }
    )
    if Path(out).exists() and not Path(out).is_dir():
        raise UsageError(f"--out {out!r} is a file.", remedy="Name a folder: --out variants.")
    with Workspace.open() as workspace, output.progress(silent=quiet or as_json) as progress:
        made = optimize_into(Path(out), request, workspace, listener=progress)
    if as_json:
        from edgeopt import documents

        variants = [documents.plain(variant) for variant in made.variants]
        output.print_json({"variants": variants, "rejections": [documents.plain(r) for r in made.rejections]})
        return
    console = output.console()
    for variant in made.variants:
        path = output.display_path(Path(out).absolute() / f"{variant.name}.{variant.artifact.format}")
        console.print(f"{path}  {variant.artifact.size_bytes / 1e6:.2f} MB", soft_wrap=True)
    for rejection in made.rejections:
        console.print(f"not made: {rejection.name}: {rejection.reason}", soft_wrap=True)
