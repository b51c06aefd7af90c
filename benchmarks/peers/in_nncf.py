"""Quantises a network by other tools' defaults, in their environment: in_nncf.py HOW SOURCE.onnx SAMPLES.npz FOLDER.

Imports nothing of edgeopt.
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np

sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]

MOST_LOST = 0.01
"""Of fidelity: the budget that edgeopt has too."""


def main(how: str, source: str, samples: str, folder: str) -> None:
    """Write ``model.onnx`` or ``model.xml`` into the folder."""
    with np.load(samples) as file:
        feeds = [
            {name: file[name][index : index + 1] for name in file.files} for index in range(len(file[file.files[0]]))
        ]
    {"ort-static": ort_static, "ort-dynamic": ort_dynamic, "plain": plain, "accuracy-control": accuracy_control}[how](
        source, feeds, Path(folder)
    )


def ort_static(source: str, feeds: list[dict[str, np.ndarray]], folder: Path) -> None:
    """ONNX Runtime's static quantiser as its documentation calls it: preprocessing, then defaults."""
    from onnxruntime.quantization import CalibrationDataReader, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._feeds = iter(feeds)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(self._feeds, None)

    prepared = folder / "prepared.part"
    quant_pre_process(source, str(prepared))
    quantize_static(str(prepared), str(folder / "model.onnx"), Reader())


def ort_dynamic(source: str, _feeds: list[dict[str, np.ndarray]], folder: Path) -> None:
    """ONNX Runtime's dynamic quantiser with its defaults."""
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(source, str(folder / "model.onnx"))


def plain(source: str, feeds: list[dict[str, np.ndarray]], folder: Path) -> None:
    """NNCF's post-training quantisation of the OpenVINO model, defaults."""
    import nncf
    import openvino as ov

    ov.save_model(nncf.quantize(ov.convert_model(source), nncf.Dataset(feeds)), str(folder / "model.xml"))


def accuracy_control(source: str, feeds: list[dict[str, np.ndarray]], folder: Path) -> None:
    """NNCF's quantisation with accuracy control: layers go back to float until the budget holds."""
    import nncf
    import openvino as ov

    model = ov.convert_model(source)
    original = ov.compile_model(model, "CPU")
    wanted = [flat(original(feed)) for feed in feeds]

    def fidelity(compiled: Any, samples: Any) -> float:
        return float(np.mean([cosine(flat(compiled(feed)), mine) for feed, mine in zip(samples, wanted, strict=True)]))

    data = nncf.Dataset(feeds)
    found = nncf.quantize_with_accuracy_control(
        model,
        calibration_dataset=data,
        validation_dataset=data,
        validation_fn=fidelity,
        max_drop=MOST_LOST,
        drop_type=nncf.DropType.ABSOLUTE,
    )
    ov.save_model(found, str(folder / "model.xml"))


def flat(outputs: Any) -> np.ndarray:
    """All outputs as one vector."""
    return np.concatenate([np.asarray(one).ravel() for one in outputs.values()])


def cosine(one: np.ndarray, other: np.ndarray) -> float:
    """Of the angle between two vectors."""
    return float(one @ other / max(np.linalg.norm(one) * np.linalg.norm(other), 1e-30))


if __name__ == "__main__":
    main(*sys.argv[1:])
