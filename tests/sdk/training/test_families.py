import pytest
import torch
from torch import nn

from edgeopt.errors import ModelError
from edgeopt.graph.user_code import load_function
from edgeopt.training.families import inverted_residual, residual
from support.precision import top1
from support.recovering import apply, parameters
from support.trained import trained

FAMILIES = {"residual": residual, "inverted_residual": inverted_residual}
HERE = "edgeopt.training.families"


def strides(network):
    """Of all convolutions that halve, in order; those of shortcuts left out."""
    layers = [module for module in network.modules() if isinstance(module, (nn.Conv1d, nn.Conv2d))]
    return [layer.stride[0] for layer in layers if layer.stride[0] > 1 and layer.kernel_size[0] > 1]


def last_map(network, example):
    """Size of what the pooling gets."""
    found = []
    pool = next(module for module in network.modules() if "AdaptiveAvgPool" in type(module).__name__)
    pool.register_forward_pre_hook(lambda _, given: found.append(tuple(given[0].shape[2:])))
    network.eval()(example)
    return found[0]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize(
    ("shape", "size"),
    [((1, 4, 4), (4, 4)), ((1, 8, 8), (4, 4)), ((3, 32, 32), (4, 4)), ((3, 96, 64), (6, 4)), ((3, 224, 224), (7, 7)),
     ((6, 128), (4,)), ((3, 3, 40), (3, 40))],
)  # fmt: skip
def test_the_picture_decides_how_often_it_is_halved(family, shape, size):
    network, example = FAMILIES[family](inputs=[shape], outputs=[[7]], width=4, depth=1)
    assert example.shape == (1, *shape)
    assert last_map(network, example) == size
    assert network(torch.cat([example] * 3)).shape == (3, 7)


@pytest.mark.parametrize("family", FAMILIES)
def test_width_depth_and_kernel_each_change_the_size(family):
    def size(**options):
        network, _ = FAMILIES[family](inputs=[[1, 8, 8]], outputs=[[10]], **options)
        return sum(tensor.numel() for tensor in network.parameters())

    grid = [size(width=width, depth=depth) for width in (4, 8, 16) for depth in (1, 2, 3)]
    assert len(set(grid)) == 9
    assert all(size(width=8, depth=depth) > 2 * size(width=4, depth=depth) for depth in (1, 2, 3))
    assert size(width=8, depth=1) < size(width=8, depth=2) < size(width=8, depth=3)
    assert size(width=8, kernel=5) > size(width=8, kernel=3)


def test_expansion_one_has_no_wider_layer_and_fewer_weights():
    small, _ = inverted_residual(inputs=[[1, 8, 8]], outputs=[[10]], width=8, expansion=1)
    large, _ = inverted_residual(inputs=[[1, 8, 8]], outputs=[[10]], width=8, expansion=4)
    assert len(list(small.modules())) < len(list(large.modules()))


@pytest.mark.parametrize(
    ("arguments", "least"),
    [("residual(width=8, depth=1)", 0.97), ("inverted_residual(width=8, depth=1, kernel=3)", 0.95)],
)
def test_a_student_of_a_family_learns_the_digits_by_distillation(arguments, least, tmp_path):
    files, made = trained("residual"), tmp_path / "student.onnx"
    options = {"student": f"{HERE}:{arguments}", "epochs": 6, "learning_rate": 1e-2, "training": files.training}
    apply("distil_student", files.network, files, made, **options)
    assert parameters(made) < 0.25 * parameters(files.network)
    assert top1(made, files) > least


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("residual(width=0)", "width is 0, must be a whole number of at least 1"),
        ("residual(depth=1.5)", r"depth is 1\.5"),
        ("residual(kernel=4)", "kernel is 4, must be odd"),
        ("inverted_residual(expansion=0)", "expansion is 0"),
        ("residual(outputs=[[10], [4]])", r"not for inputs \[1, 8, 8\] and outputs \[10\], \[4\]"),
        ("residual(inputs=[[5]])", r"not for inputs \[5\]"),
        (
            "residual(widht=3)",
            r"unexpected keyword argument 'widht'.* It takes \(\*, inputs, outputs, width=16, depth=2",
        ),
    ],
)
def test_values_of_no_use_are_named(arguments, message):
    known = {"inputs": ((1, 8, 8),), "outputs": ((10,),)}
    with pytest.raises(ModelError, match=message):
        load_function(f"{HERE}:{arguments}", ModelError, known=known)()
