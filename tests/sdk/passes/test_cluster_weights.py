import gzip

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import numpy_helper

from edgeopt.errors import PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.prepare import prepare
from edgeopt.passes.graphs.weights import constant_weights
from edgeopt.passes.quantising.clusters import assigned, centroids
from edgeopt.testing.passes import CHECKS, Case
from support.precision import applied, changed, outputs, top1
from support.trained import trained

NAMES = ("residual", "depthwise", "transformer", "recurrent")


def folded_weights(path, tmp_path):
    """The weights of a network as ONNX Runtime sees them once it has unpacked them."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "folded.onnx")
    onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    model = onnx.load(tmp_path / "folded.onnx")
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    return {weight.node: numpy_helper.to_array(tensors[weight.name]) for weight in constant_weights(model)}


@pytest.mark.parametrize("name", NAMES)
def test_sixteen_shared_values_keep_the_accuracy_in_a_file_of_a_fraction(name, tmp_path):
    files = trained(name)
    clustered, report = applied("cluster_weights", files.network, files, tmp_path)
    assert top1(clustered, files) >= files.top1 - 0.015
    assert clustered.stat().st_size < 0.45 * files.network.stat().st_size
    assert "saves size only" in report.notes[0]


def test_the_file_shrinks_compressed_too(tmp_path):
    files = trained("residual")
    clustered, _ = applied("cluster_weights", files.network, files, tmp_path)
    assert clustered.stat().st_size < files.network.stat().st_size / 5
    assert len(gzip.compress(clustered.read_bytes())) < len(gzip.compress(files.network.read_bytes())) / 6


def test_each_layer_has_values_of_its_own(tmp_path):
    files = trained("residual")
    clustered, report = applied("cluster_weights", files.network, files, tmp_path, clusters=6)
    found = folded_weights(clustered, tmp_path)
    skipped = {node for node in found if any(node in note for note in report.notes[1:])}
    values = {node: frozenset(np.unique(weight)) for node, weight in found.items() if node not in skipped}
    assert len(values) == 7
    assert all(len(one) <= 6 for one in values.values())
    assert len(set(values.values())) == 7


def test_a_global_list_is_the_same_in_all_layers(tmp_path):
    files = trained("residual")
    clustered, report = applied("cluster_weights", files.network, files, tmp_path, scope="global")
    found = folded_weights(clustered, tmp_path)
    shared = [weight for node, weight in found.items() if not any(node in note for note in report.notes[1:])]
    assert len(np.unique(np.concatenate([weight.ravel() for weight in shared]))) <= 16


def test_more_clusters_come_closer(tmp_path):
    files = trained("residual")
    wanted = outputs(files.network, files.evaluation)
    errors = []
    for clusters in (4, 16, 64):
        path, _ = applied("cluster_weights", files.network, files, tmp_path, clusters=clusters)
        errors.append(float(((outputs(path, files.evaluation) - wanted) ** 2).mean()))
    assert errors[0] > 4 * errors[1] > 16 * errors[2]


def sparse(network):
    for layer in network.layers:
        weight = network.weight(layer)
        weight[np.abs(weight) < np.quantile(np.abs(weight), 0.5)] = 0
        network.set_weight(layer, weight)


def test_zeros_stay_zeros(tmp_path):
    files = trained("residual")
    pruned = changed(files.network, tmp_path / "sparse.onnx", sparse)
    clustered, _ = applied("cluster_weights", pruned, files, tmp_path / "clustered")
    before, after = folded_weights(pruned, tmp_path), folded_weights(clustered, tmp_path)
    for node, weight in before.items():
        assert not after[node][weight == 0].any(), node


def test_centroids_are_a_fixed_point_of_lloyds_rounds():
    values = np.random.default_rng(0).standard_normal(5000).astype(np.float32)
    centres = centroids(values, 16)
    places = assigned(values, centres)
    means = np.array([values[places == place].astype(np.float64).mean() for place in range(len(centres))])
    assert np.allclose(means, centres, atol=1e-6)
    brute = np.abs(values[:, None].astype(np.float64) - centres[None]).argmin(1)
    assert (np.abs(values - centres[places]) <= np.abs(values - centres[brute]) + 1e-7).all()


def test_weights_of_few_values_are_left_as_they_are():
    values = np.array([[0.5, -1.0], [0.0, 0.5]], np.float32)
    centres = centroids(values, 16)
    assert np.array_equal(centres[assigned(values, centres)], values)


def test_kept_nodes_keep_their_weights(tmp_path):
    files = trained("residual")
    clustered, _ = applied("cluster_weights", files.network, files, tmp_path, keep=("/head/Gemm",))
    before = folded_weights(prepare(files.network, PassContext(work=tmp_path)), tmp_path)
    assert np.array_equal(folded_weights(clustered, tmp_path)["/head/Gemm"], before["/head/Gemm"])


@pytest.mark.parametrize("clusters", [1, 257])
def test_a_number_of_clusters_that_a_byte_does_not_hold_is_refused(clusters, tmp_path):
    files = trained("residual")
    with pytest.raises(PassError, match=f"clusters is {clusters}"):
        applied("cluster_weights", files.network, files, tmp_path, clusters=clusters)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    files = trained("recurrent")
    check(Case("cluster_weights", files.network, files.evaluation, tmp_path))
