from __future__ import annotations

import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import helper

from edgeopt.documents import plain
from edgeopt.errors import ChildError, DataError, ModelError
from edgeopt.graph.collect import collect
from edgeopt.graph.data import Samples, load_samples
from edgeopt.graph.inspect import inspect_onnx
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.split import split, split_sizes
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.networks import broken_nan_onnx, constant, matmul_transformer_onnx, mlp_onnx, save, small_cnn_onnx

RNG = np.random.default_rng(0)


def load(source: str | Path | None, model: Path, folder: Path, **options: Any) -> Samples:
    (folder / "made").mkdir(exist_ok=True)
    text = None if source is None else str(source)
    signature = inspect_onnx(model).signature
    return load_samples(text, model, signature, options=SampleOptions(**options), folder=folder / "made")


def in_process(source: str | Path | None, model: Path, folder: Path, **options: Any) -> dict[str, Any]:
    """What the two children do, without the cost of starting them."""
    (folder / "made").mkdir(exist_ok=True)
    signature = plain(inspect_onnx(model).signature)
    asked = plain(SampleOptions(**options))
    collected = collect(None if source is None else str(source), signature, asked, str(folder / "made"))
    asked["metric"] = asked["metric"] or ("top1" if "labels" in collected["members"] else "fidelity")
    return split(collected, str(model), signature, asked, "", str(folder / "made"))


def made(folder: Path, name: str) -> SampleFile:
    return SampleFile(str(folder / "made" / f"{name}.npz"))


@pytest.fixture
def cnn(tmp_path: Path) -> Path:
    return small_cnn_onnx(tmp_path / "cnn.onnx")


def images(count: int) -> Any:
    return RNG.standard_normal((count, 1, 8, 8)).astype(np.float32)


def npz(path: Path, **arrays: Any) -> Path:
    np.savez(path, **arrays)
    return path


def test_an_npz_with_labels_becomes_three_files(cnn: Path, tmp_path: Path) -> None:
    labels = RNG.integers(0, 10, 50)
    samples = load(npz(tmp_path / "d.npz", image=images(50), labels=labels), cnn, tmp_path)
    assert (samples.summary.calibration_samples, samples.summary.evaluation_samples) == (20, 30)
    assert samples.summary.metric == "top1"
    assert samples.summary.labelled
    assert not samples.summary.generated
    calibration, evaluation = SampleFile(str(samples.calibration)), SampleFile(str(samples.evaluation))
    assert calibration.shapes == {"input:image": (20, 1, 1, 8, 8)}
    assert evaluation.shapes["labels"] == (30,)
    assert evaluation.shapes["reference:logits"] == (30, 1, 10)
    assert set(SampleFile(str(samples.golden)).shapes) == {"input:image", "reference:logits"}
    assert SampleFile(str(samples.golden)).count == 4
    session = open_session(cnn)
    for sample in evaluation:
        expected = run_feed(session, sample.inputs)["logits"]
        np.testing.assert_allclose(sample.reference["logits"], expected, atol=1e-6)
    right = [float(sample.reference["logits"].argmax() == sample.label) for sample in evaluation]
    assert samples.baseline == pytest.approx(sum(right) / 30)
    assert sorted(path.name for path in (tmp_path / "made").iterdir()) == [
        "calibration.npz",
        "evaluation.npz",
        "golden.npz",
    ]


def test_the_sets_share_no_sample_and_labels_stay_with_theirs(cnn: Path, tmp_path: Path) -> None:
    data = images(40)
    data[:, 0, 0, 0] = np.arange(40)
    in_process(npz(tmp_path / "d.npz", image=data, labels=np.arange(40) % 10), cnn, tmp_path)
    calibration = {int(s.inputs["image"][0, 0, 0, 0]) for s in made(tmp_path, "calibration")}
    evaluation = {int(s.inputs["image"][0, 0, 0, 0]): int(s.label) for s in made(tmp_path, "evaluation")}
    assert len(calibration) == 16
    assert calibration | set(evaluation) == set(range(40))
    assert not calibration & set(evaluation)
    assert all(label == number % 10 for number, label in evaluation.items())


