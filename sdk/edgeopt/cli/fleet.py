"""`edgeopt fleet ...`: releases to many boards in measured waves, and what the boards run.

Exit codes: 0 done; 2 the user can fix it; 3 halted by a gate, or cancelled; 4 boards failed, refused or are away; 130
interrupted, the same command goes on.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from edgeopt.cli import fleet_history, fleet_inventory, fleet_pull, options
from edgeopt.errors import UsageError

app = typer.Typer(no_args_is_help=True, help="Releases to many boards in measured waves; what the boards run.")
app.command("status")(fleet_inventory.status)
app.command("enrol")(fleet_inventory.enrol)
app.add_typer(fleet_inventory.importing, name="import")
app.command("offer")(fleet_pull.offer)
app.command("offers")(fleet_pull.offers)
app.command("mender-module")(fleet_pull.mender_module)
app.command("history")(fleet_history.history)
app.command("report")(fleet_history.report)
app.command("exporter")(fleet_history.exporter)
app.add_typer(fleet_history.audit, name="audit")

FleetFile = fleet_inventory.FleetFile
Which = Annotated[
    str, typer.Argument(metavar="[ROLLOUT]", help="Its id or a beginning of it, APP, APP@VERSION or last.")
]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Takeover = Annotated[bool, typer.Option("--takeover", help="Take it from whoever drives it; the log says so.")]


@app.command()
def update(
    release: Annotated[str, typer.Argument(metavar="APP[@VERSION]", help="A published release; else the newest.")],
    to: Annotated[str, typer.Option("--to", metavar="SELECTOR", help="region=north,tier!=canary; profile=pi5; all.")],
    waves: Annotated[
        str | None, typer.Option("--waves", help="1,10%,100%.  [default: 1,1-per-profile,5%,25%,100%]")
    ] = None,
    plan: Annotated[bool, typer.Option("--plan", help="Show what would happen to each board; change nothing.")] = False,
    yes: Yes = False,
    soak: Annotated[str, typer.Option("--soak", help="Watch each wave this long, then measure again: 10m.")] = "0",
    max_failures: Annotated[str, typer.Option("--max-failures", help="Share of boards that may fail.")] = "5%",
    max_slower: Annotated[
        str | None, typer.Option("--max-slower", help="Latency against before, by profile.  [default: 3%]")
    ] = None,
    max_memory: Annotated[str, typer.Option("--max-memory", help="Peak memory against before, by profile.")] = "20%",
    max_unreachable: Annotated[str, typer.Option("--max-unreachable", help="Share that may be away.")] = "34%",
    max_wave: Annotated[str, typer.Option("--max-wave", help="A wave that takes longer halts.")] = "1d",
    concurrency: Annotated[int, typer.Option("--concurrency", min=1, max=1024, help="Boards at a time.")] = 64,
    per_jump: Annotated[int, typer.Option("--per-jump", min=1, help="At a time behind one jump host.")] = 8,
    bandwidth: Annotated[str | None, typer.Option("--bandwidth", help="Of all transfers together: 5MB/s.")] = None,
    takeover: Takeover = False,
    insecure_unsigned: Annotated[
        bool, typer.Option("--insecure-unsigned", help="Let boards do without signatures; marks boards and log.")
    ] = False,
    fleet_file: FleetFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring a release to boards, in waves that go on only while the boards themselves measure well."""
    from dataclasses import replace

    from edgeopt.cli import fleet_quantities as read
    from edgeopt.cli import fleet_updating
    from edgeopt.core.fleet import Caps
    from edgeopt.core.rollout import GatePolicy
    from edgeopt.fleet.waves import DEFAULT_WAVES, parse_waves
    from edgeopt.workflow.fleet.rolling import RolloutRequest

    gate = GatePolicy(
        max_failures=read.parse_share(max_failures, "--max-failures"),
        max_memory=read.parse_share(max_memory, "--max-memory", most=100.0),
        max_unreachable=read.parse_share(max_unreachable, "--max-unreachable"),
        soak_seconds=read.parse_span(soak, "--soak", zero=True),
        max_wave_seconds=read.parse_span(max_wave, "--max-wave"),
    )
    if max_slower is not None:
        gate = replace(gate, max_slower=read.parse_share(max_slower, "--max-slower", most=100.0))
    rate = None if bandwidth is None else read.parse_rate(bandwidth, "--bandwidth")
    request = RolloutRequest(
        release=release,
        selector=to,
        waves=DEFAULT_WAVES if waves is None else parse_waves(waves),
        gate=gate,
        caps=Caps(concurrency=concurrency, per_jump=per_jump, bytes_per_second=rate),
        insecure_unsigned=insecure_unsigned,
        command=fleet_updating.command_line(),
    )
    way = fleet_updating.Way(only_plan=plan, yes=yes, takeover=takeover, as_json=as_json, quiet=quiet)
    fleet_updating.update(request, way, Path(fleet_file) if fleet_file else None)


@app.command()
def pause(rollout: Which = "last", as_json: options.Json = False) -> None:
    """Begin no more boards; those under way go on to their end."""
    from edgeopt.cli import fleet_updating

    fleet_updating.order(rollout, "pause", as_json=as_json)


@app.command()
def cancel(rollout: Which = "last", fleet_file: FleetFile = None, as_json: options.Json = False) -> None:
    """End a rollout; boards that have the release keep it (see rollback)."""
    from edgeopt.cli import fleet_updating

    fleet_updating.order(rollout, "cancel", Path(fleet_file) if fleet_file else None, as_json=as_json)


@app.command()
def resume(
    rollout: Which = "last",
    takeover: Takeover = False,
    fleet_file: FleetFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Go on with a rollout that was paused, halted or cut off; a halted one in spite of its gate."""
    from edgeopt.cli import fleet_updating

    way = fleet_updating.Way(takeover=takeover, as_json=as_json, quiet=quiet)
    fleet_updating.resume(rollout, way, Path(fleet_file) if fleet_file else None)


@app.command()
def rollback(
    rollout: Which = "last",
    to: Annotated[
        str, typer.Option("--to", metavar="VERSION", help="Which version.  [default: what most boards had before]")
    ] = "",
    waves: Annotated[str, typer.Option("--waves", help="Of the way back.")] = "100%",
    yes: Yes = False,
    takeover: Takeover = False,
    fleet_file: FleetFile = None,
    as_json: options.Json = False,
    quiet: options.Quiet = False,
) -> None:
    """Bring the boards of a rollout back: a new signed release with the old content, sent to those that changed."""
    from edgeopt.cli import fleet_updating
    from edgeopt.fleet.waves import parse_waves

    if to and "@" in to:
        raise UsageError(f"--to {to!r} names an app, too.", remedy="Say only the version: --to 1.3.2.")
    way = fleet_updating.Way(yes=yes, takeover=takeover, as_json=as_json, quiet=quiet)
    fleet_updating.roll_back(rollout, to, parse_waves(waves), way, Path(fleet_file) if fleet_file else None)
