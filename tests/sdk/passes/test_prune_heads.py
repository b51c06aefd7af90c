from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import PassError
from edgeopt.graph.session import open_session
from edgeopt.graph.torch_import import import_onnx
from edgeopt.passes._base import PassContext
from edgeopt.passes.prune_heads import Options, PruneHeads
from edgeopt.passes.pruning.channels import outputs
from edgeopt.passes.pruning.heads import Attention, attentions
from edgeopt.passes.registry import load_pass
from edgeopt.testing.passes import CHECKS, Case
from edgeopt.training.samples import Samples
from support.trained import trained

IMAGE = (torch.zeros(2, 1, 8, 8),)


class Rows(nn.Module):
    """Attention over the rows of the picture; how queries, keys and values are made is up to the subclass."""

    def __init__(self, heads: int = 4) -> None:
        super().__init__()
        self.heads, self.embed, self.head = heads, nn.Linear(8, 32), nn.Linear(32, 10)
        self.packed, self.out = nn.Linear(32, 96), nn.Linear(32, 32)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image[:, 0])
        query, key, value = self.split(self.packed(x))
        mask = torch.ones(8, 8).tril().log()
        weights = torch.softmax(query * 0.35 @ key.transpose(-2, -1) + mask, -1)
        y = (weights @ value).transpose(1, 2).reshape(x.shape)
        return self.head((x + self.out(y)).mean(1))

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        raise NotImplementedError


class Unbound(Rows):
    """As in timm's vision transformers."""

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        return packed.unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


class Chunked(Rows):
    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in packed.chunk(3, -1))


class Sliced(Rows):
    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        parts = packed[..., :32], packed[..., 32:64], packed[..., 64:]
        return tuple(part.view(part.shape[0], 8, self.heads, -1).transpose(1, 2) for part in parts)


class Interleaved(Rows):
    """Heads lie across the columns: the last dimension is the head."""

    def split(self, packed: Tensor) -> tuple[Tensor, ...]:
        return tuple(part.unflatten(-1, (-1, self.heads)).permute(0, 3, 1, 2) for part in packed.chunk(3, -1))


class Encoder(nn.Module):
    """torch's own layer."""

    def __init__(self, batch_first: bool) -> None:
        super().__init__()
        self.embed, self.head, self.first = nn.Linear(8, 32), nn.Linear(32, 10), batch_first
        self.layer = nn.TransformerEncoderLayer(32, 4, 64, batch_first=batch_first)

    def forward(self, image: Tensor) -> Tensor:
        x = self.embed(image[:, 0])
        y = self.layer(x) if self.first else self.layer(x.transpose(0, 1)).transpose(0, 1)
        return self.head(y.mean(1))


class Shared(nn.Module):
    """All heads read one key and one value (multi-query attention)."""

    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = nn.Linear(8, 32), nn.Linear(8, 8), nn.Linear(8, 8)
        self.out, self.head = nn.Linear(32, 8), nn.Linear(8, 10)

    def forward(self, image: Tensor) -> Tensor:
        x = image[:, 0]
        query = self.query(x).unflatten(-1, (4, 8)).transpose(1, 2)
        key, value = self.key(x).unsqueeze(1), self.value(x).unsqueeze(1)
        y = torch.softmax(query @ key.transpose(-2, -1), -1) @ value
        return self.head(self.out(y.transpose(1, 2).flatten(2)).mean(1))


