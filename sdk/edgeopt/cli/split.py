"""`edgeopt split`: cut a network into stages, and measure what a pipeline of them gains or loses."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgeopt.cli import options, output

if TYPE_CHECKING:
    from edgeopt.core.pipeline import PipelineFigures
    from edgeopt.workflow.request import Request
    from edgeopt.workflow.splitting import CutLine, Split


def split(
    model: Annotated[
        str, typer.Argument(help="model.onnx, file.py:function, program.pt2, model.keras or a SavedModel.")
    ],
    parts: Annotated[
        int | None, typer.Option("--parts", help="Number of stages.  [default: list the cuts and make none]")
    ] = None,
    at: Annotated[
        list[str] | None, typer.Option("--at", metavar="TENSOR", help="Cut at this tensor. Again for each cut.")
    ] = None,
    out: Annotated[str, typer.Option("--out", "-o", metavar="FOLDER", help="Folder for the stages.")] = "stages",
    measure: Annotated[bool, typer.Option("--measure", help="Run the stages as a pipeline on the target.")] = False,
    target: options.Target = "local",
    devices: Annotated[
        str, typer.Option("--devices", metavar="A,B,...", help="With --measure: stage by stage on these devices.")
    ] = "",
    threads: Annotated[int, typer.Option("--threads", help="Threads of each session and each stage.")] = 1,
    seconds: Annotated[float, typer.Option("--seconds", help="Length of each round of --measure.")] = 1.0,
    rounds: Annotated[int, typer.Option("--rounds", help="Rounds of each way, in turns.")] = 3,
    data: options.Data = None,
    inputs: options.Inputs = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Cut a network at tensors that all of it goes through; outputs stay equal."""
    from edgeopt import documents
    from edgeopt.cli import quantities
    from edgeopt.errors import UsageError
    from edgeopt.workflow import splitting
    from edgeopt.workflow.request import DataRequest, Request

    if at and parts is not None:
        raise UsageError("--parts and --at both say where to cut.", remedy="Use one of them.")
    if threads < 1:
        raise UsageError(f"--threads {threads} computes nothing.", remedy="Use 1 or more.")
    names = _device_names(devices, parts, measure=measure, target=target)
    request = Request(
        model=model,
        target=target or "local",
        data=DataRequest(source=data),
        input_shapes=quantities.parse_shapes(inputs or []),
        threads=(threads,),
    )
    if not (measure or at or parts is not None):
        _list_cuts(splitting.list_cuts(request), as_json)
        return
    chosen: dict[str, Any] = {"at": tuple(at or ()), "parts": 2 if parts is None else parts}
    figures: PipelineFigures | None = None
    if measure:
        chosen["rounds"] = splitting.Rounds(seconds, rounds)
        made, figures = _measure(request, Path(out), names, chosen, silent=quiet or as_json)
    else:
        made = splitting.split_model(request, Path(out), **chosen)
    if as_json:
        output.print_json({**documents.plain(made), "pipeline": documents.plain(figures) if figures else None})
        return
    _print_split(made)
    if figures:
        _print_figures(figures)


def _device_names(devices: str, parts: int | None, *, measure: bool, target: str | None) -> tuple[str, ...]:
    """What --devices names, front to back; empty where it was not given."""
    from edgeopt.errors import UsageError

    names = tuple(name.strip() for name in devices.split(",")) if devices else ()
    if not names:
        return ()
    if not measure:
        raise UsageError("--devices without --measure runs nothing there.", remedy="Say --measure too.")
    if parts is not None and parts != len(names):
        raise UsageError(
            f"--parts {parts} does not go with the {len(names)} names of --devices.", remedy="Leave --parts out."
        )
    if target not in (None, "local"):
        raise UsageError("--target and --devices both say where.", remedy="Use one of them.")
    return names


def _measure(
    request: Request, folder: Path, devices: tuple[str, ...], chosen: dict[str, Any], *, silent: bool
) -> tuple[Split, PipelineFigures]:
    """Over processes of the target, or over devices where some are named."""
    from edgeopt.workflow.device_pipeline import split_over_devices
    from edgeopt.workflow.splitting import split_and_measure
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace, output.progress(silent=silent) as progress:
        if not devices:
            return split_and_measure(request, folder, workspace, **chosen, listener=progress)
        chosen = {name: value for name, value in chosen.items() if name != "parts"}
        return split_over_devices(request, folder, workspace, devices=devices, **chosen, listener=progress)


