"""LiteRT (`ai_edge_litert`), which runs TFLite files on 64-bit boards."""

from edgeopt_runner.engines._tflite import Tflite

ENGINE = Tflite("litert", (("ai_edge_litert", "ai_edge_litert.interpreter"),))
