"""What of a model file must be sent when the board has an older one."""

from edgeopt.deltas.best import Patch, best_patch
from edgeopt.deltas.making import PatchReport, make_patch
from edgeopt.deltas.ranges import TensorRange, ranges

__all__ = ["Patch", "PatchReport", "TensorRange", "best_patch", "make_patch", "ranges"]
