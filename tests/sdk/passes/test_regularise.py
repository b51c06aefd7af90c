from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest
import torch

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_channels import Options as PruneOptions
from edgeopt.passes.prune_channels import PruneChannels
from edgeopt.passes.pruning.channels import outputs
from edgeopt.passes.registry import load_pass
from edgeopt.passes.regularise import Options, Regularise
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import write_samples
from support.trained import trained


def _context(name: str, training: Path | None) -> PassContext:
    return PassContext(work=Path(mkdtemp()), calibration=trained(name).calibration, training=training)


@cache
def _regularised(name: str = "residual", **options: Any) -> tuple[Path, str]:
    torch.set_num_threads(1)
    made = Path(mkdtemp(), "regularised.onnx")
    context = _context(name, trained(name).training)
    report = Regularise(Options(**options)).apply(trained(name).network, made, context)
    return made, "; ".join(report.notes)


def _pruned_top1(source: Path, importance: Any = "l2") -> float:
    made = Path(mkdtemp(), "pruned.onnx")
    PruneChannels(PruneOptions(macs=0.5, importance=importance)).apply(source, made, _context("residual", None))
    return _top1(made)


def _top1(path: Path) -> float:
    samples = Samples(trained("residual").evaluation, ("image",))
    (images,), labels = samples.batch(range(len(samples)))
    return float((outputs(import_onnx(path), (images,))[0].argmax(1) == labels).float().mean())


def test_half_the_macs_go_almost_for_nothing_after_group_lasso() -> None:
    made, notes = _regularised(epochs=8)
    assert "group_lasso 0.03, learning the labels of 1200 samples" in notes
    assert _top1(made) > trained("residual").top1 - 0.03
    assert _pruned_top1(trained("residual").network) < 0.7
    assert _pruned_top1(made) > 0.93


def test_scales_of_batch_normalisation_shrink_and_say_better_what_can_go() -> None:
    made, _ = _regularised(penalty="bn_scale", epochs=10, strength=0.3)

    def mean_scale(path: Path) -> float:
        norms = [module for module in import_onnx(path).modules() if isinstance(module, torch.nn.BatchNorm2d)]
        scales = torch.cat([norm.weight.detach().abs() for norm in norms])
        return float(scales.mean())

    assert mean_scale(made) < 0.8 * mean_scale(trained("residual").network)
    assert _pruned_top1(made, "bn_scale") > _pruned_top1(trained("residual").network, "bn_scale") + 0.1


def test_l1_leaves_most_weights_near_zero() -> None:
    made, _ = _regularised(penalty="l1", epochs=4)

    def small(path: Path) -> float:
        weights = [value.detach().flatten() for value in import_onnx(path).parameters() if value.ndim > 1]
        return float((torch.cat(weights).abs() < 1e-2).float().mean())

    assert small(made) > 2 * small(trained("residual").network)


def test_without_labels_it_learns_from_itself(tmp_path: Path) -> None:
    images = np.load(trained("residual").training)["input:image"]
    write_samples(str(tmp_path / "unlabelled.npz"), {"input:image": images})
    made = tmp_path / "made.onnx"
    context = _context("residual", tmp_path / "unlabelled.npz")
    report = Regularise(Options(epochs=9)).apply(trained("residual").network, made, context)
    assert "learning the outputs of 1200 samples" in report.notes[0]
    assert _top1(made) > 0.93
    assert _pruned_top1(made) > _pruned_top1(trained("residual").network) + 0.2


def test_too_few_steps_are_named(tmp_path: Path) -> None:
    report = Regularise(Options(epochs=1)).apply(
        trained("residual").network, tmp_path / "made.onnx", _context("residual", None)
    )
    assert "about 4 steps are few" in report.notes[-1]


@pytest.mark.parametrize(
    ("name", "penalty", "message"),
    [("recurrent", "group_lasso", "nothing to act on"), ("transformer", "bn_scale", "no batch normalisation")],
)
def test_a_penalty_without_an_object_is_refused(name: str, penalty: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(PassError, match=message):
        Regularise(Options(penalty=penalty)).apply(trained(name).network, tmp_path / "made.onnx", _context(name, None))


@pytest.mark.parametrize(
    "options",
    [{"strength": -1.0}, {"strength": float("nan")}, {"epochs": 0}, {"penalty": "pain"}, {"learning_rate": 0.0}],
)
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PassError, match="bad options"):
        load_pass(PassSpec("regularise", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Any, tmp_path: Path) -> None:
    files = trained("depthwise")
    options = {"epochs": 1, "learning_rate": 1e-3}
    check(Case("regularise", files.network, files.calibration, tmp_path, options, training=files.training))
