"""What a program on the board uses: the active model of an app, loaded once, steady while releases change under it.

    import edgeopt_runner
    model = edgeopt_runner.load("digits")
    outputs = model({"x": array})

The release's folder is opened once and everything is read through that descriptor: reading manifest and model by path
mixes two releases when `current` is switched in between.
"""

import fcntl
import hashlib
import json
import os
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional

from edgeopt_runner.refusals import Refusal
from edgeopt_runner.storage import app_folder, expand

if TYPE_CHECKING:
    from edgeopt_runner.engines import Session

_ATTEMPTS = 100
_BLOCK_BYTES = 1 << 20


class ApplicationError(RuntimeError):
    """The model cannot be had: no such app, a damaged release, or a runtime that this interpreter lacks."""


def default_root() -> str:
    """`$EDGEOPT_ROOT`, else `~/.edgeopt`."""
    return expand(os.environ.get("EDGEOPT_ROOT") or "~/.edgeopt")


class HeldRelease:
    """A release that stays whole on disk until `close`, whatever is activated meanwhile.

    Attributes:
        number: Its number.
        manifest: What it says about itself.
        path: Its folder, through the open descriptor.
    """

    def __init__(self, folder: int, lock: int) -> None:
        self._folder, self._lock = folder, lock
        self.path = "/proc/self/fd/%d" % folder
        with open(os.path.join(self.path, "manifest.json"), encoding="utf-8") as stream:
            self.manifest = json.load(stream)  # type: Dict[str, Any]
        self.number = int(self.manifest["release"])

    def file(self, role: str) -> str:
        """The path of a file, ``model`` or ``golden``, checked against the manifest.

        Raises:
            ApplicationError: Its digest differs.
        """
        entry = self.manifest["files"][role]
        path = os.path.join(self.path, entry["name"])
        digest = hashlib.sha256()
        with open(path, "rb", buffering=0) as stream:
            for block in iter(lambda: stream.read(_BLOCK_BYTES), b""):
                digest.update(block)
        if digest.hexdigest() != entry["sha256"]:
            text = "%s of release %d is damaged: its digest is %s, not %s. Deploy it again or roll back."
            raise ApplicationError(text % (entry["name"], self.number, digest.hexdigest()[:12], entry["sha256"][:12]))
        return path

    def is_at(self, link: str) -> bool:
        """Whether a link leads to this release."""
        ours, theirs = os.fstat(self._folder), os.stat(link)
        return (ours.st_dev, ours.st_ino) == (theirs.st_dev, theirs.st_ino)

    def close(self) -> None:
        """Let go of the release."""
        for descriptor in (self._lock, self._folder):
            if descriptor >= 0:
                os.close(descriptor)
        self._lock = self._folder = -1


def hold(link: str) -> HeldRelease:
    """Open the release that `link` leads to and keep it from being deleted.

    Raises:
        FileNotFoundError: There is no such link.
        ApplicationError: It never held still.
    """
    for _ in range(_ATTEMPTS):
        folder = os.open(link, os.O_RDONLY | os.O_DIRECTORY)
        try:
            held = _hold_folder(folder)
        except (FileNotFoundError, BlockingIOError):
            held = None  # it was replaced and is being deleted: the link leads elsewhere by now
        except ValueError as error:
            os.close(folder)
            raise ApplicationError("%s has no readable manifest: %s. Deploy it again." % (link, error))
        if held is not None:
            return held
        os.close(folder)
    raise ApplicationError("%s changes faster than it can be opened." % link)


def _hold_folder(folder: int) -> Optional[HeldRelease]:
    """Lock the release in an open folder; `None` where it is deleted already."""
    lock = os.open(".inuse", os.O_RDONLY, dir_fd=folder)
    try:
        fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        if os.fstat(lock).st_nlink:
            return HeldRelease(folder, lock)
    except BaseException:
        os.close(lock)
        raise
    os.close(lock)
    return None


class Application:
    """The active model of an app; call it with inputs by name. Threads may share it: calls take turns.

    Args:
        held: The release; closed with this object.
        link: The `current` link it came from.
        session: The loaded model.
    """

    def __init__(self, held: HeldRelease, link: str, session: "Session") -> None:
        self._held, self._link, self._session = held, link, session
        self._turn = threading.Lock()
        self.manifest = held.manifest

    @property
    def release(self) -> int:
        """Number of the release that runs here."""
        return self._held.number

    def __call__(self, inputs: Dict[str, Any]) -> Dict[str, Any]:
        """Run the model.

        Args:
            inputs: NumPy arrays by input name, in the shapes and types of the model.

        Returns:
            Arrays by output name.

        Raises:
            ValueError: Names differ from the model's.
        """
        if set(inputs) != set(self._session.inputs):
            wanted, given = ", ".join(self._session.inputs), ", ".join(map(str, inputs))
            raise ValueError("the model takes the inputs %s, not %s" % (wanted, given or "none"))
        with self._turn:
            return self._session.run(inputs)

    def changed(self) -> bool:
        """Whether another release is active by now; `load` again to take it."""
        try:
            return not self._held.is_at(self._link)
        except FileNotFoundError:
            return True

    def close(self) -> None:
        """Give memory and the release back."""
        self._session.close()
        self._held.close()

    def __enter__(self) -> "Application":
        return self

    def __exit__(self, *_: Any) -> None:
        self.close()


def load(name: str, root: Optional[str] = None) -> Application:
    """Load the active model of an app.

    Args:
        name: The app, as it was deployed.
        root: The runner's folder; by default `$EDGEOPT_ROOT`, else `~/.edgeopt`.

    Raises:
        ApplicationError: There is none, it is damaged, or its runtime is not to be had; says what to do.
    """
    root = expand(root) if root else default_root()
    try:
        link = os.path.join(app_folder(root, name), "current")
        held = hold(link)
    except Refusal as error:
        raise ApplicationError(error.message)
    except (FileNotFoundError, NotADirectoryError):
        raise ApplicationError("no app %r is active under %s. Deploy one with: edgeopt deploy" % (name, root))
    try:
        return Application(held, link, _session(held, root))
    except BaseException:
        held.close()
        raise


def _session(held: HeldRelease, root: str) -> "Session":
    from edgeopt_runner import engines

    settings = held.manifest["settings"]
    engine = engines.engine(settings["runtime"])
    if engine.available() is None:
        interpreter = os.path.join(root, "env", "current", "bin", "python")
        text = "this interpreter has no %s. Run the program with %s, which `edgeopt device provision` makes."
        raise ApplicationError(text % (settings["runtime"], interpreter))
    try:
        return engine.load(held.file("model"), settings)
    except engines.LoadFailed as error:
        raise ApplicationError("release %d does not load here: %s. Deploy it again." % (held.number, error))
