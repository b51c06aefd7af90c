"""What a program on the board uses: the active model of an app, loaded once, steady while releases change under it.

Use: ``model = edgeopt_runner.load("digits")``, then ``outputs = model({"x": array})``.
"""

import os
import threading
from typing import TYPE_CHECKING, Any, Dict, Optional

from edgeopt_runner.held_release import ApplicationError, HeldRelease, hold
from edgeopt_runner.refusals import Refusal
from edgeopt_runner.storage import app_folder, expand, provisioned_python
from edgeopt_runner.updates.app_state import why_stopped

if TYPE_CHECKING:
    from edgeopt_runner.engines import Session


def default_root() -> str:
    """`$EDGEOPT_ROOT`, else `~/.edgeopt`."""
    return expand(os.environ.get("EDGEOPT_ROOT") or "~/.edgeopt")


class Application:
    """The active model of an app; call it with inputs by name. Threads may share it: calls take turns, as many at once
    as the release has sessions.

    Args:
        held: The release; closed with this object.
        link: The `current` link it came from.
        session: The loaded model.
    """

    def __init__(self, held: HeldRelease, link: str, session: "Session") -> None:
        self._held, self._link, self._session = held, link, session
        self._turn = threading.BoundedSemaphore(held.manifest["settings"].get("sessions", 1))
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
        why = why_stopped(os.path.dirname(link))
        if why:
            raise ApplicationError("%s is stopped: %s. Update or deploy it again." % (name, why))
        raise ApplicationError("no app %r is active under %s. Deploy one with: edgeopt deploy" % (name, root))
    try:
        return Application(held, link, _session(held, root))
    except BaseException:
        held.close()
        raise


def _session(held: HeldRelease, root: str) -> "Session":
    from edgeopt_runner import engines, group

    settings = held.manifest["settings"]
    engine = engines.engine(settings["runtime"])
    if engine.available() is None:
        text = "this interpreter has no %s. Run the program with %s, which `edgeopt device provision` makes."
        raise ApplicationError(text % (settings["runtime"], provisioned_python(root)))
    try:
        return group.load(engine, held.file("model"), settings)
    except engines.LoadFailed as error:
        raise ApplicationError("release %d does not load here: %s. Deploy it again." % (held.number, error))
