"""Every exception that edgeopt raises on purpose: one tree, each class also the built-in it resembles.

Each carries what happened, the offending value and what to do, plus the exit code that the command line returns
(design §2): 2 the user can fix it, 3 no variant meets the budget or other people have to sign, 4 a device failed.
"""

from __future__ import annotations

EXIT_DONE = 0
EXIT_USER = 2
EXIT_BUDGET = 3
EXIT_WAITS = 3
EXIT_DEVICE = 4


class EdgeoptError(Exception):
    """Base of all errors of edgeopt.

    Args:
        message: What happened, with the offending value, in one line.
        remedy: What the user can do about it, in one line; may be empty.
    """

    exit_code = EXIT_USER
    retryable = False

    def __init__(self, message: str, *, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy

    @property
    def code(self) -> str:
        """Stable machine-readable name, for `--json`: the class name."""
        return type(self).__name__

    def __str__(self) -> str:
        stop = "" if self.message[-1:] in ("", ".", "!", "?", ":") else "."
        return f"{self.message}{stop} {self.remedy}".strip() if self.remedy else self.message


class UsageError(EdgeoptError, ValueError):
    """A command-line option or an argument of the API has a value that cannot be used."""


class DocumentError(EdgeoptError, ValueError):
    """A YAML or JSON file of the user (inventory, profile, edgeopt.yaml) does not parse or does not fit its schema."""


class ModelError(EdgeoptError, ValueError):
    """The source network cannot be read, exported or checked."""


class DataError(EdgeoptError, ValueError):
    """Calibration or evaluation data does not fit the model's inputs, or a metric cannot be computed from it."""


class PassError(EdgeoptError, RuntimeError):
    """A pass failed or its result is not valid. Drops one variant, never the run."""


class ParityError(PassError):
    """A pass changed the outputs more than its kind may."""


class ChildError(EdgeoptError, RuntimeError):
    """A child process crashed, ran past its deadline or exited without the file it had to make.

    Attributes:
        status: ``crash:<signal>``, ``exit:<code>``, ``timeout`` or ``no_result``.
    """

    def __init__(self, message: str, *, remedy: str = "", status: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class ToolError(EdgeoptError, RuntimeError):
    """The environment that a tool needs on this computer (a converter, an exporter) cannot be made."""


class StoreError(EdgeoptError, OSError):
    """The artifact store or the ledger cannot be read or written."""


class SigningError(EdgeoptError, ValueError):
    """A key is missing or locked, or signed metadata is missing, expired, damaged or signed by too few."""


class BudgetError(EdgeoptError):
    """No variant meets the budget. The run is whole and the best so far is on disk."""

    exit_code = EXIT_BUDGET


class DeviceError(EdgeoptError):
    """A device could not be reached, or failed at something it was asked to do."""

    exit_code = EXIT_DEVICE


class UnknownDeviceError(DeviceError, LookupError):
    """`--target` names no device, profile or host that we know."""

    exit_code = EXIT_USER


class ConnectError(DeviceError, ConnectionError):
    """No connection could be made (name, route, refused, banner, key exchange)."""

    retryable = True


class LinkLostError(DeviceError, ConnectionError):
    """An open connection went away or fell silent: what runs on the device is *unknown*, not failed."""

    retryable = True


class DeadlineError(LinkLostError, TimeoutError):
    """A call to the device ran past its deadline."""


class AuthenticationError(DeviceError, PermissionError):
    """The device refused every key that we offered."""

    exit_code = EXIT_USER


class UnknownHostKeyError(DeviceError, PermissionError):
    """The device's host key is not pinned yet."""

    exit_code = EXIT_USER


class ChangedHostKeyError(DeviceError, PermissionError):
    """The device's host key differs from the pinned one: a hard stop."""

    exit_code = EXIT_USER


class RemoteDiskError(DeviceError, OSError):
    """The device's disk is full, read-only or not writable for us."""


class ProtocolError(DeviceError, ValueError):
    """The device said something that is not the protocol (noise, a bad checksum, an unexpected shape or size)."""


class RunnerError(DeviceError, RuntimeError):
    """The runner answered a request with an error.

    Attributes:
        status: The runner's error code (`edgeopt_runner.protocol`), for example ``busy`` or ``runtime_missing``.
    """

    def __init__(self, message: str, *, remedy: str = "", status: str = "") -> None:
        super().__init__(message, remedy=remedy)
        self.status = status


class BusyError(RunnerError):
    """Another owner holds the lease of the device."""

    retryable = True


class RolloutBusyError(EdgeoptError, RuntimeError):
    """Somebody else drives a rollout of the app, or has taken this one over."""


class ProvisionError(DeviceError, RuntimeError):
    """The device cannot be given the runtime: no wheel for it, no room, or its Python refuses."""
