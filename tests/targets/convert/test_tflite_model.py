"""TFLite files as objects: what large files have elsewhere."""

from pathlib import Path

from edgeopt_targets.convert import tflite_model

SMALL = Path(__file__).parents[2] / "data" / "models" / "small.tflite"


def test_weights_behind_the_flatbuffer_are_read_and_written_into_it(tmp_path):
    model = tflite_model.load(SMALL)
    moved = max(model.buffers, key=lambda buffer: 0 if buffer.data is None else len(buffer.data))
    weights, moved.data = bytes(moved.data), None
    for _ in range(2):  # the second time with the length that the first one had
        moved.offset = (tmp_path / "large.tflite").stat().st_size if moved.offset else 2
        moved.size = len(weights)
        tflite_model.save(model, tmp_path / "large.tflite")
    with open(tmp_path / "large.tflite", "ab") as file:
        file.write(weights)
    again = tflite_model.load(tmp_path / "large.tflite")
    tflite_model.save(again, tmp_path / "whole.tflite")
    whole = tflite_model.load(tmp_path / "whole.tflite")
    assert weights in [bytes(buffer.data) for buffer in whole.buffers if buffer.data is not None]
    assert all(buffer.offset <= 1 for buffer in whole.buffers)
