"""Where a TFLite interpreter's operators went: which of them a delegate took.

The interpreter lists the operators of the file and, after them, one for each part that a delegate took; the operators
of that part stay in the list. They are those between the delegate's outputs and its inputs.
"""

from typing import Any, Dict, List, Sequence, Set

BUILTIN = "builtin"


def count_delegated(operators: Sequence[Dict[str, Any]], delegate: str) -> Dict[str, int]:
    """Operators by who runs them: `delegate`, or ``builtin`` for those that it did not take.

    Args:
        operators: For each ``op_name, inputs, outputs``, as `Interpreter._get_ops_details` gives them.
        delegate: Its name, for the interpreter calls all of them ``DELEGATE``.
    """
    plain = [number for number, one in enumerate(operators) if not _is_delegate(one)]
    producer = {int(tensor): number for number in plain for tensor in operators[number]["outputs"]}
    taken: Set[int] = set()
    for one in operators:
        if _is_delegate(one):
            taken |= _between(one, operators, producer)
    counts = {delegate: len(taken), BUILTIN: len(plain) - len(taken)}
    return {name: count for name, count in counts.items() if count}


def _is_delegate(operator: Dict[str, Any]) -> bool:
    return "delegate" in str(operator["op_name"]).lower()


def _between(delegate: Dict[str, Any], operators: Sequence[Dict[str, Any]], producer: Dict[int, int]) -> Set[int]:
    """Numbers of the operators on the way back from a delegate's outputs to its inputs."""
    ends = {int(tensor) for tensor in delegate["inputs"]}
    waiting: List[int] = [int(tensor) for tensor in delegate["outputs"]]
    found: Set[int] = set()
    while waiting:
        tensor = waiting.pop()
        number = producer.get(tensor)
        if tensor not in ends and number is not None and number not in found:
            found.add(number)
            waiting += [int(one) for one in operators[number]["inputs"]]
    return found
