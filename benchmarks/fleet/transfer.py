"""The transfer part of a rollout alone, as a process of its own: what the engine does before it orders the update.

Every board is reached, verifies the newest signatures, says what it lacks, and is sent that; its runner hashes and
syncs it. Prints the bytes that were sent.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

from edgeopt.core.fleet import Board
from edgeopt.workflow.fleet.boards import load_fleet
from edgeopt.workflow.fleet.engine_port import Order
from edgeopt.workflow.fleet.publishing import find_release
from edgeopt.workflow.fleet.rolling import carrier_of
from edgeopt.workflow.workspace import Workspace


def main(name: str, forks: int) -> None:
    """Bring the files of a release to all boards, so many at a time."""
    with Workspace.open() as workspace:
        fleet, published = load_fleet(workspace), find_release(name, workspace)
        release, carrier = published.release, carrier_of(fleet, workspace)

        def bring(board: Board) -> int:
            names = (release.app, release.version, published.manifest, published.target, board.profile)
            order = Order("benchmark", board.name, *names, fence=1)
            with carrier(board.name) as port:
                port.bring_trust()
                found = port.preflight(order)
                assert found.action == "update", found
                return port.send(order, found, lambda _: None, lambda _, __: None)

        with ThreadPoolExecutor(forks) as pool:
            print(sum(pool.map(bring, fleet.boards)))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