def test_overlap_only_when_asked(cnn: Path, tmp_path: Path) -> None:
    source = npz(tmp_path / "d.npz", image=images(1))
    with pytest.raises(DataError, match=r"there is 1 sample, .*--overlap"):
        in_process(source, cnn, tmp_path)
    result = in_process(source, cnn, tmp_path, overlap=True)
    assert (result["calibration"], result["evaluation"]) == (1, 1)


def test_digest_follows_data_seed_split_and_code(cnn: Path, tmp_path: Path) -> None:
    data = images(20)
    source = npz(tmp_path / "d.npz", image=data)
    first = in_process(source, cnn, tmp_path)["digest"]
    files = [(tmp_path / "made" / f"{name}.npz").read_bytes() for name in ("calibration", "evaluation", "golden")]
    assert in_process(source, cnn, tmp_path)["digest"] == first
    again = [(tmp_path / "made" / f"{name}.npz").read_bytes() for name in ("calibration", "evaluation", "golden")]
    assert files == again
    assert in_process(source, cnn, tmp_path, seed=1)["digest"] != first
    assert in_process(source, cnn, tmp_path, calibration=4)["digest"] != first
    data[3, 0, 2, 2] += 1
    assert in_process(npz(tmp_path / "e.npz", image=data), cnn, tmp_path)["digest"] != first


@pytest.mark.parametrize(
    ("total", "asked", "sizes"),
    [
        (5000, {}, (128, 1000)),
        (1128, {}, (128, 1000)),
        (500, {}, (128, 372)),
        (100, {}, (40, 60)),
        (2, {}, (1, 1)),
        (100, {"evaluation": 10}, (90, 10)),
        (100, {"calibration": 8}, (8, 92)),
        (3, {"overlap": True}, (3, 3)),
    ],
)
def test_small_data_are_shared_out_forty_to_sixty(total: int, asked: dict[str, Any], sizes: tuple[int, int]) -> None:
    assert split_sizes(total, SampleOptions(**asked)) == sizes


def test_a_single_unnamed_array_is_for_a_single_input(cnn: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images(10))
    assert in_process(tmp_path / "d.npz", cnn, tmp_path)["evaluation"] == 6


def test_compressed_and_fortran_ordered_arrays_are_read(cnn: Path, tmp_path: Path) -> None:
    data = images(10)
    np.savez_compressed(tmp_path / "d.npz", image=np.asfortranarray(data))
    in_process(tmp_path / "d.npz", cnn, tmp_path)
    found = {sample.inputs["image"].tobytes() for sample in made(tmp_path, "calibration")}
    assert found <= {image.tobytes() for image in data}


def test_a_fixed_batch_is_filled_by_grouping(tmp_path: Path) -> None:
    model = small_cnn_onnx(tmp_path / "b4.onnx", dynamic=False, batch=4)
    result = in_process(npz(tmp_path / "d.npz", image=images(42), labels=np.arange(42) % 10), model, tmp_path)
    assert (result["calibration"], result["evaluation"]) == (4, 6)
    assert made(tmp_path, "evaluation").shapes["input:image"] == (6, 4, 1, 8, 8)
    assert made(tmp_path, "evaluation").shapes["labels"] == (6, 4)


def test_without_data_inputs_are_generated_and_flagged(cnn: Path, tmp_path: Path) -> None:
    samples = load(None, cnn, tmp_path)
    assert samples.summary.generated
    assert samples.summary.source == "generated"
    assert samples.summary.metric == "fidelity"
    assert samples.baseline == pytest.approx(1.0)
    inputs = np.stack([sample.inputs["image"] for sample in SampleFile(str(samples.evaluation))])
    assert 0.9 < inputs.std() < 1.1


