"""The training loop itself: steps, validation, best weights, checkpoints."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from edgeopt.errors import EdgeoptError, PassError
from edgeopt.training.batches import Batches, Indices, split
from edgeopt.training.checkpoint import Progressed, States, copied, key_of, load, save
from edgeopt.training.losses import Loss, penalty
from edgeopt.training.memory import Portions
from edgeopt.training.optimisers import build_optimiser
from edgeopt.training.options import TrainingOptions
from edgeopt.training.parallel import Team
from edgeopt.training.progress import Progress
from edgeopt.training.samples import Samples

AfterStep = Callable[[nn.Module, int, int], None]
"""(network, steps done, steps of the whole training); may change the network's tensors in place."""

_CHECKPOINT_SECONDS = 30.0
_NORMS = (nn.modules.batchnorm._BatchNorm, nn.modules.instancenorm._InstanceNorm)


class Loop:
    """One training; see `engine.train` for the arguments."""

    def __init__(self, network: nn.Module, samples: Samples, loss: Loss, options: TrainingOptions, seed: int) -> None:
        self.network, self.loss, self.options, self.seed = network, loss, options, seed
        self.modules = [network, loss] if isinstance(loss, nn.Module) else [network]
        self.parameters = [p for module in self.modules for p in module.parameters() if p.requires_grad]
        if not self.parameters:
            raise PassError("nothing is left to train: every parameter is frozen.", remedy="Freeze fewer layers.")
        _demand_device(options.device)
        for module in self.modules:
            module.to(options.device)
        learned, held = split(len(samples), options.validation_share, seed)
        self.samples, self.held = samples.subset(learned), samples.subset(held)
        self.batches = Batches(len(learned), options, seed, least=2 * options.processes)
        self.steps = self.batches.steps()
        self.optimiser = build_optimiser(self.parameters, options)
        self.portions = Portions(network, samples, options)
        self.key = key_of(self.modules, options, seed, len(samples))
        self.at = Progressed()
        self.kept: States = copied(network)
        self.saved = time.monotonic()
        self.begun = time.monotonic()

    def resume(self, checkpoint: Path | None) -> None:
        """Go on from a checkpoint that belongs to this training, if there is one."""
        found = load(checkpoint, self.key) if checkpoint else None
        if found is None:
            return
        self.at, state = found
        for module, tensors in zip(self.modules, state["modules"], strict=True):
            module.load_state_dict(tensors)
        self.optimiser.load_state_dict(state["optimiser"])
        self.kept = state["kept"]
        self.begun = time.monotonic() - self.at.seconds

    def run(self, team: Team, checkpoint: Path | None, after_step: AfterStep | None) -> None:
        """Train to the end; whatever happens, the network is left in evaluation mode with the best weights so far.

        Raises:
            PassError: See `engine.train`.
        """
        self.team, self.checkpoint, self.after_step = team, checkpoint if team.rank == 0 else None, after_step
        try:
            if not self.at.finished:
                with team.shared(self.network):
                    self._train()
        finally:
            for module in self.modules:
                module.to("cpu")
            self.network.load_state_dict(self.kept)
            self.network.eval()

    def _train(self) -> None:
        progress = Progress(self.options.epochs, self.options.max_seconds)
        if not self.at.validation and len(self.held):
            self._judge(0)
        while self.at.epoch < self.options.epochs:
            whole = self._epoch(progress)
            self._judge(self.at.epoch + 1)
            if not whole:
                self._note_time()
                return
            self.at.losses.append(self.at.loss_sum / len(self.samples))
            self.at.epoch, self.at.batch, self.at.loss_sum = self.at.epoch + 1, 0, 0.0
            if self._tired():
                break
            self._save()
        if self.options.best_after == 0 and self.at.best_epoch == 0:
            self.at.notes.append("no epoch was better on held-out samples than the weights before: they were kept")
        self.at.finished = True
        self._save()

    def _epoch(self, progress: Progress) -> bool:
        """What is left of an epoch; ``False`` where the time ran out."""
        seen = 0
        for number, batch in enumerate(self.batches.epoch(self.at.epoch)):
            if number >= self.at.batch:
                self.at.seconds = self.team.agree(time.monotonic() - self.begun)
                if self.at.seconds >= self.options.max_seconds:
                    self._save()  # as it is before the judgement below, so that more time goes on exactly here
                    return False
                share = self.batches.share(self.at.epoch, seen)
                value = self._step(batch, self.batches.learning_rate(share, len(batch)))
                self.at.loss_sum += value * len(batch)
                self.at.batch, self.at.step = number + 1, self.at.step + 1
                if self.after_step:
                    self.after_step(self.network, self.at.step, self.steps)
                if self.team.rank == 0:
                    progress.report(self.at.epoch, share, value, self.at.seconds)
                if time.monotonic() - self.saved > _CHECKPOINT_SECONDS:
                    self._save()
            seen += len(batch)
        return True

    def _step(self, batch: Indices, rate: float) -> float:
        """One step; the mean loss of its batch."""
        self.at.rate = rate
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        self._mode()
        value = self._told(lambda: self._gradients(batch), len(batch))
        norm = nn.utils.clip_grad_norm_(self.parameters, self.options.clip_norm or math.inf)
        self._demand_finite(value, "loss")
        self._demand_finite(float(norm), "gradient")
        self.optimiser.step()
        return value

    def _gradients(self, batch: Indices) -> float:
        """Gradients of the mean over a batch, portion by portion; the loss."""
        torch.manual_seed(_mixed(self.seed, self.at.step, self.team.rank))
        self.optimiser.zero_grad()
        total = torch.zeros(())
        for part in self.portions.of(self.team.share(batch)):
            value = self.loss(self.network, *self._read(self.samples, part)) * (len(part) / len(batch))
            value.backward()
            total += value.detach().cpu()
        term = penalty(self.network, self.options)
        if term is not None:
            (term / self.team.size).backward()
        self.team.join_gradients(self.parameters, total)
        return float(total)

    def _judge(self, epochs: int) -> None:
        """Validate, and keep the weights if they are the best that count."""
        value = self._told(self._validate, len(self.held)) if len(self.held) else math.nan
        if len(self.held):
            self._demand_finite(value, "validation loss")
            self.at.validation.append(value)
        elif not all(bool(torch.isfinite(tensor).all()) for tensor in self.parameters):
            self._demand_finite(math.nan, "weights' norm")
        if epochs < self.options.best_after and self.at.best_epoch < 0:
            self.kept = copied(self.network)
        elif not len(self.held) or value < self.at.best:
            self.at.best, self.at.best_epoch, self.kept = value, epochs, copied(self.network)

    def _validate(self) -> float:
        self.network.eval()
        torch.manual_seed(self.seed)
        total = 0.0
        with torch.no_grad():
            for batch in _chunks(len(self.held), self.options.batch_size):
                for part in self.portions.of(self.team.share(batch)):
                    total += float(self.loss(self.network, *self._read(self.held, part))) * len(part)
        return self.team.total(total) / len(self.held)

    def _told(self, action: Callable[[], float], count: int) -> float:
        """Run network and loss; what they raise becomes one sentence."""
        try:
            return self.portions.retry(action)
        except RuntimeError as error:
            if isinstance(error, EdgeoptError) or self.team.size > 1:  # a team's errors are told by who lead it
                raise
            text = " ".join(str(error).split())[:300]
            raise PassError(
                f"network or loss failed on {count} samples: {text}.",
                remedy="Check that inputs, outputs and labels have the shapes that the loss expects.",
            ) from None

    def _read(self, samples: Samples, part: Indices) -> tuple[tuple[Tensor, ...], Tensor | None]:
        inputs, labels = samples.batch(part)
        device = self.options.device
        return tuple(tensor.to(device) for tensor in inputs), None if labels is None else labels.to(device)

    def _mode(self) -> None:
        """Training mode, except for normalisation that is frozen."""
        self.network.train()
        for module in self.network.modules():
            if isinstance(module, _NORMS):
                own = list(module.parameters(recurse=False))
                frozen = bool(own) and not any(tensor.requires_grad for tensor in own)
                if frozen or self.options.freeze_norms or self.portions.single:
                    module.eval()

    def _tired(self) -> bool:
        """Whether the patience is over."""
        since = self.at.epoch - max(self.at.best_epoch, self.options.best_after)
        if not self.options.patience or not len(self.held) or since < self.options.patience:
            return False
        if self.at.epoch < self.options.epochs:
            self.at.notes.append(
                f"stopped early after {self.at.epoch} epochs: the validation loss was best ({self.at.best:.3g}) after "
                f"{self.at.best_epoch}"
            )
        return True

    def _note_time(self) -> None:
        done = self.batches.share(self.at.epoch, 0) * self.options.epochs
        self.at.notes.append(
            f"the training ended in epoch {done + 1:.0f} of {self.options.epochs}: its {self.options.max_seconds:g} s "
            "(max_seconds) were over; another run may give other weights"
        )

    def _demand_finite(self, value: float, what: str) -> None:
        if math.isfinite(value):
            return
        if not self.at.step:
            raise PassError(
                f"the {what} is {value} before the first step.",
                remedy="Check the loss function and the range of inputs and labels.",
            )
        raise PassError(
            f"the training diverged: the {what} is {value} in epoch {self.at.epoch + 1} at learning rate "
            f"{self.at.rate:.3g}.",
            remedy=f"Set learning_rate to {self.options.learning_rate / 10:g}, or clip_norm to 1.",
        )

    def _save(self) -> None:
        self.saved = time.monotonic()
        if self.checkpoint is None:
            return
        self.at.seconds = time.monotonic() - self.begun
        state = {
            "modules": [module.state_dict() for module in self.modules],
            "optimiser": self.optimiser.state_dict(),
            "kept": self.kept,
        }
        save(self.checkpoint, self.key, self.at, state)


def _demand_device(device: str) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        raise PassError("torch sees no CUDA device here.", remedy="Set device to cpu, or install torch with CUDA.")


def _chunks(count: int, size: int) -> Iterator[Indices]:
    for begin in range(0, count, size):
        yield np.arange(begin, min(begin + size, count))


def _mixed(*numbers: int) -> int:
    """A seed that differs for each step and process."""
    return int(np.random.SeedSequence(numbers).generate_state(1)[0])
