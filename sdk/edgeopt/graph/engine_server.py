"""Runs one model for `engine_process`, as a script of an interpreter that has the runtime.

Messages are archives of NumPy's behind their length in eight bytes: feeds come in, outputs by name go out. An archive
with the one name `FAILED` holds the class of an error and its message.
"""

from __future__ import annotations

import io
import json
import os
import struct
import sys
from collections.abc import Mapping
from typing import Any, BinaryIO

FAILED, OUTPUTS = "!failed", "!outputs"
_LENGTH = struct.Struct(">Q")


def send(stream: BinaryIO, arrays: Mapping[str, Any]) -> None:
    """Write one message."""
    import numpy as np

    body = io.BytesIO()
    np.savez(body, **arrays)
    stream.write(_LENGTH.pack(body.tell()) + body.getvalue())
    stream.flush()


def receive(stream: BinaryIO) -> dict[str, Any] | None:
    """Read one message; ``None`` where the other side is gone."""
    import numpy as np

    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    (length,) = _LENGTH.unpack(head)
    body = stream.read(length)
    if len(body) < length:
        return None
    with np.load(io.BytesIO(body), allow_pickle=False) as archive:
        return {name: archive[name] for name in archive.files}


def main(packages: str, runtime: str, model: str, settings: str) -> None:
    """Load a model, say which outputs it has, and run what comes until nothing comes.

    Args:
        packages: Folder that holds `edgeopt_runner`.
        runtime: Engine to load it with.
        model: Path of the model.
        settings: Of the engine, as JSON.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what runtimes print must not get between the messages
    sys.path.insert(0, packages)
    from edgeopt_runner.engines import EngineMissing, LoadFailed, RunFailed, engine

    try:
        session = engine(runtime).load(model, json.loads(settings))
    except (EngineMissing, LoadFailed) as error:
        send(answers, {FAILED: [type(error).__name__, str(error)]})
        return
    send(answers, {OUTPUTS: session.outputs})
    while (feeds := receive(sys.stdin.buffer)) is not None:
        try:
            send(answers, session.run(feeds))
        except RunFailed as error:
            send(answers, {FAILED: [type(error).__name__, str(error)]})


if __name__ == "__main__":
    main(*sys.argv[1:])
