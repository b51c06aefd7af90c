"""How much of a batch goes through the network at once: less where memory runs out or the network takes one size."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from edgeopt.errors import PassError
from edgeopt.training.batches import Indices
from edgeopt.training.losses import first_output
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples

_SPOKEN = ("can't allocate memory", "not enough memory", "out of memory")


class Portions:
    """Cuts batches; gradients of the portions add up to the batch's.

    Args:
        network: Tried on one and on two samples.
        samples: At least one.
        options: Device and processes.

    Attributes:
        most: Samples that go through the network at once.

    Raises:
        PassError: The network does not run on the samples.
    """

    def __init__(self, network: nn.Module, samples: Samples, options: TrainingOptions) -> None:
        self.most = 1 << 30
        self._fixed: tuple[str, ...] = ()
        self._halved: tuple[str, ...] = ()
        self._largest = 1
        self._alone = options.processes == 1
        if not _joins(network, samples, options.device):
            self.most = 1
            self._fixed = (
                f"the network takes batches of {samples.rows} only: samples went through it one by one, and the "
                "statistics of normalisation stayed as they were",
            )

    @property
    def single(self) -> bool:
        """Whether samples go through the network one by one: too few for statistics over a batch."""
        return self.most < 2

    def of(self, batch: Indices) -> Iterator[Indices]:
        """The portions of a batch, which may be empty."""
        if len(batch):
            self._largest = min(self.most, len(batch))
            yield from np.array_split(batch, -(-len(batch) // self.most))

    def retry(self, action: Callable[[], float]) -> float:
        """Run `action`; where memory runs out, halve the portions and run it again.

        Raises:
            PassError: One sample at a time does not fit either, or several processes train, who cannot differ.
        """
        while True:
            try:
                return action()
            except (MemoryError, RuntimeError) as error:
                if not _is_memory(error):
                    raise
                if self._largest < 2 or not self._alone:
                    remedy = "Lower batch_size, or set processes to 1."
                    if self._alone:
                        remedy = "Train on a machine with more memory, or on smaller inputs."
                    raise _too_much(self._largest, remedy) from None
                self.most = self._largest // 2
            self._halved = (f"memory ran out: batches went through the network {self.most} samples at a time",)

    @property
    def notes(self) -> tuple[str, ...]:
        """For the user."""
        return (*self._fixed, *self._halved)


def _is_memory(error: Exception) -> bool:
    """Torch has a class for a GPU's memory alone; the CPU's allocator raises a RuntimeError that says so."""
    known = isinstance(error, (MemoryError, torch.OutOfMemoryError))
    return known or any(words in str(error).lower() for words in _SPOKEN)


def _too_much(count: int, remedy: str) -> PassError:
    many = "one sample" if count == 1 else f"{count} samples"
    return PassError(f"memory ran out in training with {many} at once.", remedy=remedy)


def _joins(network: nn.Module, samples: Samples, device: str) -> bool:
    """Whether two samples at once give the outputs of each alone.

    Raises:
        PassError: The network does not run on one sample.
    """
    if len(samples) < 2:
        return True
    network.eval()
    try:
        first, second = (_output(network, samples, [place], device) for place in (0, 1))
    except (RuntimeError, TypeError, IndexError, MemoryError) as error:
        if _is_memory(error):
            raise _too_much(1, "Train on a machine with more memory, or on smaller inputs.") from None
        text = " ".join(str(error).split())[:200]
        raise PassError(
            f"the network does not run on the training samples: {text}.",
            remedy="Check that shapes and types of the samples are those of the network's inputs.",
        ) from None
    try:
        both = _output(network, samples, [0, 1], device)
    except (RuntimeError, MemoryError) as error:
        return _is_memory(error)  # then `Portions.retry` finds what fits
    apart = torch.cat([first, second])
    return both.shape == apart.shape and bool(
        torch.allclose(both, apart, rtol=1e-2, atol=1e-3 * float(apart.abs().max()))
    )


def _output(network: nn.Module, samples: Samples, places: list[int], device: str) -> Tensor:
    inputs, _ = samples.batch(np.array(places))
    with torch.no_grad():
        return first_output(network(*(tensor.to(device) for tensor in inputs))).double()
