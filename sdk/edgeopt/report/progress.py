"""Progress of long work: a live bar on a terminal, plain lines elsewhere, nothing when silent."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as Live

from edgeopt.report.visible import visible


class Progress:
    """Shows which stage a run is in and how far it is.

    Stages follow one another; a bar stays on the screen when its stage is over. Where the console is no terminal,
    each step is one line, so that a log can be read.

    Args:
        console: Where to; stderr by default, since stdout is for results.
        quiet: Show nothing (`--json`, `--quiet`).
    """

    def __init__(self, console: Console | None = None, *, quiet: bool = False) -> None:
        self._console = console or Console(stderr=True)
        self._quiet = quiet
        self._live = _bars(self._console) if self._console.is_terminal and not quiet else None
        self._task: TaskID | None = None
        self._name, self._total, self._done = "", 0, 0

    def __enter__(self) -> Progress:
        if self._live is not None:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._live is not None:
            if kind is None:
                self._finish()
            self._live.stop()

    def stage(self, name: str, total: int = 0) -> None:
        """Begin a stage; the one before is over.

        Args:
            name: What is done now, for example ``Measuring``.
            total: Number of steps; 0 where it is not known.
        """
        self._finish()
        self._name, self._total, self._done = visible(name, 40), total, 0
        if self._live is not None:
            self._task = self._live.add_task(self._name, total=total or None, detail="")
        elif not self._quiet:
            self._say(f"{self._name} ({total} steps)" if total else self._name)

    def _finish(self) -> None:
        """Let the bar of a stage whose length was not known stand as done."""
        if self._live is not None and self._task is not None and not self._total:
            steps = max(1, self._done)
            self._live.update(self._task, total=steps, completed=steps)

    def detail(self, text: str) -> None:
        """Say what the current step is doing, without counting it as done; shown on terminals only."""
        if self._live is not None and self._task is not None:
            self._live.update(self._task, detail=visible(text, 60))

    def advance(self, text: str = "", steps: int = 1) -> None:
        """Count steps as done and say what they were."""
        self._done += steps
        if self._live is not None and self._task is not None:
            self._live.update(self._task, advance=steps, detail=visible(text, 60))
        elif not self._quiet:
            count = f" {self._done}/{self._total}" if self._total else ""
            self._say(f"{self._name}{count}: {visible(text, 200)}" if text else f"{self._name}{count}")

    def note(self, text: str) -> None:
        """A line that stays, above the bar."""
        if not self._quiet:
            self._say(visible(text))

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def _bars(console: Console) -> Live:
    columns = (
        SpinnerColumn(finished_text="✓"),
        TextColumn("{task.description}", markup=False),
        BarColumn(bar_width=24),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[detail]}", markup=False, style="dim"),
    )
    return Live(*columns, console=console, transient=False)
