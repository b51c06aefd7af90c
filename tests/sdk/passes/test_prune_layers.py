from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.session import open_session
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_layers import Options, PruneLayers
from edgeopt.passes.pruning.channels import outputs
from edgeopt.passes.pruning.subject import size_of
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from support.trained import trained


def _prune(name: str, work: Path, **options: Any) -> tuple[Path, str]:
    files, made = trained(name), work / "pruned.onnx"
    context = PassContext(work=work, calibration=files.calibration)
    report = PruneLayers(Options(**options)).apply(files.network, made, context)
    return made, "; ".join(report.notes)


def _evaluation(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    samples = Samples(trained(name).evaluation, ("image",))
    (images,), labels = samples.batch(range(len(samples)))
    assert labels is not None
    return images, labels


def _top1(network: Any, name: str) -> float:
    images, labels = _evaluation(name)
    return float((outputs(network, (images,))[0].argmax(1) == labels).float().mean())


def _operators(path: Path) -> list[str]:
    return [node.op_type for node in onnx.load(path).graph.node]


@pytest.mark.parametrize("measure", ["cosine", "kl"])
def test_a_transformer_loses_the_blocks_that_matter_least(measure: str, tmp_path: Path) -> None:
    made, notes = _prune("transformer", tmp_path, count=2, measure=measure)
    assert _operators(made).count("LayerNormalization") == 3
    assert "left out 2 of 4 residual blocks" in notes
    images, _ = _evaluation("transformer")
    for batch in (1, 3):
        run = open_session(made).run(None, {"image": images[:batch].numpy()})[0]
        np.testing.assert_allclose(run, outputs(import_onnx(made), (images[:batch],))[0], atol=1e-4)


def test_what_is_left_out_is_a_better_choice_than_the_others(tmp_path: Path) -> None:
    made, notes = _prune("transformer", tmp_path, count=1)
    chosen = _top1(import_onnx(made), "transformer")
    layers = ["/layers/layers.0/attention/out/MatMul", "/layers/layers.0/mlp/mlp.0/MatMul"]
    layers += ["/layers/layers.1/attention/out/MatMul", "/layers/layers.1/mlp/mlp.0/MatMul"]
    others = []
    for kept in layers:
        stay = tuple(layer for layer in layers if layer != kept)
        others.append(_top1(import_onnx(_prune("transformer", tmp_path, ignore=stay)[0]), "transformer"))
    assert chosen > np.mean(others), notes


def test_a_residual_network_loses_its_block_and_recovers(tmp_path: Path) -> None:
    made, notes = _prune("residual", tmp_path)
    network = import_onnx(made)
    before = size_of(import_onnx(trained("residual").network), (torch.zeros(1, 1, 8, 8),)).macs
    assert size_of(network, (torch.zeros(1, 1, 8, 8),)).macs < 0.6 * before
    assert "/blocks/blocks.1/conv1/Conv to /blocks/blocks.1/shortcut/shortcut.1/BatchNormalization" in notes
    samples = Samples(trained("residual").training, ("image",))
    train(network, samples, supervised(), TrainingOptions(epochs=5, learning_rate=5e-3), seed=0)
    assert _top1(network, "residual") > trained("residual").top1 - 0.03


def test_ratio_takes_a_share_of_the_blocks(tmp_path: Path) -> None:
    made, _ = _prune("transformer", tmp_path, ratio=0.75)
    assert _operators(made).count("LayerNormalization") == 2


def test_a_network_without_shortcuts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="no residual block that keeps the shape"):
        _prune("depthwise", tmp_path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 5}, "only 4 can"),
        ({"ratio": 0.1}, "is none"),
        ({"ignore": ("/nowhere",)}, "/nowhere"),
    ],
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PassError, match=message):
        _prune("transformer", tmp_path, **options)


@pytest.mark.parametrize("options", [{"count": 0}, {"ratio": 1.0}, {"ratio": -0.1}, {"measure": "taste"}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PassError, match="bad options"):
        load_pass(PassSpec("prune_layers", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Any, tmp_path: Path) -> None:
    files = trained("transformer")
    check(Case("prune_layers", files.network, files.calibration, tmp_path, training=files.training))
