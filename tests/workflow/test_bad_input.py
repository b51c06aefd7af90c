"""Input that cannot work, through the real command line: what happened, the value, the remedy, and nothing is lost."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from edgeopt.workflow.workspace import Workspace
from edgeopt_targets import profile_files
from support import networks
from support.command import Command, Outcome

_DEVICES = "devices:\n- name: shelf\n  transport: ssh\n  host: 192.0.2.7\n  profile: x86-avx512-vnni\n"
_CODE = """
import numpy as np

def none():
    return None

def burns():
    yield np.zeros((1, 8, 8), np.float32), 1
    raise RuntimeError("disk on fire")

def misses(outputs, labels):
    return outputs["nope"].mean()

def nan(outputs, labels):
    return float("nan")
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Broken files of every kind, and a sound network and samples."""
    place = tmp_path_factory.mktemp("bad-input")
    network = networks.small_cnn_onnx(place / "m.onnx")
    networks.write_torch_file(place / "nets.py")
    (place / "code.py").write_text(_CODE)
    (place / "dir.onnx").mkdir()
    (place / "text.onnx").write_text("hello, I am not a network\n")
    (place / "short.onnx").write_bytes(network.read_bytes()[:-500])
    (place / "empty.onnx").touch()
    node = helper.make_node("Frobnicate", ["x"], ["y"], name="f")
    networks.save(place / "op.onnx", [node], {"x": (1, 4)}, {"y": (1, 4)})
    model = onnx.load(str(network))
    onnx.save_model(model, str(place / "ext.onnx"), save_as_external_data=True, size_threshold=0, location="ext.bin")
    (place / "ext.bin").unlink()
    for name in ("keras.h5", "weights.pth", "net.tflite", "net.xyz", "bad.npz"):
        (place / name).write_text("123")
    _write_samples(place)
    return place


def _write_samples(place: Path) -> None:
    rng = np.random.default_rng(0)
    images, labels = rng.standard_normal((40, 1, 8, 8)).astype(np.float32), rng.integers(0, 10, 40)
    spoiled = images.copy()
    spoiled[7, 0, 1, 1] = np.nan
    samples: dict[str, dict[str, Any]] = {
        "ok": {"image": images, "labels": labels},
        "name": {"picture": images, "labels": labels},
        "hwc": {"image": images.transpose(0, 2, 3, 1), "labels": labels},
        "bytes": {"image": (images * 9).astype(np.uint8), "labels": labels},
        "nan": {"image": spoiled, "labels": labels},
        "length": {"image": images, "labels": labels[:30]},
        "range": {"image": images, "labels": labels + 5},
        "none": {"image": images[:0], "labels": labels[:0]},
        "one": {"image": images[:1], "labels": labels[:1]},
    }
    for name, arrays in samples.items():
        np.savez(place / f"{name}.npz", **arrays)


@pytest.fixture
def command(
    folder: Path, edgeopt_home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Command:
    monkeypatch.chdir(folder)
    monkeypatch.setenv("HOME", str(edgeopt_home))
    monkeypatch.setenv("COLUMNS", "80")
    (edgeopt_home / "devices.yaml").write_text(_DEVICES)
    return Command(capsys)


def _refused(outcome: Outcome, code: int, *parts: str) -> None:
    """One message with a remedy, on stderr alone, holding `parts`."""
    assert outcome.code == code, outcome.stderr
    assert outcome.stdout == ""
    assert "Traceback" not in outcome.stderr
    assert outcome.stderr.count("edgeopt: ") == 1
    said = outcome.stderr[outcome.stderr.index("edgeopt: ") :]
    message, _, remedy = said.partition("\n  what to do: ")
    assert "\n" not in message, "the message is one line"
    assert remedy.strip(), f"no remedy: {said}"
    for part in parts:
        assert part in said


def _nothing_lost(home: Path) -> None:
    """The inventory is as it was, the ledger opens and holds no run, and no half-written file is left."""
    assert (home / "devices.yaml").read_text() == _DEVICES
    with Workspace.open() as workspace:
        assert [device.name for device in workspace.inventory.devices()] == ["shelf"]
        assert workspace.ledger.runs() == ()
    assert not [path for path in home.rglob("*") if path.name.endswith((".part", ".tmp"))]
    assert not (home / "last-error.txt").exists()


OPTIONS = [
    (["--target", "mars"], ["--target 'mars'", "edgeopt device add mars user@host"]),
    (["--target", "x86-avx512-vnnj"], ["--target 'x86-avx512-vnnj'", "Did you mean x86-avx512-vnni?"]),
    (["--target", "user@"], ["'user@' is not an address", "user@host:port"]),
    (["--profile", "x86-avx512-vnnj"], ["no profile 'x86-avx512-vnnj'", "Did you mean x86-avx512-vnni?"]),
    (["--max-drop", "lots"], ["--max-drop 'lots'", "1%, 0.01 or none"]),
    (["--max-drop", "5"], ["--max-drop '5' is more than the whole metric", "Did you mean 5%?"]),
    (["--max-latency", "20"], ["--max-latency '20'", "Say 20ms"]),
    (["--max-latency", "p42 20 ms"], ["no statistic 'p42'", "p90, p95"]),
    (["--max-memory", "many"], ["--max-memory 'many'", "200MB"]),
    (["--max-size", "0"], ["--max-size '0' is not above zero", "200MB"]),
    (["--threads", "two"], ["--threads 'two'", "--threads 1,2,4"]),
    (["--input", "1,2,3"], ["--input '1,2,3'", "x=1,3,224,224"]),
    (["--scale", "big"], ["--scale is 'big'", "1/255"]),
    (["--scale", "0"], ["--scale is 0", "1/255"]),
    (["--layout", "nhwc"], ["--layout is 'nhwc'", "hwc or chw"]),
    (["--effort", "heroic"], ["--effort 'heroic'", "quick, standard, full"]),
    (["--launches", "0"], ["--launches 0", "3 is the default"]),
    (["--launches", "many"], ["'--launches'", "whole number", "edgeopt deploy --help"]),
    (["--app", "My App"], ["--app 'My App'", "lower-case letters"]),
    (["--minimise", "beauty"], ["--minimise 'beauty'", "latency, memory, size"]),
    (["--evaluation", "0"], ["--evaluation is 0", "1 sample or more"]),
    (["--seed", "-3"], ["--seed is -3", "0 or more"]),
    (["--html", "absent/page.html"], ["--html 'absent/page.html'", "Make the folder first"]),
    (["--frob"], ["--frob", "edgeopt deploy --help"]),
]


@pytest.mark.parametrize(("words", "parts"), OPTIONS, ids=lambda value: " ".join(value) if value else "")
def test_an_option_that_cannot_be_used_names_its_value_and_what_it_takes(
    command: Command, edgeopt_home: Path, words: list[str], parts: list[str]
) -> None:
    _refused(command("deploy", "m.onnx", *words), 2, *parts)
    _nothing_lost(edgeopt_home)


MODELS = [
    ("absent.onnx", ["there is no file absent.onnx", "m.onnx"]),
    ("dir.onnx", ["dir.onnx is a folder", "the model file inside it"]),
    ("text.onnx", ["text.onnx is not an ONNX file", "onnx.checker"]),
    ("short.onnx", ["short.onnx is not an ONNX file, or was cut short", "onnx.checker"]),
    ("empty.onnx", ["empty.onnx is empty (0 bytes)", "again"]),
    ("op.onnx", ["op.onnx is not valid ONNX", "Frobnicate", "Export it again"]),
    ("ext.onnx", ["keeps its weights in ext.bin", "Copy ext.bin"]),
    ("keras.h5", ["keras.h5 is not an HDF5 file", "copy it again"]),
    ("weights.pth", ["weights.pth is a .pth file", "nets.py:build"]),
    ("net.tflite", ["net.tflite is not a TFLite file", "Convert or copy it again"]),
    ("net.xyz", ["net.xyz is no kind of model", "Give an .onnx, .pt2, .keras or .tflite file"]),
    ("nets.py", ["say which function", "with_example"]),
    ("nets.py:nope", ["has no function nope", "with_example", "bare"]),
    ("absent.py:build", ["there is no file absent.py", "nets.py:build"]),
    ("nowhere.nets:build", ["no module nowhere", "nets.py:build"]),
]


@pytest.mark.parametrize(("model", "parts"), MODELS, ids=[model for model, _ in MODELS])
def test_a_model_that_cannot_be_taken_in_says_why_and_what_to_give(
    command: Command, edgeopt_home: Path, model: str, parts: list[str]
) -> None:
    _refused(command("init", model), 2, *parts)
    assert not Path("edgeopt.yaml").exists()
    _nothing_lost(edgeopt_home)


TORCH = [
    ("nets.py:raises", ["calling nets.py:raises failed: RuntimeError: weights.pt is missing", "nets.py, line"]),
    ("nets.py:number", ["nets.py:number returned 3 (int)", "example_inputs"]),
    ("nets.py:bare", ["nets.py:bare returns no example inputs", "--input image="]),
]


@pytest.mark.parametrize(("model", "parts"), TORCH, ids=[model for model, _ in TORCH])
def test_a_function_that_gives_no_network_says_what_it_gave(
    command: Command, edgeopt_home: Path, model: str, parts: list[str]
) -> None:
    pytest.importorskip("torch")
    _refused(command("init", model), 2, *parts)
    _nothing_lost(edgeopt_home)


DATA = [
    (["absent.npz"], ["there is no file absent.npz", "Check the path"]),
    (["bad.npz"], ["bad.npz cannot be read as .npz", "numpy.savez"]),
    (["m.onnx"], ["m.onnx is no kind of data", ".npz file"]),
    (["name.npz"], ["has no input image; it gives picture", "image: float32[?,1,8,8]"]),
    (["hwc.npz"], ["float32[8, 8, 1]", "--layout hwc"]),
    (["bytes.npz"], ["is uint8, the model wants float32", "--scale 1/255"]),
    (["nan.npz"], ["sample 7", "NaN", "repair the sample"]),
    (["length.npz"], ["image: 40, labels: 30", "as many"]),
    (["range.npz"], ["labels go from 5 to 14", "classes 0 to 9"]),
    (["none.npz"], ["none.npz gives no samples", "arrays with entries"]),
    (["one.npz"], ["there is 1 sample", "--overlap"]),
    (["code.py:none"], ["code.py:none returned None", "Yield (inputs, label)"]),
    (["code.py:burns"], ["item 1", "RuntimeError: disk on fire", "code.py, line"]),
    (["ok.npz", "--metric", "f1"], ["--metric is 'f1'", "top1, fidelity or file.py:function"]),
    (["ok.npz", "--metric", "code.py:nope"], ["no function nope", "misses, nan"]),
    (["ok.npz", "--metric", "code.py:misses"], ["KeyError: 'nope'", "code.py, line"]),
    (["ok.npz", "--metric", "code.py:nan"], ["code.py:nan returned nan", "finite number"]),
]


@pytest.mark.parametrize(("words", "parts"), DATA, ids=lambda value: " ".join(value))
def test_samples_or_a_metric_that_do_not_fit_say_which_and_how_to_mend_them(
    command: Command, edgeopt_home: Path, words: list[str], parts: list[str]
) -> None:
    _refused(command("deploy", "m.onnx", "-q", "--data", *words), 2, *parts)
    _nothing_lost(edgeopt_home)


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
        _refused(command("deploy", "m.onnx", "-q", *words), 2, "'z80'", "edgeopt device add")
    _nothing_lost(edgeopt_home)


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
    _refused(command("profiles", "show", "z80"), 2, "z80.yaml", *parts)


def test_an_unknown_option_of_a_pass_in_a_profile_lists_the_options_and_makes_nothing(
    command: Command, profiles: Path, tmp_path: Path
) -> None:
    for path in profiles.glob("x86*.yaml"):
        path.write_text(path.read_text().replace("level: extended", "levle: extended"))
    outcome = command("optimize", "m.onnx", "-q", "--recipes", "optimised", "--out", str(tmp_path / "out"))
    _refused(outcome, 2, "pass 'optimise_graph' has bad options: 'levle' is not an option", "Its options: level")
    assert not (tmp_path / "out").exists()


def test_recipes_that_nobody_has_are_refused_with_a_list(command: Command, edgeopt_home: Path) -> None:
    _refused(command("deploy", "m.onnx", "-q", "--recipes", "gold"), 2, "'gold'", "There are", "int8-static")
    _refused(command("deploy", "m.onnx", "-q", "--recipes", "prune-int9"), 2, "Did you mean prune-int8?")


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
    _refused(command("recipes", str(path)), 2, *parts)


def test_a_deployment_refuses_a_recipe_file_as_the_list_of_recipes_does(command: Command, tmp_path: Path) -> None:
    (text, parts), path = RECIPE_FILES[-1], tmp_path / "mine.yaml"
    path.write_text(text)
    _refused(command("deploy", "m.onnx", "-q", "--recipe-file", str(path)), 2, *parts)


def test_a_loss_without_training_samples_and_a_candidate_that_is_not_there_are_refused(command: Command) -> None:
    _refused(command("deploy", "m.onnx", "-q", "--loss", "my.py:loss"), 2, "--loss", "--train data.py:train")
    _refused(command("deploy", "m.onnx", "-q", "--candidate", "no.onnx"), 2, "no.onnx", "there is no such file")
    _refused(command("deploy", "m.onnx", "-q", "--training-samples", "0"), 2, "--training-samples is 0")


OTHERS = [
    (["frobnicate"], ["'frobnicate'", "edgeopt --help"], 2),
    (["deploy"], ["no MODEL was given", "edgeopt init"], 2),
    (["bench", "m.onnx", "--plan", "heroic"], ["--plan 'heroic'", "paced"], 2),
    (["bench", "m.onnx", "--plan", "paced"], ["needs a rate", "--fps 30"], 2),
    (["bench", "m.onnx", "--plan", "quick", "--fps", "3"], ["--fps 3", "--plan paced"], 2),
    (["bench", "m.onnx", "--sessions", "0"], ["--sessions '0'", "--sessions 1,2,4"], 2),
    (["bench", "m.onnx", "--inter-op", "two"], ["--inter-op 'two'", "--inter-op 1,2,4"], 2),
    (["bench", "m.onnx", "-q", "--sessions", "999"], ["--sessions 999", "CPUs", "Use at most"], 2),
    (["bench", "m.onnx", "-q", "--batch", "9999"], ["--batch 9999", "at most 4096"], 2),
    (["bench", "m.onnx", "--plan", "paced", "--fps", "3", "--sessions", "2"], ["--sessions 2", "paced"], 2),
    (["optimize", "m.onnx", "--out", "text.onnx"], ["--out 'text.onnx' is a file", "folder"], 2),
    (["runs", "show", "0101-nope"], ["'0101-nope'", "edgeopt runs"], 2),
    (["runs", "--limit", "0"], ["--limit", "edgeopt runs --help"], 2),
    (["report"], ["there is no run yet", "edgeopt deploy"], 2),
    (["select", "0101-nope"], ["'0101-nope'", "edgeopt runs"], 2),
    (["profiles", "show", "x87"], ["no profile 'x87'", "x86-64"], 2),
    (["device", "probe", "attic"], ["'attic'", "known: shelf", "edgeopt device add attic"], 2),
    (["device", "remove", "local"], ["local cannot be removed"], 2),
    (["device", "trust", "local"], ["no host key", "edgeopt device list"], 2),
    (["device", "add", "my pi", "user@host"], ["'my pi'", "letters, digits"], 2),
    (["device", "add", "pi", "user@host:99999"], ["'user@host:99999'", "user@host:port"], 2),
    (["device", "add", "pi", "user@host", "--label", "x"], ["--label 'x'", "--label site="], 2),
    (["device", "add", "pi", "user@host", "--key", "nokey"], ["--key 'nokey'", "id_ed25519"], 2),
    (["device", "add", "pi", "user@127.0.0.1:1"], ["nothing listens there", "switched on"], 4),
    (["device", "rollback", "local", "nope"], ["no application 'nope'", "none yet"], 2),
]


@pytest.mark.parametrize(("words", "parts", "code"), OTHERS, ids=[" ".join(words) for words, _, _ in OTHERS])
def test_every_command_refuses_with_a_message_and_a_remedy(
    command: Command, edgeopt_home: Path, words: list[str], parts: list[str], code: int
) -> None:
    _refused(command(*words), code, *parts)
    _nothing_lost(edgeopt_home)


def test_no_command_at_all_shows_the_help(command: Command) -> None:
    for words in ([], ["device"]):
        outcome = command(*words)
        assert outcome.code == 2
        assert outcome.stderr.startswith("Usage: edgeopt")
        assert "what to do" not in outcome.stderr


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("model: [", ["edgeopt.yaml is not valid YAML", "line"]),
        ("- m.onnx", ["holds a list"]),
        ("model: m.onnx\nmodle: x\n", ["unknown key 'modle'", "model, target"]),
        ("model: m.onnx\nlaunches: many\n", ["launches is 'many'", "a whole number"]),
        ("model: m.onnx\nmax-drop: 7\n", ["--max-drop '7'", "Did you mean 7%"]),
    ],
)
def test_a_broken_edgeopt_yaml_names_the_place(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, parts: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("edgeopt.yaml").write_text(text)
    _refused(command("deploy"), 2, *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("devices: [", ["devices.yaml is not valid YAML"]),
        ("hello", ["no list `devices`", "Correct it"]),
        (_DEVICES + "  port: many\n", ["device 1: port is 'many'", "Correct it there"]),
        (_DEVICES + "- name: shelf\n  host: 192.0.2.8\n", ["'shelf' is there twice", "Rename"]),
        ("devices:\n- name: shelf\n  hots: x\n", ["'hots' is no field", "host"]),
    ],
)
def test_a_broken_inventory_is_named_and_left_as_it_is(
    command: Command, edgeopt_home: Path, text: str, parts: list[str]
) -> None:
    (edgeopt_home / "devices.yaml").write_text(text)
    _refused(command("device", "list"), 2, *parts)
    assert (edgeopt_home / "devices.yaml").read_text() == text


def test_a_ledger_of_an_unknown_kind_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_LEDGER", "mysql://host/name")
    _refused(command("runs"), 2, "'mysql'", "postgresql://")


def test_a_home_that_cannot_be_made_is_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "file" / "home"))
    _refused(command("runs"), 2, str(tmp_path / "file" / "home"), "EDGEOPT_HOME")


@pytest.mark.parametrize(
    ("words", "kind", "code"),
    [
        (["deploy", "m.onnx", "--target", "mars"], "UnknownDeviceError", 2),
        (["deploy", "m.onnx", "--data", "hwc.npz"], "DataError", 2),
        (["init", "ext.onnx"], "ModelError", 2),
        (["deploy", "m.onnx", "--frob"], "UsageError", 2),
        (["device", "add", "pi", "user@127.0.0.1:1"], "ConnectError", 4),
    ],
)
def test_under_json_a_failure_is_one_document(command: Command, words: list[str], kind: str, code: int) -> None:
    outcome = command(*words, "--json")
    assert outcome.code == code
    assert outcome.stderr == ""
    assert set(outcome.error) == {"code", "message", "remedy", "exit_code"}
    assert (outcome.error["code"], outcome.error["exit_code"]) == (kind, code)
    assert outcome.error["message"]
    assert outcome.error["remedy"]


@pytest.mark.parametrize("words", [["deploy", "text.onnx", "-q"], ["deploy", "m.onnx", "--effort", "heroic"]])
def test_the_installed_command_says_the_same(folder: Path, edgeopt_home: Path, words: list[str]) -> None:
    program = Path(sys.executable).with_name("edgeopt")
    done = subprocess.run([str(program), *words], cwd=folder, capture_output=True, text=True, check=False)
    _refused(Outcome(done.returncode, done.stdout, done.stderr), 2, words[-1].replace("-q", "text.onnx"))
