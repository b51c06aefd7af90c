import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.evaluate import evaluate_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.graphs.resolution import reshaped
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.trained import trained


def resize(source, folder, calibration=None, **options):
    """The pass applied; (path, notes)."""
    context = PassContext(work=folder, calibration=calibration)
    report = load_pass(PassSpec("resize_input", options)).apply(source, folder / "small.onnx", context)
    return folder / "small.onnx", report.notes


def exported(module, folder, *shape):
    """A torch module as an ONNX file with everything fixed."""
    torch.manual_seed(0)
    path = folder / "module.onnx"
    torch.onnx.export(module.eval(), (torch.zeros(shape),), path, dynamo=False, opset_version=17, input_names=["x"])
    return path


def run(path, x):
    session = onnxruntime.InferenceSession(path)
    return session.run(None, {session.get_inputs()[0].name: x})[0]


def largest_map(path, x):
    """Elements of the largest tensor that a convolution makes."""
    model = onnx.load(path)
    names = [node.output[0] for node in model.graph.node if node.op_type == "Conv"]
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    found = onnxruntime.InferenceSession(model.SerializeToString()).run(names, {model.graph.input[0].name: x})
    return max(value.size for value in found)


@pytest.fixture(scope="module")
def doubled(tmp_path_factory):
    """The digits network for pictures of 16x16, and an evaluation set of such."""
    folder, network = tmp_path_factory.mktemp("doubled"), trained("residual")
    model = onnx.load(network.network)
    for dimension in model.graph.input[0].type.tensor_type.shape.dim[2:]:
        dimension.dim_value = 16
    onnx.save(model, folder / "n.onnx")
    samples = list(SampleFile(str(network.evaluation)).read(200))
    pictures = np.stack([one.inputs["image"] for one in samples]).repeat(2, -1).repeat(2, -2)
    write_samples(str(folder / "e.npz"), {"input:image": pictures, "labels": np.stack([one.label for one in samples])})
    return folder / "n.onnx", folder / "e.npz"


def test_a_network_fed_twice_the_size_it_knows_gets_right_and_cheap_again(doubled, tmp_path):
    network, evaluation = doubled
    small, notes = resize(network, tmp_path)
    picture = np.zeros([1, 1, 16, 16], np.float32)
    assert notes == ("resize_input: 16x16 became 8x8",)
    assert largest_map(network, picture) == 4 * largest_map(small, picture)
    assert evaluate_onnx(network, evaluation, "top1").value < 0.9, "the premise"
    assert evaluate_onnx(small, evaluation, "top1").value > 0.98


@pytest.mark.parametrize("method", ["linear", "nearest"])
def test_linear_and_nearest_do_as_well_and_serve_any_scale(method, doubled, tmp_path):
    network, evaluation = doubled
    small, _ = resize(network, tmp_path, method=method)
    assert evaluate_onnx(small, evaluation, "top1").value > 0.98
    _, notes = resize(network, tmp_path, method=method, scale=0.625)
    assert notes == ("resize_input: 16x16 became 10x10",)


def test_fine_tuning_after_it_gives_most_of_the_accuracy_back(tmp_path):
    network = trained("residual")
    small, _ = resize(network.network, tmp_path, scale=0.75)
    before = evaluate_onnx(small, network.evaluation, "top1").value
    torch.set_num_threads(1)
    context = PassContext(work=tmp_path, training=network.training, original=network.network)
    load_pass(PassSpec("fine_tune", {"epochs": 2})).apply(small, tmp_path / "tuned.onnx", context)
    assert before < 0.7, "the premise"
    assert evaluate_onnx(tmp_path / "tuned.onnx", network.evaluation, "top1").value > 0.9


def test_the_batch_stays_free(tmp_path):
    small, _ = resize(trained("residual").network, tmp_path, scale=0.75)
    assert run(small, np.zeros([5, 1, 8, 8], np.float32)).shape == (5, 10)


