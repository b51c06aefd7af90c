"""What the compression recipes are worth on trained networks, measured on this machine through the runner.

python benchmarks/compression/run.py [--networks residual ...] [--peers]

Every network is deployed to `local` with the shipped recipes, training samples included, one thread, seeds fixed. The
table has what the device measured: top-1 on held-out digits, median latency against the original's, file size. What
other tools made alone competes in the same run with --peers. Results are kept beside this file, so that a run that was
cut off goes on.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import networks
import peers

import edgeopt
from edgeopt.core.selection import Assessment

HERE = Path(__file__).parent
RECIPES = {
    "residual": ("int8-static", "int8-qat", "prune-trained", "prune-latency", "prune-int8", "int4-qat", "binary"),
    "depthwise": ("int8-static", "int8-qat", "prune-trained", "prune-int8", "int4-qat", "binary"),
    "transformer": ("int8-static", "int8-smooth", "fewer-heads", "prune-int8", "low-rank", "int4-qat", "binary"),
    "recurrent": ("int8-dynamic", "low-rank", "clustered", "int4-qat", "binary"),
}
_MACS = re.compile(r"MACs [\d.]+ ?\w? -> [\d.]+ ?\w? \(x([\d.]+)\)")


def main() -> None:
    """Deploy each network, print its table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", default=list(RECIPES), choices=list(RECIPES))
    parser.add_argument("--peers", action="store_true", help="let other tools' results compete too")
    arguments = parser.parse_args()
    os.environ.setdefault("EDGEOPT_HOME", str(HERE / "weights" / "edgeopt"))
    for name in arguments.networks:
        record = deploy(name, with_peers=arguments.peers)
        show(name, record)


def deploy(name: str, *, with_peers: bool) -> edgeopt.RunRecord:
    """One run of the main job."""
    module = getattr(networks, name)()[0]
    candidates = []
    for peer in peers.PEERS if with_peers else ():
        path, reason = peers.make(peer, module, HERE / "weights" / name)
        if path is None:
            print(f"{name}: {peer} is left out: {reason}")
        else:
            candidates.append(str(path))
    source = str(HERE / "networks.py")
    request = edgeopt.Request(
        model=f"{source}:{name}",
        data=edgeopt.DataRequest(source=f"{source}:held_out", training=f"{source}:train"),
        recipes=RECIPES[name],
        candidates=tuple(candidates),
        threads=(1,),
        activate=False,
    )
    with edgeopt.Workspace.open() as workspace:
        return edgeopt.deploy(request, workspace)


def show(name: str, record: edgeopt.RunRecord) -> None:
    """Print the table of one network, the best of every variant's settings."""
    assert record.selection is not None
    print(f"\n{name}\n{'':22}{'top-1':>8}{'MACs':>7}{'ms':>9}{'faster':>9}{'KB':>8}{'smaller':>9}  verdict")
    seen: dict[str, Assessment] = {}
    for one in record.selection.assessments:
        seen.setdefault(one.candidate.variant.name, one)
    original = seen["original"].size_bytes
    for variant, one in seen.items():
        found = [match for note in one.candidate.variant.notes if (match := _MACS.search(note))]
        macs = f"{float(found[-1][1]):.2f}" if found else ""
        top1 = f"{one.metric:.2%}" if one.metric is not None else ""
        latency = f"{one.latency_ns.value / 1e6:.3f}" if one.latency_ns else ""
        faster = f"{one.speedup.value:.2f}x" if one.speedup else ""
        size = f"{one.size_bytes / 1e3:.0f}"
        smaller = f"{original / one.size_bytes:.1f}x"
        print(f"{variant:22}{top1:>8}{macs:>7}{latency:>9}{faster:>9}{size:>8}{smaller:>9}  {one.verdict}")
    for rejection in record.rejections:
        print(f"{rejection.name:22}not measured: {rejection.reason}")


if __name__ == "__main__":
    main()
