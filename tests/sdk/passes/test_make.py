import json
import os
import signal
import subprocess
import sys

import onnx
import pytest

from edgeopt.core.recipe import PassSpec, Recipe
from edgeopt.errors import ParityError, PassError
from edgeopt.passes._step import check_parity
from edgeopt.passes.graphs.questions import census
from edgeopt.passes.make import make_variant
from support.compressing import make_context, sample_file
from support.networks import broken_nan_onnx, constant_onnx, matmul_transformer_onnx, mlp_onnx, small_cnn_onnx

SIMPLIFY, STATIC = PassSpec("simplify"), PassSpec("quantise_static")


def recipe(*specs):
    return Recipe("test", tuple(specs))


def test_int8_recipe_makes_a_smaller_file_that_agrees(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx", width=512)
    made = make_variant(network, recipe(SIMPLIFY, STATIC), make_context(tmp_path, network))
    assert made.path.stat().st_size < 0.4 * network.stat().st_size
    assert 0.99 < made.parity.cosine < 1.0
    assert census(made.path)["INT8"] == 2


def test_empty_recipe_is_the_source(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    assert make_variant(network, recipe(), make_context(tmp_path, network)).path == network


def test_recipes_share_their_first_passes_and_a_second_call_makes_nothing(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    context = make_context(tmp_path, network)
    first = make_variant(network, recipe(SIMPLIFY), context)
    made = make_variant(network, recipe(SIMPLIFY, STATIC), context)
    results = {path: path.stat().st_mtime_ns for path in context.cache.glob("*.json")}
    assert len(results) == 2
    assert first.path.exists()
    again = make_variant(network, recipe(SIMPLIFY, STATIC), context)
    assert again == made
    assert {path: path.stat().st_mtime_ns for path in context.cache.glob("*.json")} == results


def test_damaged_kept_result_is_made_again(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    context = make_context(tmp_path, network)
    made = make_variant(network, recipe(SIMPLIFY), context)
    right = made.path.read_bytes()
    made.path.write_bytes(right[:-10])
    assert make_variant(network, recipe(SIMPLIFY), context).path.read_bytes() == right


def test_other_isa_and_other_calibration_data_make_other_files(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    context = make_context(tmp_path, network)
    other_isa = make_context(tmp_path, network, isa=("avx2", "avx512_vnni"))
    other_data = make_context(
        tmp_path, network, calibration=sample_file(tmp_path / "o.npz", network, seed=9, scale=3.0)
    )
    made = [make_variant(network, recipe(STATIC), each) for each in (context, other_isa, other_data)]
    assert len({one.path.read_bytes() for one in made}) == 3


def test_network_without_a_layer_to_quantise_is_an_error_that_names_the_pass(tmp_path):
    network = broken_nan_onnx(tmp_path / "n.onnx")  # Abs, Sub, Log
    with pytest.raises(PassError, match=r"pass quantise_static: the network has no Conv/.* with constant weights"):
        make_variant(network, recipe(STATIC), make_context(tmp_path, network))


def test_quantising_with_every_layer_kept_in_float_is_said_to_change_nothing(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    context = make_context(tmp_path, network, keep_float=("fc1", "fc2"))
    with pytest.raises(PassError, match=r"pass quantise_static: it changed nothing"):
        make_variant(network, recipe(STATIC), context)


def test_weight_only_is_refused_with_the_share_where_convolutions_hold_the_weights(tmp_path):
    network = small_cnn_onnx(tmp_path / "n.onnx")
    with pytest.raises(PassError, match=r"pass quantise_weights: only 12% of the weights are in Gemm/MatMul"):
        make_variant(network, recipe(PassSpec("quantise_weights")), make_context(tmp_path, network))


def test_static_without_calibration_samples_says_so(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    with pytest.raises(PassError, match="needs calibration samples"):
        make_variant(network, recipe(STATIC), make_context(tmp_path, network, calibration=None))


def test_keep_float_leaves_exactly_those_layers_in_float(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    made = make_variant(network, recipe(STATIC), make_context(tmp_path, network, keep_float=("fc2",)))
    model = onnx.load(made.path)
    fed_by = {name: node.op_type for node in model.graph.node for name in node.output}
    weights = {node.name: fed_by.get(node.input[1]) for node in model.graph.node if node.op_type == "Gemm"}
    assert weights == {"fc1": "DequantizeLinear", "fc2": None}
    assert made.kept_float == ("fc2",)


@pytest.mark.parametrize("name", ["quantise_dynamic", "quantise_weights"])
def test_keep_float_reaches_gemm_layers_that_become_matmul(name, tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    options = {"min_share": 0.0}
    whole = make_variant(network, recipe(PassSpec(name, options)), make_context(tmp_path, network))
    part = make_variant(network, recipe(PassSpec(name, options)), make_context(tmp_path, network, keep_float=("fc2",)))
    operator = {"quantise_dynamic": "MatMulInteger", "quantise_weights": "MatMulNBits"}[name]
    assert (census(whole.path)[operator], census(part.path)[operator]) == (2, 1)


def test_ir_version_is_lowered_where_that_is_exact(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    model = onnx.load(network)
    model.ir_version = 12
    onnx.save(model, network)
    made = make_variant(network, recipe(PassSpec("optimise_graph")), make_context(tmp_path, network))
    assert onnx.load(made.path).ir_version <= 10


@pytest.mark.parametrize(
    ("broken", "reason"), [(broken_nan_onnx, "not finite"), (constant_onnx, "do not depend on the inputs")]
)
def test_outputs_that_are_broken_are_caught(broken, reason, tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    samples = sample_file(tmp_path / "s.npz", network, 4)
    if broken is broken_nan_onnx:  # same outputs by name and shape as the network, all NaN
        reference = broken_nan_onnx(tmp_path / "r.onnx")
        network = matched = reference
        samples = sample_file(tmp_path / "s2.npz", mlp_onnx(tmp_path / "m.onnx"), 4)
    else:
        matched = constant_onnx(tmp_path / "c.onnx")
    with pytest.raises(ParityError, match=reason):
        check_parity(network, matched, samples, 0.5)


def test_wrong_outputs_name_the_first_layer_that_differs(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    samples = sample_file(tmp_path / "s.npz", network, 4)
    other = mlp_onnx(tmp_path / "other.onnx", seed=1)
    with pytest.raises(ParityError, match=r"cosine .* was asked.*It starts at fc1 \(Gemm\)"):
        check_parity(network, other, samples, 0.9999)


def test_deadline_of_a_pass_is_kept_and_an_optional_pass_falls_back(tmp_path):
    network = mlp_onnx(tmp_path / "n.onnx")
    context = make_context(tmp_path, network, deadline_seconds=0.01)
    with pytest.raises(PassError, match=r"pass quantise_static: .*timeout"):
        make_variant(network, recipe(STATIC), context)
    made = make_variant(network, recipe(SIMPLIFY), context)
    assert made.path == network
    assert "Went on with the result before it" in made.notes[0]
    assert not list(context.cache.glob("*.json")), "a timeout must not be remembered"


def test_killed_run_goes_on_where_it_stopped(tmp_path):
    network = matmul_transformer_onnx(tmp_path / "n.onnx")
    context = make_context(tmp_path, network)
    code = (
        "from pathlib import Path; from edgeopt.core.recipe import *; from edgeopt.passes.make import *;"
        f"c = MakeContext(golden=Path({str(context.golden)!r}), cache=Path({str(context.cache)!r}),"
        f" calibration=Path({str(context.calibration)!r}), isa=('avx2',));"
        f"make_variant(Path({str(network)!r}), Recipe('r', (PassSpec('simplify'),)), c); print('made', flush=True);"
        f"make_variant(Path({str(network)!r}), Recipe('r', (PassSpec('simplify'), PassSpec('quantise_static'))), c)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert process.stdout.readline() == b"made\n"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    kept = {path.name for path in context.cache.glob("*.json")}
    made = make_variant(network, recipe(SIMPLIFY, STATIC), context)
    assert kept
    assert made.parity.cosine > 0.99
    assert all(json.loads(path.read_text()) for path in context.cache.glob("*.json"))
