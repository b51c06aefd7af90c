"""What names a board's hardware, whatever disk is in it: marks, each a kind and a digest, and how two boards compare.

Host keys, machine ids and the keys of agents lie on the disk, so a cloned one brings them along. Digests rather than
serial numbers and network addresses themselves: reports may lie in a store that others read.
"""

import hashlib
import re
from typing import List, Optional, Sequence

SERIAL, MAC = "serial", "mac"
MOST_MARKS = 16
_MARK = re.compile(r"(serial|mac)-[0-9a-f]{16}\Z")


def mark(kind: str, value: str) -> str:
    """The mark of a serial number or a network address."""
    return "%s-%s" % (kind, hashlib.sha256(("%s\n%s" % (kind, value)).encode("utf-8")).hexdigest()[:16])


def marks_in(value: object) -> List[str]:
    """The marks among what a board says; what is none is left out."""
    found = value if isinstance(value, (list, tuple)) else ()
    return [one for one in found if isinstance(one, str) and _MARK.match(one)][:MOST_MARKS]


def same(one: Sequence[str], other: Sequence[str]) -> Optional[bool]:
    """Whether two sets of marks are of one board; ``None`` where they do not tell.

    Serial numbers decide where both have one; else one network address in common is enough, since adapters are added.
    """
    for kind in (SERIAL, MAC):
        left, right = ({mark for mark in marks if mark.startswith(kind)} for marks in (one, other))
        if left and right:
            return bool(left & right)
    return None
