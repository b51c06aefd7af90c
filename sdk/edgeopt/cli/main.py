"""Entry of the command line: collects the commands and turns every exception into one clear message and an exit code.

Command modules import nothing heavy at the top, so that `edgeopt --help` answers at once.
"""

from __future__ import annotations

import sys
from typing import Any, NoReturn

import typer

from edgeopt.cli import (
    bench,
    deploy,
    devices,
    fleet,
    init,
    keys,
    merge,
    optimize,
    output,
    passes,
    profiles,
    publish,
    recipes,
    report,
    runs,
    select,
    spaces,
    split,
    ui,
)
from edgeopt.errors import EdgeoptError, UsageError

_PLAINER = {"is not a valid int": "is not a whole number", "is not a valid float": "is not a number"}

app = typer.Typer(
    name="edgeopt",
    help="Compress a trained network for your boards, measure it there, choose the best variant, keep it running.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("deploy", short_help="The main job: compress, measure on the device, choose, activate.")(deploy.deploy)
app.command("init", short_help="Look at a model and write edgeopt.yaml.")(init.init)
app.command("optimize", short_help="Make the variants into a folder; measure nothing.")(optimize.optimize)
app.command("bench", short_help="Measure one model on a device, nothing else.")(bench.bench)
app.command("split", short_help="Cut a network into stages; measure them as a pipeline.")(split.split)
app.command("merge", short_help="Make one network of stages, or of models that share a trunk.")(merge.merge)
app.command("select", short_help="Choose again under another budget, without measuring.")(select.select)
app.command("report", short_help="Write the self-contained page of a run.")(report.report)
app.command("ui", short_help="Runs, devices and rollouts as a local page; follows what is at work.")(ui.ui)
app.command("publish", short_help="Sign what runs chose as a release for a fleet.")(publish.publish)
app.add_typer(devices.app, name="device")
app.add_typer(publish.app, name="releases")
app.add_typer(fleet.app, name="fleet")
app.add_typer(keys.app, name="keys")
app.add_typer(runs.app, name="runs")
app.add_typer(profiles.app, name="profiles")
app.command("passes")(passes.passes)
app.command("recipes")(recipes.recipes)
app.command("spaces")(spaces.spaces)


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
        output.fail_interrupted(as_json=as_json)
    except BrokenPipeError:
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # click's own usage errors
            _fail_usage(error, as_json=as_json)
        output.fail_internal(error, as_json=as_json)
    sys.exit(code if isinstance(code, int) else 0)


def _fail_usage(error: Any, *, as_json: bool) -> NoReturn:
    """Words that the parser of the command line refused: our form, and the help of the right command."""
    place = error.ctx.command_path if error.ctx else "edgeopt"
    if type(error).__name__ == "NoArgsIsHelpError" and not as_json:
        sys.stderr.write(error.format_message() + "\n")
        sys.exit(UsageError.exit_code)
    text = "no command was given." if type(error).__name__ == "NoArgsIsHelpError" else error.format_message()
    for theirs, ours in _PLAINER.items():
        text = text.replace(theirs, ours)
    output.fail(
        UsageError(text if text.endswith("?") else text.rstrip(".") + ".", remedy=f"See {place} --help."),
        as_json=as_json,
    )


if __name__ == "__main__":
    main()
