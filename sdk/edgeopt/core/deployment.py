"""A variant placed on a device, active, with a way back."""

from __future__ import annotations

from dataclasses import dataclass

from edgeopt.core.profile import Settings


@dataclass(frozen=True)
class Deployment:
    """What an app on a device runs.

    Attributes:
        app: Name that applications load it by.
        device: Name of the device.
        release: Number of the active release on that device.
        previous: Number of the release to go back to, or ``None``.
        variant_digest: The file.
        settings: How it is run.
        healthy: Whether its health check passed on the device.
        detail: One sentence on what the health check found.
    """

    app: str
    device: str
    release: int
    previous: int | None
    variant_digest: str
    settings: Settings
    healthy: bool
    detail: str = ""
