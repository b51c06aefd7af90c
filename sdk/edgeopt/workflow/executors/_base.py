"""What an executor is: it takes orders, each of which makes one recipe and judges it, and gives promises of answers.

An order is plain data and files, so that it can be carried out in another process or on another computer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Protocol, TypeVar

from edgeopt import errors
from edgeopt.child import Progress
from edgeopt.core.recipe import Recipe
from edgeopt.documents import decode_json, encode_json
from edgeopt.errors import EdgeoptError
from edgeopt.graph.user_code import is_function
from edgeopt.passes.make import Made

T = TypeVar("T")

ATTEMPTS = 3
"""An order that took down its worker so often is not begun again."""


@dataclass(frozen=True)
class Repair:
    """That layers are to be given back to float, and what is known of the variant so far.

    Attributes:
        reference: The source model's metric on the evaluation samples.
        max_drop: Largest loss.
        made: The variant that loses more; ``None`` where its outputs were wrong.
        value: Its metric; ``None`` likewise.
    """

    reference: float
    max_drop: float
    made: Made | None = None
    value: float | None = None


@dataclass(frozen=True)
class Order:
    """One recipe to make and to judge.

    Attributes:
        recipe: What to do.
        files: By role: ``source``, ``golden`` and ``evaluation``; ``calibration``, ``trainable`` and ``training`` where
            there are any.
        cache: Folder for intermediate results; where the work is done on another computer, that one's own.
        metric: As for `evaluate_onnx`.
        machine: ``uname -m`` of the device.
        isa: Its ISA flags.
        seed: Of every random choice.
        loss: The user's loss; empty takes the one that fits the labels.
        repair: What to mend; ``None``: make the recipe as it is.
    """

    recipe: Recipe
    files: Mapping[str, Path]
    cache: Path
    metric: str
    machine: str
    isa: tuple[str, ...]
    seed: int = 0
    loss: str = ""
    repair: Repair | None = None


@dataclass(frozen=True)
class Answer:
    """What became of an order.

    Attributes:
        made: The file, readable on this computer, with what its passes said.
        value: Its metric.
        notes: What mending it had to say.
        ranking: Layers with their shares of the error, where mending ranked them.
    """

    made: Made
    value: float
    notes: tuple[str, ...] = ()
    ranking: tuple[tuple[str, float], ...] = ()


class Promise(Protocol):
    """An answer to come."""

    def result(self) -> Answer:
        """Wait for the answer.

        Raises:
            EdgeoptError: What went wrong with the order, as if it had been carried out here.
            ChildError: Its workers were lost, `ATTEMPTS` times.
        """


class Executor(Protocol):
    """Carries out orders. A worker that is lost loses none: the order is begun again, a bounded number of times."""

    @property
    def width(self) -> int:
        """How many orders are worth having under way at a time."""

    def submit(self, order: Order, on_progress: Progress | None = None) -> Promise:
        """Take an order; it may begin now or when its answer is asked for."""

    def close(self) -> None:
        """Give up all that is under way."""

    def __enter__(self: T) -> T:
        """The executor itself."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""


class Closing:
    """`with` for executors, by their `close`."""

    def close(self) -> None:
        """Nothing to give up."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def needs_this_computer(order: Order) -> bool:
    """Whether it uses files of the user's own, such as a metric in Python, which are on this computer alone."""
    options = [value for spec in order.recipe.passes for value in spec.options.values()]
    words = [word for word in (order.metric, order.loss, *options) if isinstance(word, str)]
    return any(is_function(word) or Path(word).is_file() for word in words if word)


def packed_error(error: EdgeoptError) -> str:
    """An error of ours as text that travels."""
    return encode_json({"class": error.code, "message": error.message, "remedy": error.remedy})


def raise_packed(text: str) -> NoReturn:
    """Raise what `packed_error` packed.

    Raises:
        EdgeoptError: Always.
    """
    said = decode_json(dict[str, str], text, where="the worker's error")
    raise getattr(errors, said["class"], EdgeoptError)(said["message"], remedy=said["remedy"])
