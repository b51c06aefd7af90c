"""Reads a line of NVIDIA's ``tegrastats``, whose form changes with the board and with every JetPack.

Token by token: what is not known is kept, never fatal.
"""

import re
from typing import Dict, List, Optional, Tuple

_NUMBER = r"-?[0-9]{1,9}(?:\.[0-9]{1,6})?"
_TOKENS: List[Tuple[str, str]] = [
    ("time", r"[0-9]{2}-[0-9]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2}"),
    ("memory", r"(RAM|SWAP|IRAM) ([0-9]{1,9})/([0-9]{1,9})([kM])B ?(?:\([^)]*\))?"),
    ("cores", r"CPU \[([^]]*)\]"),
    ("clock", r"(EMC_FREQ|GR3D2?_FREQ) (?:([0-9]{1,3})%)?(?:@(\[[0-9,]*\]|[0-9]{1,6}))?(?=\s|\Z)"),
    ("sensor", r"([\w.-]+)@(%s)C(?:/%sC)?" % (_NUMBER, _NUMBER)),
    ("rail", r"([\w.-]+) ([0-9]{1,9})(?:mW)?/([0-9]{1,9})(?:mW)?(?:/[0-9]{1,9}(?:mW)?)?(?=\s|\Z)"),
    ("other", r"\S+"),
]
_TOKEN = [(kind, re.compile(pattern)) for kind, pattern in _TOKENS]
_CORE = re.compile(r"\s*([0-9]{1,3})%(?:@([0-9]{1,6}))?\s*\Z")


class Tegrastats:
    """One line.

    Attributes:
        memory_bytes: Used and all, by ``RAM``, ``SWAP``, ``IRAM``.
        cores: Load in percent and clock in MHz (0 where not said) of each core; ``None`` for a core that is off.
        clocks: Load in percent (``None`` where not said) and clocks in MHz (one for each cluster) of ``EMC_FREQ`` (the
            memory), ``GR3D_FREQ`` and ``GR3D2_FREQ`` (the GPU).
        celsius: Temperatures by sensor; those that are off (-256 °C) are left out.
        milliwatts: Power now and its mean by rail.
        other: What else there was, word by word.
    """

    def __init__(self) -> None:
        self.memory_bytes: Dict[str, Tuple[int, int]] = {}
        self.cores: List[Optional[Tuple[int, int]]] = []
        self.clocks: Dict[str, Tuple[Optional[int], List[int]]] = {}
        self.celsius: Dict[str, float] = {}
        self.milliwatts: Dict[str, Tuple[int, int]] = {}
        self.other: List[str] = []


def parse(line: str) -> Tegrastats:
    """What a line of tegrastats says; an empty record where it says nothing."""
    found, position = Tegrastats(), 0
    while position < len(line):
        if line[position].isspace():
            position += 1
            continue
        matches = ((kind, pattern.match(line, position)) for kind, pattern in _TOKEN)
        kind, match = next((kind, match) for kind, match in matches if match)
        _keep(found, kind, match.group(0), match.groups())
        position = match.end()
    return found


def _keep(found: Tegrastats, kind: str, text: str, parts: Tuple[Optional[str], ...]) -> None:
    values = [part or "" for part in parts]
    if kind == "memory":
        unit = 1024 if values[3] == "k" else 1024 * 1024
        found.memory_bytes[values[0]] = (int(values[1]) * unit, int(values[2]) * unit)
    elif kind == "cores":
        found.cores = [_core(core) for core in values[0].split(",")]
    elif kind == "clock":
        load = int(values[1]) if values[1] else None
        found.clocks[values[0]] = (load, [int(word) for word in values[2].strip("[]").split(",") if word])
    elif kind == "sensor":
        celsius = float(values[1])
        if -40.0 < celsius < 150.0:
            found.celsius[values[0]] = celsius
    elif kind == "rail":
        if values[0] != "NC":  # not connected; the label comes twice
            found.milliwatts[values[0]] = (int(values[1]), int(values[2]))
    elif kind == "other":
        found.other.append(text)


def _core(text: str) -> Optional[Tuple[int, int]]:
    match = _CORE.match(text)
    return (int(match.group(1)), int(match.group(2) or 0)) if match else None
