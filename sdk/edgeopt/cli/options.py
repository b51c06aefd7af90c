"""Options that several commands share, declared once."""

from __future__ import annotations

from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of tables.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only the result.")]
Target = Annotated[
    str | None,
    typer.Option(
        "--target",
        "-t",
        metavar="DEVICE",
        help="A device you added, a profile's name, user@host, or local (this machine); deploy takes several.",
    ),
]
Data = Annotated[
    str | None,
    typer.Option(
        "--data", "-d", metavar="SOURCE", help="samples.npz, or file.py:function that yields (inputs, labels)."
    ),
]
Inputs = Annotated[
    list[str] | None,
    typer.Option(
        "--input", metavar="NAME=SIZES", help="Shape of an input, batch first: x=1,3,224,224. Again for each input."
    ),
]
Profile = Annotated[
    str | None, typer.Option("--profile", metavar="NAME", help="Take this hardware profile, not the probed one.")
]
Seed = Annotated[int | None, typer.Option("--seed", help="Seed of the data split and every random choice.")]
Train = Annotated[
    str | None,
    typer.Option("--train", metavar="SOURCE", help="Training samples, in the forms of --data, for passes that train."),
]
Loss = Annotated[
    str | None, typer.Option("--loss", help="file.py:function(outputs, labels) -> tensor.  [default: by the labels]")
]
TrainingSamples = Annotated[
    int | None, typer.Option("--training-samples", help="Most training samples that are read.  [default: 50000]")
]
Recipes = Annotated[
    str | None,
    typer.Option(
        "--recipes", metavar="NAMES", help="Only these, separated by commas; edgeopt recipes lists those that ship."
    ),
]
Runtimes = Annotated[
    str | None,
    typer.Option("--runtimes", metavar="NAMES", help="Only these: onnxruntime,openvino.  [default: all there]"),
]
Search = Annotated[
    str | None,
    typer.Option(
        "--search", metavar="SPACE", help="Search a space on the device after the recipes; edgeopt spaces lists them."
    ),
]
Strategy = Annotated[
    str | None,
    typer.Option("--strategy", help="random, greedy, evolutionary or bayesian.  [default: evolutionary]"),
]
Trials = Annotated[int | None, typer.Option("--trials", help="Most points that a search tries.  [default: 30]")]
SearchTime = Annotated[str | None, typer.Option("--search-time", help="No trial begins after this time: 30min, 2h.")]
MaxDeviceSeconds = Annotated[
    float | None,
    typer.Option("--max-device-seconds", help="No trial begins once the search had devices for so many seconds."),
]
Study = Annotated[
    str | None, typer.Option("--study", help="Name of a search that several hosts work on, in one ledger.")
]
Executor = Annotated[
    str | None,
    typer.Option(
        "--executor",
        metavar="WHERE",
        help="Where variants are made: here, pool:4 (processes), ray:auto or ray://HOST:10001.  [default: here]",
    ),
]
Candidates = Annotated[
    list[str] | None,
    typer.Option(
        "--candidate", metavar="FILE", help="ONNX file that another tool made of the same network: competes too."
    ),
]
RecipeFile = Annotated[
    str | None, typer.Option("--recipe-file", metavar="FILE", help="YAML file with recipes of your own, tried too.")
]
LogTo = Annotated[
    str | None,
    typer.Option("--log-to", metavar="PLACE", help="Keep the run in MLflow too: mlflow, or mlflow:URI."),
]