class Pooled(nn.Module):
    """A convolution, the whole map pooled with a fixed kernel, a head behind a constant shape."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8, 4)

    def forward(self, x):
        return self.head(nn.functional.avg_pool2d(self.conv(x), 16).reshape(1, 8))


def test_pooling_over_the_whole_map_is_made_global(tmp_path):
    source = exported(Pooled(), tmp_path, 1, 3, 16, 16)
    small, notes = resize(source, tmp_path)
    picture = np.full([1, 3, 16, 16], 0.5, np.float32)
    assert any("pools globally" in note for note in notes)
    assert np.abs(run(small, picture) - run(source, picture)).max() < 0.1, "only the border differs"


class Tokens(nn.Module):
    """The front of a vision transformer: patches, a class token, position embeddings, a mean."""

    def __init__(self):
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 4, 4)
        self.first = nn.Parameter(torch.ones(1, 1, 8))
        rows = torch.arange(8.0)[:, None].expand(8, 8)
        place = torch.stack([rows, rows.T] * 4, -1).reshape(1, 64, 8)
        self.place = nn.Parameter(torch.cat([torch.full((1, 1, 8), 99.0), place], 1))

    def forward(self, x):
        tokens = self.patches(x).reshape(1, 8, 64).transpose(1, 2)
        return (torch.cat([self.first, tokens], 1) + self.place)[:, 1:].mean(1)


def test_position_embeddings_are_interpolated_on_their_grid_and_the_class_token_is_left(tmp_path):
    source = exported(Tokens(), tmp_path, 1, 3, 32, 32)
    small, notes = resize(source, tmp_path)
    model = onnx.load(small)
    place = next(
        onnx.numpy_helper.to_array(t) for t in model.graph.initializer if "resized" in t.name and t.dims[0] == 1
    )
    assert place.shape == (1, 17, 8)
    assert (place[0, 0] == 99).all()
    assert place[0, 1:].reshape(4, 4, 8)[:, 0, 0].tolist() == [0.5, 2.5, 4.5, 6.5]
    assert any("reshapes to [1, 8, 16]" in note for note in notes)
    picture = np.full([1, 3, 32, 32], 0.5, np.float32)
    np.testing.assert_allclose(run(small, picture), run(source, picture), atol=1e-4)


@pytest.mark.parametrize(
    ("target", "result", "old", "new", "expected"),
    [
        ((1, 8, 64), (1, 8, 64), (1, 8, 8, 8), (1, 8, 4, 4), [1, 8, 16]),
        ((-1, 64), (8, 64), (1, 8, 8, 8), (1, 8, 4, 4), [-1, 16]),
        ((1, -1), (1, 512), (1, 8, 8, 8), (1, 8, 4, 4), [1, -1]),
        ((0, 2, 4, 8, 8), (1, 2, 4, 8, 8), (1, 8, 8, 8), (1, 8, 4, 4), [0, 2, 4, 4, 4]),
        ((1, 64, 64), (1, 64, 64), (1, 64, 8, 8), (1, 64, 4, 4), None),
        ((4, 3, 32), (4, 3, 32), (1, 6, 8, 8), (1, 6, 4, 4), None),
    ],
)
def test_a_constant_shape_is_adapted_only_where_it_is_plain_what_it_means(target, result, old, new, expected):
    assert reshaped(target, result, old, new) == expected


class Flattened(nn.Module):
    """A head that knows the size of the map."""

    def __init__(self):
        super().__init__()
        self.conv, self.head = nn.Conv2d(3, 8, 3, padding=1), nn.Linear(8 * 256, 4)

    def forward(self, x):
        return self.head(self.conv(x).flatten(1))


def test_the_node_that_forbids_it_is_named_with_its_sizes(tmp_path):
    source = exported(Flattened(), tmp_path, 1, 3, 16, 16)
    with pytest.raises(
        PassError, match=r"Gemm '/head/Gemm'.*now \[1, 512\], they were \[1, 2048\].*global or adaptive"
    ):
        resize(source, tmp_path)


def test_an_output_with_a_spatial_size_is_refused(tmp_path):
    source = exported(nn.Conv2d(3, 2, 1), tmp_path, 1, 3, 16, 16)
    with pytest.raises(PassError, match=r"would have shape \[1, 2, 8, 8\] instead of \[1, 2, 16, 16\]"):
        resize(source, tmp_path)


def test_nothing_left_of_the_picture_is_an_error(tmp_path):
    with pytest.raises(PassError, match=r"size \[8, 8\] has nothing left at 0.1"):
        resize(trained("residual").network, tmp_path, scale=0.1)


def test_a_free_size_needs_a_sample(tmp_path):
    model = onnx.load(trained("residual").network)
    for axis, dimension in enumerate(model.graph.input[0].type.tensor_type.shape.dim[2:]):
        dimension.dim_param = f"side{axis}"
    onnx.save(model, tmp_path / "free.onnx")
    with pytest.raises(PassError, match="size of input 'image' is free"):
        resize(tmp_path / "free.onnx", tmp_path)
    _, notes = resize(tmp_path / "free.onnx", tmp_path, trained("residual").calibration)
    assert notes == ("resize_input: 8x8 became 4x4",)


def test_an_unknown_input_is_named_with_those_there_are(tmp_path):
    with pytest.raises(PassError, match=r"no input 'picture'\. Inputs: image"):
        resize(trained("residual").network, tmp_path, input="picture")


@pytest.mark.parametrize(
    ("options", "message"),
    [({"scale": 1.0}, "scale is 1.0"), ({"scale": 0.75, "method": "area"}, "area needs a whole number")],
)
def test_options_that_make_no_sense_are_refused_with_the_value(options, message):
    with pytest.raises(PassError, match=message):
        load_pass(PassSpec("resize_input", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_it_conforms(check, tmp_path):
    network = trained("depthwise")
    check(Case("resize_input", network.network, network.calibration, tmp_path, {"scale": 0.75}))
