"""Parts of a network's depth: which of them each group of channels belongs to, and what is kept where each has a share.

Source: Tan, Le: EfficientNet, 2019, §3.2, and Cai, Gan, Wang, Zhang, Han: Once-for-All, 2020, §3.2, for widths that are
chosen stage by stage; the stages are found in the network instead of being given by its template.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from edgeopt.passes.pruning.channels import Group
from edgeopt.passes.pruning.widths import Choice, Limits


def parts_of(network: nn.Module, inputs: tuple[Tensor, ...], groups: Sequence[Group], count: int) -> list[int]:
    """The part of the depth, 0 to `count` - 1, of each group.

    Parts have equally many groups, in the order in which the first layer of each runs; where there are fewer groups
    than parts, those in the middle stay empty.

    Args:
        network: In evaluation mode.
        inputs: What it runs on.
        groups: All that can be pruned.
        count: Of parts.
    """
    order: dict[str, int] = {}

    def note(path: str) -> Callable[..., None]:
        def hook(*_: object) -> None:
            order.setdefault(path, len(order))

        return hook

    layers = sorted({layer for group in groups for layer in group.layers})
    hooks = [network.get_submodule(layer).register_forward_hook(note(layer)) for layer in layers]
    try:
        with torch.no_grad():
            network(*inputs)
    finally:
        for hook in hooks:
            hook.remove()
    begins = [min(order.get(layer, len(order)) for layer in group.layers) for group in groups]
    ranks = {index: rank for rank, index in enumerate(sorted(range(len(groups)), key=begins.__getitem__))}
    return [(2 * ranks[index] + 1) * count // (2 * len(groups)) for index in range(len(groups))]


def kept_by_parts(
    groups: Sequence[Group], scores: Sequence[Tensor], limits: Limits, parts: Sequence[int], removed: Sequence[float]
) -> list[int]:
    """Units that each group keeps where a share of the units of each part goes, by importance within the part.

    Args:
        groups: All that can be pruned.
        scores: [units] for each.
        limits: For all parts.
        parts: Of each group, see `parts_of`.
        removed: Share to remove from each part; 0 leaves its groups as they are, whatever widths are rounded to.
    """
    kept = [group.units for group in groups]
    for part, share in enumerate(removed):
        inside = [index for index in range(len(groups)) if parts[index] == part]
        if share and inside:
            choice = Choice([groups[index] for index in inside], [scores[index] for index in inside], limits)
            for index, units in zip(inside, choice.by_ratio(share), strict=True):
                kept[index] = units
    return kept
