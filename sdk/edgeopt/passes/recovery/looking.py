"""What passes that repair a network have in common: samples to look at, and how many at once."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.training._outputs import demand_finite
from edgeopt.training.memory import Portions
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples


def calibration_of(context: PassContext, names: Sequence[str], most: int) -> Samples:
    """The first calibration samples.

    Args:
        context: Of the pass.
        names: The network's inputs, in order.
        most: How many at most.

    Raises:
        PassError: There are none.
        DataError: They do not fit the network's inputs.
    """
    if context.calibration is None:
        raise PassError("it measures on samples, and there are none.", remedy="Give --data data.py:samples.")
    samples = Samples(context.calibration, names)
    return samples.subset(range(min(most, len(samples))))


def batch_that_fits(network: nn.Module, samples: Samples, wanted: int) -> int:
    """How many samples can run at once: `wanted`, or 1 where the network takes only the batch of the file.

    Raises:
        PassError: The network does not run on the samples, or gives NaN or infinity.
    """
    demand_finite(network, samples.batch([0])[0], "the network's")
    return min(wanted, Portions(network, samples, TrainingOptions()).most)