def _export(network: nn.Module, path: Path, dynamo: bool = False) -> Path:
    names: dict[str, Any] = {"input_names": ["image"], "output_names": ["logits"]}
    if dynamo:
        names |= {"dynamic_shapes": ({0: torch.export.Dim("batch")},), "verbose": False}
    else:
        names |= {"dynamic_axes": {"image": {0: "batch"}, "logits": {0: "batch"}}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(network.eval(), (torch.rand(2, 1, 8, 8),), path, dynamo=dynamo, **names)
    return path


def _prune(source: Path, work: Path, labels: bool = True, **options: Any) -> tuple[Path, str]:
    files, made = trained("transformer"), work / "made.onnx"
    context = PassContext(work=work, calibration=files.calibration, training=files.training if labels else None)
    report = PruneHeads(Options(**options)).apply(source, made, context)
    return made, "; ".join(report.notes)


def _found(network: Any) -> list[Attention]:
    return [each for each in attentions(network, IMAGE) if isinstance(each, Attention)]


def _images(count: int) -> Tensor:
    return Samples(trained("transformer").evaluation, ("image",)).batch(range(count))[0][0]


def _top1(path: Path) -> float:
    samples = Samples(trained("transformer").evaluation, ("image",))
    (images,), labels = samples.batch(range(len(samples)))
    return float(np.mean(open_session(path).run(None, {"image": images.numpy()})[0].argmax(1) == np.asarray(labels)))


@pytest.mark.parametrize("importance", ["taylor", "weight", "activation"])
def test_a_trained_transformer_loses_a_quarter_of_its_heads(importance: str, tmp_path: Path) -> None:
    made, notes = _prune(trained("transformer").network, tmp_path, importance=importance)
    assert sum(len(each.heads) for each in _found(import_onnx(made))) == 6, notes
    assert _top1(made) > 0.85
    assert "4 -> " in notes


def test_the_chosen_heads_cost_less_than_the_worst_choice(tmp_path: Path) -> None:
    from edgeopt.passes.pruning.head_removal import without_heads

    made, _ = _prune(trained("transformer").network, tmp_path, ratio=0.5, ranking="layer")
    network = import_onnx(trained("transformer").network)
    images, right = _images(200), outputs(network, (_images(200),))[0]

    def change(changed: Any) -> float:
        return float((outputs(changed, (images,))[0] - right).square().mean())

    name = _found(network)[0].name
    pairs = [(a, b) for a in range(4) for b in range(a)]
    alternatives = [change(without_heads(network, name, pair, IMAGE)) for pair in pairs]
    chosen = len(_found(import_onnx(made))[0].heads)
    assert chosen == 2
    first, _ = _prune(
        trained("transformer").network, tmp_path, ratio=0.5, ranking="layer", ignore=(_found(network)[1].name,)
    )
    assert change(import_onnx(first)) < sorted(alternatives)[len(pairs) // 2]


@pytest.mark.parametrize("kind", [Unbound, Chunked, Sliced, Interleaved])
def test_the_ways_in_which_heads_are_packed(kind: type[Rows], tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = kind()
    source = _export(network, tmp_path / "source.onnx")
    made, _ = _prune(source, tmp_path, labels=False, ratio=0.25)
    (attention,) = _found(import_onnx(made))
    assert len(attention.heads) == 3
    weights = {tuple(value.shape) for value in import_onnx(made).parameters()}
    assert {(72, 32), (32, 24)} <= weights
    silenced = _best_match(import_onnx(source), made)
    assert silenced < 1e-4


def _best_match(network: Any, made: Path) -> float:
    """Difference between the file and the network with one head silenced, for the head that fits best."""
    images, differences = _images(5), []
    (attention,) = _found(network)
    out = network.get_submodule(str(attention.layers[3].target))
    for head in attention.heads:
        kept = out.weight.data.clone()
        out.weight.data[:, head.out] = 0
        expected = outputs(network, (images,))[0].numpy()
        differences.append(float(np.abs(open_session(made).run(None, {"image": images.numpy()})[0] - expected).max()))
        out.weight.data.copy_(kept)
    return min(differences)


@pytest.mark.parametrize("dynamo", [False, True])
@pytest.mark.parametrize("batch_first", [False, True])
def test_torchs_own_encoder_layer_by_both_exporters(batch_first: bool, dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    source = _export(Encoder(batch_first), tmp_path / "source.onnx", dynamo)
    made, _ = _prune(source, tmp_path, labels=False, ratio=0.5)
    assert len(_found(import_onnx(made))[0].heads) == 2
    for batch in (1, 3):
        assert open_session(made).run(None, {"image": _images(batch).numpy()})[0].shape == (batch, 10)


def test_one_head_of_each_layer_stays(tmp_path: Path) -> None:
    made, _ = _prune(trained("transformer").network, tmp_path, ratio=0.95)
    assert [len(each.heads) for each in _found(import_onnx(made))] == [1, 1]
    with pytest.raises(PassError, match="no attention whose heads can be removed"):
        _prune(made, tmp_path)


def test_an_ignored_layer_keeps_its_heads(tmp_path: Path) -> None:
    name = _found(import_onnx(trained("transformer").network))[0].name
    made, _ = _prune(trained("transformer").network, tmp_path, ratio=0.5, ignore=(name,))
    assert [len(each.heads) for each in _found(import_onnx(made))] == [4, 2]


def test_shared_keys_are_refused_by_name(tmp_path: Path) -> None:
    torch.manual_seed(0)
    with pytest.raises(PassError, match=r"Softmax.*share keys or values"):
        _prune(_export(Shared(), tmp_path / "shared.onnx"), tmp_path, labels=False)


def test_a_network_without_attention_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PassError, match="no attention whose heads can be removed"):
        _prune(trained("residual").network, tmp_path)


@pytest.mark.parametrize(
    ("options", "message"), [({"ratio": 0.01}, "is none"), ({"ignore": ("/nowhere",)}, "/nowhere")]
)
def test_what_cannot_be_done_is_refused(options: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(PassError, match=message):
        _prune(trained("transformer").network, tmp_path, **options)


@pytest.mark.parametrize("options", [{"ratio": 1.0}, {"ratio": 0.0}, {"importance": "taste"}])
def test_bad_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(PassError, match="bad options"):
        load_pass(PassSpec("prune_heads", options))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_conforms(check: Any, tmp_path: Path) -> None:
    files = trained("transformer")
    check(Case("prune_heads", files.network, files.calibration, tmp_path, training=files.training))
