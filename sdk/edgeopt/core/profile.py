"""A class of hardware: what it can run, its limits, and the recipes to try there in order."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from edgeopt.core.recipe import Recipe


@dataclass(frozen=True)
class Settings:
    """How a runtime runs a variant; the choice ranges over these too.

    Attributes:
        runtime: Engine name.
        threads: Intra-op threads.
        graph_optimisation: ``disabled``, ``basic``, ``extended`` or ``all``.
        spinning: Whether idle worker threads spin (best for back-to-back load, worst for a shared board).
        inter_op: Inter-op threads; above 1 independent branches of the graph run at once.
        sessions: Copies of the model that serve at once, each with its own threads: several requests are answered at a
            time, and one of several samples is split over them.
        batch: Samples in one request, whose outputs come back in their order.
        precision: What the runtime computes a float network in, where it can be told: ``float32``, ``bfloat16``,
            ``float16`` (TensorRT also ``tf32``); empty: float32.
        provider: Where the runtime runs it: one of the providers that the probe found, a delegate's library
            (``libedgetpu.so.1``) or ``dla0``; empty: the runtime's own way, on the CPU but for TensorRT.
    """

    runtime: str = "onnxruntime"
    threads: int = 1
    graph_optimisation: str = "all"
    spinning: bool = True
    inter_op: int = 1
    sessions: int = 1
    batch: int = 1
    precision: str = ""
    provider: str = ""

    @property
    def busy_threads(self) -> int:
        """Threads that compute at once when every session is busy."""
        return self.sessions * max(self.threads, self.inter_op)

    def document(self) -> dict[str, str | int | bool]:
        """Fields by name, as jobs and keys have them.

        Those that came later (`LATER`) are left out at their defaults, so that keys stay what they were and a runner
        that does not know them is asked for nothing new.
        """
        fields = asdict(self)
        return {name: value for name, value in fields.items() if name not in LATER or value != LATER[name]}

    def __str__(self) -> str:
        """Short name, different for different settings: what is not the default is named."""
        parts = [f"{self.threads} thread{'s' if self.threads != 1 else ''}"]
        parts += [f"{self.inter_op} inter-op"] * (self.inter_op != 1)
        parts += [f"{self.sessions} sessions"] * (self.sessions != 1) + [f"batch {self.batch}"] * (self.batch != 1)
        parts += [part for part in (self.precision, self.provider) if part]
        parts += [self.graph_optimisation] * (self.graph_optimisation != "all")
        parts += ["no spinning"] * (not self.spinning) + [self.runtime] * (self.runtime != "onnxruntime")
        return " ".join(parts)


LATER = {"inter_op": 1, "sessions": 1, "batch": 1, "precision": "", "provider": ""}
"""Settings that jobs and keys name only where they differ from this."""


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
        sessions: Numbers of sessions to try, with each thread count that leaves every one its CPUs.
        inter_op: Inter-op threads to try on finalists.
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
    sessions: tuple[int, ...] = (1,)
    inter_op: tuple[int, ...] = (1,)
    max_start_celsius: float = 70.0
    source: str = ""
