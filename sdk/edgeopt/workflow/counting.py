"""What a variant has to compute, also where its own file cannot be counted whole."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeopt.core.formats import ONNX
from edgeopt.core.recipe import Recipe
from edgeopt.core.work import Work
from edgeopt.graph.work import work_of
from edgeopt.passes.make import Made


def counted(recipe: Recipe, made: Made, source: Path) -> Work | None:
    """What a sample takes; ``None`` where nothing can be counted.

    A file of another format, or with operators of a runtime's own, takes what the ONNX file that it was made of does,
    with its own weights and operators; in 8 bits where the recipe says so.

    Args:
        recipe: How it was made.
        made: The file and those on the way to it.
        source: The unmodified network.
    """
    own = work_of(made.path) if made.format == ONNX else None
    if own is not None and not own.uncounted:
        return own
    earlier = (work for path in (*reversed(made.stages), source) if (work := work_of(path)) is not None)
    whole = next((work for work in earlier if not work.uncounted), None)
    if whole is None:
        return own
    if recipe.precision.startswith("int8"):
        whole = replace(whole, macs=0, narrow_macs=whole.macs + whole.narrow_macs)
    if own is None:
        return replace(whole, weight_bytes=made.path.stat().st_size)
    names = ("weight_bytes", "operators", "uncounted", "table_bytes")
    return replace(whole, **{name: getattr(own, name) for name in names})
