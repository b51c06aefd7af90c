"""Entry of the bundle (see the package `protocol`), and of what starts on the board itself: ``pull`` and ``mender``."""

import os
import sys
from typing import Any, BinaryIO, List, Optional

from edgeopt_runner import faults, storage
from edgeopt_runner.protocol import BAD_REQUEST, frames
from edgeopt_runner.refusals import Refusal, refusal_of


class _Serve:
    """The arguments of ``serve --root ROOT``, as nearly every visit begins: a tenth of it would be `argparse`."""

    action = "serve"

    def __init__(self, root: str) -> None:
        self.root = root


def _parser() -> Any:
    import argparse

    parser = argparse.ArgumentParser(prog="edgeopt_runner", description="The device side of edgeopt.")
    actions = parser.add_subparsers(dest="action")
    for name in ("serve", "door", "receive", "send", "stage", "supervise", "work", "stage-work", "pull", "mender"):
        action = actions.add_parser(name)
        action.add_argument("--root", required=True)
        if name in ("receive", "send", "stage", "stage-work"):
            action.add_argument("--sha256", required=True)
        if name in ("stage", "stage-work"):
            action.add_argument("--order", required=True)
        if name == "stage-work":
            action.add_argument("--requests-fd", required=True, type=int)
            action.add_argument("--answers-fd", required=True, type=int)
        if name == "mender":
            action.add_argument("state")
            action.add_argument("files", nargs="?", default="")
        if name == "pull":
            action.add_argument("--every", type=float, default=0.0, metavar="SECONDS", help="poll for ever")
            action.add_argument("--once", action="store_true", help="poll once, which is what is done without --every")
        if name == "receive":
            action.add_argument("--size", required=True, type=int)
        if name in ("supervise", "work"):
            action.add_argument("--job", required=True)
        if name == "work":
            action.add_argument("--document", default="job.json")
        if name in ("work", "stage-work"):
            action.add_argument("--events-fd", required=True, type=int)
            action.add_argument("--parent", required=True, type=int)
    return parser


def _frames_only() -> BinaryIO:
    """A stream on the real stdout, while descriptor 1 becomes stderr: what a library prints cannot spoil a frame."""
    sys.stdout.flush()
    stream = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    return stream


def _converse(arguments: Any, answers: BinaryIO) -> int:
    """Serve, receive, send or lend a stage; refusals are told to the host.

    Each imports no more than it needs: on a slow board what is compiled at a start takes longer than a small object.
    """
    try:
        storage.prepare(arguments.root)
        if arguments.action == "serve":
            from edgeopt_runner import server

            return server.serve(arguments.root, sys.stdin.buffer, answers)
        if arguments.action == "stage":
            from edgeopt_runner import stage

            return stage.lend(arguments.root, arguments.sha256, arguments.order, answers)
        from edgeopt_runner import transfer

        if arguments.action == "send":
            transfer.send(arguments.root, arguments.sha256, answers)
            return 0
        if arguments.size < 0:
            raise Refusal(BAD_REQUEST, "size is %d" % arguments.size)
        transfer.receive(arguments.root, arguments.sha256, arguments.size, 0, lambda told: frames.write(answers, told))
    except BrokenPipeError:
        return 1
    except (Refusal, OSError) as error:
        from edgeopt_runner.server import failure

        frames.write(answers, failure(refusal_of(error)))
        return 1
    return 0


def _arguments(words: List[str]) -> Any:
    if len(words) == 3 and words[:2] == ["serve", "--root"]:
        return _Serve(words[2])
    parser = _parser()
    arguments = parser.parse_args(words)
    if arguments.action is None:
        parser.error("one of serve, receive, send, stage, supervise, work, pull, mender is needed")
    return arguments


def main(argv: Optional[List[str]] = None) -> int:
    """Run one action of the runner; returns the exit code."""
    arguments = _arguments(sys.argv[1:] if argv is None else argv)
    faults.check()
    arguments.root = storage.expand(arguments.root)
    if arguments.action == "supervise":
        from edgeopt_runner.supervisor import supervise

        return supervise(arguments.root, storage.check_identifier(arguments.job))
    if arguments.action == "work":
        from edgeopt_runner.work import work

        return work(arguments.root, arguments.job, arguments.document, arguments.events_fd, arguments.parent)
    if arguments.action == "stage-work":
        from edgeopt_runner import stage_worker

        given = {"requests": arguments.requests_fd, "answers": arguments.answers_fd, "events": arguments.events_fd}
        return stage_worker.work(arguments.root, arguments.sha256, arguments.order, given, arguments.parent)
    if arguments.action == "mender":
        from edgeopt_runner.agent.mender import module

        return module(arguments.root, arguments.state, arguments.files)
    if arguments.action == "pull":
        from edgeopt_runner.agent.run import pull

        return pull(arguments.root, 0.0 if arguments.once else arguments.every)
    if arguments.action == "door":
        from edgeopt_runner.door import enter

        return enter(arguments.root, _frames_only())
    return _converse(arguments, _frames_only())


if __name__ == "__main__":
    sys.exit(main())
