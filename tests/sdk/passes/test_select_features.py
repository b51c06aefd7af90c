from __future__ import annotations

import warnings
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.session import open_session
from edgeopt.passes._base import PassContext
from edgeopt.passes.registry import load_pass
from edgeopt.passes.select_features import Options, SelectFeatures
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.engine import train
from edgeopt.training.losses import supervised
from edgeopt.training.options import TrainingOptions
from edgeopt.training.samples import Samples
from edgeopt_runner.protocol.samples import write_samples
from support.trained import trained


class Dense(nn.Module):
    """Reads the 64 pixels as features."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))

    def forward(self, image: Tensor) -> Tensor:
        return self.layers(image)


class Rows(nn.Module):
    """Reads the rows as channels of a convolution over columns, or as features of a recurrent layer."""

    def __init__(self, recurrent: bool) -> None:
        super().__init__()
        self.recurrent = recurrent
        self.conv, self.lstm = nn.Conv1d(8, 16, 3, bias=False), nn.LSTM(8, 16, batch_first=True)
        self.head = nn.Linear(16, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = (image[:, 0] - 0.3) / 0.5
        return self.head(self.lstm(x)[0][:, -1] if self.recurrent else self.conv(x).mean(2))


@cache
def _dense() -> Path:
    """A trained `Dense` as a file."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    network = Dense()
    samples = Samples(trained("residual").training, ("image",))
    train(network, samples, supervised(), TrainingOptions(epochs=8, learning_rate=5e-3), seed=0)
    return _export(network, Path(mkdtemp(), "dense.onnx"))


def _export(network: nn.Module, path: Path) -> Path:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (torch.rand(2, 1, 8, 8),),
            path,
            dynamo=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}},
        )
    return path


def _select(source: Path, work: Path, samples: Path | None = None, **options: Any) -> tuple[Path, str]:
    files, made = trained("residual"), work / "made.onnx"
    context = PassContext(
        work=work, calibration=samples or files.calibration, training=None if samples else files.training
    )
    report = SelectFeatures(Options(**options)).apply(source, made, context)
    return made, "; ".join(report.notes)


def _evaluation() -> tuple[Any, Any]:
    samples = Samples(trained("residual").evaluation, ("image",))
    (images,), labels = samples.batch(range(len(samples)))
    return images.numpy(), np.asarray(labels)


def _run(path: Path, images: Any) -> Any:
    return open_session(path).run(None, {"image": images})[0]


def _top1(path: Path) -> float:
    images, labels = _evaluation()
    return float((_run(path, images).argmax(1) == labels).mean())


@pytest.mark.parametrize("importance", ["weight", "taylor"])
def test_two_thirds_of_the_pixels_are_nearly_as_good_as_all(importance: str, tmp_path: Path) -> None:
    made, notes = _select(_dense(), tmp_path, count=42, importance=importance)
    assert "reads 42 of 64 features of `image`" in notes
    assert _top1(made) > _top1(_dense()) - 0.04
    shapes = [tuple(tensor.dims) for tensor in onnx.load(made).graph.initializer]
    assert (32, 42) in shapes or (42, 32) in shapes


def test_it_takes_better_pixels_than_the_other_end_of_the_ranking(tmp_path: Path) -> None:
    made, notes = _select(_dense(), tmp_path, count=20)
    assert _top1(made) > 0.5, notes


def test_constant_features_cost_nothing_even_when_they_are_not_zero(tmp_path: Path) -> None:
    images, _ = _evaluation()
    images = images.copy()
    images[:, :, :, [0, 7]] = 0.7
    samples = tmp_path / "constant.npz"
    write_samples(str(samples), {"input:image": images[:100, None]})
    made, notes = _select(_dense(), tmp_path, samples, count=48)
    np.testing.assert_allclose(_run(made, images), _run(_dense(), images), atol=1e-4)
    assert "x0." in notes


@pytest.mark.parametrize("recurrent", [False, True])
@pytest.mark.parametrize("importance", ["weight", "taylor"])
def test_channels_of_convolutions_and_recurrent_layers(recurrent: bool, importance: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Rows(recurrent)
    source = _export(network, tmp_path / "rows.onnx")
    made, notes = _select(source, tmp_path, ratio=0.5, importance=importance)
    assert "reads 4 of 8 features" in notes
    kept = [int(number) for number in notes.split(": ")[1].split(";")[0].split(", ")]
    images, _ = _evaluation()
    changed = images.copy()
    lost = [index for index in range(8) if index not in kept]
    changed[(slice(None), slice(None), slice(None), lost) if recurrent else (slice(None), slice(None), lost)] = 9.0
    np.testing.assert_allclose(_run(made, changed), _run(made, images), atol=1e-5)
    assert np.abs(_run(source, changed) - _run(source, images)).max() > 0.1


def test_a_first_layer_that_reads_one_channel_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="1 features are to stay, but `image` has 1"):
        _select(trained("residual").network, tmp_path)


def test_unknown_inputs_and_too_many_features_are_refused(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="no input 'sound'"):
        _select(_dense(), tmp_path, input="sound")
    with pytest.raises(PassError, match="64 features are to stay, but `image` has 64"):
        _select(_dense(), tmp_path, count=64)


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"ratio": 0.0}, {"count": -1}, {"importance": "taste"}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PassError, match="bad options"):
        load_pass(PassSpec("select_features", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Any, tmp_path: Path) -> None:
    files = trained("residual")
    check(Case("select_features", _dense(), files.calibration, tmp_path, training=files.training))