def _list_cuts(cuts: tuple[CutLine, ...], as_json: bool) -> None:
    from edgeopt import documents

    if as_json:
        output.print_json({"cuts": [documents.plain(cut) for cut in cuts]})
    else:
        _print_cuts(cuts)


def _print_cuts(cuts: tuple[CutLine, ...]) -> None:
    from edgeopt.report import quantities as q
    from edgeopt.report.layout import table, text

    console = output.console()
    if not cuts:
        console.print("No single tensor separates inputs from outputs: the network cannot be cut.")
        return
    made = table("cut at", "a sample", "work before", "weights before", right=(1, 2, 3))
    for cut in cuts:
        shares = (f"{cut.mac_share * 100:.0f} %", f"{cut.weight_share * 100:.0f} %")
        made.add_row(text(cut.form), q.size(cut.size_bytes), *shares)
    console.print(made)


def _print_split(made: Split) -> None:
    from edgeopt.report import quantities as q
    from edgeopt.report.layout import table, text

    console = output.console()
    lines = table("stage", "nodes", "weights", "work", "gives", right=(1, 2, 3))
    for stage in made.stages:
        figures = (str(stage.nodes), q.size(stage.weight_bytes), f"{stage.mac_share * 100:.0f} %")
        lines.add_row(text(output.display_path(stage.path.absolute())), *figures, text(", ".join(stage.outputs)))
    console.print(lines)
    console.print(f"Outputs of the stages differ from the whole's by {made.max_abs:.2g} at most.")


def _print_figures(figures: PipelineFigures) -> None:
    """The three ways, and in words what the pipeline gains or loses."""
    from edgeopt.core.pipeline import DEVICE_MODES, MODES
    from edgeopt.report import quantities as q
    from edgeopt.report.layout import table, text

    console = output.console()
    names = {MODES[0]: "one session", MODES[1]: f"{figures.sessions} sessions", MODES[2]: "pipeline"}
    if figures.places:
        whole = f"the whole on {figures.places[0].device}"
        names = {DEVICE_MODES[0]: whole, DEVICE_MODES[1]: "one at a time", DEVICE_MODES[2]: "pipeline"}
    made = table("way", "a request\nms", "items/s", "memory", right=(1, 2, 3))
    for mode in figures.modes:
        numbers = (q.significant(mode.request_ns / 1e6), q.significant(mode.throughput))
        made.add_row(text(names[mode.name]), *numbers, q.size(mode.pss_bytes))
    if figures.direct:
        numbers = (q.significant(figures.direct.request_ns / 1e6), q.significant(figures.direct.throughput))
        made.add_row(text("  without the way there"), *numbers, q.size(None))
    console.print(made)
    _print_edges(figures)
    stages = ", ".join(q.milliseconds(sorted(times)[len(times) // 2]) for times in zip(*figures.stage_ns, strict=True))
    console.print(f"Each stage computes {stages}; each session and stage has {figures.settings}.")
    for mode in figures.modes[:2]:
        console.print(text(f"Against {names[mode.name]} {_verdict(figures, mode.name)}."))
    if figures.flags:
        console.print(text(f"flags: {', '.join(figures.flags)}", "yellow"))


def _print_edges(figures: PipelineFigures) -> None:
    """What the host carries between devices; nothing where there are none."""
    from edgeopt.report import quantities as q
    from edgeopt.report.layout import table, text

    if not figures.edges:
        return
    made = table("from", "to", "a request", "way\nms", "MB/s", right=(2, 3, 4))
    for edge in figures.edges:
        numbers = (q.significant(edge.way_ns / 1e6), q.significant(edge.bytes_per_second / 1e6))
        made.add_row(text(edge.source), text(edge.sink), q.size(edge.size_bytes), *numbers)
    output.console().print(made)


def _verdict(figures: PipelineFigures, over: str) -> str:
    """Whether the pipeline gains, loses, or neither in every round."""
    from edgeopt.core.pipeline import DEVICE_MODES
    from edgeopt.report import quantities as q

    middle, least, most = figures.gain(over)
    span = f"{q.ratio(middle)} of its throughput ({q.significant(least)} to {q.ratio(most)} over the rounds)"
    said = "gains" if least > 1 else "loses" if most < 1 else "neither gains nor loses in every round"
    if over == DEVICE_MODES[1]:
        return f"the pipeline {said}: {span}"  # a request alone goes the same way
    slower = figures.modes[2].request_ns / figures.mode(over).request_ns
    return f"the pipeline {said}: {span}, and a request alone takes {q.ratio(slower)} as long"
