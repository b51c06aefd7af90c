"""TFLite's older runtime (`tflite_runtime`), which 32-bit boards have too; TensorFlow's copy of it where that is there.

Its versions are TensorFlow's. It does not load all that today's converters write, and computes some of it wrongly
(per-channel dynamic int8 with 2.14): golden outputs on the device decide.
"""

from edgeopt_runner.engines._tflite import Tflite

ENGINE = Tflite("tflite_runtime", (("tflite_runtime", "tflite_runtime.interpreter"), ("tensorflow", "tensorflow")))
