import numpy as np
import onnx
import pytest

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from support.precision import applied, outputs, top1
from support.trained import trained


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_2_bits_conform(check, tmp_path):
    files = trained("transformer")
    check(Case("quantise_weights", files.network, files.calibration, tmp_path, {"bits": 2}))


def packed_bytes(path):
    """Bytes of the codes of all MatMulNBits."""
    graph = onnx.load(path).graph
    sizes = {tensor.name: int(np.prod(tensor.dims)) for tensor in graph.initializer}
    return sum(sizes[node.input[1]] for node in graph.node if node.op_type == "MatMulNBits")


def test_fewer_bits_are_smaller_and_lose_more_and_8_lose_nothing(tmp_path):
    files = trained("transformer")
    wanted = outputs(files.network, files.evaluation)
    sizes, errors = [], []
    for bits in (8, 4, 2):
        path, report = applied("quantise_weights", files.network, files, tmp_path / str(bits), bits=bits)
        sizes.append(packed_bytes(path))
        errors.append(((outputs(path, files.evaluation) - wanted) ** 2).mean())
        assert top1(path, files) >= files.top1 - {8: 0.005, 4: 0.01, 2: 0.05}[bits]
        assert report.notes[0] == f"{bits} bits cover 99% of the weights"
        assert (len(report.notes) == 2) == (bits == 2)
    assert sizes[0] == 2 * sizes[1] == 4 * sizes[2]
    assert errors[0] < errors[1] / 10 < errors[2] / 100


def test_a_device_too_old_for_2_bits_is_told_of(tmp_path):
    files = trained("transformer")
    _, report = applied("quantise_weights", files.network, files, tmp_path, bits=2)
    assert report.notes[1] == "2-bit weights load in onnxruntime 1.32, not in 1.23"


def test_3_bits_are_refused():
    with pytest.raises(PassError, match="bits=3"):
        load_pass(PassSpec("quantise_weights", {"bits": 3}))
