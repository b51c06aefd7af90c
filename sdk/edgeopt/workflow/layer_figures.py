"""What making the variants told of single layers, for the report; nothing is ranked or measured for it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from edgeopt.core.layers import LayerFigures
from edgeopt.core.recipe import Recipe
from edgeopt.errors import ChildError, PassError
from edgeopt.passes.recover import known_ranking
from edgeopt.workflow.making import Maker, trains


def layer_figures(maker: Maker, recipes: Sequence[Recipe], times: Mapping[str, float]) -> tuple[LayerFigures, ...]:
    """Sensitivities by falling share, then layers that only have a time.

    Args:
        maker: What made the recipes.
        recipes: The ranking of the first that has one is taken: layers lead alike under all of them.
        times: Milliseconds of layers, by name.
    """
    shares = next((dict(found) for recipe in recipes if (found := _ranking(maker, recipe))), {})
    names = dict.fromkeys((*shares, *times))
    return tuple(LayerFigures(name, shares.get(name), times.get(name)) for name in names)


def _ranking(maker: Maker, recipe: Recipe) -> list[tuple[str, float]] | None:
    if not recipe.recover or not maker.calibrated or trains(recipe):
        return None
    try:
        return known_ranking(maker.source, recipe, maker.context)
    except (PassError, ChildError):
        return None
