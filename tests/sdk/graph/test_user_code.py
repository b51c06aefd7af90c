from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edgeopt.errors import DataError, ModelError
from edgeopt.graph.data import check_source
from edgeopt.graph.evaluate import score
from edgeopt.graph.source import load_model
from edgeopt.graph.training_data import check_loss
from edgeopt.graph.user_call import Call, call_of
from edgeopt.graph.user_code import is_function, load_function, source_text
from edgeopt.training.losses import supervised
from edgeopt.workflow.request import app_name
from edgeopt_runner.protocol.samples import Sample

CODE = """
import numpy as np

def build(width=16, depth=2, *, name="x"):
    return width, depth, name

def needs(width, inputs, other=1):
    return width, inputs, other

def score(outputs, labels, factor=1.0, name=""):
    return factor * float((outputs["logits"].argmax(1) == labels).mean())

def network(width=4):
    import torch
    return torch.nn.Linear(3, width), torch.zeros(1, 3)

def samples(n=4):
    for index in range(n):
        yield np.zeros(3, np.float32)

def loss(outputs, labels, factor=1.0):
    return factor * (outputs - labels).square().mean()

number = 5
"""


@pytest.fixture
def nets(tmp_path: Path) -> str:
    (tmp_path / "nets.py").write_text(CODE)
    return str(tmp_path / "nets.py")


@pytest.mark.parametrize(
    ("source", "call"),
    [
        ("nets.py:build", Call("nets.py", "build")),
        ("nets.py:build(width=16)", Call("nets.py", "build", "(width=16)")),
        ("a.b:build (1, 'x:y(z)')", Call("a.b", "build", "(1, 'x:y(z)')")),
        ("C:\\\\nets.py:build(1)", Call("C:\\\\nets.py", "build", "(1)")),
        ("nets.py:build(width=16", Call("nets.py", "build", "(width=16")),
        ("nets.py", Call("nets.py")),
        ("model.onnx", None),
        ("samples (1).npz", None),
        ("top1", None),
        ("x:1", None),
    ],
)
def test_what_has_the_form_of_a_function_is_told_from_files(source: str, call: Call | None) -> None:
    assert call_of(source) == call
    assert is_function(source) == (call is not None)


def test_very_long_arguments_are_no_file_name(nets: str) -> None:
    assert load_function(f"{nets}:build(name={'x' * 5000!r})", ModelError)()[2] == "x" * 5000


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        ("", (16, 2, "x")),
        ("()", (16, 2, "x")),
        ("(8)", (8, 2, "x")),
        ("(8, depth=[1, 2], name='a:b(c)')", (8, [1, 2], "a:b(c)")),
        ("(-1.5, None, name={'a': (True, b'1')})", (-1.5, None, {"a": (True, b"1")})),
    ],
)
def test_literals_reach_the_function(arguments: str, found: object, nets: str) -> None:
    assert load_function(f"{nets}:build{arguments}", ModelError)() == found


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            "(width=__import__('os').getpid())",
            r"number 1: __import__\('os'\)\.getpid\(\) is no literal\. Arguments are",
        ),
        ("(1, depth=x)", "number 2: x is no literal"),
        ("(1 + depth)", "number 1: 1 \\+ depth is no literal"),
        ("({[]: 1})", "number 1: .* is no literal"),
        ("(*[1])", "number 1: .* is no literal"),
        ("(**{'width': 1})", r"number 1: \*\* is not allowed"),
        ("(width=1, width=2)", "number 2: width is given twice"),
        ("(width=1", r"cannot be read at character 1 of '\(width=1'"),
        ("(width==)", "cannot be read at character"),
        ("(1)(2)", "are followed by something else"),
        ("(1).name", "are followed by something else"),
        ("(" * 500 + ")" * 500, "cannot be read"),
    ],
)
def test_what_is_no_literal_is_refused_before_any_code_runs(arguments: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text("def build(width=1): ...\nraise SystemExit('this was run')\n")
    with pytest.raises(ModelError, match=message):
        load_function(f"{tmp_path / 'nets.py'}:build{arguments}", ModelError)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("build(widht=3)", r"unexpected keyword argument 'widht'\. It takes \(width=16, depth=2, \*, name='x'\)"),
        ("build(1, 2, 3)", "too many positional arguments"),
        ("build(1, width=2)", "multiple values for argument 'width'"),
        ("needs(inputs=1)", r"missing a required argument: 'width'\. It takes \(width, inputs, other=1\)"),
        ("needs", r"nets.py:needs\(\) cannot be called: missing"),
        ("number(3)", "number is a int, not a function"),
    ],
)
def test_arguments_that_the_function_does_not_take_are_named_with_those_it_takes(
    call: str, message: str, nets: str
) -> None:
    with pytest.raises(ModelError, match=message):
        load_function(f"{nets}:{call}", ModelError)


