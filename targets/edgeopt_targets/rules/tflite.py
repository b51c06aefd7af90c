"""Rules on `tflite_runtime`, whose last releases are older than the converters: what it refuses, or computes wrongly.

Source of all: files of litert-torch 0.10 and ai-edge-quantizer 0.10 run with the real wheels on x86, aarch64 and
armv7l. LiteRT runs every one of them.
"""

from __future__ import annotations

from edgeopt.core.device import RuntimeFacts
from edgeopt_targets.onnxruntime_versions import parse
from edgeopt_targets.rules._base import Question, RuntimeRule

_NAME = "tflite_runtime"
_SOURCE = "ai-edge-quantizer 0.10 files run with the real wheels, November 2026"
_FIRST_WITH_STATIC = (2, 14)
_RECURRENT = frozenset({"LSTM", "GRU", "RNN"})


def four_bits(question: Question, runtime: RuntimeFacts) -> str | None:
    """4-bit weights end in a segmentation fault."""
    in_four = question.recipe.precision == "int4" or any(
        getattr(step.options, "precision", "") == "weights4" for step in question.passes
    )
    if runtime.name != _NAME or not in_four:
        return None
    return f"tflite_runtime {runtime.version} on the device crashes on 4-bit weights (LiteRT runs them)"


def old_int8(question: Question, runtime: RuntimeFacts) -> str | None:
    """8-bit files of today's quantiser do not load before 2.14."""
    release = parse(runtime.version)
    if runtime.name != _NAME or question.recipe.precision != "int8" or not (0, 0) < release < _FIRST_WITH_STATIC:
        return None
    return f"tflite_runtime {runtime.version} on the device does not load 8-bit files of today's quantiser"


def recurrent(question: Question, runtime: RuntimeFacts) -> str | None:
    """8-bit dynamic LSTMs end in a segmentation fault on aarch64."""
    dynamic = [step for step in question.passes if getattr(step.options, "precision", "") == "dynamic"]
    if runtime.name != _NAME or not dynamic or not _RECURRENT.intersection(question.model.operators):
        return None
    return (
        f"tflite_runtime {runtime.version} on the device crashes on LSTM and GRU in dynamic 8 bits (LiteRT runs them)"
    )


RULES = (
    RuntimeRule("tflite-int4", _SOURCE, four_bits),
    RuntimeRule("tflite-old-int8", _SOURCE, old_int8),
    RuntimeRule("tflite-recurrent", _SOURCE, recurrent),
)
