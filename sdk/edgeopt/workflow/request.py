"""What the user asks of the main job, as one value: the command line and the Python API both build it."""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field

from edgeopt.core.budget import Budget
from edgeopt.core.plan import FINALS, ROUNDS
from edgeopt.core.recipe import Recipe
from edgeopt.errors import UsageError
from edgeopt.graph.sample_options import Layout, SampleOptions

_APP = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

_DEFAULT_BUDGET = Budget()


@dataclass(frozen=True)
class DataRequest:
    """Where samples come from and how they are read.

    Attributes:
        source: ``samples.npz`` or ``file.py:function``; ``None`` generates inputs, and accuracy stays unknown.
        metric: ``top1``, ``fidelity`` or ``file.py:function``; ``None`` takes `top1` where there are labels.
        calibration_samples, evaluation_samples: Largest sizes of the two sets.
        layout: ``hwc`` or ``chw``: how pictures lie in the data where the model wants the other way.
        scale: Factor that every sample is multiplied with (1/255 for bytes).
        overlap: Use the same samples for calibration and evaluation.
        random: Allow passes that calibrate to use generated inputs.
        training: Samples for passes that train, in the forms of `source`; ``None``: they distil on calibration samples.
        training_samples: Most of them that are read.
        loss: ``file.py:function(outputs, labels)``; ``None`` takes the one that fits the labels.
    """

    source: str | None = None
    metric: str | None = None
    calibration_samples: int = 128
    evaluation_samples: int = 1000
    layout: Layout = "as_is"
    scale: float | None = None
    overlap: bool = False
    random: bool = False
    training: str | None = None
    training_samples: int = 50_000
    loss: str | None = None

    def sample_options(self, seed: int) -> SampleOptions:
        """The same for the reader of samples.

        Raises:
            UsageError: A value out of its range.
        """
        return SampleOptions(
            metric=self.metric,
            calibration=self.calibration_samples,
            evaluation=self.evaluation_samples,
            layout=self.layout,
            scale=self.scale,
            overlap=self.overlap,
            seed=seed,
        )


@dataclass(frozen=True)
class SearchRequest:
    """What is tried beyond recipes, chosen trial by trial from what the device measured.

    Attributes:
        space: Name of a space that ships, or a YAML file with one.
        strategy: ``random``, ``greedy``, ``evolutionary`` or ``bayesian``.
        trials: Most points that are made and measured.
        max_seconds: After which no further trial begins; ``None``: the trials are the bound.
        max_device_seconds: No trial begins once all of the study had devices for so long; ``None``: no bound.
        study: What hosts that work on one search call it; empty: searches of the same are one.
    """

    space: str
    strategy: str = "evolutionary"
    trials: int = 30
    max_seconds: float | None = None
    max_device_seconds: float | None = None
    study: str = ""

    def check(self) -> None:
        """Refuse bounds that leave nothing to do.

        Raises:
            UsageError: Names the option and the value.
        """
        if self.trials < 1:
            raise UsageError(f"--trials {self.trials} tries nothing.", remedy="Give 1 or more; 30 is the default.")
        if self.max_seconds is not None and not self.max_seconds > 0:
            raise UsageError(f"--search-time {self.max_seconds:g} s is no time.", remedy="Say 30min or 2h.")
        if self.max_device_seconds is not None and not self.max_device_seconds > 0:
            raise UsageError(
                f"--max-device-seconds {self.max_device_seconds:g} lets no trial begin.", remedy="Give more than 0."
            )


