"""Selection of features: the network reads the input channels that matter and no longer the others.

Sources: Guyon, Elisseeff: An Introduction to Variable and Feature Selection, 2003, §4 (embedded methods, importance by
what the trained network makes of a variable); Molchanov et al.: Importance Estimation for Neural Network Pruning, 2019,
eq. 8 (``taylor``). The mean of what is left out goes into the bias, so that a constant feature costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Literal

from edgeopt.passes._base import Pass, PassContext, PassReport


@dataclass(frozen=True)
class Options:
    """Options of `select_features`.

    Attributes:
        ratio: Share of the features to keep, above 0 and below 1.
        count: Features to keep; 0 goes by `ratio`.
        importance: ``weight`` (norm of a feature's weights times its spread on calibration) or ``taylor`` (gradients).
        input: Name of the input; may be left empty where there is one.
    """

    ratio: float = 0.5
    count: int = 0
    importance: Literal["weight", "taylor"] = "weight"
    input: str = ""

    def __post_init__(self) -> None:
        if not 0 < self.ratio < 1:
            raise ValueError(f"ratio is {self.ratio}, must be above 0 and below 1")
        if self.count < 0:
            raise ValueError(f"count is {self.count}, must not be negative")


class SelectFeatures(Pass):
    """Makes the network ignore the input features (channels) that matter least; it is fed the same arrays as before.
    Helps where a first layer reads many features (sensors, spectra, flattened pictures) of which some say nothing, and
    tells which; three colour channels leave nothing to win.
    """

    name: ClassVar[str] = "select_features"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0
    needs_calibration: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    operators: ClassVar[frozenset[str]] = frozenset({"Conv", "Gemm", "MatMul", "LSTM", "GRU", "RNN"})
    yields: ClassVar[frozenset[str]] = frozenset({"Gather"})

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Write the network with a Gather in front of its first layers.

        Raises:
            PassError: No calibration inputs, no such input, an input that no layer reads by features, or more features
                to keep than there are.
            ModelError: The network cannot be imported; names the operator.
            DataError: Samples that do not fit.
        """
        from edgeopt.graph.torch_export import export_onnx
        from edgeopt.graph.torch_import import import_onnx
        from edgeopt.passes.pruning.features import select

        network = import_onnx(source)
        notes = select(network, self.options, context)
        export_onnx(network, like=source, destination=destination)
        return PassReport(notes=notes)
