"""Writes a network in an older operator set and IR version, for runtimes on devices that read no newer ones.

Source: ONNX, "Versioning" (onnx/docs/Versioning.md): an operator is meant as the newest version of its definition that
is not newer than the model's operator set; and the definitions of functions in terms of older operators.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import EXACT, PassContext, PassReport

_OLDEST_OPSET = 13
_OLDEST_IR = 7


@dataclass(frozen=True)
class Options:
    """Options of `lower_version`.

    Attributes:
        opset: Newest operator set that the result may have, 13 or later; 0: as it is.
        ir_version: Newest IR version that it may have, 7 or later; 0: as it is.
    """

    opset: int = 0
    ir_version: int = 0

    def __post_init__(self) -> None:
        if self.opset and self.opset < _OLDEST_OPSET:
            raise ValueError(f"opset is {self.opset}, must be 0 or at least {_OLDEST_OPSET}")
        if self.ir_version and self.ir_version < _OLDEST_IR:
            raise ValueError(f"ir_version is {self.ir_version}, must be 0 or at least {_OLDEST_IR}")


class LowerVersion:
    """Says the same in an older ONNX operator set and IR version; a file that is old enough stays as it is.

    Helps where a device's runtime is old: without it the file does not load there. It makes nothing faster, and
    operators that had to be written out in older ones (Gelu, Attention) may become slower.
    """

    name: ClassVar[str] = "lower_version"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = EXACT
    needs_calibration: ClassVar[bool] = False
    trains: ClassVar[bool] = False
    operators: ClassVar[frozenset[str]] = frozenset()
    yields: ClassVar[frozenset[str]] = frozenset()
    optional: ClassVar[bool] = False

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:  # noqa: ARG002
        """Write the network in the versions that were asked for.

        Raises:
            PassError: An operator or an element type cannot be had there; names it.
        """
        import onnx

        try:
            model, notes = self._lowered(onnx.load(source))
        except (RuntimeError, ValueError) as error:
            if isinstance(error, PassError):
                raise
            raise PassError(f"its operators cannot be written out: {' '.join(str(error).split())[:300]}.") from None
        onnx.save(model, destination)
        return PassReport(notes)

    def _lowered(self, model: Any) -> tuple[Any, tuple[str, ...]]:
        from edgeopt.passes.graphs.lowering import drop_unused_domains, lower_ir, lower_opset
        from edgeopt.passes.graphs.prepare import opset_of

        notes: tuple[str, ...] = ()
        before = opset_of(model)
        if self.options.opset and before > self.options.opset:
            model, written_out = lower_opset(model, self.options.opset)
            out = f" ({', '.join(written_out)} written out in older operators)" if written_out else ""
            notes += (f"opset {before} became {self.options.opset}{out}",)
        before = model.ir_version
        if self.options.ir_version and before > self.options.ir_version:
            model = lower_ir(model, self.options.ir_version)
            notes += (f"IR version {before} became {self.options.ir_version}",)
        drop_unused_domains(model)
        return model, notes
