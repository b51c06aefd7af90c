"""`edgeopt report`: the page and the picture of a run, and two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from edgeopt.cli import options, output
from edgeopt.errors import StoreError, UsageError

if TYPE_CHECKING:
    from edgeopt.core.group import GroupRecord
    from edgeopt.core.run import RunRecord
    from edgeopt.report.picture_file import Sheet

_PAGE = "report.html"


def report(
    runs: Annotated[list[str] | None, typer.Argument(metavar="[RUN]...", help="A run's id, or last.")] = None,
    html: Annotated[
        str | None, typer.Option("--html", metavar="FILE", help="Where to write the page.  [default: report.html]")
    ] = None,
    png: Annotated[
        str | None, typer.Option("--png", metavar="FILE", help="The picture alone, in pixels (needs Matplotlib).")
    ] = None,
    svg: Annotated[str | None, typer.Option("--svg", metavar="FILE", help="The picture alone, as lines.")] = None,
    compare: Annotated[
        bool, typer.Option("--compare", help="Say what changed from the first RUN to the second.")
    ] = False,
    log_to: options.LogTo = None,
    as_json: options.Json = False,
) -> None:
    """Write the self-contained page of a run: the picture, the table with reasons, the device, the provenance.

    With --compare, two runs side by side: winners, figures with ratios and intervals, and what else is not the same.
    With --log-to, the run is kept in MLflow too, instead of a page.
    """
    files = {"html": html, "png": png, "svg": svg}
    for name, file in files.items():
        if file is not None:
            output.require_writable(Path(file), f"--{name}")
    if compare:
        _compare(runs or [], html, {"--png": png, "--svg": svg}, as_json=as_json)
        return
    if len(runs or []) > 1:
        raise UsageError(f"{len(runs or [])} runs are named: {', '.join(runs or [])}.", remedy="--compare takes two.")
    if log_to is not None:
        _log((runs or ["last"])[0], log_to, as_json=as_json)
        return
    if not any(files.values()):
        output.require_writable(Path(_PAGE), "--html")
        files["html"] = _PAGE
    _write((runs or ["last"])[0], {name: file for name, file in files.items() if file is not None}, as_json=as_json)


def _write(run: str, files: Mapping[str, str], *, as_json: bool) -> None:
    from edgeopt.documents import write_atomically
    from edgeopt.workflow.deciding import find_group, find_run
    from edgeopt.workflow.workspace import Workspace

    if "png" in files:
        from edgeopt.report.picture_png import require_matplotlib

        require_matplotlib()
    with Workspace.open() as workspace:
        group = find_group(run, workspace)
        record = find_run(group.runs[0].run_id if group else run, workspace)
    if group:
        _write_group(group, files, as_json=as_json)
        return
    drawn = {name: _render(record, name) for name in files}  # all of them before any is written
    for name, file in files.items():
        write_atomically(Path(file), drawn[name])
    if as_json:
        output.print_json({"run": record.run_id, **files})
        return
    output.console().print(f"{', '.join(files.values())} written (run {record.run_id}).", soft_wrap=True)


def _write_group(group: GroupRecord, files: Mapping[str, str], *, as_json: bool) -> None:
    from edgeopt.documents import write_atomically
    from edgeopt.report.kinds_page import render_kinds

    if pictures := [name for name in files if name != "html"]:
        raise UsageError(
            f"--{pictures[0]} is the picture of one kind of board; {group.group} is of {len(group.runs)}.",
            remedy=f"Name one: {', '.join(run.run_id for run in group.runs)}.",
        )
    write_atomically(Path(files["html"]), render_kinds(group).encode())
    if as_json:
        output.print_json({"run": group.group, **files})
        return
    output.console().print(f"{files['html']} written (run {group.group}).", soft_wrap=True)


def _log(run: str, place: str, *, as_json: bool) -> None:
    from edgeopt.report.html import render_report
    from edgeopt.workflow.deciding import find_run
    from edgeopt.workflow.tracking.mlflow_tracker import tracker_for
    from edgeopt.workflow.tracking.tracker import tell
    from edgeopt.workflow.workspace import Workspace

    with Workspace.open() as workspace:
        record = find_run(run, workspace)
    tracker = tracker_for(place)
    tell(tracker, record, render_report(record))
    if as_json:
        output.print_json({"run": record.run_id, "log_to": tracker.place})
        return
    output.console().print(f"Run {record.run_id} is in {tracker.place}.", soft_wrap=True)


def _render(record: RunRecord, form: str) -> bytes:
    if form == "html":
        from edgeopt.report.html import render_report

        return render_report(record).encode()
    sheet = _sheet(record)
    if form == "svg":
        from edgeopt.report.picture_file import render_svg

        return render_svg(sheet).encode()
    from edgeopt.report.picture_png import render_png

    return render_png(sheet)


def _sheet(record: RunRecord) -> Sheet:
    from edgeopt.report.picture_file import sheet_of

    sheet = sheet_of(record)
    if sheet is None:
        raise StoreError(
            f"run {record.run_id} ({record.state}) has measured nothing yet: there is no picture.",
            remedy="--html FILE says what is known; the same edgeopt deploy goes on with a run that was cut off.",
        )
    return sheet


def _compare(runs: list[str], html: str | None, pictures: Mapping[str, str | None], *, as_json: bool) -> None:
    from edgeopt.documents import plain, write_atomically
    from edgeopt.report.comparison_page import render_comparison
    from edgeopt.report.comparison_terminal import print_comparison
    from edgeopt.workflow.deciding import compare
    from edgeopt.workflow.workspace import Workspace

    if len(runs) != 2:
        raise UsageError(f"--compare was given {len(runs)} runs.", remedy="Say edgeopt report --compare RUN RUN.")
    if given := [option for option, file in pictures.items() if file is not None]:
        raise UsageError(f"{given[0]} is the picture of one run.", remedy="Compare with --html FILE.")
    before, after = runs
    with Workspace.open() as workspace:
        found = compare(before, after, workspace)
    if html is not None:
        write_atomically(Path(html), render_comparison(found).encode())
    if as_json:
        output.print_json({**plain(found), **({"html": html} if html else {})})
        return
    print_comparison(found, output.console(), report=Path(html) if html else None)
