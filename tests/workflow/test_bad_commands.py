"""Commands and files of settings that cannot work: every command refuses with a message and a remedy."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from support.bad_input import DEVICES, nothing_lost, refused
from support.command import Command, Outcome

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
    refused(command(*words), code, *parts)
    nothing_lost(edgeopt_home)


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
    refused(command("deploy"), 2, *parts)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("devices: [", ["devices.yaml is not valid YAML"]),
        ("hello", ["no list `devices`", "Correct it"]),
        (DEVICES + "  port: many\n", ["device 1: port is 'many'", "Correct it there"]),
        (DEVICES + "- name: shelf\n  host: 192.0.2.8\n", ["'shelf' is there twice", "Rename"]),
        ("devices:\n- name: shelf\n  hots: x\n", ["'hots' is no field", "host"]),
    ],
)
def test_a_broken_inventory_is_named_and_left_as_it_is(
    command: Command, edgeopt_home: Path, text: str, parts: list[str]
) -> None:
    (edgeopt_home / "devices.yaml").write_text(text)
    refused(command("device", "list"), 2, *parts)
    assert (edgeopt_home / "devices.yaml").read_text() == text


def test_a_ledger_of_an_unknown_kind_is_refused(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGEOPT_LEDGER", "mysql://host/name")
    refused(command("runs"), 2, "'mysql'", "postgresql://")


def test_a_home_that_cannot_be_made_is_named(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "file" / "home"))
    refused(command("runs"), 2, str(tmp_path / "file" / "home"), "EDGEOPT_HOME")


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
def test_the_installed_command_says_the_same(broken_files: Path, edgeopt_home: Path, words: list[str]) -> None:
    program = Path(sys.executable).with_name("edgeopt")
    done = subprocess.run([str(program), *words], cwd=broken_files, capture_output=True, text=True, check=False)
    refused(Outcome(done.returncode, done.stdout, done.stderr), 2, words[-1].replace("-q", "text.onnx"))
