"""The marks of this board's hardware: its serial number in the device tree, and its own network addresses."""

import os
from typing import List

from edgeopt_runner.board import THIS, Board
from edgeopt_runner.protocol import hardware

_BURNT_IN = 0
_LOCAL_BIT = 2


def marks(board: Board = THIS) -> List[str]:
    """Marks of the hardware (`protocol.hardware`), the serial number first; none where nothing tells boards apart."""
    serials = [text for text in board.tree("serial-number") if text.strip("0")]
    found = [hardware.mark(hardware.SERIAL, text) for text in serials[:1]]
    return (found + [hardware.mark(hardware.MAC, address) for address in _addresses(board)])[: hardware.MOST_MARKS]


def _addresses(board: Board) -> List[str]:
    """Network addresses that the makers of adapters gave: not of bridges and tunnels, none that software chose."""
    found = []
    for path in board.glob("/sys/class/net/*/address"):
        folder, address = os.path.dirname(path), board.read(path) or ""
        chosen = board.number(folder + "/addr_assign_type") != _BURNT_IN
        if not chosen and board.exists(folder + "/device") and _is_makers(address):
            found.append(address.lower())
    return sorted(set(found))


def _is_makers(address: str) -> bool:
    """Whether an address is of six bytes, not all nought, without the bit of those that are given locally."""
    try:
        parts = bytes.fromhex(address.replace(":", ""))
    except ValueError:
        return False
    return len(parts) == 6 and any(parts) and not parts[0] & _LOCAL_BIT
