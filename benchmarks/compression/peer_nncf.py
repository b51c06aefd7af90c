"""Quantises a network by NNCF; runs in NNCF's own environment: peer_nncf.py SOURCE.onnx FEEDS.npy DESTINATION.onnx."""

from __future__ import annotations

import sys

import nncf
import numpy as np
import onnx

source, feeds, destination = sys.argv[1:]
samples = nncf.Dataset([{"image": one[None]} for one in np.load(feeds)])
onnx.save(nncf.quantize(onnx.load(source), samples), destination)
