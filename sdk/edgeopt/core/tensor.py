"""What goes into a network and what comes out: names, element types and shapes."""

from __future__ import annotations

from dataclasses import dataclass

Dimension = int | None
"""A fixed size, or ``None`` for a dynamic one."""


@dataclass(frozen=True)
class TensorSpec:
    """One input or output.

    Attributes:
        name: Name in the graph.
        dtype: NumPy name of the element type, for example ``float32``.
        shape: Sizes; ``None`` is a dynamic dimension.
    """

    name: str
    dtype: str
    shape: tuple[Dimension, ...]

    @property
    def dynamic_batch(self) -> bool:
        """Whether the leading dimension is dynamic."""
        return bool(self.shape) and self.shape[0] is None

    def __str__(self) -> str:
        sizes = ",".join("?" if size is None else str(size) for size in self.shape)
        return f"{self.name}: {self.dtype}[{sizes}]"


@dataclass(frozen=True)
class Signature:
    """All inputs and outputs, in the order of the graph."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def dynamic_batch(self) -> bool:
        """Whether every input has a dynamic leading dimension."""
        return bool(self.inputs) and all(spec.dynamic_batch for spec in self.inputs)
