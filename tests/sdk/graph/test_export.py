from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from edgeopt.errors import ModelError
from edgeopt.graph.export import export_source
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.source import load_model
from support.networks import write_torch_file

torch = pytest.importorskip("torch", reason="torch is not installed")

HARD = """
import torch
from torch import nn


class Branching(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > -1e9 else x * 3


class Deciding(nn.Module):
    def forward(self, x):
        return x * 2 if x.sum() > 0 else x * 3 + 1


class Embedding(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, ids):
        return {"vectors": self.table(ids), "mean": self.table(ids).mean(1)}


def branching():
    return Branching(), torch.ones(1, 3)


def deciding():
    return Deciding(), torch.ones(1, 3)


def embedding():
    return Embedding()


def text():
    class Text(nn.Module):
        def forward(self, x):
            return "yes"
    return Text(), torch.ones(1, 3)
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    return write_torch_file(tmp_path / "nets.py")


@pytest.fixture
def hard(tmp_path: Path) -> Path:
    (tmp_path / "hard.py").write_text(HARD)
    return tmp_path / "hard.py"


def export(source: str, folder: Path, shapes: dict[str, list[int]] | None = None, example: str | None = None) -> Any:
    answer = export_source(source, str(folder / "out.onnx"), shapes or {}, example)
    return answer, folder / "out.onnx"


def test_a_torch_function_becomes_onnx_with_a_dynamic_batch(nets: Path, tmp_path: Path) -> None:
    loaded = load_model(f"{nets}:with_example", folder=tmp_path)
    assert loaded.model.name == "nets-with_example"
    assert loaded.model.exporter.startswith("dynamo (torch ")
    assert loaded.model.signature.inputs[0].shape == (None, 1, 8, 8)
    assert loaded.model.signature.inputs[0].name == "image"
    assert loaded.model.signature.outputs[0].shape == (None, 10)
    outputs = run_feed(open_session(loaded.path), {"image": np.ones((5, 1, 8, 8), np.float32)})
    assert outputs["output"].shape == (5, 10)


def test_nothing_of_the_users_paths_is_left_in_the_file(nets: Path, tmp_path: Path) -> None:
    _, path = export(f"{nets}:bare", tmp_path, {"image": [1, 1, 8, 8]})
    assert str(tmp_path).encode() not in path.read_bytes()
    assert not any(node.metadata_props for node in onnx.load(path).graph.node)


def test_a_network_of_one_batch_size_is_exported_with_that(nets: Path, tmp_path: Path) -> None:
    answer, path = export(f"{nets}:fixed_batch", tmp_path)
    assert inspect_onnx(path).signature.inputs[0].shape == (2, 3, 4)
    assert "runs with the example's batch only" in answer["notes"][0]


def test_inputs_by_name_keep_their_names(nets: Path, tmp_path: Path) -> None:
    _, path = export(f"{nets}:two_inputs", tmp_path)
    assert [spec.name for spec in inspect_onnx(path).signature.inputs] == ["left", "right"]


def test_example_inputs_may_come_from_the_data(nets: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "example.npz", image=np.zeros((1, 1, 8, 8), np.float32))
    _, path = export(f"{nets}:bare", tmp_path, example=str(tmp_path / "example.npz"))
    assert inspect_onnx(path).signature.dynamic_batch


def test_index_inputs_are_found_and_outputs_keep_the_dicts_names(hard: Path, tmp_path: Path) -> None:
    _, path = export(f"{hard}:embedding", tmp_path, {"ids": [1, 6]})
    signature = inspect_onnx(path).signature
    assert signature.inputs[0].dtype == "int64"
    assert [spec.name for spec in signature.outputs] == ["vectors", "mean"]


def test_the_older_exporter_takes_over_and_the_note_says_why(hard: Path, tmp_path: Path) -> None:
    answer, path = export(f"{hard}:branching", tmp_path)
    assert answer["exporter"].startswith("torchscript")
    assert answer["notes"][0].startswith("Export fell back (dynamo with dynamic batch: ")
    assert inspect_onnx(path).opset == 17


def test_when_both_exporters_fail_both_reasons_are_told(hard: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError) as caught:
        export(f"{hard}:deciding", tmp_path)
    assert "dynamo with dynamic batch: TorchExportError" in str(caught.value)
    assert "torchscript with dynamic batch: its outputs differ from torch's at batch" in str(caught.value)


def test_a_saved_program_becomes_onnx(tmp_path: Path) -> None:
    network = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    batch = torch.export.Dim("batch")
    program = torch.export.export(network, (torch.zeros(2, 4),), dynamic_shapes=({0: batch},))
    torch.export.save(program, tmp_path / "net.pt2")
    _, path = export(str(tmp_path / "net.pt2"), tmp_path)
    signature = inspect_onnx(path).signature
    assert signature.inputs[0].shape == (None, 4)
    x = torch.randn(3, 4)
    found = run_feed(open_session(path), {signature.inputs[0].name: x.numpy()})
    np.testing.assert_allclose(next(iter(found.values())), network(x).detach().numpy(), atol=1e-5)


@pytest.mark.parametrize("by_position", [0, 1, 2])
def test_a_saved_program_takes_its_inputs_as_it_was_exported(by_position: int, tmp_path: Path) -> None:
    class Weighted(torch.nn.Module):
        def forward(self, left: Any, right: Any) -> Any:
            return left - 2 * right

    example = {"left": torch.randn(2, 4), "right": torch.randn(2, 4)}
    names, batch = list(example), torch.export.Dim("batch", min=1, max=16)
    program = torch.export.export(
        Weighted(),
        tuple(example[name] for name in names[:by_position]),
        {name: example[name] for name in names[by_position:]},
        dynamic_shapes={name: {0: batch} for name in names},
    )
    torch.export.save(program, tmp_path / "net.pt2")

    _, path = export(str(tmp_path / "net.pt2"), tmp_path)

    assert [(spec.name, spec.shape) for spec in inspect_onnx(path).signature.inputs] == [
        ("left", (None, 4)),
        ("right", (None, 4)),
    ]
    found = run_feed(open_session(path), {name: value.numpy() for name, value in example.items()})
    np.testing.assert_allclose(next(iter(found.values())), Weighted()(**example).numpy(), atol=1e-5)


@pytest.mark.parametrize(
    ("function", "shapes", "says"),
    [
        ("bare", {}, "forward takes image). Say --input image=1,3,224,224"),
        ("bare", {"pixels": [1, 1, 8, 8]}, "there is no input pixels; forward takes image"),
        ("bare", {"image": [1, 3, 8, 8]}, "does not run with inputs image=1,3,8,8"),
        ("number", {}, "returned 3 (int), not a torch.nn.Module"),
        ("raises", {}, "RuntimeError: weights.pt is missing (nets.py, line"),
        ("NOT_A_FUNCTION", {}, "NOT_A_FUNCTION is a int, not a function"),
    ],
)
def test_a_function_that_gives_no_network_says_why(
    nets: Path, tmp_path: Path, function: str, shapes: dict[str, list[int]], says: str
) -> None:
    with pytest.raises(ModelError) as caught:
        export(f"{nets}:{function}", tmp_path, shapes)
    assert says in str(caught.value)


def test_outputs_that_are_no_tensors_are_refused(hard: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="returns a str"):
        export(f"{hard}:text", tmp_path)


def test_a_broken_program_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bad.pt2").write_bytes(b"zip?")
    with pytest.raises(ModelError, match=r"cannot be read as a torch\.export program"):
        export(str(tmp_path / "bad.pt2"), tmp_path)


def test_without_torch_the_remedy_is_named(nets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "hidden" / "torch").mkdir(parents=True)
    (tmp_path / "hidden" / "torch" / "__init__.py").write_text(
        "raise ModuleNotFoundError(\"No module named 'torch'\", name='torch')"
    )
    monkeypatch.syspath_prepend(tmp_path / "hidden")
    with pytest.raises(ModelError, match=r"needs torch, which is not installed\. Run: pip install 'edgeopt\[torch\]'"):
        load_model(f"{nets}:with_example", folder=tmp_path)


def test_a_module_by_name_is_found_on_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModelError, match=r"there is no module nosuchpackage"):
        export("nosuchpackage.nets:build", tmp_path)
    write_torch_file(tmp_path / "ownnets.py")
    answer, _ = export("ownnets:two_inputs", tmp_path)
    assert answer["exporter"].startswith("dynamo")
