"""What kind of model a file is, by its first bytes: objects on a device have no suffix, and users mix files up."""

import os
from typing import Dict

from edgeopt_runner.engines._base import LoadFailed

ONNX, TFLITE, ZIP, ORT, EXECUTORCH = "ONNX", "TFLite", "zip", "ORT", "ExecuTorch"

_MAGIC_AT_4: Dict[bytes, str] = {b"TFL3": TFLITE, b"ORTM": ORT, b"ET12": EXECUTORCH}
_IR_VERSION_FIELD, _LARGEST_IR_VERSION = 0x08, 32


def format_of(path: str) -> str:
    """``ONNX``, ``TFLite``, ``zip`` (as ncnn's are), ``ORT``, ``ExecuTorch``; empty where the first bytes tell nothing.

    Raises:
        LoadFailed: The file cannot be read.
    """
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise LoadFailed("cannot read the model: %s" % error)
    if head[4:8] in _MAGIC_AT_4:
        return _MAGIC_AT_4[head[4:8]]
    if head[:4] == b"PK\x03\x04":
        return ZIP
    if len(head) > 1 and head[0] == _IR_VERSION_FIELD and 0 < head[1] < _LARGEST_IR_VERSION:
        return ONNX
    return ""


def expect(path: str, runtime: str, *formats: str) -> str:
    """The file's format, which may be unknown but is none that the runtime certainly does not read.

    Raises:
        LoadFailed: The file cannot be read, is empty, or is of another format.
    """
    found = format_of(path)
    if found and found not in formats:
        wanted = " and ".join(name for name in formats) or "its own files"
        raise LoadFailed("this is a file of format %s; %s reads %s" % (found, runtime, wanted))
    if not os.path.getsize(path):
        raise LoadFailed("the model's file is empty")
    return found
