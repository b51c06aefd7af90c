from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgeopt.core.tensor import Signature, TensorSpec
from edgeopt.errors import DataError, UsageError
from edgeopt.graph.fit import Fitter, batch_size
from edgeopt.graph.sample_options import SampleOptions, parse_scale

CHW = TensorSpec("image", "float32", (None, 3, 4, 5))
OUT = TensorSpec("y", "float32", (None, 10))


def fit(spec: TensorSpec, value: Any, **options: Any) -> Any:
    return Fitter(Signature((spec,), (OUT,)), SampleOptions(**options)).rows(7, {spec.name: value})[spec.name]


def real(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


def test_one_sample_without_batch_becomes_one_row() -> None:
    image = real(3, 4, 5)
    assert np.array_equal(fit(CHW, image), image[None])


def test_a_batch_becomes_as_many_rows() -> None:
    assert fit(CHW, real(6, 3, 4, 5)).shape == (6, 3, 4, 5)


def test_hwc_data_are_transposed_when_asked() -> None:
    image = real(4, 5, 3)
    assert np.array_equal(fit(CHW, image, layout="hwc")[0], image.transpose(2, 0, 1))
    batch = real(2, 4, 5, 3)
    assert np.array_equal(fit(CHW, batch, layout="hwc"), batch.transpose(0, 3, 1, 2))


def test_chw_data_are_transposed_for_a_network_that_wants_hwc() -> None:
    image = real(3, 4, 5)
    hwc = TensorSpec("image", "float32", (None, 4, 5, 3))
    assert np.array_equal(fit(hwc, image, layout="chw")[0], image.transpose(1, 2, 0))


def test_integers_for_real_inputs_are_scaled_when_asked() -> None:
    pixels = np.arange(60, dtype=np.uint8).reshape(3, 4, 5)
    rows = fit(CHW, pixels, scale=1 / 255)
    assert rows.dtype == np.float32
    np.testing.assert_allclose(rows[0], pixels / 255, rtol=1e-6)
    assert fit(CHW, pixels, scale=1.0).max() == 59


def test_float64_is_cast_and_noted() -> None:
    fitter = Fitter(Signature((CHW,), (OUT,)), SampleOptions())
    assert fitter.rows(0, {"image": real(3, 4, 5).astype(np.float64)})["image"].dtype == np.float32
    assert fitter.notes == {"Input image was cast from float64 to float32."}


def test_torch_tensors_and_lists_are_taken() -> None:
    torch = pytest.importorskip("torch")
    assert fit(CHW, torch.ones(3, 4, 5, requires_grad=True)).sum() == 60
    assert fit(TensorSpec("x", "float32", (None, 2)), [0.5, 1.5]).tolist() == [[0.5, 1.5]]


def test_index_inputs_take_any_integers_that_fit() -> None:
    ids = TensorSpec("ids", "int64", (None, 3))
    assert fit(ids, np.array([1, 2, 3], np.int32)).dtype == np.int64
    with pytest.raises(DataError, match="cannot hold 1 to 300"):
        fit(TensorSpec("ids", "uint8", (None, 3)), np.array([1, 2, 300]))


MISFITS = [
    (real(4, 5, 3), {}, "sample 7: input `image` is float32[4, 5, 3], the model wants image: float32[?,3,4,5]"),
    (real(4, 5, 3), {}, "It looks like HWC: pass --layout hwc"),
    (real(2, 4, 5, 3), {}, "It looks like HWC: pass --layout hwc"),
    (np.zeros((3, 4, 5), np.uint8), {}, "is uint8, the model wants float32. Pass --scale 1/255"),
    (real(3, 8, 8), {}, "is float32[3, 8, 8], the model wants image: float32[?,3,4,5]"),
    (real(60), {}, "reshape it to [3, 4, 5]"),
    (real(4, 5), {}, "Give each sample as [3, 4, 5]"),
    (np.array("cat"), {}, "not numbers"),
    ([[1.0], [1.0, 2.0]], {}, "is not an array"),
    (np.full((3, 4, 5), np.nan, np.float32), {}, "sample 7: input `image` has 60 values that are NaN or infinite"),
    (np.full((3, 4, 5), 1e300), {}, "60 values that are NaN or infinite"),
    (real(3, 4, 5).astype(np.complex64), {}, "not numbers"),
]


@pytest.mark.parametrize(("value", "options", "says"), MISFITS)
def test_a_misfit_says_sample_input_and_remedy(value: Any, options: dict[str, Any], says: str) -> None:
    with pytest.raises(DataError) as caught:
        fit(CHW, value, **options)
    assert says in str(caught.value)


def test_the_bad_row_of_a_batch_is_named() -> None:
    batch = real(5, 3, 4, 5)
    batch[3, 0, 0, 0] = np.inf
    with pytest.raises(DataError, match=r"sample 10: input `image` has 1 values"):
        fit(CHW, batch)


def test_real_numbers_for_index_inputs_are_refused() -> None:
    with pytest.raises(DataError, match=r"is float32, the model wants int64\. Convert it"):
        fit(TensorSpec("ids", "int64", (None, 3)), real(3))


@pytest.mark.parametrize(
    ("inputs", "says"),
    [
        ({"a": real(2)}, "sample 0 has no input b; it gives a"),
        ({"a": real(2), "b": real(2), "c": real(2)}, "has c, which is no input of the model"),
        ({"a": real(3, 2), "b": real(4, 2)}, "different numbers of rows (a: 3, b: 4)"),
    ],
)
def test_names_and_rows_of_several_inputs_must_agree(inputs: dict[str, Any], says: str) -> None:
    signature = Signature(tuple(TensorSpec(name, "float32", (None, 2)) for name in "ab"), (OUT,))
    with pytest.raises(DataError) as caught:
        Fitter(signature, SampleOptions()).rows(0, inputs)
    assert says in str(caught.value)


def test_samples_of_different_sizes_are_refused() -> None:
    fitter = Fitter(Signature((TensorSpec("x", "float32", (None, None)),), (OUT,)), SampleOptions())
    fitter.rows(0, {"x": real(12)})
    with pytest.raises(DataError, match=r"sample 1: input `x` is \[17\], those before are \[12\]"):
        fitter.rows(1, {"x": real(17)})


def test_a_model_without_batch_takes_whole_feeds() -> None:
    signature = Signature((TensorSpec("x", "float32", (4,)), TensorSpec("rate", "int64", ())), (OUT,))
    rows = Fitter(signature, SampleOptions()).rows(0, {"x": real(4), "rate": 16000})
    assert rows["x"].shape == (1, 4)
    assert rows["rate"].tolist() == [16000]


@pytest.mark.parametrize(
    ("shapes", "size"),
    [
        ([(None, 3)], 1),
        ([(None, 3), (None,)], 1),
        ([(8, 3), (8, 5)], 8),
        ([(8, 3), (1, 5)], None),
        ([(None, 3), (1, 5)], None),
        ([()], None),
    ],
)
def test_batch_is_what_all_inputs_share(shapes: list[tuple[int | None, ...]], size: int | None) -> None:
    inputs = tuple(TensorSpec(str(index), "float32", shape) for index, shape in enumerate(shapes))
    assert batch_size(Signature(inputs, (OUT,))) == size


@given(st.integers(1, 5), st.integers(1, 6), st.integers(1, 6), st.integers(1, 6))
def test_a_batch_and_its_samples_one_by_one_fit_alike(rows: int, channels: int, height: int, width: int) -> None:
    spec = TensorSpec("image", "float32", (None, channels, height, width))
    batch = real(rows, height, width, channels)
    whole = fit(spec, batch, layout="hwc")
    assert np.array_equal(whole, np.concatenate([fit(spec, image, layout="hwc") for image in batch]))


def test_scales_are_numbers_or_fractions() -> None:
    assert parse_scale("1/255") == 1 / 255
    assert parse_scale("0.5") == 0.5
    for text in ("1/0", "a", "", "1/2/3"):
        with pytest.raises(UsageError, match="--scale is"):
            parse_scale(text)
    for bad in ({"scale": 0.0}, {"layout": "nchw"}, {"calibration": 0}, {"seed": -1}):
        with pytest.raises(UsageError):
            SampleOptions(**bad)  # type: ignore[arg-type]
