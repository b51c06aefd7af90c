"""`edgeopt publish` and `edgeopt releases` as commands: exit codes, JSON, plain words."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeopt.cli.main import main
from edgeopt.workflow.workspace import Workspace
from support.publishing import keep_run, make_keys


class Terminal:
    """Runs commands in this process and keeps what they print."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys

    def __call__(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            main(list(words))
        out, err = self._capsys.readouterr()
        return int(ended.value.code or 0), out, err


@pytest.fixture
def edgeopt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Terminal:
    monkeypatch.setenv("EDGEOPT_HOME", str(tmp_path / "edgeopt"))
    monkeypatch.setenv("COLUMNS", "160")
    with Workspace.open() as workspace:
        make_keys(workspace)
        keep_run(workspace, tmp_path / "models", "run-pi5")
    return Terminal(capsys)


def test_publishing_twice_says_so_and_ends_well(edgeopt: Terminal) -> None:
    code, out, _ = edgeopt("publish", "digits@1.0", "--from", "run-pi5", "--margin", "100%", "--notes", "first")
    assert code == 0
    assert "digits@1.0, counter 1" in out
    assert "edgeopt fleet update digits@1.0" in out
    code, out, _ = edgeopt("publish", "digits@1.0", "--from", "run-pi5", "--margin", "100%", "--notes", "first")
    assert code == 0
    assert "published already" in out


def test_a_store_is_verified_where_one_is_named(edgeopt: Terminal, tmp_path: Path) -> None:
    release = ("publish", "digits@1.0", "--from", "run-pi5", "--verify")
    code, _, err = edgeopt(*release)
    assert (code, "--to URL" in err) == (2, True)
    store = tmp_path / "store"
    assert edgeopt(*release, "--to", str(store))[0] == 0
    blob = next((store / "blobs").iterdir())
    whole = blob.read_bytes()
    blob.write_bytes(bytes(len(whole)))
    code, out, _ = edgeopt(*release, "--to", str(store), "--json")
    assert (code, json.loads(out)["stored"]["sent_files"], blob.read_bytes()) == (0, 1, whole)


def test_json_names_manifest_and_target(edgeopt: Terminal) -> None:
    code, out, _ = edgeopt("publish", "digits@1.0", "--profile", "pi4=run-pi5", "--expires", "2w", "--json")
    document = json.loads(out)
    assert (code, document["target"], document["new"]) == (0, "releases/digits/1.0.json", True)
    assert list(document["release"]["entries"]) == ["pi4"]
    assert document["release"]["expires"] - document["release"]["created"] == 14 * 86400
    listed = json.loads(edgeopt("releases", "--json")[1])
    assert [one["version"] for one in listed["releases"]] == ["1.0"]
    shown = json.loads(edgeopt("releases", "show", "digits", "--json")[1])
    assert shown["manifest"] == document["manifest"]
    assert "int8-entropy" in edgeopt("releases", "show", "digits@1.0")[1]
    assert "digits@1.0" in edgeopt("releases", "list")[1]


def test_nothing_published_yet_names_the_next_command(edgeopt: Terminal) -> None:
    assert "edgeopt publish" in edgeopt("releases")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("digits", "--from", "run-pi5"), "is not APP@VERSION"),
        (("digits@1.0",), "a release is made of runs"),
        (("digits@1.0", "--from", "absent"), "is not in the ledger"),
        (("digits@1.0", "--from", "run-pi5", "--expires", "soon"), "--expires 'soon' is not a time with a unit"),
        (("digits@1.0", "--from", "run-pi5", "--margin", "wide"), "--margin 'wide' is not a share"),
        (("digits@1.0", "--profile", "pi5"), "--profile 'pi5' is not NAME=VALUE"),
        (("digits@1.0", "--profile", "pi5=a", "--profile", "pi5=b"), "--profile names 'pi5' twice"),
        (("digits@1.0", "--restore", "0.9"), "has no release '0.9'"),
    ],
)
def test_what_cannot_be_published_is_one_message_and_exit_2(
    edgeopt: Terminal, words: tuple[str, ...], said: str
) -> None:
    code, out, err = edgeopt("publish", *words)
    assert (code, out) == (2, "")
    assert said in err
    assert "what to do:" in err
    code, out, _ = edgeopt("publish", *words, "--json")
    assert said in json.loads(out)["error"]["message"]
