import subprocess
import sys

import pytest
import yaml

from edgeopt import documents
from edgeopt.core.profile import Hardware, Limits, Profile
from edgeopt.errors import DocumentError
from edgeopt.passes.registry import load_pass
from edgeopt_targets import profile_document, registry
from edgeopt_targets.profile_files import (
    find_profile,
    load_profiles,
    match_profile,
    merged,
    outlines,
    profiles_folder,
    read_profile,
)
from support.x86 import AVX2, x86_facts

NAMES = [profile.name for profile in load_profiles()]
WANTED = {
    *("x86-64", "x86-sse4", "x86-avx2", "x86-avx-vnni", "x86-avx512-vnni", "x86-amx", "aarch64", "armv7", "generic"),
    *(f"raspberry-pi-{name}" for name in ("zero-2w", "3", "4", "400", "5", "cm4", "cm5", "32bit")),
    *(f"jetson-{name}" for name in ("nano", "tx2", "xavier-nx", "agx-xavier")),
    *(f"jetson-{name}" for name in ("orin-nano", "orin-nx", "agx-orin", "thor")),
}
CHOICES = {"name", "extends", "target", "description", "generic", "sources", "threads", "sessions", "inter_op"}
"""Fields that are no facts about hardware."""


def test_every_board_has_its_profile():
    assert set(NAMES) >= WANTED


@pytest.mark.parametrize("name", NAMES)
def test_profile_names_a_target_and_recipes_whose_passes_load(name):
    profile = find_profile(name)
    assert registry.target(profile.target)
    assert 1 <= len(profile.recipes) <= 13
    for recipe in profile.recipes:
        assert recipe.precision in profile.precisions
        assert [load_pass(spec).name for spec in recipe.passes] == [spec.name for spec in recipe.passes]


@pytest.mark.parametrize("name", NAMES)
def test_every_fact_that_a_file_gives_has_its_source_in_that_file(name):
    document = documents.read_yaml(profiles_folder() / f"{name}.yaml")
    facts = {key for key in document if key not in CHOICES | {"hardware", "limits", "graph_optimisation"}}
    facts |= {f"{group}.{key}" for group in ("hardware", "limits") for key in document.get(group, {})}
    sources = document["sources"]
    unsourced = [fact for fact in facts if fact not in sources and fact.split(".")[0] not in sources]
    assert not unsourced
    assert all(len(text) > 8 for text in sources.values())


@pytest.mark.parametrize("name", [name for name in NAMES if name.startswith(("raspberry-pi-", "jetson-"))])
def test_a_board_says_what_is_inside_and_how_it_is_known(name):
    profile = find_profile(name)
    assert profile.clues
    assert not profile.generic
    assert profile.hardware.isa
    assert profile.machine
    if name != "raspberry-pi-32bit":
        assert profile.hardware.cpu
        assert profile.hardware.memory_gib
        assert profile.hardware.bandwidth_gb_per_second > 0
    if name.startswith("jetson"):
        assert profile.runtimes[0] == "tensorrt"
        assert profile.hardware.compute_capability
        assert ("int8" in profile.hardware.gpu_precisions) is (name not in ("jetson-nano", "jetson-tx2"))


@pytest.mark.parametrize("name", NAMES)
def test_first_line_tells_editors_the_schema(name):
    text = (profiles_folder() / f"{name}.yaml").read_text()
    assert text.startswith("# yaml-language-server: $schema=schema.json\n")


def test_published_schema_is_that_of_the_models():
    assert (profiles_folder() / "schema.json").read_text() == profile_document.schema_text()


def test_the_file_form_has_the_fields_of_the_noun():
    assert set(profile_document.ProfileDocument.model_fields) - {"extends"} == set(Profile.__dataclass_fields__)
    assert set(profile_document.HardwareDocument.model_fields) == set(Hardware.__dataclass_fields__)
    assert set(profile_document.LimitsDocument.model_fields) == set(Limits.__dataclass_fields__)


