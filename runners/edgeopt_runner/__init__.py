"""The runner: what edgeopt pushes to a board. Standard library only, Python >= 3.6; never imports edgeopt."""

from typing import TYPE_CHECKING, Optional

from edgeopt_runner.protocol import RUNNER_VERSION as __version__

if TYPE_CHECKING:
    from edgeopt_runner.application import Application


def load(name: str, root: Optional[str] = None) -> "Application":
    """Load the active model of an app on this board; see `edgeopt_runner.application.load`."""
    from edgeopt_runner import application

    return application.load(name, root)


__all__ = ["__version__", "load"]
