from __future__ import annotations

import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from edgeopt.errors import ChildError, DataError
from edgeopt_runner.protocol.samples import SampleFile, write_samples
from support.networks import constant, save
from support.sampling import RNG, images, in_process, load, made

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

def large():
    for _ in range(200):
        yield RNG.standard_normal((1, 128, 1024)).astype("f")
"""


@pytest.fixture
def functions(tmp_path: Path) -> Path:
    (tmp_path / "data.py").write_text(FUNCTIONS)
    return tmp_path / "data.py"


def test_a_single_unnamed_array_is_for_a_single_input(cnn: Path, tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", images(10))
    assert in_process(tmp_path / "d.npz", cnn, tmp_path)["evaluation"] == 6


def test_compressed_and_fortran_ordered_arrays_are_read(cnn: Path, tmp_path: Path) -> None:
    data = images(10)
    np.savez_compressed(tmp_path / "d.npz", image=np.asfortranarray(data))
    in_process(tmp_path / "d.npz", cnn, tmp_path)
    found = {sample.inputs["image"].tobytes() for sample in made(tmp_path, "calibration")}
    assert found <= {image.tobytes() for image in data}


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


def test_inputs_of_unknown_size_cannot_be_generated(tmp_path: Path) -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    model = save(tmp_path / "r.onnx", [node], {"x": ("N", 3, "H", "W")}, {"y": ("N", 3, "H", "W")})
    with pytest.raises(DataError, match=r"--input x=1,3,224,224"):
        in_process(None, model, tmp_path)


def test_generated_indices_stay_small(tmp_path: Path) -> None:
    node = helper.make_node("Gather", ["table", "ids"], ["y"])
    table = [constant("table", np.eye(2))]
    model = save(tmp_path / "g.onnx", [node], {"ids": ("N", 3)}, {"y": ("N", 3, 2)}, table, input_dtype=7)
    in_process(None, model, tmp_path)
    values = {int(value) for sample in made(tmp_path, "calibration") for value in sample.inputs["ids"].ravel()}
    assert values == {0, 1}


def test_without_data_inputs_are_generated_and_flagged(cnn: Path, tmp_path: Path) -> None:
    samples = load(None, cnn, tmp_path)
    assert samples.summary.generated
    assert samples.summary.source == "generated"
    assert samples.summary.metric == "fidelity"
    assert samples.baseline == pytest.approx(1.0)
    inputs = np.stack([sample.inputs["image"] for sample in SampleFile(str(samples.evaluation))])
    assert 0.9 < inputs.std() < 1.1
