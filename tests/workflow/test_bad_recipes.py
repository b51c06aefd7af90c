"""Profiles and recipes that cannot work, through the real command line: what is refused, and with which remedy."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from edgeopt_targets import profile_files
from support.bad_input import nothing_lost, refused
from support.command import Command


@pytest.fixture
def profiles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of profiles in place of the built-in ones, holding one for hardware that this machine is not."""
    place = tmp_path / "profiles"
    shutil.copytree(profile_files.profiles_folder(), place)
    text = (place / "x86-64.yaml").read_text().replace("x86-64", "z80").replace("[x86_64, AMD64]", "[z80]")
    (place / "z80.yaml").write_text(text)
    monkeypatch.setattr(profile_files, "profiles_folder", lambda: place)
    profile_files.load_profiles.cache_clear()
    yield place
    profile_files.load_profiles.cache_clear()


def test_a_profile_of_other_hardware_is_refused(command: Command, edgeopt_home: Path, profiles: Path) -> None:
    for words in (["--profile", "z80"], ["--target", "z80"]):
        refused(command("deploy", "m.onnx", "-q", *words), 2, "'z80'", "edgeopt device add")
    nothing_lost(edgeopt_home)


@pytest.mark.parametrize(
    ("old", "new", "parts"),
    [
        ("target: x86", "taget: x86", ["taget is 'x86': there is no such field", "Did you mean 'target'?"]),
        ("name: z80", "name: z81", ["name is 'z81'", "Call it 'z80'"]),
        ("machine: [z80]", "machine: 3", ["z80.yaml:", "machine is 3"]),
    ],
)
def test_a_broken_profile_file_names_the_field(
    command: Command, profiles: Path, old: str, new: str, parts: list[str]
) -> None:
    path = profiles / "z80.yaml"
    path.write_text(path.read_text().replace(old, new))
    refused(command("profiles", "show", "z80"), 2, "z80.yaml", *parts)


def test_an_unknown_option_of_a_pass_in_a_profile_lists_the_options_and_makes_nothing(
    command: Command, profiles: Path, tmp_path: Path
) -> None:
    for path in profiles.glob("x86*.yaml"):
        path.write_text(path.read_text().replace("level: extended", "levle: extended"))
    outcome = command("optimize", "m.onnx", "-q", "--recipes", "optimised", "--out", str(tmp_path / "out"))
    refused(outcome, 2, "pass 'optimise_graph' has bad options: 'levle' is not an option", "Its options: level")
    assert not (tmp_path / "out").exists()


def test_recipes_that_nobody_has_are_refused_with_a_list(command: Command, edgeopt_home: Path) -> None:
    refused(command("deploy", "m.onnx", "-q", "--recipes", "gold"), 2, "'gold'", "There are", "int8-static")
    refused(command("deploy", "m.onnx", "-q", "--recipes", "prune-int9"), 2, "Did you mean prune-int8?")


RECIPE_FILES = [
    ("name: one", ["recipes are a list"]),
    ("- 3", ["a recipe is a mapping", "3"]),
    ("- {name: a, pases: []}", ["no field 'pases'", "Did you mean 'passes'"]),
    ("- {name: a}\n- {name: a}", ["two recipes are called 'a'"]),
    ("- {name: original}", ["two recipes are called 'original'"]),
    ("- {name: a, passes: [{name: simplfy}]}", ["recipe 'a'", "there is no pass 'simplfy'"]),
    ("- {name: a, passes: [{name: prune_channels, options: {ratio: 2}}]}", ["recipe 'a'", "ratio is 2"]),
]


@pytest.mark.parametrize(("text", "parts"), RECIPE_FILES, ids=[text[:30] for text, _ in RECIPE_FILES])
def test_a_recipe_file_that_cannot_be_used_names_file_place_and_value(
    command: Command, tmp_path: Path, text: str, parts: list[str]
) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    refused(command("recipes", str(path)), 2, *parts)


def test_a_deployment_refuses_a_recipe_file_as_the_list_of_recipes_does(command: Command, tmp_path: Path) -> None:
    (text, parts), path = RECIPE_FILES[-1], tmp_path / "mine.yaml"
    path.write_text(text)
    refused(command("deploy", "m.onnx", "-q", "--recipe-file", str(path)), 2, *parts)


def test_a_loss_without_training_samples_and_a_candidate_that_is_not_there_are_refused(command: Command) -> None:
    refused(command("deploy", "m.onnx", "-q", "--loss", "my.py:loss"), 2, "--loss", "--train data.py:train")
    refused(command("deploy", "m.onnx", "-q", "--candidate", "no.onnx"), 2, "no.onnx", "there is no such file")
    refused(command("deploy", "m.onnx", "-q", "--training-samples", "0"), 2, "--training-samples is 0")
