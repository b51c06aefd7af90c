"""What a run works with on the user's computer: artifacts, ledger, inventory, and a folder for each run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from edgeopt.home import home
from edgeopt.remote.inventory import Inventory
from edgeopt.store.artifacts import ArtifactStore
from edgeopt.store.ledger import Ledger
from edgeopt.workflow.executors import open_executor
from edgeopt.workflow.executors._base import Executor
from edgeopt.workflow.executors.here import Here


@dataclass(frozen=True)
class Workspace:
    """The stores of one user, opened together.

    Attributes:
        root: The folder that holds them.
        artifacts: Files by digest.
        ledger: Everything measured and decided.
        inventory: The devices.
        executor: Where variants are made and judged.
    """

    root: Path
    artifacts: ArtifactStore
    ledger: Ledger
    inventory: Inventory
    executor: Executor = field(default_factory=Here)

    @classmethod
    def open(cls, root: Path | None = None, ledger_url: str | None = None) -> Workspace:
        """Open or create the stores.

        Args:
            root: Default: `edgeopt.home.home()`.
            ledger_url: SQLAlchemy URL; default: `$EDGEOPT_LEDGER`, else SQLite inside `root`.

        Raises:
            StoreError: A store cannot be made or read.
        """
        folder = root or home()
        url = ledger_url or os.environ.get("EDGEOPT_LEDGER") or folder / "ledger.sqlite"
        artifacts = ArtifactStore(folder / "artifacts")
        return cls(folder, artifacts, Ledger(url), Inventory(folder / "devices.yaml"))

    def run_folder(self, run_id: str) -> Path:
        """The folder of a run: `best.onnx` (or of another format), `best.json`, `report.html`."""
        return self.root / "runs" / run_id

    def cache_folder(self, name: str) -> Path:
        """A folder for what can be made again (wheels, intermediate passes); created."""
        path = self.root / "cache" / name
        path.mkdir(parents=True, exist_ok=True)
        return path

    @contextlib.contextmanager
    def executing(self, executor: str) -> Iterator[Workspace]:
        """The same with an executor that works for the length of the block.

        Raises:
            UsageError: It is not known.
            ToolError: Ray is not installed, there is no cluster, or its nodes do not have what we have.
        """
        with open_executor(executor, self.cache_folder("made")) as opened:
            yield replace(self, executor=opened)

    def __enter__(self) -> Workspace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.ledger.close()
