from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeopt.errors import DataError, ModelError
from edgeopt.graph.sample_options import SampleOptions
from edgeopt.graph.session import open_session, run_feed
from edgeopt.graph.split import split_sizes
from edgeopt_runner.protocol.samples import SampleFile
from support.networks import broken_nan_onnx, small_cnn_onnx
from support.sampling import RNG, images, in_process, load, made, npz


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


def test_a_fixed_batch_is_filled_by_grouping(tmp_path: Path) -> None:
    model = small_cnn_onnx(tmp_path / "b4.onnx", dynamic=False, batch=4)
    result = in_process(npz(tmp_path / "d.npz", image=images(42), labels=np.arange(42) % 10), model, tmp_path)
    assert (result["calibration"], result["evaluation"]) == (4, 6)
    assert made(tmp_path, "evaluation").shapes["input:image"] == (6, 4, 1, 8, 8)
    assert made(tmp_path, "evaluation").shapes["labels"] == (6, 4)


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


def test_a_source_model_that_gives_nan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="gives NaN or infinity on evaluation sample 0"):
        in_process(None, broken_nan_onnx(tmp_path / "n.onnx"), tmp_path)
