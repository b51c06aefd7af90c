"""Several processes that train one network on shares of each batch: data parallel, over gloo on the loopback device.

Not `torch.nn.parallel.DistributedDataParallel`: it joins gradients only of what goes through its own `forward`, while
losses here call parts of the network and hook into others. The arithmetic is the same (Li et al.: PyTorch Distributed,
2020, §3.2): each process holds the whole network, and gradients are added up before the optimiser's step.

The processes are forks, as losses are closures over networks, which no other way of starting hands over.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor, nn

from edgeopt import errors
from edgeopt.errors import EdgeoptError, PassError
from edgeopt.training.shared_norms import norms_shared

_MEET = timedelta(seconds=60)
_STEP = timedelta(minutes=10)
_END_SECONDS = 5.0
_INTERFACE = "GLOO_SOCKET_IFNAME"


class Team:
    """A team of one: everything is its own share, and nothing needs to be agreed on."""

    rank = 0
    size = 1

    def share(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        """The part of a batch that this process computes."""
        return indices

    def join_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """Replace gradients and loss by their sums over the team."""

    def total(self, value: float) -> float:
        """The sum over the team."""
        return value

    def agree(self, value: float) -> float:
        """The first process's value."""
        return value

    def shared(self, network: nn.Module) -> contextlib.AbstractContextManager[Any]:
        """While this lasts, the network's statistics over a batch are the team's."""
        return contextlib.nullcontext(network)


class _Several(Team):
    """One process of the default process group."""

    def __init__(self, rank: int, size: int) -> None:
        self.rank, self.size = rank, size

    def share(self, indices: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        return np.array_split(indices, self.size)[self.rank]

    def join_gradients(self, parameters: Sequence[nn.Parameter], loss: Tensor) -> None:
        """One message a step; a parameter that no process used keeps no gradient, as in a team of one."""
        used = torch.tensor([float(tensor.grad is not None) for tensor in parameters])
        grads = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in parameters]
        parts = [used, loss.reshape(1), *(grad.reshape(-1) for grad in grads)]
        message = torch.cat(parts)
        dist.all_reduce(message)
        used, joined, *sums = message.split([part.numel() for part in parts])
        loss.copy_(joined.reshape(loss.shape))
        for tensor, grad, total, uses in zip(parameters, grads, sums, used.tolist(), strict=True):
            tensor.grad = grad.copy_(total.view_as(grad)) if uses else None

    def total(self, value: float) -> float:
        message = torch.tensor(value, dtype=torch.float64)
        dist.all_reduce(message)
        return float(message)

    def agree(self, value: float) -> float:
        message = torch.tensor(value, dtype=torch.float64)
        dist.broadcast(message, 0)
        return float(message)

    def shared(self, network: nn.Module) -> contextlib.AbstractContextManager[Any]:
        return norms_shared(network)


def together(processes: int, work: Callable[[Team], None]) -> str:
    """Do `work` in this process, which leads, and in forks of it; each computes with one thread.

    Args:
        processes: At least 1, this one included.
        work: What a process does; what it changes stays in that process, so all must come to the same.

    Returns:
        A note where the processes could not be started and this one worked alone; else nothing.

    Raises:
        PassError: A process ended on the way.
        EdgeoptError: What `work` raised, in whichever process.
    """
    if processes == 1:
        work(Team())
        return ""
    with tempfile.TemporaryDirectory(prefix="edgeopt-team-") as name, _on_loopback():
        folder = Path(name)
        children = _started(folder, processes, work)
        try:
            if children and _meet(folder, 0, processes):
                _lead(folder, children, work)
                return ""
        finally:
            _end(children)
    work(Team())
    return f"{processes} processes could not be started here: one trained alone"


def _started(folder: Path, processes: int, work: Callable[[Team], None]) -> list[Any]:
    """The forks; none where the system has no forks, or too many processes."""
    if "fork" not in multiprocessing.get_all_start_methods() or dist.is_initialized():
        return []
    context = multiprocessing.get_context("fork")
    children = [
        context.Process(target=_follow, args=(folder, rank, processes, work), daemon=True)
        for rank in range(1, processes)
    ]
    try:
        for child in children:
            child.start()
    except OSError:
        _end([child for child in children if child.pid])
        return []
    return children


def _lead(folder: Path, children: list[Any], work: Callable[[Team], None]) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        work(_Several(0, len(children) + 1))
    except RuntimeError as error:
        if isinstance(error, EdgeoptError):
            raise
        lost = _lost(folder, children)
        if lost is None:
            raise
        raise lost from None
    finally:
        torch.set_num_threads(threads)
        dist.destroy_process_group()


def _lost(folder: Path, children: list[Any]) -> EdgeoptError | None:
    """Why a process ended while this one still waited for it; ``None``: none did."""
    for child in children:
        child.join(_END_SECONDS / len(children))
    for path in sorted(folder.glob("*.json")):
        kind, message, remedy = json.loads(path.read_text())
        found: EdgeoptError = getattr(errors, kind, PassError)(message, remedy=remedy)
        return found
    codes = [child.exitcode for child in children if child.exitcode is not None]
    if not codes:
        return None
    return PassError(
        f"a process of the training ended (exit code {codes[0]}).",
        remedy="Memory may have run out: lower batch_size, or set processes to 1.",
    )


def _follow(folder: Path, rank: int, processes: int, work: Callable[[Team], None]) -> None:
    """A fork's life. One thread: OpenMP's pool does not survive a fork, and would be waited for without end."""
    torch.set_num_threads(1)
    try:
        if _meet(folder, rank, processes):
            work(_Several(rank, processes))
    except EdgeoptError as error:
        _tell(folder, rank, error.code, error.message, error.remedy)
    except Exception as error:  # a fork must not go on into the caller's code
        text = " ".join(str(error).split())[:200]
        _tell(folder, rank, "PassError", f"a process of the training failed: {text}.", "Set processes to 1.")
    finally:
        os._exit(0)


def _tell(folder: Path, rank: int, *words: str) -> None:
    with contextlib.suppress(OSError):
        partial = folder / f"{rank}.part"
        partial.write_text(json.dumps(words))
        partial.replace(folder / f"{rank}.json")


def _meet(folder: Path, rank: int, processes: int) -> bool:
    """Join the process group; whether it came about."""
    try:
        store = dist.FileStore(str(folder / "store"), processes)
        store.set_timeout(_MEET)
        dist.init_process_group("gloo", store=store, rank=rank, world_size=processes, timeout=_STEP)
    except (RuntimeError, ValueError, OSError):
        return False
    return True


def _end(children: list[Any]) -> None:
    for child in children:
        child.join(_END_SECONDS)
        if child.is_alive():
            child.kill()
            child.join()


@contextlib.contextmanager
def _on_loopback() -> Iterator[None]:
    """Gloo looks up the host's own name otherwise, which many machines cannot resolve."""
    before = os.environ.get(_INTERFACE)
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback:
        os.environ[_INTERFACE] = loopback
    try:
        yield
    finally:
        os.environ.pop(_INTERFACE, None)
        if before is not None:
            os.environ[_INTERFACE] = before
