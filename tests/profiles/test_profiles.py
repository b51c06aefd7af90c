import subprocess
import sys

import pytest
import yaml

from edgeopt.errors import DocumentError
from edgeopt.passes.registry import load_pass
from edgeopt_targets import registry
from edgeopt_targets.profile_files import find_profile, load_profiles, match_profile, profiles_folder, read_profile
from support.x86 import AVX2, x86_facts

NAMES = [profile.name for profile in load_profiles()]


@pytest.mark.parametrize("name", NAMES)
def test_profile_names_a_target_its_sources_and_recipes_whose_passes_load(name):
    profile = find_profile(name)
    assert registry.target(profile.target)
    assert len(profile.source) > 40
    assert 1 <= len(profile.recipes) <= 9
    for recipe in profile.recipes:
        assert recipe.precision in profile.precisions
        assert [load_pass(spec).name for spec in recipe.passes] == [spec.name for spec in recipe.passes]


@pytest.mark.parametrize(
    ("isa", "name"),
    [
        ((), "x86-64"),
        (("sse4_1",), "x86-sse4"),
        (AVX2, "x86-avx2"),
        ((*AVX2, "avx_vnni"), "x86-vnni"),
        ((*AVX2, "avx512f", "avx512_vnni"), "x86-vnni"),
        ((*AVX2, "avx512_vnni", "amx_tile", "amx_int8"), "x86-amx"),
    ],
)
def test_a_device_gets_the_most_specific_profile(isa, name):
    assert match_profile(x86_facts(isa)).name == name


def test_a_device_that_no_profile_fits_is_told_what_there_is():
    with pytest.raises(DocumentError, match=r"no profile fits this device \(riscv64, .*x86_64"):
        match_profile(x86_facts(machine="riscv64"))


def test_unknown_profile_suggests_the_nearest():
    with pytest.raises(DocumentError, match=r"no profile 'x86-avx'.*Did you mean x86-avx2\?"):
        find_profile("x86-avx")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "other"}, "calls itself 'other'"),
        ({"thread": [1]}, r"no field 'thread'.*'threads'"),
        ({"threads": ["all"]}, "threads has 'all'"),
        ({"threads": []}, "must not be empty"),
        ({"sessions": [0, 1]}, r"sessions is \[0, 1\]"),
        ({"inter_op": []}, r"inter_op is \[\]"),
        ({"machine": 3}, "machine is '3'"),
        ({"recipes": [{"name": "a"}, {"name": "a"}]}, "two recipes are called 'a'"),
        ({"recipes": [{"passes": []}]}, "recipes.0.name"),
    ],
)
def test_bad_profiles_are_refused_with_place_and_value(change, reason, tmp_path):
    value = {"name": "mine", "target": "x86", "description": "d", "machine": ["x86_64"], **change}
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(value))
    with pytest.raises(DocumentError, match=reason):
        read_profile(path)


@pytest.mark.parametrize("text", ["- a\n- b\n", "name: [", ""])
def test_a_file_that_is_no_mapping_is_refused(text, tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    with pytest.raises(DocumentError, match=r"mine\.yaml"):
        read_profile(path)


def test_every_file_in_the_folder_is_loaded():
    assert sorted(path.stem for path in profiles_folder().glob("*.yaml")) == NAMES


def test_profiles_load_without_the_heavy_libraries():
    code = (
        "import sys; from edgeopt_targets.profile_files import load_profiles; load_profiles();"
        "print(sorted({'torch', 'onnx', 'onnxruntime', 'numpy', 'paramiko'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
