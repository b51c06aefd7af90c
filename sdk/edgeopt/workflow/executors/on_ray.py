"""Carries out orders on a Ray cluster: files travel by their digest, each once to a node, and results come back.

Ray unpickles what its nodes send, so a cluster is as trusted as this computer. Ray's own retries are off: those after a
full memory have no bound. What uses the user's own Python files is done here, as other computers do not have them.
"""

from __future__ import annotations

import hashlib
import logging
import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeopt.child import Progress
from edgeopt.documents import decode_json, encode_json, write_atomically
from edgeopt.errors import ChildError, EdgeoptError, StoreError, ToolError
from edgeopt.home import home
from edgeopt.passes._files import file_digest
from edgeopt.passes.tools import tool_versions
from edgeopt.workflow.executors._base import ATTEMPTS, Answer, Closing, Order, Promise, needs_this_computer
from edgeopt.workflow.executors.here import Here, moved
from edgeopt.workflow.executors.worker import answer_of, answered

_ANSWER_SECONDS = 10.0


@dataclass(frozen=True)
class _File:
    """A file on its way: what it is called where it arrives, what it must be, and where Ray has it."""

    suffix: str
    digest: str
    reference: Any


@dataclass(frozen=True)
class _Sent:
    """What comes back: the answer, and the bytes of the variant."""

    text: str
    suffix: str = ""
    data: bytes = b""


class OnRay(Closing):
    """A Ray cluster whose nodes have the same edgeopt as this computer.

    Args:
        address: ``auto``, ``HOST:PORT`` or ``ray://HOST:PORT``.
        cache: Folder for variants that were made elsewhere.

    Raises:
        ToolError: There is no cluster, or a node has other versions of what variants depend on.
    """

    def __init__(self, address: str, cache: Path) -> None:
        os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
        import ray

        self._ray, self._cache, self._here = ray, cache, Here()
        self._files: dict[str, Any] = {}
        self._ours = not ray.is_initialized()
        if self._ours:
            _connect(ray, address)
        try:
            _check_nodes(ray, address)
            self.width = max(1, int(ray.cluster_resources().get("CPU", 1)))
        except BaseException:
            self.close()
            raise

    def submit(self, order: Order, on_progress: Progress | None = None) -> Promise:
        """Send an order; Ray begins it as soon as a CPU is free."""
        if needs_this_computer(order):
            return self._here.submit(order, on_progress)
        files = dict(order.files)
        if order.repair and order.repair.made:
            files["made"] = order.repair.made.path
        return _OnCluster(self._ray, encode_json(order), {role: self._file(one) for role, one in files.items()}, self)

    def close(self) -> None:
        """Leave the cluster, which ends what is under way there for us."""
        self._files.clear()
        if self._ours:
            self._ray.shutdown()

    def _file(self, path: Path) -> _File:
        digest = file_digest(path)
        if digest not in self._files:
            self._files[digest] = self._ray.put(path.read_bytes())
        return _File(path.suffix, digest, self._files[digest])

    def received(self, sent: _Sent) -> Answer:
        """The answer with its variant on this computer."""
        answer = answer_of(sent.text)
        path = _placed(self._cache, sent.data, sent.suffix, hashlib.sha256(sent.data).hexdigest())
        return replace(answer, made=replace(answer.made, path=path))


class _OnCluster:
    """The promise of an order that was sent; where its worker is lost, or its node fails, it is sent again."""

    def __init__(self, ray: Any, text: str, files: Mapping[str, _File], owner: OnRay) -> None:
        self._ray, self._text, self._files, self._owner = ray, text, files, owner
        self._running = self._send()

    def _send(self, **options: Any) -> Any:
        task = self._ray.remote(_on_node).options(max_retries=0, num_cpus=1, **options)
        return task.remote(self._text, self._files)

    def result(self) -> Answer:
        failed: BaseException | None = None
        for _ in range(ATTEMPTS):
            if failed is not None:
                self._running = self._send(scheduling_strategy="SPREAD")  # else it goes to the same idle node again
            try:
                return self._owner.received(self._ray.get(self._running))
            except self._ray.exceptions.RayError as error:
                failed = error
        assert failed is not None
        if isinstance(failed, self._ray.exceptions.RayTaskError):
            said = f"Ray nodes could not carry out an order in {ATTEMPTS} attempts: {_cause(failed)}."
            raise ToolError(said, remedy="Look at the nodes: disk, memory and permissions.")
        name, how = decode_json(Order, self._text, where="an order").recipe.name, type(failed).__name__
        raise ChildError(f"{name}: took down its worker on the cluster {ATTEMPTS} times ({how}).", status="lost")


def _on_node(text: str, files: Mapping[str, _File]) -> _Sent:
    """Carry out an order on a node; files that an earlier order brought there are not fetched again."""
    import ray

    folder = home() / "worker"
    paths = {}
    for role, file in files.items():
        path = folder / "files" / f"{file.digest}{file.suffix}"
        paths[role] = path if path.exists() else _placed(path.parent, ray.get(file.reference), file.suffix, file.digest)
    order = moved(decode_json(Order, text, where="an order"), paths, folder / "passes")
    said = answered(encode_json(order))
    try:
        made = answer_of(said).made.path
    except EdgeoptError:
        return _Sent(said)
    return _Sent(said, made.suffix, made.read_bytes())


def _placed(folder: Path, data: bytes, suffix: str, digest: str) -> Path:
    """Write a file under its digest, whole or not at all."""
    if hashlib.sha256(data).hexdigest() != digest:
        raise StoreError(f"a file arrived as something else than {digest[:12]}.", remedy="Try again.")
    path = folder / f"{digest}{suffix}"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    return path


def _connect(ray: Any, address: str) -> None:
    remedy = "Start one: ray start --head; or give its address: --executor ray://HOST:10001."
    host, _, port = address.removeprefix("ray://").rpartition(":")
    try:
        if host:  # Ray itself asks for minutes
            socket.create_connection((host, int(port)), _ANSWER_SECONDS).close()
        ray.init(address=address, logging_level=logging.ERROR, log_to_driver=False, configure_logging=False)
    except Exception as error:
        raise ToolError(f"no Ray cluster answers at {address}: {_cause(error)}.", remedy=remedy) from None


def _check_nodes(ray: Any, address: str) -> None:
    """Refuse a cluster that would make other bytes than this computer."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
    if not nodes:
        raise ToolError(f"the Ray cluster at {address} has no node with a CPU.", remedy="Add one: ray start --address.")
    look = ray.remote(_versions)
    asked = []
    for node in nodes:
        there = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        asked.append((node["NodeManagerAddress"], look.options(num_cpus=0, scheduling_strategy=there).remote()))
    ours = tool_versions()
    for name, reference in asked:
        try:
            theirs = ray.get(reference)
        except ray.exceptions.RayError as error:
            raise ToolError(
                f"the Ray node {name} cannot run edgeopt: {_cause(error)}.", remedy="Install the same there as here."
            ) from None
        for library in sorted({*ours, *theirs}):
            if ours.get(library) != theirs.get(library):
                has = theirs.get(library, "none")
                raise ToolError(
                    f"the Ray node {name} has {library} {has}, this computer {ours.get(library, 'none')}.",
                    remedy="Install the same there: variants depend on it.",
                )


def _versions() -> dict[str, str]:
    return tool_versions()


def _cause(error: BaseException) -> str:
    """The last line of an error of Ray's, which holds many."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(one if one.isprintable() else " " for one in lines[-1]).strip().rstrip(".")
