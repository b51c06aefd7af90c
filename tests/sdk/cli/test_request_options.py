"""edgeopt.yaml and options make one request; what cannot be used is refused by name."""

from __future__ import annotations

import pytest

from edgeopt.cli import request_options
from edgeopt.errors import DocumentError, UsageError

ALL = dict.fromkeys(
    [
        "model",
        "target",
        "data",
        "max-drop",
        "max-latency",
        "minimise",
        "threads",
        "layout",
        "scale",
        "calibration",
        "app",
    ]
)


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_options_win_over_the_file(here):
    (here / "edgeopt.yaml").write_text("model: a.onnx\ntarget: pi5\nmax-drop: 2%\n")
    request = request_options.build({**ALL, "max-drop": "3%"})
    assert (request.model, request.target, request.budget.max_drop) == ("a.onnx", "pi5", 0.03)


def test_file_is_left_aside_when_another_model_is_named(here):
    (here / "edgeopt.yaml").write_text("model: a.onnx\ntarget: pi5\n")
    assert request_options.build({**ALL, "model": "b.onnx"}).target == "local"


def test_no_model_anywhere_is_refused():
    with pytest.raises(UsageError, match="no MODEL"):
        request_options.build(ALL)


def test_unknown_key_in_the_file_is_refused_with_the_known_ones(here):
    (here / "edgeopt.yaml").write_text("model: a.onnx\nmax_drop: 1%\n")
    with pytest.raises(DocumentError, match="max_drop") as caught:
        request_options.build(ALL)
    assert "max-drop" in caught.value.remedy


def test_file_that_is_not_yaml_is_refused_with_its_place(here):
    (here / "edgeopt.yaml").write_text("model: [a.onnx\n")
    with pytest.raises(DocumentError, match="line"):
        request_options.build(ALL)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("minimise", "speed"),
        ("layout", "nchw"),
        ("scale", "x/255"),
        ("scale", "1/0"),
        ("calibration", "0"),
        ("app", "A b"),
    ],
)
def test_values_that_cannot_be_used_are_refused_by_option(option, value):
    with pytest.raises(UsageError, match=f"--{option} "):
        request_options.build({**ALL, "model": "a.onnx", option: value})


def test_the_command_line_of_a_request_builds_the_same_request():
    import shlex

    request = request_options.build(
        {**ALL, "model": "a.onnx", "max-drop": "none", "threads": "1,2", "max-latency": "p90 20ms"}
    )
    words = shlex.split(request.command_line())[3:]
    given = dict(zip(words[::2], words[1::2], strict=True))
    again = request_options.build({**ALL, "model": "a.onnx"} | {name[2:]: value for name, value in given.items()})
    assert again == request
