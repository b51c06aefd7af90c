"""What a pass is: the slot that built-in and third-party passes fill alike."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Protocol

from edgeopt.core.formats import ONNX

EXACT = 0.9999
"""`min_cosine` of a pass that only rearranges the computation."""

ANY = -1.0
"""`min_cosine` of a pass whose result a later one repairs: finite and not constant is all that is asked."""

WIDELY_READ_IR = 10
"""Passes write no newer IR version where the opset allows it: onnxruntime 1.18 and later reads this one."""

VNNI = frozenset({"avx512_vnni", "avx_vnni", "amx_int8"})
"""x86 flags whose 8-bit dot product accumulates in 32 bits; without one, pairs of products saturate in 16."""


def format_of(step: Pass) -> str:
    """What a pass writes: ONNX, unless its class has an attribute `format` (conversions, last in a recipe)."""
    return str(getattr(step, "format", ONNX))


def saturates(machine: str, isa: Collection[str]) -> bool:
    """Whether uint8 × int8 products can saturate on a CPU: x86 without VNNI.

    Rodriguez, Segal, Meiri, Fomenko, Kim, Shen, Ziv: Lower Numerical Precision Deep Learning Inference and Training,
    2018: `vpmaddubsw` adds two 16-bit products with saturation, VNNI's `vpdpbusd` does not.
    """
    return machine in ("x86_64", "AMD64", "i686") and VNNI.isdisjoint(isa)


@dataclass(frozen=True)
class PassContext:
    """What a pass may know besides the file it changes.

    Attributes:
        calibration: Sample file (`edgeopt_runner.protocol.samples`) with typical inputs, or ``None``.
        machine: ``uname -m`` of the device that the file is meant for.
        isa: Its ISA flags.
        seed: Seed of every random choice.
        keep_float: Names of nodes that must stay in float; only passes that are not `EXACT` get any.
        work: Existing folder for intermediate files.
        cache: Folder where facts about model and data (ranges of tensors) are kept between runs, or ``None``.
        original: The unmodified network: what parity is judged against, and the teacher of passes that distil.
        training: Sample file for training, with ``labels`` where the user has some, or ``None``.
        loss: The user's ``file.py:function(outputs, labels)``; empty takes the one that fits the labels.
        checkpoint: Where a pass that trains keeps its state; the same file when the pass is begun again.
    """

    work: Path
    calibration: Path | None = None
    machine: str = "x86_64"
    isa: tuple[str, ...] = ()
    seed: int = 0
    keep_float: tuple[str, ...] = ()
    cache: Path | None = None
    original: Path | None = None
    training: Path | None = None
    loss: str = ""
    checkpoint: Path | None = None


@dataclass(frozen=True)
class PassReport:
    """What a pass has to say about its result.

    Attributes:
        notes: Sentences for the user (fall-backs, parts left out).
        kept_float: Names of nodes that stayed in float although the pass could have changed them.
    """

    notes: tuple[str, ...] = ()
    kept_float: tuple[str, ...] = field(default=())


class Pass(Protocol):
    """One step of a recipe: reads an ONNX file, writes another, or with an attribute `format` one of another kind.

    The class is the entry point; it is built with an instance of its `options_class`. One that derives from this gets
    the attributes' defaults; any class of this shape will do. `apply` runs in a child process with a deadline. Same
    input, options, context and library versions must give the same bytes.

    Attributes:
        name: Entry-point name.
        options_class: Frozen dataclass with a default for every field.
        min_cosine: Smallest cosine similarity to the source model's outputs at which the result counts as right:
            `EXACT`, or a floor under which a lossy result is broken rather than lossy.
        needs_calibration: Whether it cannot work without `PassContext.calibration`.
        trains: Whether it works on the network as a torch module: it gets a form in which nothing is folded (batch
            normalisation is there), training samples, and a deadline of its own (`options.max_seconds`).
        operators: Operators of which it needs at least one; empty: any network will do.
        yields: Operators or element types of weights (ONNX names) of which the result must have at least one: proof
            that the pass did something. Empty: nothing is asked.
        options: What it was built with.
        optional: Whether a failure means "go on with the input" instead of "drop the variant".
    """

    name: ClassVar[str]
    options_class: ClassVar[type[Any]]
    min_cosine: ClassVar[float]
    needs_calibration: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset()
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False
    options: Any

    def __init__(self, options: Any) -> None: ...

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the changed network to `destination`.

        Raises:
            PassError: The network or the context does not allow it; one sentence that a user understands.
        """
        ...
