"""The optimisers that a training can use, with weight decay where it belongs."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from edgeopt.training.options import TrainingOptions

_BUILDERS: dict[str, Callable[[list[dict[str, Any]], TrainingOptions], torch.optim.Optimizer]] = {
    # Robbins, Monro: A Stochastic Approximation Method, 1951
    "sgd": lambda groups, options: torch.optim.SGD(groups, lr=options.learning_rate),
    # Sutskever, Martens, Dahl, Hinton: On the importance of initialization and momentum, 2013, eq. 3 and 4 (Nesterov)
    "momentum": lambda groups, options: torch.optim.SGD(
        groups, lr=options.learning_rate, momentum=options.momentum, nesterov=options.momentum > 0
    ),
    # Tieleman, Hinton: Lecture 6.5, 2012
    "rmsprop": lambda groups, options: torch.optim.RMSprop(groups, lr=options.learning_rate, momentum=options.momentum),
    # Kingma, Ba: Adam, 2015, algorithm 1
    "adam": lambda groups, options: torch.optim.Adam(groups, lr=options.learning_rate),
    # Loshchilov, Hutter: Decoupled Weight Decay Regularization, 2019, algorithm 2
    "adamw": lambda groups, options: torch.optim.AdamW(groups, lr=options.learning_rate),
}


def build_optimiser(parameters: Iterable[nn.Parameter], options: TrainingOptions) -> torch.optim.Optimizer:
    """An optimiser for those parameters that are not frozen.

    Biases and the scales of normalisation do not decay (He et al.: Bag of Tricks for Image Classification with
    Convolutional Neural Networks, 2019, §3.1).
    """
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    groups = [
        {"params": [tensor for tensor in trained if tensor.ndim >= 2], "weight_decay": options.weight_decay},
        {"params": [tensor for tensor in trained if tensor.ndim < 2], "weight_decay": 0.0},
    ]
    return _BUILDERS[options.optimiser]([group for group in groups if group["params"]], options)
