"""What an engine is: the device-side adapter of one inference runtime.

Base classes rather than a `Protocol`, which Python 3.6 does not have. Arrays are NumPy arrays by input or output name.
"""

from typing import Any, Callable, Dict, List, Optional

from edgeopt_runner.results import one_line


class EngineMissing(ImportError):
    """The runtime is not installed, cannot be imported, or has no engine here."""


class LoadFailed(ValueError):
    """The runtime refused the model. The message is the runtime's own, on one line."""


class RunFailed(RuntimeError):
    """The runtime failed while running a loaded model. The message is the runtime's own, on one line."""


class Session:
    """A loaded model.

    Attributes:
        inputs: Names of the inputs, in the model's order.
        outputs: Names of the outputs, in the model's order.
        rows: First dimension of all inputs and outputs: a number, 0 where any number of rows goes; ``None`` where they
            differ or the runtime does not say, so that requests can be neither joined nor split.
    """

    inputs: List[str] = []
    outputs: List[str] = []
    rows: Optional[int] = None

    def prepare(self, feeds: Dict[str, Any]) -> Callable[[], Any]:
        """A call without arguments that runs the model once on `feeds`, for timing.

        Everything that can be done beforehand is done here, so that the call costs no more than the runtime's own.
        Errors of the runtime pass through it unchanged.
        """
        raise NotImplementedError

    def run(self, feeds: Dict[str, Any]) -> Dict[str, Any]:
        """Outputs by name, in the model's order; as it stands for calls that give a list in the order of `outputs`.

        Raises:
            RunFailed: The runtime failed on these feeds.
        """
        call = self.prepare(feeds)
        try:
            return dict(zip(self.outputs, call()))
        except RunFailed:
            raise
        except Exception as error:  # runtimes raise anything, SystemError too
            raise RunFailed(self.said(error))

    def said(self, error: BaseException) -> str:
        """What the runtime said, on one line."""
        return message_of(error)

    def placement(self) -> Dict[str, int]:
        """Operators by where they run; empty where the runtime cannot tell without slowing the session down."""
        return {}

    def close(self) -> None:
        """Give the model's memory back; the session cannot be used afterwards."""
        raise NotImplementedError

    def require(self, feeds: Dict[str, Any]) -> None:
        """Refuse feeds that lack an input: several runtimes would take whatever lies in its memory.

        Raises:
            RunFailed: An input is missing.
        """
        missing = [name for name in self.inputs if name not in feeds]
        if missing:
            given = ", ".join(sorted(feeds)) or "none"
            raise RunFailed("input %s is missing; given: %s" % (", ".join(missing), given))


class Engine:
    """One inference runtime.

    Attributes:
        name: What settings call it, for example ``onnxruntime``.
    """

    name = ""

    def available(self) -> Optional[Dict[str, Any]]:
        """``{"version": str, "providers": [str]}``, or ``None`` where the runtime cannot be imported. Never raises."""
        raise NotImplementedError

    def load(self, path: str, settings: Dict[str, Any]) -> Session:
        """Load a model file.

        Args:
            path: The file.
            settings: The fields of `edgeopt.core.profile.Settings`; missing ones take its defaults.

        Raises:
            EngineMissing: The runtime cannot be imported.
            LoadFailed: The runtime refused the file.
        """
        raise NotImplementedError


def message_of(error: BaseException) -> str:
    """A runtime's exception in its own words, on one line; its class where it has none."""
    return one_line(str(error)) or type(error).__name__
