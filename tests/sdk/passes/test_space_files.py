from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from edgeopt.core.recipe import PassSpec
from edgeopt.errors import DocumentError, EdgeoptError, PassError
from edgeopt.passes._base import PassContext
from edgeopt.passes.registry import load_pass
from edgeopt.passes.space_files import read_space, shipped_spaces
from support.trained import trained

SPACE = """
name: forms
when: never
precision: $storage
choices:
  bits: [null, 8, 4]
  block: {values: [32, 16], when: {bits: [8, 4]}}
  share: {low: 0.25, high: 1.0, step: -0.25}
  epochs: {low: 1, high: 4, step: 2, when: {bits: 8}}
  storage: [float32, int8]
passes:
  - name: prune_channels
    options: {stages: [$share, 1.0]}
  - {name: distil, options: {epochs: $epochs}}
  - simplify
  - {name: quantise_weights, options: {bits: $bits, block_size: $block}, when: {storage: float32}}
  - {name: quantise_static, when: {storage: int8}}
"""


def read(text, folder):
    path = Path(folder, "space.yaml")
    path.write_text(text)
    return read_space(path)


def test_a_space_is_read_with_its_ranges_conditions_and_short_forms(tmp_path):
    space = read(SPACE, tmp_path)
    values = {choice.name: choice.values for choice in space.choices}
    assert values == {
        "bits": (None, 8, 4),
        "block": (32, 16),
        "share": (1.0, 0.75, 0.5, 0.25),
        "epochs": (1, 3),
        "storage": ("float32", "int8"),
    }
    assert all(type(value) is int for value in values["epochs"])
    assert space.choices[1].when == {"bits": (8, 4)}
    assert space.choices[3].when == {"bits": (8,)}
    assert space.size() == (1 + 2 * 2 + 2) * 4 * 2
    point = space.completed({"bits": 4, "share": 0.5})
    assert space.recipe(point, "forms-1").passes == (
        PassSpec("prune_channels", {"stages": [0.5, 1.0]}),
        PassSpec("simplify"),
        PassSpec("quantise_weights", {"bits": 4, "block_size": 32}),
    )
    assert space.recipe(space.completed({"storage": "int8"}), "x").precision == "int8"


