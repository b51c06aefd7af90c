import re
from pathlib import Path

import pytest

from edgeopt.passes.registry import pass_names
from edgeopt.testing.passes import CHECKS, Case
from support.compressing import sample_file
from support.networks import matmul_transformer_onnx, small_cnn_onnx

BUILT_IN = {
    "simplify": (small_cnn_onnx, [{}]),
    "optimise_graph": (small_cnn_onnx, [{"level": "extended"}]),
    "cast_half": (small_cnn_onnx, [{}]),
    "quantise_dynamic": (matmul_transformer_onnx, [{}]),
    "quantise_static": (small_cnn_onnx, [{"calibrator": "mse"}]),
    "quantise_weights": (matmul_transformer_onnx, [{"bits": 4}]),
}
CASES = [(name, options) for name, (_, choices) in BUILT_IN.items() for options in choices]


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@pytest.mark.parametrize(("name", "options"), CASES, ids=[name for name, _ in CASES])
def test_built_in_pass_conforms(check, name, options, tmp_path):
    network = BUILT_IN[name][0](tmp_path / "network.onnx")
    samples = sample_file(tmp_path / "samples.npz", network, 8)
    check(Case(name, network, samples, tmp_path, options))


def test_every_built_in_pass_is_under_conformance_here_or_beside_its_own_tests():
    tests = Path(__file__).parents[2]
    found = [*tests.glob("sdk/passes/test_*.py"), *tests.glob("targets/convert/test_*.py")]
    texts = "".join(path.read_text() for path in found)
    elsewhere = set(re.findall(r'Case\(\s*"(\w+)"', texts))
    assert set(pass_names()) == set(BUILT_IN) | elsewhere
