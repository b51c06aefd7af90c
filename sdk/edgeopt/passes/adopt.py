"""Takes a file that another tool made as the result, so that it competes under the same rules.

No algorithm, hence no source: signature, parity and accuracy are checked like those of any variant.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from edgeopt.errors import PassError
from edgeopt.passes._base import Pass, PassContext, PassReport
from edgeopt.passes._files import file_digest


@dataclass(frozen=True)
class Options:
    """Options of `adopt`.

    Attributes:
        path: The ONNX file.
        digest: Its SHA-256, so that what is measured is the file that was meant; empty takes any.
    """

    path: str = ""
    digest: str = ""


class Adopt(Pass):
    """Takes an ONNX file of yours as it is. Holds another tool's result against ours; changes nothing itself."""

    name: ClassVar[str] = "adopt"
    options_class: ClassVar[type[Options]] = Options
    min_cosine: ClassVar[float] = -1.0

    def __init__(self, options: Options) -> None:
        self.options = options

    def apply(self, source: Path, destination: Path, context: PassContext) -> PassReport:
        """Copy the file after a look at its inputs and outputs.

        Raises:
            PassError: There is no such file, it changed, or its inputs and outputs are not the network's.
        """
        path = Path(self.options.path)
        if not path.is_file():
            raise PassError(
                f"there is no file {self.options.path!r} to adopt.", remedy="Give the path of an ONNX file."
            )
        if context.keep_float:
            raise PassError(f"{path} is taken as it is: {context.keep_float[0]} cannot be kept in float.")
        if self.options.digest and file_digest(path) != self.options.digest:
            raise PassError(f"{path} changed while it was worked with.", remedy="Run the same command again.")
        ours, theirs = _names(source), _names(path)
        if ours != theirs:
            raise PassError(
                f"{path} takes {', '.join(theirs[0])} and gives {', '.join(theirs[1])}; the network takes "
                f"{', '.join(ours[0])} and gives {', '.join(ours[1])}.",
                remedy="Rename its inputs and outputs to the network's.",
            )
        shutil.copyfile(path, destination)
        return PassReport()


def _names(path: Path) -> tuple[list[str], list[str]]:
    """Names of the inputs (sorted, those with weights left out) and of the outputs (in order)."""
    import onnx

    try:
        graph = onnx.load(path, load_external_data=False).graph
    except Exception as error:  # protobuf's own DecodeError, which is no public class
        raise PassError(f"{path} cannot be read as ONNX ({type(error).__name__}).") from None
    weights = {tensor.name for tensor in graph.initializer}
    inputs = sorted(value.name for value in graph.input if value.name not in weights)
    return inputs, [value.name for value in graph.output]