def test_generated_indices_stay_small(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    table = [constant("table", np.eye(2))]
    model = save(tmp_path / "g.onnx", [node], {"ids": ("N", 3)}, {"y": ("N", 3, 2)}, table, input_dtype=7)
    in_process(None, model, tmp_path)
    values = {int(value) for sample in made(tmp_path, "calibration") for value in sample.inputs["ids"].ravel()}
    assert values == {0, 1}


def test_inputs_of_unknown_size_cannot_be_generated(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = save(tmp_path / "r.onnx", [node], {"x": ("N", 3, "H", "W")}, {"y": ("N", 3, "H", "W")})
    with pytest.raises(DataError, match=r"--input x=1,3,224,224"):
        in_process(None, model, tmp_path)


FUNCTIONS = """
import numpy as np

RNG = np.random.default_rng(0)

def batches():
    while True:
        yield RNG.integers(0, 256, (32, 8, 8, 1), dtype=np.uint8), RNG.integers(0, 10, 32)

def singles():
    for index in range(12):
        yield {"image": RNG.standard_normal((1, 8, 8)).astype("f"), "labels": index % 10}

def whole():
    return RNG.standard_normal((30, 1, 8, 8)).astype("f"), np.arange(30) % 10

def unlabelled():
    return [RNG.standard_normal((1, 8, 8)).astype("f") for _ in range(9)]

def raises():
    yield np.zeros((1, 8, 8), "f")
    raise OSError("disk gone")

def nothing():
    return iter(())

def half_labelled():
    yield np.zeros((1, 8, 8), "f"), 1
    yield np.zeros((1, 8, 8), "f"), None

def short_labels():
    yield np.zeros((5, 1, 8, 8), "f"), np.zeros(4, int)

def number():
    return 3

def hangs():
    import time
    time.sleep(600)

def accuracy(outputs, labels):
    return float((outputs["logits"].argmax(-1) == labels).mean())

def mean_abs(outputs, labels):
    assert labels is None
    return -abs(outputs["logits"]).mean()

def nan(outputs, labels):
    return float("nan")

def no_such_output(outputs, labels):
    return outputs["boxes"].mean()

def large():
    for _ in range(200):
        yield RNG.standard_normal((1, 128, 1024)).astype("f")
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    (tmp_path / "data.py").write_text(FUNCTIONS)
    return tmp_path / "data.py"


def test_a_stream_without_end_is_read_as_far_as_needed(cnn: Path, functions: Path, tmp_path: Path) -> None:
    samples = load(
        f"{functions}:batches",
        cnn,
        tmp_path,
        calibration=16,
        evaluation=40,
        layout="hwc",
        scale=1 / 255,
        metric=f"{functions}:accuracy",
    )
    assert (samples.summary.calibration_samples, samples.summary.evaluation_samples) == (16, 40)
    assert samples.summary.metric == f"{functions}:accuracy"
    values = np.stack([sample.inputs["image"] for sample in SampleFile(str(samples.calibration))])
    assert 0 <= values.min() < values.max() <= 1
    assert 0 <= samples.baseline <= 1
    first = samples.summary.digest
    functions.write_text(FUNCTIONS + "\n# changed\n")
    changed = load(f"{functions}:batches", cnn, tmp_path, calibration=16, evaluation=40, layout="hwc", scale=1 / 255)
    assert changed.summary.digest != first


@pytest.mark.parametrize(
    ("name", "sizes", "metric"),
    [("singles", (4, 8), "top1"), ("whole", (12, 18), "top1"), ("unlabelled", (3, 6), "fidelity")],
)
def test_functions_may_give_samples_in_several_forms(
    cnn: Path, functions: Path, tmp_path: Path, name: str, sizes: tuple[int, int], metric: str
) -> None:
    result = in_process(f"{functions}:{name}", cnn, tmp_path)
    assert (result["calibration"], result["evaluation"]) == sizes
    assert ("labels" in made(tmp_path, "evaluation").shapes) == (metric == "top1")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("raises", "item 1, failed: OSError: disk gone (data.py, line"),
        ("nothing", "gives no samples"),
        ("half_labelled", "sample 1 has no label, unlike those before it"),
        ("short_labels", "sample 0: 5 rows of inputs have labels of shape [4]"),
        ("number", "TypeError: 'int' object is not iterable"),
        ("RNG", "RNG is a Generator, not a function"),
        ("nope", "has no function nope. It has: batches, singles"),
    ],
)
def test_a_function_that_gives_no_samples_says_why(
    cnn: Path, functions: Path, tmp_path: Path, name: str, says: str
) -> None:
    with pytest.raises(DataError) as caught:
        in_process(f"{functions}:{name}", cnn, tmp_path)
    assert says in str(caught.value)


def test_a_function_that_hangs_is_ended(cnn: Path, functions: Path, tmp_path: Path) -> None:
    with pytest.raises(ChildError, match=r"reading .*data.py:hangs: the child process ended with timeout"):
        load(f"{functions}:hangs", cnn, tmp_path, deadline_seconds=3)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("nan", "returned nan"),
        ("no_such_output", "KeyError: 'boxes'"),
        ("mean_abs", None),
    ],
)
def test_metrics_of_the_user_are_tried_at_once(
    cnn: Path, functions: Path, tmp_path: Path, name: str, says: str | None
) -> None:
    source = npz(tmp_path / "d.npz", image=images(10))
    if says is None:
        assert in_process(source, cnn, tmp_path, metric=f"{functions}:{name}")["baseline"] < 0
        return
    with pytest.raises(DataError) as caught:
        in_process(source, cnn, tmp_path, metric=f"{functions}:{name}")
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("arrays", "options", "says"),
    [
        ({"image": images(10), "labels": np.arange(9)}, {}, "image: 10, labels: 9"),
        (
            {"pixels": images(10)},
            {},
            "sample 0 has no input image; it gives pixels. The model takes image: float32[?,1,8,8]",
        ),
        ({"image": images(0)}, {}, "gives no samples"),
        ({"labels": np.arange(4)}, {}, "the arrays must be of one length"),
        ({"image": images(10), "labels": np.arange(10) + 1}, {}, "labels go from 1 to 10, but output `logits` has"),
        ({"image": images(10), "labels": np.arange(10) + 1}, {}, "Subtract 1"),
        ({"image": images(10), "labels": np.arange(10) - 1}, {}, "labels go from -1 to"),
        ({"image": images(10), "labels": np.eye(10)}, {}, "one-hot: give their arg-max"),
        ({"image": images(10), "labels": np.arange(10) + 0.5}, {}, "no class numbers. Give --metric"),
        ({"image": images(10)}, {"metric": "top1"}, "top1 needs labels"),
        ({"image": np.array([None] * 10)}, {}, "cannot be read as .npz"),
        ({"image": np.zeros((10, 8, 8, 1), np.uint8)}, {}, "sample 0: input `image` is uint8[8, 8, 1]"),
    ],
)
def test_data_that_do_not_fit_say_so(
    cnn: Path, tmp_path: Path, arrays: dict[str, Any], options: dict[str, Any], says: str
) -> None:
    with pytest.raises(DataError) as caught:
        in_process(npz(tmp_path / "d.npz", **arrays), cnn, tmp_path, seed=3, **options)
    assert says in str(caught.value)


def test_the_number_of_a_bad_sample_is_its_place_in_the_file(cnn: Path, tmp_path: Path) -> None:
    data = images(300)
    data[250:, 0, 1, 1] = np.nan
    source = npz(tmp_path / "d.npz", image=data)
    with pytest.raises(DataError, match=r"sample 25\d: input `image` has 1 values"):
        in_process(source, cnn, tmp_path, calibration=20, evaluation=100)


def test_labels_for_a_network_without_classes_are_refused(tmp_path: Path) -> None:
    model = matmul_transformer_onnx(tmp_path / "t.onnx")
    tokens = RNG.standard_normal((10, 8, 32)).astype("f")
    with pytest.raises(DataError, match=r"8 predictions over 32 classes a sample\), and there are 1 labels"):
        in_process(npz(tmp_path / "d.npz", tokens=tokens, labels=np.arange(10)), model, tmp_path)


def test_labels_for_every_position_are_taken(tmp_path: Path) -> None:
    model = matmul_transformer_onnx(tmp_path / "t.onnx")
    tokens = RNG.standard_normal((10, 8, 32)).astype("f")
    in_process(npz(tmp_path / "d.npz", tokens=tokens, labels=RNG.integers(0, 32, (10, 8))), model, tmp_path)
    assert made(tmp_path, "evaluation").shapes["labels"] == (6, 8)


def test_a_source_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives NaN or infinity on evaluation sample 0"):
        in_process(None, broken_nan_onnx(tmp_path / "n.onnx"), tmp_path)


def test_a_source_model_that_only_guesses_is_noted(tmp_path: Path) -> None:
    model = mlp_onnx(tmp_path / "m.onnx")
    x = RNG.standard_normal((100, 32)).astype("f")
    outputs = run_feed(open_session(model), {"x": x})["y"]
    wrong = npz(tmp_path / "wrong.npz", x=x, labels=outputs.argmin(-1))
    assert "guessing among 10 classes" in in_process(wrong, model, tmp_path)["notes"][-1]
    right = npz(tmp_path / "right.npz", x=x, labels=outputs.argmax(-1))
    result = in_process(right, model, tmp_path)
    assert result["baseline"] == 1.0
    assert result["notes"] == ["top1 over 60 samples moves in steps of 1.7 points."]


@pytest.mark.parametrize(
    ("source", "says"),
    [("gone.npz", "there is no file"), ("data.csv", "no kind of data"), ("gone.py:val", "there is no file")],
)
def test_a_source_that_is_none_says_what_to_give(cnn: Path, tmp_path: Path, source: str, says: str) -> None:
    with pytest.raises(DataError) as caught:
        load(tmp_path / source, cnn, tmp_path)
    assert says in str(caught.value)


def test_other_bytes_named_npz_are_refused(cnn: Path, tmp_path: Path) -> None:
    (tmp_path / "d.npz").write_bytes(b"PK but no zip")
    with pytest.raises(DataError, match=r"cannot be read as \.npz"):
        in_process(tmp_path / "d.npz", cnn, tmp_path)


def test_an_unknown_metric_is_refused(cnn: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--metric is 'top5'\. It is top1, fidelity"):
        load(npz(tmp_path / "d.npz", image=images(4)), cnn, tmp_path, metric="top5")


def test_a_large_stream_takes_the_memory_of_few_samples(functions: Path, tmp_path: Path) -> None:
    """200 samples of 512 KiB: 100 MiB pass through, at most 16 MiB of them at a time."""
    node = helper.make_node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)
    model = save(tmp_path / "big.onnx", [node], {"x": ("N", 1, 128, 1024)}, {"y": ("N", 1)})
    in_process(None, model, tmp_path, calibration=1, evaluation=1)  # imports are not what is measured
    tracemalloc.start()
    in_process(f"{functions}:large", model, tmp_path)
    peak_bytes = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert made(tmp_path, "evaluation").count == 120
    assert peak_bytes < 16 << 20


def test_memory_mapped_arrays_are_written_as_others_are(tmp_path: Path) -> None:
    """`write_samples` reads memory-mapped arrays item by item and gives the same bytes as for arrays in memory."""
    array = RNG.standard_normal((5, 2)).astype("f")
    array.tofile(tmp_path / "raw")
    write_samples(str(tmp_path / "a.npz"), {"input:x": array})
    write_samples(str(tmp_path / "b.npz"), {"input:x": np.memmap(tmp_path / "raw", dtype="f", mode="r", shape=(5, 2))})
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
