"""Entry of the command line: collects the commands and turns every exception into one clear message and an exit code.

Command modules import nothing heavy at the top, so that `edgeopt --help` answers at once.
"""

from __future__ import annotations

import sys

import typer

from edgeopt.cli import (
    bench,
    deploy,
    devices,
    init,
    optimize,
    output,
    passes,
    profiles,
    report,
    runs,
    select,
)
from edgeopt.errors import EdgeoptError, UsageError

app = typer.Typer(
    name="edgeopt",
    help="Compress a trained network for your boards, measure it there, choose the best variant, keep it running.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("deploy")(deploy.deploy)
app.command("init")(init.init)
app.command("optimize")(optimize.optimize)
app.command("bench")(bench.bench)
app.command("select")(select.select)
app.command("report")(report.report)
app.add_typer(devices.app, name="device")
app.add_typer(runs.app, name="runs")
app.add_typer(profiles.app, name="profiles")
app.command("passes")(passes.passes)


@app.callback(invoke_without_command=True)
def _root(version: bool = typer.Option(False, "--version", help="Print the version and leave.")) -> None:
    if version:
        from edgeopt import __version__

        sys.stdout.write(f"edgeopt {__version__}\n")
        raise typer.Exit


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and leave with its exit code (design §2: 0, 2, 3, 4; 130 after Ctrl-C)."""
    words = sys.argv[1:] if arguments is None else arguments
    as_json = "--json" in words
    output.accept_any_terminal()
    command = typer.main.get_command(app)
    try:
        code = command.main(args=words, prog_name="edgeopt", standalone_mode=False)
    except EdgeoptError as error:
        output.fail(error, as_json=as_json)
    except (KeyboardInterrupt, typer.Abort):
        output.fail_interrupted()
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own usage errors
            hint = (
                f"Run edgeopt {words[0]} --help." if words and not words[0].startswith("-") else "Run edgeopt --help."
            )
            output.fail(UsageError(error.format_message(), remedy=hint), as_json=as_json)
        output.fail_internal(error)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