def test_ranges_are_decimal_and_end_where_the_steps_do(tmp_path):
    space = read(SPACE.replace("low: 0.25, high: 1.0, step: -0.25", "low: 0.1, high: 0.75, step: 0.1"), tmp_path)
    assert space.choices[2].values == (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("name: forms", "name: 3", "the space has the name 3"),
        ("name: forms", "title: forms", r"a search space has no field 'title'"),
        ("precision:", "precison:", r"no field 'precison'\. Did you mean 'precision'\?"),
        ("precision: $storage", "precision: $kind", r"the precision names 'kind'.*bits, block"),
        ("low: 0.25", "lo: 0.25", r"choice 'share' has no field 'lo'\. Did you mean 'low'\?"),
        ("high: 1.0, step: -0.25", "high: 1.0", "choice 'share' is .*all three"),
        ("step: -0.25", "step: 0", "goes from 0.25 to 1.0 by 0.*step not 0"),
        ("step: -0.25", "step: 0.0001", "7501 values"),
        ("step: -0.25", "step: .nan", "three finite numbers"),
        ("step: -0.25", "step: yes", "three finite numbers"),
        ("low: 0.25, high: 1.0", "low: 1.0, high: 0.25", "low must not be above high"),
        ("values: [32, 16], when", "values: [32, 16], step: 1, when", "choice 'block' is "),
        ("values: [32, 16], when", "when", "choice 'block' is "),
        ("[null, 8, 4]\n", "8\n", "choice 'bits' is a mapping of names to values, this is 8"),
        ("[null, 8, 4]\n", "[null, 8, 8, 4]\n", "'bits' has 8 twice"),
        ("[null, 8, 4]\n", "[null, 8, four]\n", "'bits' mixes numbers and text"),
        ("[null, 8, 4]\n", "[null, 8, .nan]\n", "'bits' has the value nan"),
        ("[null, 8, 4]\n", "[]\n", "'bits' has no values"),
        ("[null, 8, 4]\n", "[null, [8, 4]]\n", r"'bits' has the value '\[8, 4\]'"),
        ("[null, 8, 4]\n", "[2020-01-01]\n", "'bits' has the value '2020-01-01'"),
        ("  bits:", "  number of bits:", "a choice is called 'number of bits'"),
        ("when: {bits: [8, 4]}", "when: bits", "'block' has the condition 'bits'"),
        ("when: {bits: [8, 4]}", "when: {share: 1.0}", r"condition of choice 'block' names 'share'.*before it: bits"),
        ("when: {bits: [8, 4]}", "when: {bits: 16}", r"'block' asks for bits 16\. bits can be None, 8, 4"),
        ("when: {storage: int8}", "when: {storage: int4}", "'quantise_static' asks for storage 'int4'"),
        ("when: {storage: int8}", "when: {store: int8}", "condition of pass 'quantise_static' names 'store'"),
        ("[$share, 1.0]", "[$shares, 1.0]", "pass 'prune_channels' names 'shares'.*the choices: bits, block, share"),
        ("[$share, 1.0]", "[0.5, 1.0]", r"no pass refers to choice 'share'.*Write \$share"),
        ("options: {epochs: $epochs}", "option: {epochs: $epochs}", "a pass has no field 'option'. Did you mean 'opti"),
        ("options: {epochs: $epochs}", "options: [$epochs]", "a pass is .*distil"),
        ("- simplify", "- 3", "a pass is a mapping of names to values, this is 3"),
        ("when: {storage: float32}", "when: {bits: 8, epochs: 1, block: 16, storage: [float32]}", ""),
        ("block_size: $block", "block_size: $epochs", "no pass refers to choice 'block'"),
    ],
)
def test_a_file_that_is_no_space_is_refused_with_what_to_do(tmp_path, old, new, reason):
    assert old in SPACE
    if not reason:
        assert read(SPACE.replace(old, new), tmp_path).size()
        return
    with pytest.raises(DocumentError, match=reason) as caught:
        read(SPACE.replace(old, new, 1), tmp_path)
    assert "space.yaml" in caught.value.message
    assert caught.value.remedy


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("- name: forms", "a search space is a mapping"),
        ("", "a search space is a mapping"),
        ("name: forms\npasses: [simplify]", "'forms' has no choices: there is nothing to search"),
        ("name: forms\nchoices: {}\npasses: [simplify]", "'forms' has no choices"),
        ("name: forms\nchoices: [width]\npasses: [simplify]", "'forms' has no choices"),
        ("name: forms\nchoices: {width: [1, 2]}", "'forms' has no passes"),
        ("name: forms\nchoices: {width: [1, 2]}\npasses: simplify", "'forms' has no passes"),
        ("name: [", "not valid YAML"),
    ],
)
def test_a_file_of_another_form_is_refused(tmp_path, text, reason):
    with pytest.raises(DocumentError, match=reason) as caught:
        read(text, tmp_path)
    assert caught.value.remedy


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DocumentError, match="cannot read"):
        read_space(tmp_path / "absent.yaml")


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("- simplify", "- simplyfy", "space 'forms': there is no pass 'simplyfy'.*simplify"),
        ("8, 4]", "8, 4, 3]", "at bits 3 and block 32: pass 'quantise_weights' has bad options: bits=3"),
        ("values: [32, 16]", "values: [32, 24]", "at bits 8 and block 24: .*block_size is 24"),
        ("{low: 1, high: 4, step: 2, when", "{low: 0, high: 4, step: 2, when", "at epochs 0: pass 'distil'"),
        ("epochs: $epochs", "epoch: $epochs", "'epoch' is not an option.*Its options: .*epochs"),
        ("epochs: $epochs", "epochs: {trial: $epochs, final: 0}", "at epochs 1: pass 'distil' has bad options"),
        ("[$share, 1.0]", "[$share, 0.0]", "pass 'prune_channels' has bad options: .*stages has 0.0"),
        ("{low: 0.25, high: 1.0", "{low: 0.25, high: 1.25", "at share 1.25: .*stages has 1.25"),
    ],
)
def test_a_pass_that_does_not_take_its_options_at_some_point_is_refused_there(tmp_path, old, new, reason):
    assert old in SPACE
    with pytest.raises(PassError, match=reason) as caught:
        read(SPACE.replace(old, new), tmp_path)
    assert "space.yaml" in caught.value.message
    assert caught.value.remedy


