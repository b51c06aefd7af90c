"""`edgeopt split`, `merge` and `bench` over sessions, as a user meets them, on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

from edgeopt.graph.session import open_session, run_feed
from support.command import Command
from support.networks import mlp_onnx, small_cnn_onnx
from support.trained import trained


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Command:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "m.onnx").write_bytes(trained("residual").network.read_bytes())
    return Command(capsys)


def test_split_lists_cuts_then_makes_stages_that_merge_again(command: Command, tmp_path: Path) -> None:
    listed = command("split", "m.onnx", "--json")
    cuts = json.loads(listed.stdout)["cuts"]
    shares = [cut["mac_share"] for cut in cuts]
    assert len(cuts) > 5
    assert shares == sorted(shares)
    assert not (tmp_path / "stages").exists()
    split = command("split", "m.onnx", "--parts", "2", "--out", "parts")
    assert split.code == 0, split.stderr
    assert "logits" in split.stdout
    merged = command("merge", "parts/stage-1.onnx", "parts/stage-2.onnx", "--out", "again.onnx", "--json")
    assert merged.code == 0, merged.stderr
    assert json.loads(merged.stdout)["kind"] == "chain"
    image = {"image": np.random.default_rng(0).normal(size=(4, 1, 8, 8)).astype(np.float32)}
    first, second = (run_feed(open_session(tmp_path / name), image)["logits"] for name in ("m.onnx", "again.onnx"))
    np.testing.assert_array_equal(first, second)


def test_split_at_a_tensor_cuts_there(command: Command, tmp_path: Path) -> None:
    outcome = command("split", "m.onnx", "--at", "/blocks/blocks.0/Relu_1_output_0", "--json")
    stages = json.loads(outcome.stdout)["stages"]
    assert stages[0]["outputs"] == stages[1]["inputs"] == ["/blocks/blocks.0/Relu_1_output_0"]
    assert {Path(stage["path"]).name for stage in stages} == {path.name for path in (tmp_path / "stages").iterdir()}


def test_split_measures_the_pipeline_beside_sessions_of_the_whole(command: Command) -> None:
    words = ("split", "m.onnx", "--parts", "2", "--measure", "--seconds", "0.2", "--rounds", "2")
    outcome = command(*words, "--json")
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)["pipeline"]
    assert [mode["name"] for mode in found["modes"]] == ["one session", "sessions", "pipeline"]
    assert found["max_abs"] < 1e-3
    said = command(*words, "-q").stdout
    for word in ("one session", "2 sessions", "pipeline", "items/s", "Against 2 sessions the pipeline"):
        assert word in said
    assert "gains" in said or "loses" in said


def test_merge_tells_what_is_there_once(command: Command, tmp_path: Path) -> None:
    model = onnx.load(str(small_cnn_onnx(tmp_path / "a.onnx")))
    for tensor in model.graph.initializer:
        if tensor.name == "b3":
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.ones(10, np.float32), "b3"))
    onnx.save(model, str(tmp_path / "b.onnx"))
    outcome = command("merge", "a.onnx", "b.onnx", "--out", "both.onnx")
    assert outcome.code == 0, outcome.stderr
    assert "7 nodes" in outcome.stdout
    assert "logits_b" in outcome.stdout
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("a", "b", "both")]
    assert sizes[2] < sizes[0] + sizes[1]


def test_bench_ranges_over_sessions_and_inter_op_threads(command: Command) -> None:
    words = ("bench", "m.onnx", "--plan", "quick", "--threads", "1", "--sessions", "1,2", "--inter-op", "1,2", "--json")
    outcome = command(*words)
    assert outcome.code == 0, outcome.stderr
    found = json.loads(outcome.stdout)["measurements"]
    asked = [(one["settings"]["inter_op"], one["settings"]["sessions"]) for one in found]
    assert (1, 1) in asked
    assert (1, 2) in asked or len(asked) == 1  # one CPU bears one session
    assert all(one["items_per_second"] > 0 for one in found)


REFUSED = [
    (["split", "m.onnx", "--parts", "1"], ["--parts 1 cuts nothing", "2 or more"]),
    (["split", "m.onnx", "--parts", "99"], ["--parts 99 is more than the", "Use at most"]),
    (["split", "m.onnx", "--at", "/blocks.0/Relu"], ["no such tensor", "Did you mean"]),
    (["split", "m.onnx", "--at", "/blocks/blocks.0/Conv_output_0"], ["--at", "Cuts are"]),
    (["split", "m.onnx", "--at", "logits", "--parts", "2"], ["--parts and --at", "one of them"]),
    (["split", "m.onnx", "--parts", "2", "--out", "m.onnx"], ["--out 'm.onnx' is a file", "folder"]),
    (["split", "m.onnx", "--parts", "2", "--measure", "--seconds", "0"], ["--seconds 0", "1 is usual"]),
    (["split", "m.onnx", "--parts", "2", "--measure", "--threads", "0"], ["--threads 0", "1 or more"]),
    (["split", "absent.onnx"], ["there is no file absent.onnx", "m.onnx"]),
    (["merge", "m.onnx"], ["one model alone", "two or more"]),
    (["merge", "m.onnx", "m.onnx", "--out", "m.onnx"], ["is one of the models", "another file"]),
    (["merge", "m.onnx", "other.onnx"], ["m, other have nothing in common", "equal layers"]),
    (["merge", "m.onnx", "other.onnx", "--out", "absent/x.onnx"], ["absent", "Make the folder first"]),
]


@pytest.mark.parametrize(("words", "parts"), REFUSED, ids=[" ".join(words) for words, _ in REFUSED])
def test_what_cannot_be_done_is_said_in_one_line_with_a_remedy(
    command: Command, tmp_path: Path, words: list[str], parts: list[str]
) -> None:
    mlp_onnx(tmp_path / "other.onnx")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    outcome = command(*words)
    assert outcome.code == 2, outcome.stderr
    assert "Traceback" not in outcome.stderr
    said = outcome.stderr[outcome.stderr.index("edgeopt: ") :]
    message, _, remedy = said.partition("\n  what to do: ")
    assert "\n" not in message
    assert remedy.strip()
    for part in parts:
        assert part in said
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
