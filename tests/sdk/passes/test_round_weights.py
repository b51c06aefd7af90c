import numpy as np
import pytest

from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.layers import Network
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.quantising.adaround import Task, learn
from edgeopt.passes.quantising.grid import exact
from edgeopt.passes.quantising.rounding import Lattice
from edgeopt.passes.round_weights import Options
from edgeopt.testing.passes import CHECKS, Case
from support.precision import applied, changed, outputs, top1
from support.trained import trained

QUICK = {"steps": 200, "rows": 2048, "samples": 64}


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check, tmp_path):
    files = trained("residual")
    options = {"bits": 4, "steps": 20, "rows": 256, "samples": 8}
    check(Case("round_weights", files.network, files.calibration, tmp_path, options))


def nearest(files, path, bits):
    lattice = Lattice(bits, True, True)

    def change(network):
        for layer in network.layers:
            network.set_weight(layer, lattice.nearest(network.weight(layer)))

    return changed(files.network, path, change)


def error(path, files):
    """Mean squared error of the logits."""
    return float(((outputs(path, files.evaluation) - outputs(files.network, files.evaluation)) ** 2).mean())


@pytest.mark.parametrize(
    ("name", "most", "least"), [("residual", 0.8, 0.975), ("depthwise", 0.5, 0.9), ("transformer", 0.93, 0.955)]
)
def test_ternary_weights_that_nearest_rounding_ruins_are_usable(name, most, least, tmp_path):
    files = trained(name)
    learnt, report = applied("round_weights", files.network, files, tmp_path / "r", bits=2, **QUICK)
    assert top1(nearest(files, tmp_path / "near.onnx", 2), files) < most < least < top1(learnt, files)
    assert report.notes[0].startswith("learnt to round ")
    assert report.notes[0].endswith(" layers to 2 bits")


def test_4_bits_err_several_times_less_than_nearest_and_than_corrected_biases(tmp_path):
    files = trained("depthwise")
    learnt, _ = applied("round_weights", files.network, files, tmp_path / "r", bits=4, **QUICK)
    corrected, _ = applied("correct_bias", files.network, files, tmp_path / "c", bits=4)
    assert error(learnt, files) < 0.7 * error(corrected, files)
    assert error(learnt, files) < 0.3 * error(nearest(files, tmp_path / "near.onnx", 4), files)
    assert top1(learnt, files) >= files.top1 - 0.01


@pytest.mark.parametrize("per_channel", [True, False])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_weights_lie_on_the_grid_and_are_not_just_the_nearest(bits, per_channel, tmp_path):
    files = trained("residual")
    options = {"bits": bits, "per_channel": per_channel, "steps": 60, "rows": 512, "samples": 16}
    learnt = Network.load(applied("round_weights", files.network, files, tmp_path / "r", **options)[0])
    before = Network.load(prepare(files.network, PassContext(work=tmp_path)))
    lattice = Lattice(bits, True, per_channel)
    moved = 0
    for layer in learnt.layers:
        weight = learnt.weight(layer)
        flat = weight.reshape((len(weight), -1) if per_channel else (1, -1))
        assert exact(flat, bits, 0, reduced=True), layer.name
        moved += int((np.abs(weight - lattice.nearest(before.weight(layer))) > 1e-6).sum())
        scale = lattice.scale(before.weight(layer))
        inside = np.clip(before.weight(layer), -lattice.top * scale, lattice.top * scale)
        assert (np.abs(weight - inside) <= 1.0001 * scale).all()
    assert moved > 50


def test_layers_that_must_stay_float_and_those_out_of_time_are_left(tmp_path):
    files = trained("residual")
    before = Network.load(prepare(files.network, PassContext(work=tmp_path)))
    kept = before.layers[0]
    path, report = applied(
        "round_weights", files.network, files, tmp_path / "r", bits=4, keep=(kept.name,), max_seconds=1e-9
    )
    assert report.notes == ("learnt to round 0 layers to 4 bits", "7 of 7 layers were not reached in time")
    assert report.kept_float == (kept.name,)
    np.testing.assert_array_equal(Network.load(path).weight(kept), before.weight(kept))


def test_learning_finds_the_rounding_that_keeps_a_sum():
    """Four equal inputs with weights of 1.65 steps in all: the nearest loses every one, two of four up keep the sum."""
    rng = np.random.default_rng(0)
    weight = np.array([[[0.30, 0.40, 0.46, 0.49, 7.0]]], np.float32)
    inputs = rng.standard_normal((1024, 1, 1)).astype(np.float32).repeat(5, axis=2) * (weight < 7)
    task = Task(inputs, (inputs @ weight[0].T)[:, 0], False, np.zeros(1, np.float32))
    learnt = learn(task, weight, np.ones((1, 1, 1), np.float32), weight == 7, top=7, steps=300, rng=rng)
    assert np.rint(weight).ravel().tolist() == [0, 0, 0, 0, 7]
    assert sorted(learnt.ravel()) == [0, 0, 1, 1, 7]


def test_the_derivative_is_that_of_the_error():
    rng = np.random.default_rng(3)
    inputs, weight = rng.standard_normal((50, 2, 3)), rng.standard_normal((2, 2, 3))
    for rectified in (False, True):
        task = Task(inputs, rng.standard_normal((50, 4)), rectified, rng.standard_normal(4))
        step = np.zeros_like(weight)
        step[1, 0, 2] = 1e-6
        numeric = (task.errors(weight + step).sum() - task.errors(weight - step).sum()) / 2e-6
        assert task.slope(weight)[1, 0, 2] == pytest.approx(numeric, rel=1e-4)


@pytest.mark.parametrize("options", [{"steps": 0}, {"rows": 0}, {"samples": 0}, {"max_seconds": -1.0}])
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(ValueError, match=next(iter(options))):
        Options(**options)
