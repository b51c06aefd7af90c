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
    """

    opset: int
    ir_version: int
    operators: Mapping[str, int]
    calibrated: bool = True


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
