"""Training samples in: one sample file with labels where there are some, read whole but in bounded memory."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.child import run_child
from edgeopt.core.tensor import Signature
from edgeopt.documents import decode, plain
from edgeopt.errors import DataError
from edgeopt.graph.data import check_source
from edgeopt.graph.fit import batch_size
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.split import feeds_of
from edgeopt.graph.user_code import is_function, source_text
from edgeopt_runner.protocol.samples import LABELS, SampleFile, write_samples


@dataclass(frozen=True)
class TrainingData:
    """Samples to train on.

    Attributes:
        path: The sample file.
        digest: Of its samples and of the code that yields them.
        samples: How many feeds.
        labelled: Whether they have labels.
        notes: What the user should know.
    """

    path: Path
    digest: str
    samples: int
    labelled: bool
    notes: tuple[str, ...] = ()


def load_training(
    source: str, signature: Signature, *, options: SampleOptions, samples: int, evaluation: Path, folder: Path
) -> TrainingData:
    """Read training samples the way calibration and evaluation samples are read.

    Args:
        source: An `.npz` file or ``file.py:function`` that yields ``(inputs, labels)`` or inputs.
        signature: The model's inputs and outputs.
        options: How samples are prepared; the sizes in it do not matter here.
        samples: Most samples that are read, from the start.
        evaluation: Sample file that results are judged on; what training samples share with it is said in the notes.
        folder: Where the file goes; exists.

    Raises:
        DataError: The data cannot be read or does not fit; says which sample, which input, and a remedy.
        ChildError: The user's function crashed or ran past the deadline.
    """
    check_source(source)
    code = source_text(source, DataError) if is_function(source) else ""
    whole = replace(options, calibration=samples, evaluation=samples, overlap=True)
    with tempfile.TemporaryDirectory(prefix=".training-", dir=folder) as scratch:
        made = run_child(
            "edgeopt.graph.training_data:collect_training",
            {
                "source": source,
                "signature": plain(signature),
                "options": plain(whole),
                "folder": scratch,
                "evaluation": str(evaluation),
                "destination": str(folder / "training.npz"),
            },
            deadline_seconds=options.deadline_seconds,
            what=f"reading {source}",
        )
    digest = hashlib.sha256((made["digest"] + code).encode()).hexdigest()
    path = folder / "training.npz"
    return TrainingData(path, digest, SampleFile(str(path)).count, made["labelled"], tuple(made["notes"]))


def collect_training(
    source: str, signature: dict[str, Any], options: dict[str, Any], folder: str, evaluation: str, destination: str
) -> dict[str, Any]:
    """Read the samples and write them as a sample file (in a child process).

    Args:
        source: An `.npz` file or ``file.py:function``.
        signature: `Signature` as plain data.
        options: `SampleOptions` as plain data.
        folder: For raw files.
        evaluation: Sample file of the evaluation samples.
        destination: The sample file to make.

    Returns:
        ``digest``, ``labelled`` and ``notes``.

    Raises:
        DataError: The data cannot be read, is empty or does not fit.
    """
    from edgeopt.graph.collect import collect

    collected = collect(source, signature, options, folder)
    feeds = feeds_of(collected["members"], batch_size(decode(Signature, signature, where="signature")))
    if not len(next(iter(feeds.values()))):
        raise DataError(f"{source} has fewer samples than one batch of the model.", remedy="Give more samples.")
    write_samples(destination, feeds)
    judged = {_inputs_digest(sample.inputs) for sample in SampleFile(evaluation)}
    whole, shared = hashlib.sha256(), 0
    for sample in SampleFile(destination):
        inputs = _inputs_digest(sample.inputs)
        whole.update(inputs + (b"" if sample.label is None else sample.label.tobytes()))
        shared += inputs in judged
    notes = [*collected["notes"], *([_shared_note(shared)] if shared else [])]
    return {"digest": whole.hexdigest(), "labelled": LABELS in feeds, "notes": notes}


def _inputs_digest(inputs: Mapping[str, Any]) -> bytes:
    digest = hashlib.sha256()
    for name in sorted(inputs):
        digest.update(f"{name} {inputs[name].dtype.str} {inputs[name].shape}\n".encode() + inputs[name].tobytes())
    return digest.digest()


def _shared_note(shared: int) -> str:
    return f"{shared} training samples are evaluation samples too: what was trained will look better than it is."


def check_loss(source: str) -> str:
    """What the user's loss depends on, after a look at whether it is there; part of the provenance.

    Raises:
        DataError: It is not ``file.py:function``, or there is no such file or function.
    """
    if not is_function(source):
        raise DataError(f"--loss is {source!r}.", remedy="It is file.py:function(outputs, labels) -> tensor.")
    return source_text(source, DataError)
