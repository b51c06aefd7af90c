import io

from rich.console import Console

from edgeopt.report.terminal import Progress


def run(console: Console, *, quiet: bool = False) -> None:
    with Progress(console, quiet=quiet) as progress:
        progress.stage("measuring", 2)
        progress.detail("warm-up")
        progress.advance("int8 / 1 thread")
        progress.note("reused 3 measurements \x1b[2J")
        progress.advance("int8 / 2 threads")
        progress.stage("waiting")
        progress.advance()


def test_without_a_terminal_every_step_is_one_plain_line() -> None:
    stream = io.StringIO()
    run(Console(file=stream, width=40))
    assert stream.getvalue().splitlines() == [
        "measuring (2 steps)",
        "measuring 1/2: int8 / 1 thread",
        r"reused 3 measurements \x1b[2J",
        "measuring 2/2: int8 / 2 threads",
        "waiting",
        "waiting",
    ]


def test_quiet_writes_nothing_anywhere() -> None:
    for tty in (False, True):
        stream = io.StringIO()
        run(Console(file=stream, width=80, force_terminal=tty), quiet=True)
        assert stream.getvalue() == ""


def test_on_a_terminal_a_bar_counts_and_the_cursor_comes_back() -> None:
    stream = io.StringIO()
    run(Console(file=stream, width=100, force_terminal=True))
    text = stream.getvalue()
    assert "2/2" in text
    assert text.count("✓") >= 2  # the stage of unknown length is shown as done, too
    assert text.rstrip().endswith("\x1b[?25h") or text.count("\x1b[?25h") == text.count("\x1b[?25l")
    assert "\x1b[2J" not in text


def test_an_error_inside_leaves_the_terminal_usable() -> None:
    stream = io.StringIO()
    try:
        with Progress(Console(file=stream, width=80, force_terminal=True)) as progress:
            progress.stage("pushing", 3)
            raise KeyboardInterrupt
    except KeyboardInterrupt:
        pass
    assert stream.getvalue().count("\x1b[?25h") == stream.getvalue().count("\x1b[?25l") == 1
