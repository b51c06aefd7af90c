"""A class of hardware: what it can run, its limits, and the recipes to try there in order."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.core.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """How a runtime runs a variant; the choice ranges over these too.

    Attributes:
        runtime: Engine name.
        threads: Intra-op threads.
        graph_optimisation: ``disabled``, ``basic``, ``extended`` or ``all``.
        spinning: Whether idle worker threads spin (best for back-to-back load, worst for a shared board).
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    graph_optimisation: str = "all"
    spinning: bool = True

    def __str__(self) -> str:
        """Short name, different for different settings: what is not the default is named."""
        parts = [f"{self.threads} thread{'s' if self.threads != 1 else ''}"]
        parts += [self.graph_optimisation] * (self.graph_optimisation != "all")
        parts += ["no spinning"] * (not self.spinning) + [self.runtime] * (self.runtime != "onnxruntime")
        return " ".join(parts)


@dataclass(frozen=True)
class Profile:
    """A hardware profile (`profiles/*.yaml`).

    Attributes:
        name: For example ``x86-avx2``.
        target: Entry-point name of the target that serves it (``x86``).
        description: One line.
        machine: ``uname -m`` it applies to.
        isa_all: Flags that a device must have to match.
        isa_any: Flags of which it must have at least one; empty: none is asked.
        isa_none: Flags that it must not have.
        runtimes: Engines that may run there, best guess first.
        precisions: Precisions worth trying.
        recipes: What to try, in order; the original is always tried and never listed.
        threads: Thread counts to try: numbers, or ``physical`` / ``logical``.
        graph_optimisation: Levels to try on finalists.
        max_start_celsius: A measurement waits for this temperature.
        source: Where the facts come from.
    """

    name: str
    target: str
    description: str
    machine: tuple[str, ...]
    isa_all: tuple[str, ...] = ()
    isa_any: tuple[str, ...] = ()
    isa_none: tuple[str, ...] = ()
    runtimes: tuple[str, ...] = ("onnxruntime",)
    precisions: tuple[str, ...] = ("float32",)
    recipes: tuple[Recipe, ...] = ()
    threads: tuple[int | str, ...] = (1, "physical")
    graph_optimisation: tuple[str, ...] = ("all",)
    max_start_celsius: float = 70.0
    source: str = ""
