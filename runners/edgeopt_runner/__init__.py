"""The runner: what edgeopt pushes to a board. Standard library only, Python >= 3.6; never imports edgeopt."""

from edgeopt_runner.protocol import RUNNER_VERSION as __version__

__all__ = ["__version__"]
