"""Reads the user's data into raw files, fitted to the model's inputs (runs in a child process, in bounded memory)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from edgeopt.core.tensor import Signature
from edgeopt.documents import decode
from edgeopt.errors import DataError
from edgeopt.graph.fit import Fitter, as_array
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.sample_sources import Item, generated_items, items_of_file, items_of_function
from edgeopt.graph.spool import Spool
from edgeopt.graph.user_code import is_function
from edgeopt_runner.protocol.samples import INPUT, LABELS

GENERATED_SAMPLES = 64
"""Most generated samples in each set: more random numbers say no more."""


def collect(source: str | None, signature: dict[str, Any], options: dict[str, Any], folder: str) -> dict[str, Any]:
    """Read as many samples as the split can use.

    Args:
        source: An `.npz` file, ``file.py:function``, or ``None`` for generated inputs.
        signature: `Signature` as plain data.
        options: `SampleOptions` as plain data.
        folder: Where the raw files go.

    Returns:
        ``members`` (see `Spool`) by input name and `labels`, ``rows``, ``generated`` and ``notes``.

    Raises:
        DataError: The data cannot be read, is empty or does not fit.
    """
    taken = decode(Signature, signature, where="signature")
    asked = decode(SampleOptions, options, where="options")
    fitter, spool = Fitter(taken, asked), Spool(Path(folder))
    limit = rows_needed(asked, fitter.batch or 1, generated=source is None)
    rows = _fill(_items(source, taken, asked, Path(folder), limit), fitter, spool, limit)
    members = spool.close()
    if not rows:
        raise DataError(
            f"{source} gives no samples.", remedy="It must yield (inputs, label), or hold arrays with entries."
        )
    return {"members": members, "rows": rows, "generated": source is None, "notes": sorted(fitter.notes)}


def rows_needed(options: SampleOptions, batch: int, *, generated: bool) -> int:
    """Most rows that the split can use."""
    most = GENERATED_SAMPLES if generated else max(options.calibration, options.evaluation)
    calibration, evaluation = min(options.calibration, most), min(options.evaluation, most)
    return batch * (max(calibration, evaluation) if options.overlap else calibration + evaluation)


def _items(
    source: str | None, signature: Signature, options: SampleOptions, folder: Path, limit: int
) -> Iterator[Item]:
    if source is None:
        return generated_items(signature, options.seed)
    if is_function(source):
        return items_of_function(source, signature)
    return items_of_file(Path(source), signature, folder, limit, options.seed)


def _fill(items: Iterator[Item], fitter: Fitter, spool: Spool, limit: int) -> int:
    """Append rows until there are enough; returns how many there are."""
    rows = 0
    labelled: bool | None = None
    for inputs, label, number in items:
        place = rows if number is None else number
        made = fitter.rows(place, inputs)
        count = len(next(iter(made.values())))
        labelled = (label is not None) if labelled is None else labelled
        if labelled != (label is not None):
            raise DataError(f"sample {place} has {'no' if labelled else 'a'} label, unlike those before it.")
        for name, array in made.items():
            spool.append(INPUT + name, array)
        if label is not None:
            _append_label(spool, place, count, label, fitter.batch)
        rows += count
        if rows >= limit:
            break
    return rows


def _append_label(spool: Spool, start: int, count: int, label: Any, batch: int | None) -> None:
    """Append one label a row; a fixed-batch item may have one label for the whole feed."""
    import numpy as np

    array = as_array(label, f"sample {start}: the label")
    if array.ndim > 0 and len(array) == count and (count > 1 or array.ndim == 1):
        labels = array
    elif count == 1 or (batch == count and array.ndim == 0):
        labels = array[None]
    else:
        raise DataError(
            f"sample {start}: {count} rows of inputs have labels of shape {list(array.shape)}.",
            remedy="Give one label a row.",
        )
    kind = np.int64 if labels.dtype.kind in "iub" else np.float64
    if not spool.append(LABELS, labels.astype(kind)):
        raise DataError(
            f"sample {start}: the label is {labels.dtype}{list(labels.shape[1:])}, unlike those before it.",
            remedy="All labels must have one shape and type.",
        )