def test_known_values_fill_only_what_has_no_default_and_was_left_out(nets: str) -> None:
    known = {"inputs": "known", "other": "known", "width": "known"}
    assert load_function(f"{nets}:needs", ModelError, known=known)() == ("known", "known", 1)
    assert load_function(f"{nets}:needs(3)", ModelError, known=known)() == (3, "known", 1)
    assert load_function(f"{nets}:needs(3, inputs=4)", ModelError, known=known)() == (3, 4, 1)


def test_the_users_arguments_come_behind_what_a_metric_is_given(nets: str) -> None:
    logits = np.eye(3, dtype=np.float32)
    pairs = [(Sample({"labels": label}), {"logits": row[None]}) for label, row in enumerate(logits)]
    for call, value in (("score", 1.0), ("score(0.5)", 0.5), ("score(factor=0.25)", 0.25)):
        assert score(f"{nets}:{call}", pairs).value == value
    with pytest.raises(DataError, match="unexpected keyword argument 'weight'"):
        score(f"{nets}:score(weight=1)", pairs)


def test_a_loss_may_have_arguments_which_are_part_of_what_training_depends_on(nets: str) -> None:
    module, inputs, labels = torch.nn.Linear(2, 1), (torch.ones(4, 2),), torch.zeros(4, 1)
    plain, tripled = (supervised(f"{nets}:loss{end}")(module, inputs, labels) for end in ("", "(factor=3)"))
    assert float(tripled) == pytest.approx(3 * float(plain))
    assert check_loss(f"{nets}:loss") != check_loss(f"{nets}:loss(factor=3)")
    with pytest.raises(DataError, match="x is no literal"):
        check_loss(f"{nets}:loss(x)")


def test_what_results_depend_on_holds_text_name_and_arguments(nets: str) -> None:
    one, other = (source_text(f"{nets}:build(width={width})", ModelError) for width in (1, 2))
    assert one != other
    assert CODE in one
    assert source_text(f"{nets}:network", ModelError) != source_text(f"{nets}:build", ModelError)
    assert source_text("package.module:f(1)", ModelError) == "package.module:f(1)"


def test_a_network_with_arguments_is_exported_under_a_name_that_applications_may_have(
    nets: str, tmp_path: Path
) -> None:
    loaded = load_model(f"{nets}:network(width=7)", folder=tmp_path)
    assert loaded.model.signature.outputs[0].shape == (None, 7)
    assert loaded.model.name == "nets-network-width-7"
    assert loaded.model.source == f"{nets}:network(width=7)"
    assert app_name(loaded.model.name) == loaded.model.name


def test_long_arguments_give_short_names_of_their_own(nets: str, tmp_path: Path) -> None:
    from edgeopt.graph.source import _name_of

    names = [_name_of(f"{nets}:build(name='{'x' * 200}{end}')") for end in "ab"]
    assert names[0] != names[1]
    assert all(len(name) <= 60 and app_name(name) == name for name in names)


def test_samples_may_have_arguments(nets: str) -> None:
    check_source(f"{nets}:samples(n=3)")
    assert len(list(load_function(f"{nets}:samples(n=3)", DataError)())) == 3
