"""What the runner answers instead of a result: a code, a message and a remedy."""

import errno

from edgeopt_runner.protocol import DISK_FULL, ERROR, READ_ONLY

_DISK = (errno.ENOSPC, errno.EDQUOT)
_WRITE = (errno.EROFS, errno.EACCES, errno.EPERM)


class Refusal(Exception):
    """A request or a job that cannot be served.

    Args:
        code: One of the codes of `edgeopt_runner.protocol`.
        message: What happened, with the value, in one line.
        remedy: What to do about it, in one line; may be empty.
    """

    def __init__(self, code: str, message: str, remedy: str = "") -> None:
        super(Refusal, self).__init__(message)
        self.code = code
        self.message = message
        self.remedy = remedy

    @property
    def sentences(self) -> str:
        """Message and remedy as people read them, with a full stop between."""
        stop = "." if self.message[-1:] not in ("", ".", "!", "?", ":") else ""
        return "%s%s %s" % (self.message, stop, self.remedy) if self.remedy else self.message


def refusal_of(error: BaseException) -> Refusal:
    """The refusal that tells of any exception: full and read-only disks by their own codes, the rest as ``error``."""
    if isinstance(error, Refusal):
        return error
    if isinstance(error, OSError) and error.errno in _DISK:
        return Refusal(DISK_FULL, "no space left on the device: %s" % error, "Free some space or choose another root.")
    if isinstance(error, OSError) and error.errno in _WRITE:
        return Refusal(READ_ONLY, "cannot write on the device: %s" % error, "Choose a root that this login may write.")
    return Refusal(ERROR, "%s: %s" % (type(error).__name__, error))
