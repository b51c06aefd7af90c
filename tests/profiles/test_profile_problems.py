import json

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from edgeopt.cli.main import main
from edgeopt.errors import DocumentError, EdgeoptError
from edgeopt_targets.profile_files import load_profiles, profiles_folder, read_profile
from edgeopt_targets.profile_problems import find_problems

WRONG = """\
name: mine
extends: aarch64
description: A board
machin: [aarch64]
bits: 48
threads: [1, all, 0]
runtimes: [onnxruntim]
hardware:
  memory_gib: much
  colour: red
recipes:
  - float17
  - name: a
    passes:
      - {name: simplyfy}
  - name: a
    passes:
      - {name: quantise_static, options: {calibrator: best, sample: 3}}
clues:
  - {memory_gib: [1, 2]}
sources:
  hardwere: a shop
"""


def problems_of(text, tmp_path, name="mine"):
    path = tmp_path / f"{name}.yaml"
    path.write_text(text)
    return find_problems(path, profiles_folder())


def test_all_problems_are_said_at_once_with_line_place_value_and_remedy(tmp_path):
    found = {(one.line, one.path): one for one in problems_of(WRONG, tmp_path)}
    assert list(found) == [
        (4, "machin"),
        (5, "bits"),
        (6, "threads.1"),
        (6, "threads.2"),
        (7, "runtimes.0"),
        (9, "hardware.memory_gib"),
        (10, "hardware.colour"),
        (12, "recipes.0"),
        (15, "recipes.1.passes.0"),
        (16, "recipes.2"),
        (18, "recipes.2.passes.0"),
        (20, "clues.0"),
        (22, "sources.hardwere"),
    ]
    assert "Did you mean 'machine'?" in found[4, "machin"].remedy
    assert found[5, "bits"].value == "48"
    assert found[6, "threads.1"].remedy == "Use 'physical' or 'logical'."
    assert "'onnxruntime'" in found[7, "runtimes.0"].remedy
    assert "Did you mean 'float16'?" in found[12, "recipes.0"].remedy
    assert "no pass 'simplyfy'" in found[15, "recipes.1.passes.0"].what
    assert "'sample' is not an option" in found[18, "recipes.2.passes.0"].what
    assert "Did you mean 'hardware'?" in found[22, "sources.hardwere"].remedy
    assert found[6, "threads.2"].message.startswith(f"{tmp_path}/mine.yaml:6: threads.2 is 0: ")


@pytest.mark.parametrize("path", sorted(profiles_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_built_in_profiles_have_no_problems(path):
    assert find_problems(path, profiles_folder()) == ()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "other"}, "the file is called otherwise"),
        ({"thread": [1]}, r"thread is \[1\]: there is no such field.*'threads'"),
        ({"threads": ["all"]}, "threads.0 is 'all'"),
        ({"threads": []}, r"threads is \[\]"),
        ({"sessions": [0, 1]}, "sessions.0 is 0"),
        ({"inter_op": []}, r"inter_op is \[\]"),
        ({"machine": 3}, "machine is 3"),
        ({"target": "gpu"}, "no such target.*x86"),
        ({"target": None}, "it has no target"),
        ({"recipes": [{"name": "a", "passes": []}, {"name": "a", "passes": []}]}, "two recipes are called 'a'"),
        ({"recipes": [{"passes": []}]}, "recipes.0: name is missing"),
        ({"extends": "x86-avx3"}, "it extends 'x86-avx3', which there is not"),
        ({"sources": {1: 2}}, "sources"),
    ],
)
def test_reading_a_bad_profile_names_the_first_problem(change, reason, tmp_path):
    value = {"name": "mine", "target": "x86", "description": "d", "machine": ["x86_64"], **change}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(DocumentError, match=reason):
        read_profile(path)


def test_reading_a_profile_with_more_problems_says_how_to_see_them(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(WRONG)
    with pytest.raises(DocumentError, match=r"mine\.yaml:4: machin .*\(\d+ more: edgeopt profiles check"):
        read_profile(path)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["name", "recipes", "clues", "sources", "hardware", "limits", "threads", "extends", "x"])


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(FIELDS, PLAIN, max_size=4))
def test_whatever_a_file_holds_there_is_an_answer(tmp_path_factory, value):
    path = tmp_path_factory.mktemp("odd") / "odd.yaml"
    path.write_text(yaml.safe_dump(value))
    try:
        found = find_problems(path, profiles_folder())
    except EdgeoptError:
        return
    assert found or value.get("name") == "odd"
    assert all("\n" not in problem.message for problem in found)


def run(arguments, capsys):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return ended.value.code, capsys.readouterr().out


def test_the_command_lists_every_problem_and_fails(tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(WRONG)
    code, out = run(["profiles", "check", str(path)], capsys)
    assert code == 2
    assert len(out.splitlines()) == 13
    assert f"{path}:4: machin is ['aarch64']: there is no such field. Did you mean 'machine'?" in out


def test_the_command_passes_what_is_right(capsys):
    path = profiles_folder() / "x86-avx2.yaml"
    assert run(["profiles", "check", str(path)], capsys) == (0, f"{path}: right\n")
    assert json.loads(run(["profiles", "check", str(path), "--json"], capsys)[1]) == {"problems": []}


def test_the_command_shows_all_that_holds_with_its_sources(capsys):
    code, out = run(["profiles", "show", "jetson-nano"], capsys)
    shown = yaml.safe_load(out)
    assert code == 0
    assert shown["hardware"]["compute_capability"] == "5.3"
    assert shown["machine"] == ["aarch64", "arm64"]
    assert "jetson-inference#111" in shown["sources"]["hardware.gpu_precisions"]
    assert json.loads(run(["profiles", "show", "jetson-nano", "--json"], capsys)[1])["name"] == "jetson-nano"


def test_the_command_prints_the_schema(capsys):
    assert run(["profiles", "schema"], capsys)[1] == (profiles_folder() / "schema.json").read_text()


def test_the_command_lists_every_profile(capsys):
    out = run(["profiles"], capsys)[1]
    assert all(f"{profile.name} " in out for profile in load_profiles())
