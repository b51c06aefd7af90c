"""What a target is: a kind of hardware, which recipes can work there, and the settings to try."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Protocol

from edgeopt.core.device import DeviceFacts
from edgeopt.core.profile import Profile, Settings
from edgeopt.core.recipe import Recipe


@dataclass(frozen=True)
class ModelFacts:
    """What rules want to know about a network.

    Attributes:
        opset: Version of the default operator set.
        ir_version: Version of ONNX's own format.
        operators: How many nodes of each kind.
        calibrated: Whether there are calibration samples.
        size_bytes: Length of the file, nearly all of it weights; 0: not known.
        format: Format of the file: ``onnx``, ``tflite``.
    """

    opset: int
    ir_version: int
    operators: Mapping[str, int]
    calibrated: bool = True
    size_bytes: int = 0
    format: str = "onnx"


class Target(Protocol):
    """Knows one kind of hardware; opens no file and reaches no device.

    Attributes:
        name: Entry-point name, as profiles give it.
    """

    name: ClassVar[str]

    def matches(self, profile: Profile, facts: DeviceFacts) -> bool:
        """Whether a device is of the class that `profile` describes."""
        ...

    def recipes(self, profile: Profile, facts: DeviceFacts) -> tuple[Recipe, ...]:
        """The profile's recipes in order, with every option that depends on the device written out."""
        ...

    def rules(self, profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> str | None:
        """Why `recipe` cannot work for this network on this device, in one sentence; ``None``: it can.

        The sentence ends with the rule and its source in brackets where the target has them.

        Raises:
            PassError: The recipe names a pass that is not installed, or gives it bad options.
        """
        ...

    def runtimes(self, profile: Profile, facts: DeviceFacts, model: ModelFacts, recipe: Recipe) -> tuple[str, ...]:
        """Engines of the device that may run what `recipe` makes, best guess first; none where `rules` object.

        Raises:
            PassError: The recipe names a pass that is not installed, or gives it bad options.
        """
        ...

    def settings(self, profile: Profile, facts: DeviceFacts) -> tuple[Settings, ...]:
        """What every variant is measured with, best guess first."""
        ...

    def variations(self, profile: Profile, settings: Settings) -> tuple[Settings, ...]:
        """Further settings worth trying with finalists: those that seldom matter."""
        ...