@dataclass(frozen=True)
class Request:
    """One call of the main job.

    Attributes:
        model: As for `edgeopt.graph.source.load_model`: a file, a SavedModel or ``file.py:function``.
        target: Device, profile, ``user@host`` or ``local``; several for `deploy_kinds`.
        data: The samples.
        budget: The limits and the objective.
        app: Name that applications on the device load the winner by; ``None`` takes the model's.
        input_shapes: Sizes for dynamic inputs and for torch networks without example inputs.
        profile: Hardware profile to take instead of the probed one.
        recipes: Only these: names of the profile's, the file's or the shipped recipes, or recipes; empty: those of
            profile and file, and with training samples the shipped ones that train.
        recipe_file: A YAML file with recipes of the user's own.
        candidates: ONNX files that other tools made of the same network, which compete under the same rules.
        search: What to search after the recipes; ``None``: nothing.
        runtimes: Only these; empty: all that the profile names and the device has.
        threads: Only these thread counts; empty: the profile's.
        sessions: Numbers of sessions to try with each thread count; empty: the profile's.
        inter_op: Inter-op threads to try with each; empty: 1, and the profile's for finalists.
        effort: ``quick``, ``standard`` or ``full``: the plan of the finals.
        launches: Process launches of each finalist at most, as the race ends once decided; ``None``: by effort.
        seed: Of the data split and every random choice.
        activate: Whether the winner becomes active on the device.
        fresh: Measure again what the ledger knows.
        one_for_all: Of several kinds of boards: one winner for all of them instead of one for each.
        executor: Where variants are made and judged: ``here``, ``pool:N``, ``ray:auto`` or ``ray://HOST:PORT``.
    """

    model: str
    target: str = "local"
    data: DataRequest = field(default_factory=DataRequest)
    budget: Budget = field(default_factory=Budget)
    app: str | None = None
    input_shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    profile: str | None = None
    recipes: tuple[str | Recipe, ...] = ()
    recipe_file: str | None = None
    candidates: tuple[str, ...] = ()
    search: SearchRequest | None = None
    runtimes: tuple[str, ...] = ()
    threads: tuple[int, ...] = ()
    sessions: tuple[int, ...] = ()
    inter_op: tuple[int, ...] = ()
    effort: str = "standard"
    launches: int | None = None
    seed: int = 0
    activate: bool = True
    fresh: bool = False
    one_for_all: bool = False
    executor: str = "here"

    def check(self) -> None:
        """Refuse values that no later step could use.

        Raises:
            UsageError: Names the option, the value and what it takes.
        """
        if self.effort not in FINALS:
            raise UsageError(f"--effort {self.effort!r} is not known.", remedy=f"Use one of {', '.join(FINALS)}.")
        self.data.sample_options(self.seed)
        if self.search is not None:
            self.search.check()
        if self.data.training_samples < 1:
            raise UsageError(f"--training-samples is {self.data.training_samples}.", remedy="Give 1 sample or more.")
        if self.data.loss and not self.data.training:
            raise UsageError("--loss is given without training samples.", remedy="Give --train data.py:train too.")
        if self.launches is not None and self.launches < 1:
            raise UsageError(
                f"--launches {self.launches} measures nothing.",
                remedy=f"Use 1 or more; {ROUNDS[self.effort]} is the default.",
            )
        if self.app is not None and not _APP.fullmatch(self.app):
            raise UsageError(
                f"--app {self.app!r} is not a name for an application.",
                remedy="Use lower-case letters, digits, dots, dashes and underscores, at most 64.",
            )

    @property
    def rounds(self) -> int:
        """Launches of each finalist at most."""
        return self.launches or ROUNDS[self.effort]

    def key(self) -> str:
        """Digest of everything that decides what the run does: the same command resumes the same run.

        Where the work is done does not decide it.
        """
        fields = {name: value for name, value in asdict(self).items() if name != "executor"}
        if not self.one_for_all:
            del fields["one_for_all"]  # as the key was before there was such a thing
        return hashlib.sha256(json.dumps(fields, sort_keys=True).encode()).hexdigest()

    def command_line(self) -> str:
        """The command that does the same again."""
        words = ["edgeopt", "deploy", self.model, "--target", self.target]
        data, budget = self.data, self.budget
        drop = None if budget.max_drop == _DEFAULT_BUDGET.max_drop else budget.max_drop
        options: dict[str, object] = {
            "--data": data.source,
            "--metric": data.metric,
            "--train": data.training,
            "--loss": data.loss,
            "--training-samples": data.training_samples if data.training_samples != 50_000 else None,
            "--layout": data.layout if data.layout != "as_is" else None,
            "--scale": data.scale,
            "--max-drop": "none" if budget.max_drop is None else drop,
            "--max-latency": budget.max_latency,
            "--max-memory": f"{budget.max_memory_bytes}B" if budget.max_memory_bytes else None,
            "--max-size": f"{budget.max_size_bytes}B" if budget.max_size_bytes else None,
            "--minimise": budget.objective if budget.objective != _DEFAULT_BUDGET.objective else None,
            "--app": self.app,
            "--profile": self.profile,
            "--recipes": ",".join(one if isinstance(one, str) else one.name for one in self.recipes) or None,
            "--recipe-file": self.recipe_file,
            **_search_options(self.search),
            "--runtimes": ",".join(self.runtimes) or None,
            "--threads": ",".join(map(str, self.threads)) or None,
            "--sessions": ",".join(map(str, self.sessions)) or None,
            "--inter-op": ",".join(map(str, self.inter_op)) or None,
            "--effort": self.effort if self.effort != "standard" else None,
            "--launches": self.launches,
            "--seed": self.seed or None,
            "--calibration": data.calibration_samples if data.calibration_samples != 128 else None,
            "--evaluation": data.evaluation_samples if data.evaluation_samples != 1000 else None,
            "--executor": self.executor if self.executor != "here" else None,
        }
        for option, value in options.items():
            words += [option, str(value)] if value is not None else []
        for name, shape in self.input_shapes.items():
            words += ["--input", f"{name}={','.join(map(str, shape))}"]
        for path in self.candidates:
            words += ["--candidate", path]
        flags = {"--overlap": data.overlap, "--random-data": data.random, "--no-activate": not self.activate}
        flags |= {"--one-for-all": self.one_for_all, "--fresh": self.fresh}
        return shlex.join(words + [flag for flag, given in flags.items() if given])


def _search_options(search: SearchRequest | None) -> dict[str, object]:
    if search is None:
        return {}
    seconds = search.max_seconds
    return {
        "--search": search.space,
        "--strategy": search.strategy,
        "--trials": search.trials,
        "--search-time": None if seconds is None else f"{seconds:g}s",
        "--max-device-seconds": None if search.max_device_seconds is None else f"{search.max_device_seconds:g}",
        "--study": search.study or None,
    }


def app_name(model_name: str) -> str:
    """A valid application name made from a model's name."""
    cleaned = re.sub(r"[^a-z0-9._-]+", "-", model_name.lower()).strip("-._")
    return cleaned[:64] or "model"
