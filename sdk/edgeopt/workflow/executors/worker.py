"""A worker of a pool: ``python -m edgeopt.workflow.executors.worker``; orders come in and answers go out, a line each.

It lives as long as its pool, so that the libraries that passes need are loaded once.
"""

from __future__ import annotations

import os
import sys

from edgeopt.child import die_with_parent
from edgeopt.documents import decode_json, encode_json
from edgeopt.errors import EdgeoptError
from edgeopt.report.visible import visible
from edgeopt.workflow.executors._base import Answer, Order, packed_error, raise_packed
from edgeopt.workflow.executors.here import carry_out

_DONE, _FAILED, _BROKEN = "done ", "failed ", "broken "


def answered(order: str) -> str:
    """Carry out an order that came as text; the answer, or an error of ours, as text."""
    try:
        return _DONE + encode_json(carry_out(decode_json(Order, order, where="an order")))
    except EdgeoptError as error:
        return _FAILED + packed_error(error)


def answer_of(text: str) -> Answer:
    """What `answered` gave.

    Raises:
        EdgeoptError: What went wrong there.
    """
    if text.startswith(_FAILED):
        raise_packed(text.removeprefix(_FAILED))
    return decode_json(Answer, text.removeprefix(_DONE), where="a worker's answer")


def cause_of(text: str) -> str:
    """What broke the worker that gave this in place of an answer; empty where it is one."""
    return text.removeprefix(_BROKEN).strip() if text.startswith(_BROKEN) else ""


def _told(order: str) -> str:
    """The answer, an error of ours, or what broke this worker: nobody reads its traceback."""
    try:
        return answered(order)
    except Exception as error:
        said = " ".join(str(error).split())
        return _BROKEN + visible(f"{type(error).__name__}: {said}", 300)


def main() -> None:
    """Serve until the line ends."""
    die_with_parent()
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)  # nothing that a library prints gets among the answers
        for line in sys.stdin:
            answers.write(_told(line) + "\n")
            answers.flush()


if __name__ == "__main__":
    main()