def test_options_that_only_together_are_bad_are_found(tmp_path):
    text = """
name: pairs
choices: {activations: [uint8, int8], weights: [int8, uint8]}
passes: [{name: quantise_static, options: {activations: $activations, weights: $weights}}]
"""
    with pytest.raises(PassError, match=r"at activations int8 and weights uint8: .*exist in no runtime"):
        read(text, tmp_path)
    choices = "{activations: [uint8, int8], weights: {values: [int8, uint8], when: {activations: uint8}}}"
    with pytest.raises(DocumentError, match="no pass refers to choice 'extra'"):
        read(text.replace("[int8, uint8]}", "[int8, uint8], extra: [1]}"), tmp_path)
    assert read(text.replace("{activations: [uint8, int8], weights: [int8, uint8]}", choices), tmp_path).size() == 3


def test_a_pass_that_is_in_no_recipe_is_refused(tmp_path):
    text = SPACE.replace("{epochs: $epochs}}", "{epochs: $epochs}, when: {bits: 4}}")
    with pytest.raises(DocumentError, match="pass 'distil' is left out at every point"):
        read(text, tmp_path)


def test_every_value_is_tried_where_there_are_too_many_combinations(tmp_path):
    names = [f"s{place}" for place in range(6)]
    choices = "\n".join(f"  {name}: [null, 1.0, 0.5, 0.25{', 2.0' if name == 's4' else ''}]" for name in names)
    stages = ", ".join(f"${name}" for name in names)
    text = f"name: many\nchoices:\n{choices}\npasses: [{{name: prune_channels, options: {{stages: [{stages}]}}}}]\n"
    with pytest.raises(PassError, match=r"s4 2\.0 .*stages has 2\.0"):
        read(text, tmp_path)
    assert read(text.replace(", 2.0", ""), tmp_path).size() == 4**6


def test_the_shipped_spaces_are_sound_and_say_when_they_are_right():
    spaces = shipped_spaces()
    assert spaces[0].space.name == "architecture"
    assert {one.space.name for one in spaces} >= {"widths", "low-bits", "students", "quantisation"}
    assert len({one.space.name for one in spaces}) == len(spaces)
    assert all(one.when.endswith(".") for one in spaces)
    architecture = spaces[0].space
    gentlest = architecture.recipe(architecture.gentlest(), "a-1")
    assert [spec.name for spec in gentlest.passes] == ["prune_channels", "refit", "distil", "simplify"]
    point = architecture.completed({"resolution": 0.5, "depth": 0.25, "kernel": 3, "early": 0.5, "storage": "int8"})
    bold = architecture.recipe(point, "a-2", final=True)
    assert bold.precision == "int8"
    assert {spec.name for spec in bold.passes} >= {"resize_input", "prune_layers", "shrink_kernels", "quantise_static"}
    assert next(spec for spec in bold.passes if spec.name == "distil").options == {"epochs": 30}


def test_points_of_the_shipped_space_of_quantisation_can_all_be_made(tmp_path):
    torch.set_num_threads(1)
    network = trained("depthwise")
    space = next(one.space for one in shipped_spaces() if one.space.name == "quantisation")
    made = {}
    for choice in space.choices:
        if choice.name in ("rounding", "percentile"):  # rounding takes long and has tests of its own
            continue
        recipe = space.recipe(space.completed({choice.name: choice.values[-1]}), "q")
        source = network.network
        for place, spec in enumerate(recipe.passes):
            work = tmp_path / f"{choice.name}-{place}"
            work.mkdir()
            context = PassContext(work=work, calibration=network.calibration, isa=("avx2",))
            try:
                load_pass(spec).apply(source, work / "made.onnx", context)
            except EdgeoptError:
                assert spec.name in ("smooth_activations", "equalise")
                shutil.copyfile(source, work / "made.onnx")
            source = work / "made.onnx"
        made[choice.name] = source.read_bytes()
    assert len(set(made.values())) == len(made)