@pytest.mark.parametrize(
    ("isa", "name"),
    [
        ((), "x86-64"),
        (("sse4_1",), "x86-sse4"),
        (AVX2, "x86-avx2"),
        ((*AVX2, "avx_vnni"), "x86-avx-vnni"),
        ((*AVX2, "avx512f", "avx512_vnni"), "x86-avx512-vnni"),
        ((*AVX2, "avx512f", "avx512_vnni", "avx_vnni"), "x86-avx512-vnni"),
        ((*AVX2, "avx512_vnni", "amx_tile", "amx_int8"), "x86-amx"),
    ],
)
def test_a_device_gets_the_most_specific_profile(isa, name):
    assert match_profile(x86_facts(isa)).name == name


def test_unknown_profile_suggests_the_nearest():
    with pytest.raises(DocumentError, match=r"no profile 'x86-avx'.*Did you mean x86-avx2\?"):
        find_profile("x86-avx")


def test_a_profile_takes_what_it_does_not_say_from_the_one_it_extends(tmp_path):
    path = tmp_path / "mine.yaml"
    mine = {
        "name": "mine",
        "extends": "raspberry-pi-4",
        "hardware": {"memory_gib": [2]},
        "recipes": ["float16", {"name": "own", "passes": [{"name": "simplify"}]}],
    }
    path.write_text(yaml.safe_dump(mine))
    profile, parent = read_profile(path), find_profile("raspberry-pi-4")
    assert (profile.target, profile.clues, profile.limits) == (parent.target, parent.clues, parent.limits)
    assert profile.hardware.memory_gib == (2.0,)
    assert profile.hardware.soc == "BCM2711"
    assert [recipe.name for recipe in profile.recipes] == ["float16", "own"]
    assert profile.recipes[0] in parent.recipes


def test_being_generic_is_not_handed_down():
    assert find_profile("aarch64").generic
    assert not find_profile("raspberry-pi-4").generic


def test_a_path_names_a_profile_of_ones_own(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text("name: mine\nextends: x86-avx2\n")
    assert find_profile(str(path)).name == "mine"
    with pytest.raises(DocumentError, match="no profile file"):
        find_profile(str(tmp_path / "other.yaml"))


@pytest.mark.parametrize("text", ["- a\n- b\n", "name: [", ""])
def test_a_file_that_is_no_mapping_is_refused(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"mine\.yaml"):
        read_profile(path)


def test_profiles_that_extend_each_other_are_refused(tmp_path):
    (tmp_path / "one.yaml").write_text("name: one\nextends: two\n")
    (tmp_path / "two.yaml").write_text("name: two\nextends: one\n")
    with pytest.raises(DocumentError, match="one extends two extends one"):
        read_profile(tmp_path / "one.yaml")


def test_every_file_in_the_folder_is_loaded():
    assert sorted(path.stem for path in profiles_folder().glob("*.yaml")) == NAMES


def test_outlines_say_the_same_as_the_profiles():
    assert [(name, recipes) for name, _, recipes in outlines()] == [
        (profile.name, tuple(recipe.name for recipe in profile.recipes)) for profile in load_profiles()
    ]


@pytest.mark.parametrize("name", NAMES)
def test_what_is_shown_of_a_profile_is_a_profile_again(name, tmp_path):
    path = tmp_path / f"{name}.yaml"
    shown = merged(profiles_folder() / f"{name}.yaml")
    path.write_text(documents.yaml_text(shown, compact=True))
    assert read_profile(path) == find_profile(name)


def loaded_by(code, names):
    script = f"import sys; {code}; print(sorted({names!r} & set(sys.modules)))"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout


def test_profiles_load_without_the_heavy_libraries():
    code = "from edgeopt_targets.profile_files import load_profiles; load_profiles()"
    assert loaded_by(code, {"torch", "onnx", "onnxruntime", "numpy", "paramiko"}) == "[]\n"


def test_profiles_are_listed_without_checking_them():
    code = "from edgeopt_targets.profile_files import outlines; outlines()"
    assert loaded_by(code, {"pydantic", "torch", "onnx", "onnxruntime", "numpy", "rich"}) == "[]\n"
